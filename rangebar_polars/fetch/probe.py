"""Whether an archive has a file, asked without fetching it, and what time it is there."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from rangebar_polars._extra import import_extra
from rangebar_polars._span import day_start
from rangebar_polars.config import settings
from rangebar_polars.exceptions import NoAnswerError, TransientSourceError, with_hint
from rangebar_polars.fetch._rest_client import LARGEST_SKEW_S
from rangebar_polars.fetch.binance_archive import BinanceArchive
from rangebar_polars.fetch.checksum import SUFFIX
from rangebar_polars.fetch.exness_csv import MonthFile
from rangebar_polars.fetch.transport import CONNECT_TIMEOUT, LONGEST_WAIT_S, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    import httpx2

__all__ = ["ArchiveProbe", "probe_of"]

_OK, _MISSING = 200, 404
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_ONE_DAY = timedelta(days=1)


class _MayGetBetterError(TransientSourceError):
    """An answer that another try may better."""


class ProbingTransport(Transport):
    """Asks whether files are there, and takes note of the server's clock.

    Parameters
    ----------
    url
        Address of the archive.
    with_checksum
        Whether a file is there only once its checksum is there too.
    now
        Seconds since 1970 by the clock of this machine.
    """

    def __init__(
        self, url: str, *, with_checksum: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(url)
        #: Local time less the server's, by its last answer; None where it has not said.
        self.clock_skew_s: float | None = None
        self._with_checksum = with_checksum
        self._now = now

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks are so far apart that they may not agree what day it is."""
        return abs(self.clock_skew_s or 0.0) > LARGEST_SKEW_S

    def exists(self, path: str) -> bool:
        """Whether there is a file, and its checksum if that is asked for.

        Raises
        ------
        NoAnswerError
            No connection, after all tries.
        TransientSourceError
            An answer that says neither yes nor no, after all tries.
        """
        wanted = [path, path + SUFFIX] if self._with_checksum else [path]
        return all(self.changed(one) is not None for one in wanted)

    def changed(self, path: str) -> datetime | None:
        """When a file was written; the beginning of time where nothing is said, None without one."""
        if self._is_folder:
            from pathlib import Path
            from urllib.request import url2pathname

            found = Path(url2pathname(self.url.removeprefix("file://"))) / path
            written = found.stat().st_mtime if found.is_file() else None
            return None if written is None else datetime.fromtimestamp(written, UTC)
        headers = self._headers(path)
        if headers is None:
            return None
        return _instant_of(headers.get("Last-Modified", "")) or datetime.fromtimestamp(0, UTC)

    def _headers(self, path: str) -> httpx2.Headers | None:
        """Headers of a file, None if there is none, after as many tries as it takes."""
        import_extra("httpx2", "fetch")
        import_extra("stamina", "fetch")
        import httpx2
        import stamina

        timeout = httpx2.Timeout(
            self._timeout.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds()
        )
        with httpx2.Client(timeout=timeout, follow_redirects=True) as client:
            for attempt in stamina.retry_context(
                on=(NoAnswerError, _MayGetBetterError),
                attempts=self.tries,
                timeout=None,
                wait_initial=self.first_wait_s,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=self.first_wait_s,
            ):
                with attempt:
                    return self._asked(client, self.url_of(path))
        raise AssertionError  # stamina gives a result or raises

    def _asked(self, client: httpx2.Client, url: str) -> httpx2.Headers | None:
        """Headers of a file, asked for once."""
        import httpx2

        try:
            response = client.head(url)
        except httpx2.RequestError as error:
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            sentence = f"`{url}` gave no answer ({what})"
            hint = "nothing is known about the file; is the network up?"
            raise NoAnswerError(with_hint(sentence, hint), url=url) from error
        self._take_over(response.headers)
        if response.status_code == _MISSING:
            return None
        if response.status_code != _OK:
            kind = _MayGetBetterError if response.status_code in _LATER else TransientSourceError
            sentence = f"`{url}` could not be asked for: status `{response.status_code}`"
            raise kind(with_hint(sentence, "try again later"), url=url)
        return response.headers

    def _take_over(self, headers: httpx2.Headers) -> None:
        """The server's clock, as it says it; a cache on the way says how old its answer is."""
        said = _instant_of(headers.get("Date", ""))
        if said is not None:
            age = headers.get("Age", "")
            there = said.timestamp() + (int(age) if age.isdecimal() else 0)
            # The header leaves out parts of a second: half a one, on average.
            self.clock_skew_s = self._now() - there - 0.5


def _instant_of(text: str) -> datetime | None:
    """Instant of an HTTP date, if the text is one."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class ArchiveProbe:
    """Says of one symbol which whole UTC days its archive has.

    Parameters
    ----------
    symbol
        In upper case.
    transport
        Asks the archive.
    """

    #: How many days before a day are looked at until the archive counts as without any.
    patience = 10

    def __init__(self, symbol: str, transport: ProbingTransport) -> None:
        self.symbol = symbol
        self.transport = transport

    def has(self, day: date) -> bool:
        """Whether the archive has the day, whole."""
        raise NotImplementedError

    def before(self, day: date) -> date:
        """The newest day that may be there if this one is not."""
        return day - _ONE_DAY


class BinanceProbe(ArchiveProbe):
    """Days of Binance: one file each, and a checksum beside it."""

    def __init__(self, symbol: str, transport: ProbingTransport, market: str) -> None:
        super().__init__(symbol, transport)
        self._archive = BinanceArchive(market, transport=transport)

    def has(self, day: date) -> bool:
        """Whether the file of the day is there, and its checksum."""
        return any(self._archive.days(self.symbol, day, day))


class ExnessProbe(ArchiveProbe):
    """Days of Exness: they are whole once the file of their month was written after its end."""

    patience = 62

    def has(self, day: date) -> bool:
        """Whether the month's file holds the whole month."""
        file = MonthFile(self.symbol, day.year, day.month)
        written = self.transport.changed(file.path)
        unknown = datetime.fromtimestamp(0, UTC)
        return written is not None and (
            written == unknown or written >= day_start(file.last_day + _ONE_DAY)
        )

    def before(self, day: date) -> date:
        """The last day of the month before."""
        return day.replace(day=1) - _ONE_DAY


def probe_of(
    symbol: str, source: str, market: str, *, now: Callable[[], float] = time.time
) -> ArchiveProbe:
    """Probe of a symbol at the address that the settings name.

    With `RANGEBAR_CHECKSUM=warn`, a file without a checksum counts too, as it is taken then.
    """
    options: Any = settings()
    if source == "exness":
        return ExnessProbe(symbol, ProbingTransport(options.exness_url, now=now))
    transport = ProbingTransport(
        options.binance_archive_url, with_checksum=options.checksum == "require", now=now
    )
    return BinanceProbe(symbol, transport, market)
