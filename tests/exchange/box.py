"""The exchange in a box: archives, checksums and REST of some tapes at one address."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from exchange.archive import archive_path
from exchange.clock import Clock
from exchange.rest import Limits, Rest
from exchange.script import Rule, Script, matches
from exchange.server import Server
from exchange.shelf import CHECKSUM, Shelf
from exchange.tape import Tape
from exchange.wire import Answer, file_answer
from rangebar_polars._utils.span import day_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from exchange.quotes import QuoteTape
    from exchange.script import Fault, Match
    from exchange.wire import Request
    from rangebar_polars._utils.span import When

__all__ = ["Exchange"]

NOT_FOUND = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"
METHODS = {"GET", "HEAD"}


class Exchange:
    """A server of some tapes while it is open as a context.

    Its parts know nothing of HTTP and can serve a socket of streams as well: the `tapes`, the
    `clock`, and the `script` of faults.
    """

    def __init__(
        self,
        *tapes: Tape | QuoteTape,
        now: When | None = None,
        header: bool = False,
        between: str = " ",
        limits: Limits | None = None,
    ) -> None:
        self.tapes = tapes or (Tape.generate(),)
        self.clock = Clock(noon_after(self.tapes) if now is None else now)
        self.script = Script()
        self.shelf = Shelf(self.tapes, header=header, between=between)
        trades = [tape for tape in self.tapes if isinstance(tape, Tape)]
        self.rest = Rest(trades, self.clock, limits or Limits())
        #: All requests so far, in order.
        self.requests: list[Request] = []
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self._server = Server(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if self._errors and error is None:
            raise ExceptionGroup("the box itself failed", self._errors)

    def close(self) -> None:
        """Stop; from now on the address refuses connections."""
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the exchange is open only inside its `with`")
        return self._server.url

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point at this exchange."""
        names = ("RANGEBAR_BINANCE_ARCHIVE_URL", "RANGEBAR_BINANCE_REST_URL", "RANGEBAR_EXNESS_URL")
        return dict.fromkeys(names, self.url)

    @property
    def now(self) -> datetime:
        return self.clock.now

    @now.setter
    def now(self, now: When) -> None:
        self.clock.set(now)

    # What goes wrong

    def fail(
        self,
        match: Match,
        *faults: Fault,
        times: int | None = 1,
        after: int = 0,
        method: str | None = None,
    ) -> Rule:
        """Let the next `times` requests that match meet the faults; None: all, until cancelled.

        `match` is a part of path and query, a pattern, or a function of the request. Rules queue
        up: the second for the same requests begins when the first is used up.
        """
        return self.script.add(Rule(match, faults, times, after, method))

    # What stands in the archive

    def path(
        self, day: When, *, monthly: bool = False, symbol: str | None = None, market: str = ""
    ) -> str:
        """Path of the archive of a day of the first tape, or the first of a symbol and market."""
        return archive_path(self._tape(symbol, market), day, monthly=monthly)

    def _tape(self, symbol: str | None, market: str) -> Tape:
        return next(
            tape
            for tape in self.tapes
            if isinstance(tape, Tape)
            if symbol in (None, tape.symbol) and market in ("", tape.market)
        )

    def content(self, path: str) -> bytes:
        """Bytes of a file as it is published now."""
        stored = self.shelf.find(path, self.now)
        if stored is None:
            raise KeyError(path)
        return stored.content

    def put(self, path: str, content: bytes | None) -> None:
        """Set the bytes of any file; None takes it away. The checksum of an archive follows."""
        self.shelf.put(path, content, self.now)

    def republish(
        self, path: str, change: Callable[[bytes], bytes], *, lag: str = "", tries: int = 1_000_000
    ) -> None:
        """Change the CSV of an archive, and its checksum with it.

        `lag` is "checksum" or "zip": that file stays the old one for the next `tries` requests
        that do not pass caches by a query or `Cache-Control: no-cache`.
        """
        late = {"": "", "zip": path, "checksum": path + CHECKSUM}[lag]
        old = self.shelf.find(late, self.now) if late else None
        self.shelf.rewrite(path, change, self.now)
        if old is not None:
            self.fail(
                lambda request: request.path == late and not request.passes_caches,
                lambda request, _answer: file_answer(old.content, old.modified, request.headers),
                times=tries,
            )

    def write(self, folder: Path) -> Path:
        """Write all that is published now below a folder, for `file://` addresses."""
        return self.shelf.write(folder, self.now)

    # What was asked

    def asked(self, match: Match) -> list[Request]:
        """Requests so far that match."""
        with self._lock:
            return [request for request in self.requests if matches(match, request)]

    # What the server calls

    def respond(self, request: Request) -> Answer:
        """Log a request and answer it, with the faults it meets."""
        with self._lock:
            request.number = len(self.requests)
            self.requests.append(request)
        request.again = lambda **query: self._sound(replace(request, query=request.query | query))
        plain = {name: text for name, text in request.headers.items() if name != "range"}
        request.whole = lambda: self._sound(replace(request, headers=plain))
        try:
            answer = self.rest.refusal(request.path) or self._sound(request)
            for fault in self.script.faults_for(request):
                answer = fault(request, answer)
        except Exception as error:  # noqa: BLE001 - the test is told when the box is closed
            self.note(error)
            answer = Answer(500, repr(error).encode())
        request.status = answer.status
        return answer

    def note(self, error: BaseException) -> None:
        """Keep an error of the box itself for the end of the context."""
        self._errors.append(error)

    def _sound(self, request: Request) -> Answer:
        if request.method not in METHODS:
            return Answer(405)
        if self.rest.base_of(request.path) is not None:
            return self.rest.answer(request.path, request.query, request.headers)
        stored = self.shelf.find(request.path, self.now)
        if stored is None:
            return Answer(404, NOT_FOUND, {"Content-Type": "application/xml"})
        return file_answer(stored.content, stored.modified, request.headers)


def noon_after(tapes: tuple[Tape | QuoteTape, ...]) -> datetime:
    """Noon of the day after the last tick, when the archives of all days are out."""
    last = max(tape.ticks["timestamp"].item(-1).date() for tape in tapes)
    return day_start(last + timedelta(days=1)) + timedelta(hours=12)
