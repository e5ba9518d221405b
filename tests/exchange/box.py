"""The exchange in a box: archives, checksums and REST of some tapes at one address."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self

from exchange.archive import archive_path
from exchange.clock import Clock
from exchange.playback import Playback
from exchange.proxy import Proxy
from exchange.rest import Limits, Rest
from exchange.script import Rule, Script, matches
from exchange.server import Server
from exchange.shelf import CHECKSUM, Shelf
from exchange.streams import Streams
from exchange.tape import Tape
from exchange.tls import Certificates
from exchange.wire import Answer, file_answer
from rangebar_polars._utils.span import day_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from exchange.playback import Live
    from exchange.quotes import QuoteTape
    from exchange.script import Fault, Match
    from exchange.wire import Request
    from rangebar_polars._utils.span import When

__all__ = ["Exchange"]

NOT_FOUND = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"
METHODS = {"GET", "HEAD"}


class Exchange:
    """Servers of some tapes while it is open as a context: one of HTTP, one of `streams`.

    Answers of REST have a `Date` if the tapes were made around a time, or with `dates=True`: a
    client whose clock is months away would warn about it. `tls` is True or "expired".
    """

    def __init__(
        self,
        *tapes: Tape | QuoteTape,
        now: When | None = None,
        header: bool = False,
        between: str = " ",
        limits: Limits | None = None,
        tls: bool | Literal["expired"] = False,
        dates: bool | None = None,
    ) -> None:
        self.tapes = tapes or (Tape.generate(),)
        if now is None:
            now = next((tape.now for tape in self.tapes if is_around(tape)), None)
        self.clock = Clock(noon_after(self.tapes) if now is None else now)
        self.script = Script()
        self.shelf = Shelf(self.tapes, header=header, between=between)
        trades = [tape for tape in self.tapes if isinstance(tape, Tape)]
        if dates is None:
            dates = any(map(is_around, self.tapes))
        self.rest = Rest(trades, self.clock, limits or Limits(), is_dated=dates)
        #: The authority of the certificates; None without TLS.
        self.certificates = Certificates(expired=tls == "expired") if tls else None
        self.streams = Streams(trades, self.clock, self.note, self.certificates)
        self._playback = Playback(trades, self.clock, self.streams)
        self._proxies: list[Proxy] = []
        #: All requests so far, in order.
        self.requests: list[Request] = []
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._server: Server | None = None

    def __enter__(self) -> Self:
        context = None if self.certificates is None else self.certificates.context
        self._server = Server(self, context)
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
        self._playback.stopping.set()
        for proxy in self._proxies:
            proxy.close()
        self.streams.close()
        if self._server is not None:
            self._server.close()
        if self.certificates is not None:
            self.certificates.close()

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the exchange is open only inside its `with`")
        return self._server.url

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point at this exchange."""
        names = ("RANGEBAR_BINANCE_ARCHIVE_URL", "RANGEBAR_BINANCE_REST_URL", "RANGEBAR_EXNESS_URL")
        trusted = (
            {} if self.certificates is None else {"SSL_CERT_FILE": str(self.certificates.path)}
        )
        return dict.fromkeys(names, self.url) | self.streams.environment | trusted

    @property
    def now(self) -> datetime:
        return self.clock.now

    @now.setter
    def now(self, now: When) -> None:
        self.clock.set(now)
        self.streams.tick()

    # How time passes

    def play(
        self, until: When | timedelta, *, rate: float | None = None, speed: float | None = None
    ) -> int:
        """Send the trades of (now, until] by id, and move the clock with them; return their number.

        Without `rate` (messages a second) and `speed` (seconds of the exchange in a second): as
        fast as it can. `until` may be a span from now.
        """
        return self._playback.play(until, rate=rate, speed=speed)

    def live(self, speed: float = 1.0) -> Live:
        """Let the time of the exchange pass in a thread, until `stop` or the end of its `with`."""
        return self._playback.live(speed)

    def proxy(self) -> Proxy:
        """Start a proxy, which ends with the exchange."""
        self._proxies.append(Proxy())
        return self._proxies[-1]

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


def is_around(tape: Tape | QuoteTape) -> bool:
    """Whether a tape was made around a time."""
    return isinstance(tape, Tape) and tape.now is not None


def noon_after(tapes: tuple[Tape | QuoteTape, ...]) -> datetime:
    """Noon of the day after the last tick, when the archives of all days are out."""
    last = max(tape.ticks["timestamp"].item(-1).date() for tape in tapes)
    return day_start(last + timedelta(days=1)) + timedelta(hours=12)
