"""The archive of Binance: a zip of aggregate trades a day or month, and a checksum beside it."""

from __future__ import annotations

import calendar
import hashlib
import warnings
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import day_start, parse_day, parse_span
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    CorruptSourceError,
    NotYetPublishedError,
    TickDataError,
    with_hint,
)
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.binance.files import (
    GLOB_CHARACTERS,
    read_agg_trades,
    resolve_paths,
    scan_agg_trades,
)
from rangebar_polars.fetch.checksum import MISSING, SUFFIX, promise_of
from rangebar_polars.fetch.downloads import download
from rangebar_polars.fetch.normalise import FileTimes, micros, normalise
from rangebar_polars.fetch.transport import Transport
from rangebar_polars.fetch.zipped import DamagedFileError, member_pieces
from rangebar_polars.sources import DayTicks, Origin, canonical_market, canonical_symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from rangebar_polars._utils.span import When
    from rangebar_polars.fetch.checksum import Promise
    from rangebar_polars.fetch.normalise import Clean
    from rangebar_polars.fetch.transport import Fetched

__all__ = ["GLOB_CHARACTERS", "BinanceArchive", "UnverifiedFileWarning"]
__all__ += ["read_agg_trades", "resolve_paths", "scan_agg_trades"]

FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
# Spot files hold microseconds from here on; those of the futures hold milliseconds.
SPOT_MICROSECONDS = date(2025, 1, 1)
LARGEST_CHECKSUM_BYTES = 1 << 16
# A day is published on the next, now and then a day later; a month on the first Monday after it.
DAY_PATIENCE = timedelta(days=2)
MONTH_PATIENCE = timedelta(days=8)


class UnverifiedFileWarning(UserWarning):
    """A file was taken although no checksum proves it, as `RANGEBAR_CHECKSUM=warn` says."""


class UnverifiedError(Exception):
    """A file that its checksum does not prove."""


class ArchiveFile(NamedTuple):
    """A file of the archive, and the UTC days in it."""

    symbol: str
    first: date
    last: date
    path: str
    unit: str
    patience: timedelta

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]

    @property
    def member(self) -> str:
        """The name of the CSV in it."""
        return f"{self.name.removesuffix('.zip')}.csv"


class BinanceArchive:
    """Aggregate trades of Binance from the files that it publishes.

    Every file must match the checksum beside it; one that does not, or that is damaged, is asked
    for once more past all caches, and refused then. Trades come in the order of their ids; what
    was mended in them is counted in the origin of the day.

    Parameters
    ----------
    market
        `"spot"`, `"um"` (USD-margined futures) or `"cm"` (coin-margined).
    url
        Address of the archive before `/data/`; the setting `binance_archive_url` by default.
    checksum
        `"require"`, or `"warn"` to take files that no checksum proves, with a warning; the
        setting `checksum` by default.
    transport
        Carries the files instead of the one that the address stands for.
    today
        Gives the UTC day, on which depends whether a missing file may still come.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch import BinanceArchive
    >>> archive = BinanceArchive("spot", url=Path(tempfile.mkdtemp()).as_uri())
    >>> list(archive.days("BTCUSDT", "2024-03-01", "2024-03-31"))
    []
    """

    source = "binance"

    def __init__(
        self,
        market: str = "spot",
        *,
        url: str | None = None,
        checksum: str | None = None,
        transport: Transport | None = None,
        today: Callable[[], date] | None = None,
    ) -> None:
        _, self.market = canonical_market(self.source, market)
        given = settings(binance_archive_url=url, checksum=checksum)
        self.is_strict = given.checksum == "require"
        self._transport = transport or Transport(given.binance_archive_url)
        self._today = today or utc_today

    def read_day(self, symbol: str, day: When) -> pl.DataFrame:
        """Trades of a UTC day; raises what `fetch_day` does."""
        return self.fetch_day(symbol, day).ticks

    def days(self, symbol: str, start: When, end: When) -> Iterator[date]:
        """The days of a span that the archive has a file of, in order, each asked for in turn.

        Raises
        ------
        TransientSourceError
            When a day is asked for: no answer, after all tries.
        """
        name = canonical_symbol(symbol)
        wanted = (self._file_of_day(name, day) for day in parse_span(start, end).days())
        return (file.first for file in wanted if self._transport.exists(file.path))

    def fetch_day(self, symbol: str, day: When) -> DayTicks:
        """Trades of a UTC day, and where they came from.

        Raises
        ------
        NotYetPublishedError
            There is no file, and the day is so recent that it may still come.
        ArchiveMissingError
            There is no file.
        TransientSourceError
            No answer, after all tries: nothing is known.
        CorruptSourceError
            The file is damaged, or not the one that its checksum is of; twice.
        TickDataError
            The file is what was published, and has a line that is no trade of that day.
        """
        raise_if_forked("BinanceArchive")
        file = self._file_of_day(canonical_symbol(symbol), parse_day(day))
        clean, origin = self._fetch(file)
        reason = "" if clean.ticks.height else "the archive's file of this day holds no trade"
        return DayTicks(file.first, clean.ticks, origin, reason=reason)

    def fetch_month(self, symbol: str, year: int, month: int) -> list[DayTicks]:
        """Trades of a month by UTC days, from one file; all of it is in memory at once.

        A day without trades is left out: months lack days that have a file of their own.
        Raises what `fetch_day` does.
        """
        raise_if_forked("BinanceArchive")
        file = self._file_of_month(canonical_symbol(symbol), year, month)
        clean, origin = self._fetch(file)
        return list(by_day(clean, origin, file))

    def _file_of_day(self, symbol: str, day: date) -> ArchiveFile:
        path = self._path(symbol, "daily", f"{day}")
        return ArchiveFile(symbol, day, day, path, self._unit(day), DAY_PATIENCE)

    def _file_of_month(self, symbol: str, year: int, month: int) -> ArchiveFile:
        first, last = date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
        path = self._path(symbol, "monthly", f"{first:%Y-%m}")
        return ArchiveFile(symbol, first, last, path, self._unit(first), MONTH_PATIENCE)

    def _path(self, symbol: str, period: str, when: str) -> str:
        folder = f"data/{FOLDERS[self.market]}/{period}/aggTrades/{symbol}"
        return f"{folder}/{symbol}-aggTrades-{when}.zip"

    def _unit(self, day: date) -> str:
        return "us" if self.market == "spot" and day >= SPOT_MICROSECONDS else "ms"

    def _fetch(self, file: ArchiveFile) -> tuple[Clean, Origin]:
        """A file of which nothing is in doubt that the policy does not let pass."""
        with download(file.symbol, file.first, self._transport.url_of(file.path)) as receipt:
            clean, origin, receipt.size_bytes = self._checked(file)
            receipt.rows = clean.ticks.height
        return clean, origin

    def _checked(self, file: ArchiveFile) -> tuple[Clean, Origin, int]:
        """A file, asked for once more where the first copy was not to be trusted."""
        try:
            return self._once(file, fresh=False)
        except FileNotFoundError as error:
            raise self._missing(file) from error
        except (DamagedFileError, UnverifiedError):
            pass
        # A cache may hold the old one of a pair whose other half is new.
        try:
            return self._once(file, fresh=True)
        except (DamagedFileError, FileNotFoundError, UnverifiedError) as error:
            raise self._corrupt(file, error) from error

    def _once(self, file: ArchiveFile, *, fresh: bool) -> tuple[Clean, Origin, int]:
        """A file and its size, asked for once; `fresh` is the last time, when the policy decides."""
        fetched = self._transport.get(file.path, fresh=fresh)
        sha256 = hashlib.sha256(fetched.content).hexdigest()
        promise = self._promise(file, fresh=fresh)
        fault = promise.fault_of(sha256)
        # That there is no checksum is an answer already, which a second copy would not change.
        if fault and (self.is_strict or not (fresh or promise == MISSING)):
            raise UnverifiedError(fault)
        url = self._transport.url_of(file.path)
        clean = trades_of(fetched, file, url)
        if fault:
            message = f"`{url}` is taken unverified: {fault}"
            warnings.warn(message, UnverifiedFileWarning, stacklevel=2)
        origin = Origin(
            "archive",
            url=url,
            sha256=sha256,
            checksum=promise.record,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            unit=clean.unit,
        )
        return clean, clean.mended.recorded_in(origin), len(fetched.content)

    def _promise(self, file: ArchiveFile, *, fresh: bool) -> Promise:
        """What is published about a file; that nothing is, only when no cache says so."""
        for past_caches in (True,) if fresh else (False, True):
            try:
                found = self._transport.get(
                    file.path + SUFFIX, fresh=past_caches, largest_bytes=LARGEST_CHECKSUM_BYTES
                )
            except FileNotFoundError:
                continue
            return promise_of(found.content, file.name)
        return MISSING

    def _missing(self, file: ArchiveFile) -> ArchiveMissingError:
        """The answer for a file that is not there."""
        url = self._transport.url_of(file.path)
        sentence = f"the archive has no file `{url}`"
        kind, hint = ArchiveMissingError, "REST may have what the archive lacks"
        if file.last >= self._today() - file.patience:
            kind, hint = NotYetPublishedError, "it may still be published"
        return kind(with_hint(sentence, hint), symbol=file.symbol, day=file.first, url=url)

    def _corrupt(self, file: ArchiveFile, error: Exception) -> CorruptSourceError:
        """The answer for a file that is not what it should be."""
        url = self._transport.url_of(file.path)
        message = f"{error}"
        if isinstance(error, UnverifiedError):
            message = with_hint(
                f"`{url}` is not proved by a checksum: {error}",
                "try again later; RANGEBAR_CHECKSUM=warn takes a file unverified",
            )
        return CorruptSourceError(message, symbol=file.symbol, day=file.first, url=url)


def utc_today() -> date:
    """The UTC day by the clock of this machine."""
    return datetime.now(UTC).date()


def trades_of(fetched: Fetched, file: ArchiveFile, url: str) -> Clean:
    """Trades in a zip file of the archive."""
    times = FileTimes.of_days(file.first, file.last, file.unit)
    try:
        raw = parse_trades(member_pieces(fetched.content, url, file.member), url)
    except TickDataError:
        # A line that is no trade may be one of damaged data, which is known at their end.
        for _piece in member_pieces(fetched.content, url, file.member):
            pass
        raise
    return normalise(raw.frame, url, raw.first_line, times)


def by_day(clean: Clean, origin: Origin, file: ArchiveFile) -> Iterator[DayTicks]:
    """Days of a month that have trades; a time just outside the month is of its nearest day."""
    times = clean.ticks["timestamp"].to_physical()
    days = [file.first + timedelta(offset) for offset in range((file.last - file.first).days + 1)]
    inner = [times.search_sorted(micros(day_start(day))) for day in days[1:]]
    bounds = [0, *map(int, inner), clean.ticks.height]
    for day, (start, end) in zip(days, pairwise(bounds), strict=True):
        if end > start:
            ticks = clean.ticks[start:end]
            yield DayTicks(day, ticks, clean.mended.recorded_in(origin, day))
