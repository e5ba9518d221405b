"""The archive of Binance, which has a zip of aggregate trades and a checksum per day and month."""

from __future__ import annotations

import calendar
import hashlib
import warnings
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import day_start, parse_day, parse_span
from rangebar_polars.config import settings
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.events import ChecksumFailed, emit
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    CorruptSourceError,
    NotYetPublishedError,
    TickDataError,
    UnverifiedFileWarning,
    with_hint,
)
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.binance.files import (
    GLOB_CHARACTERS,
    read_agg_trades,
    resolve_paths,
    scan_agg_trades,
)
from rangebar_polars.fetch.checksum import MISSING, SUFFIX, parse_checksum
from rangebar_polars.fetch.downloads import download
from rangebar_polars.fetch.normalise import FileTimes, micros, normalise, warn_of_tails
from rangebar_polars.fetch.transport import Transport
from rangebar_polars.fetch.zipped import DamagedFileError, member_pieces
from rangebar_polars.sources import canonical_market, canonical_symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import polars as pl

    from rangebar_polars._utils.span import When
    from rangebar_polars.fetch.checksum import PublishedChecksum
    from rangebar_polars.fetch.normalise import Clean
    from rangebar_polars.fetch.transport import Fetched

__all__ = ["GLOB_CHARACTERS", "BinanceArchive", "UnverifiedFileWarning"]
__all__ += ["read_agg_trades", "resolve_paths", "scan_agg_trades"]

FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
# Spot files have microseconds from this day on. Futures files have milliseconds.
SPOT_MICROSECONDS = date(2025, 1, 1)
LARGEST_CHECKSUM_BYTES = 1 << 16
# A day is published on the next day or one later, and a month on the Monday after its end.
DAY_PATIENCE = timedelta(days=2)
MONTH_PATIENCE = timedelta(days=8)


class UnverifiedError(Exception):
    """Raised when a file does not match a published checksum."""


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
        """The name of the file without its folder."""
        return self.path.rpartition("/")[2]

    @property
    def member(self) -> str:
        """The name of the CSV in it."""
        return f"{self.name.removesuffix('.zip')}.csv"


class BinanceArchive:
    """Aggregate trades of Binance from its published files.

    Every file must match its checksum. One that does not, or that is damaged, is downloaded once
    more past all caches, and then rejected. Trades are in id order, and the origin of a day counts
    the repairs.

    Parameters
    ----------
    market
        `"spot"`, `"um"` (USD-margined futures) or `"cm"` (coin-margined).
    url
        Address of the archive before `/data/`; the setting `binance_archive_url` by default.
    checksum
        `"require"`, or `"warn"` to use files without a matching checksum, with a warning; the
        setting `checksum` by default.
    transport
        Transport to use instead of one for the address.
    today
        Returns the UTC date, which decides whether a missing file may still be published.

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
        chosen = settings(binance_archive_url=url, checksum=checksum)
        self.is_strict = chosen.checksum == "require"
        self._transport = transport or Transport(chosen.binance_archive_url)
        self._today = today or utc_today

    def read_day(self, symbol: str, day: When) -> pl.DataFrame:
        """Return the trades of a UTC day, with the errors of `fetch_day`."""
        return self.fetch_day(symbol, day).ticks

    def days(self, symbol: str, start: When, end: When) -> Iterator[date]:
        """Yield the days of a span that the archive has, in order, with one request each.

        Raises
        ------
        TransientSourceError
            There was no answer about a day, after all tries.
        """
        name = canonical_symbol(symbol)
        files = (self._file_of_day(name, day) for day in parse_span(start, end).days())
        return (file.first for file in files if self._transport.exists(file.path))

    def fetch_day(self, symbol: str, day: When) -> DayTicks:
        """Fetch the trades of a UTC day, and their origin.

        Raises
        ------
        NotYetPublishedError
            There is no file yet, and the day is recent.
        ArchiveMissingError
            There is no file.
        TransientSourceError
            There was no answer, after all tries.
        CorruptSourceError
            The file is damaged, or does not match its checksum, also after a second download.
        TickDataError
            The file is as published, and has a line that is not a valid trade of the day.
        """
        raise_if_forked("BinanceArchive")
        file = self._file_of_day(canonical_symbol(symbol), parse_day(day))
        clean, origin = self._fetch(file)
        reason = "" if clean.ticks.height else "the archive's file of this day holds no trade"
        return DayTicks(file.first, clean.ticks, origin, reason=reason)

    def fetch_month(self, symbol: str, year: int, month: int) -> list[DayTicks]:
        """Fetch the trades of a month from one file, by UTC days, into memory.

        A day without trades is left out, because it may still have a file of its own. The errors
        are those of `fetch_day`.
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
        """Fetch a file that is verified as far as the setting requires."""
        with download(file.symbol, file.first, self._transport.url_of(file.path)) as receipt:
            clean, origin, receipt.size_bytes = self._checked(file)
            receipt.rows = clean.ticks.height
        return clean, origin

    def _checked(self, file: ArchiveFile) -> tuple[Clean, Origin, int]:
        """Fetch a file, and download it again if the first copy is damaged or unverified."""
        try:
            return self._once(file, fresh=False)
        except FileNotFoundError as error:
            raise self._missing(file) from error
        except (DamagedFileError, UnverifiedError):
            pass
        # A cache may have an old file with a new checksum, or the reverse.
        try:
            return self._once(file, fresh=True)
        except (DamagedFileError, FileNotFoundError, UnverifiedError) as error:
            raise self._corrupt(file, error) from error

    def _once(self, file: ArchiveFile, *, fresh: bool) -> tuple[Clean, Origin, int]:
        """Fetch a file once, with its size. On the last try, `fresh`, the setting decides about faults."""
        fetched = self._transport.get(file.path, fresh=fresh)
        sha256 = hashlib.sha256(fetched.content).hexdigest()
        published = self._published_checksum(file, fresh=fresh)
        fault = published.fault_of(sha256)
        url = self._transport.url_of(file.path)
        if fresh and fault and not published.fault:
            emit(ChecksumFailed(file.symbol, file.first, url, published.record, sha256))
        # A missing checksum is an answer already, so a second copy would not help.
        if fault and (self.is_strict or not (fresh or published == MISSING)):
            raise UnverifiedError(fault)
        clean = trades_of(fetched, file, url, self._lines)
        if fault:
            message = f"`{url}` is used unverified: {fault}"
            warnings.warn(message, UnverifiedFileWarning, stacklevel=2)
        origin = Origin(
            "archive",
            url=url,
            sha256=sha256,
            checksum=published.record,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            unit=clean.unit,
        )
        return clean, clean.repairs.recorded_in(origin), len(fetched.content)

    def _lines(self, pieces: Iterable[bytes], url: str) -> Iterable[bytes]:
        """Return the text of a file as lines of aggregate trades."""
        del url
        return pieces

    def _published_checksum(self, file: ArchiveFile, *, fresh: bool) -> PublishedChecksum:
        """Fetch the checksum of a file. It counts as missing only if a request past caches says so."""
        for past_caches in (True,) if fresh else (False, True):
            try:
                found = self._transport.get(
                    file.path + SUFFIX, fresh=past_caches, largest_bytes=LARGEST_CHECKSUM_BYTES
                )
            except FileNotFoundError:
                continue
            return parse_checksum(found.content, file.name)
        return MISSING

    def _missing(self, file: ArchiveFile) -> ArchiveMissingError:
        """Make the error for a missing file."""
        url = self._transport.url_of(file.path)
        sentence = f"the archive has no file `{url}`"
        kind, hint = ArchiveMissingError, "the REST interface may have the day"
        if file.last >= self._today() - file.patience:
            kind, hint = NotYetPublishedError, "it may still be published"
        return kind(with_hint(sentence, hint), symbol=file.symbol, day=file.first, url=url)

    def _corrupt(self, file: ArchiveFile, error: Exception) -> CorruptSourceError:
        """Make the error for a damaged or unverified file."""
        url = self._transport.url_of(file.path)
        message = f"{error}"
        if isinstance(error, UnverifiedError):
            message = with_hint(
                f"`{url}` is not verified by a checksum: {error}",
                "try again later; RANGEBAR_CHECKSUM=warn accepts unverified files",
            )
        return CorruptSourceError(message, symbol=file.symbol, day=file.first, url=url)


def utc_today() -> date:
    """Return the UTC date by the clock of this machine."""
    return clock.utc_now().date()


def trades_of(
    fetched: Fetched,
    file: ArchiveFile,
    url: str,
    lines: Callable[[Iterable[bytes], str], Iterable[bytes]],
) -> Clean:
    """Parse the trades in a zip file of the archive, whose text `lines` converts."""
    times = FileTimes.of_days(file.first, file.last, file.unit)
    try:
        raw = parse_trades(lines(member_pieces(fetched.content, url, file.member), url), url)
    except TickDataError:
        # An invalid line may come from damaged data, which only shows at their end.
        for _piece in member_pieces(fetched.content, url, file.member):
            pass
        raise
    clean = normalise(raw.frame, url, raw.first_line, times, raw.tails)
    warn_of_tails(len(clean.repairs.tails), url)
    return clean


def by_day(clean: Clean, origin: Origin, file: ArchiveFile) -> Iterator[DayTicks]:
    """Split a month into days with trades. A time just outside of it belongs to the nearest day."""
    times = clean.ticks["timestamp"].to_physical()
    days = [file.first + timedelta(offset) for offset in range((file.last - file.first).days + 1)]
    inner = [times.search_sorted(micros(day_start(day))) for day in days[1:]]
    bounds = [0, *map(int, inner), clean.ticks.height]
    for day, (start, end) in zip(days, pairwise(bounds), strict=True):
        if end > start:
            ticks = clean.ticks[start:end]
            yield DayTicks(day, ticks, clean.repairs.recorded_in(origin, day))
