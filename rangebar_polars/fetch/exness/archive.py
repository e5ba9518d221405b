"""The archive of Exness, which has one zip of quotes per month, updated during the month."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.span import ONE_DAY, day_start, parse_day, parse_span
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    ConfirmedAbsentError,
    CorruptSourceError,
    NotYetPublishedError,
    TickDataError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch.downloads import download
from rangebar_polars.fetch.exness.csv import MonthFile, first_id, read_month
from rangebar_polars.fetch.normalise import warn_of_tails
from rangebar_polars.fetch.transport import Transport
from rangebar_polars.fetch.zipped import DamagedFileError, member_pieces
from rangebar_polars.sources import QUOTES_SCHEMA, canonical_symbol
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from rangebar_polars._utils.span import When
    from rangebar_polars.fetch.downloads import Receipt
    from rangebar_polars.fetch.transport import Fetched

__all__ = ["Exness"]

#: Reasons for a day without quotes: in a complete month, and in a running month so far.
EMPTY_DAY = "no quotes in a complete month file"
EMPTY_SO_FAR = "no quotes in the file of a running month"

# The file of a month may be published this long after its end.
PATIENCE = timedelta(days=2)
WEEKEND_DAYS = (6, 7)


@dataclass(frozen=True, slots=True)
class Month:
    """The days of a monthly file, and the version of the file."""

    file: MonthFile
    days: dict[date, DayTicks]
    is_running: bool
    version: str


class Exness:
    """Quotes of Exness, with the columns timestamp, price (the mid), bid, ask and agg_trade_id.

    The archive publishes no ids and no checksums. The id numbers the rows of a month, so it is the
    same in every fetch. The SHA-256 of the file is recorded as the origin of its days. The last
    month stays in memory, so a loop over its days fetches it once. A month without a file of its own
    comes from the file of its year or from those of its days, where the archive has them. The key
    `archive_name` of the symbol registry names another type of account than Raw_Spread, such as
    EURUSDm, EURUSD_Zero_Spread or EURUSD_Pro.

    Parameters
    ----------
    url
        Host of the archive before `/ticks/`, also `file://`; the setting `exness_url` by default.
    today
        Returns the UTC date, which decides whether a month is complete; the clock by default.

    Examples
    --------
    >>> import tempfile, zipfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch.exness.archive import Exness
    >>> root = Path(tempfile.mkdtemp())
    >>> name = "Exness_EURUSD_Raw_Spread_2024_01"
    >>> path = root / "ticks" / "EURUSD_Raw_Spread" / "2024" / "01" / f"{name}.zip"
    >>> path.parent.mkdir(parents=True)
    >>> header = '"Exness","Symbol","Timestamp","Bid","Ask"'
    >>> row = '"exness","EURUSD_Raw_Spread","2024-01-15 00:00:00.032Z",1.09512,1.09513'
    >>> with zipfile.ZipFile(path, "w") as archive:
    ...     archive.writestr(f"{name}.csv", header + chr(10) + row + chr(10))
    >>> quotes = Exness(url=root.as_uri()).read_day("EURUSD", "2024-01-15")
    >>> quotes.drop("timestamp").row(0)
    (1.095125, 1.09512, 1.09513, 20240100000000)
    """

    source = "exness"
    market = "spot"

    def __init__(self, *, url: str | None = None, today: Callable[[], date] | None = None) -> None:
        from rangebar_polars.config import settings

        self._archive = Transport(settings(exness_url=url).exness_url)
        self._today = today or utc_today
        self._last_month: Month | None = None
        # The zipped file of a year, for its other months.
        self._last_year: tuple[str, Fetched] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._archive.url!r})"

    def read_day(self, symbol: str, day: When) -> pl.DataFrame:
        """Return the quotes of a UTC day, in file order.

        Raises
        ------
        ConfirmedAbsentError
            The file of the month has no quotes of this day, as at a weekend or on a holiday.
        NotYetPublishedError, ArchiveMissingError, TransientSourceError, CorruptSourceError
            As for `fetch_month`.
        """
        found = self.fetch_day(symbol, day)
        if found.reason:
            raise ConfirmedAbsentError(
                f"`{canonical_symbol(symbol)}` has no quotes on {found.day}: {found.reason}",
                symbol=canonical_symbol(symbol),
                day=found.day,
                url=found.origin.url,
            )
        return found.ticks

    def fetch_day(self, symbol: str, day: When) -> DayTicks:
        """Fetch the quotes of a UTC day and their origin, or 0 rows with a reason."""
        wanted = parse_day(day)
        month = self._month(canonical_symbol(symbol), wanted.year, wanted.month)
        if wanted not in month.days:
            raise NotYetPublishedError(
                f"the file of `{month.file.symbol}` for {wanted:%Y-%m} does not reach {wanted} yet",
                symbol=month.file.symbol,
                day=wanted,
                url=self._archive.url_of(month.file.path),
            )
        return month.days[wanted]

    def fetch_month(self, symbol: str, year: int, month: int) -> list[DayTicks]:
        """Fetch every day of a month; for a running month, the days up to its last quote.

        Raises
        ------
        NotYetPublishedError
            There is no file yet, and the month is running, just over, or in the future.
        ArchiveMissingError
            There is no file of an older month.
        TransientSourceError
            There was no answer, after all tries.
        CorruptSourceError
            The file is not a zip of one CSV, also after a second download.
        TickDataError, TickOrderError
            A line is not a valid quote of the symbol, or its time runs back by more than a second.
        """
        self._last_month = self._fetch(month_file(canonical_symbol(symbol), year, month))
        return list(self._last_month.days.values())

    def days(self, symbol: str, start: When, end: When) -> Iterator[date]:
        """Yield the published days of a span in order, fetching one month at a time."""
        name = canonical_symbol(symbol)
        known = (day for day in parse_span(start, end).days() if day <= self._today())
        for (year, month), wanted in groupby(known, key=lambda day: (day.year, day.month)):
            try:
                published = self._month(name, year, month).days
            except ArchiveMissingError:
                continue
            yield from (day for day in wanted if day in published)

    def _month(self, name: str, year: int, month: int) -> Month:
        """Return the month from memory if it is current, else fetch it."""
        file, last = month_file(name, year, month), self._last_month
        if last is None or last.file != file or self._is_outdated(last):
            last = self._last_month = self._fetch(file)
        return last

    def _is_outdated(self, month: Month) -> bool:
        """Return whether the archive may have a newer file than the one in memory."""
        if not month.is_running:
            return False
        try:
            facts = self._archive.facts(month.file.path)
        except TransientSourceError:
            return True  # the download that follows raises the error
        return facts is None or not facts.etag or facts.etag != month.version

    def _fetch(self, file: MonthFile) -> Month:
        raise_if_forked("Exness")
        with download(file.symbol, file.first_day, self._archive.url_of(file.path)) as receipt:
            try:
                return self._checked(file, receipt)
            except FileNotFoundError as error:
                raise self._missing(file) from error

    def _checked(self, file: MonthFile, receipt: Receipt) -> Month:
        """Fetch the month from its own file, or that of its year, or those of its days.

        A damaged file is downloaded again once.
        """
        for fetch in (self._once, self._of_year, self._of_days):
            try:
                try:
                    return fetch(file, receipt, fresh=False)
                except CorruptSourceError:
                    return fetch(file, receipt, fresh=True)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(file.path)

    def _of_year(self, file: MonthFile, receipt: Receipt, *, fresh: bool) -> Month:
        """Return the month from the file of its year, which stays in memory."""
        path = file.path_of_year
        if fresh or self._last_year is None or self._last_year[0] != path:
            self._last_year = None
            self._last_year = (path, self._archive.get(path, fresh=fresh))
        try:
            return self._parsed(file._replace(is_of_year=True), path, self._last_year[1], receipt)
        except CorruptSourceError:
            self._last_year = None
            raise

    def _of_days(self, file: MonthFile, receipt: Receipt, *, fresh: bool) -> Month:
        """Return the month from the files of its days, up to the first weekday without one."""
        found: list[tuple[date, Fetched]] = []
        day = file.first_day
        while day <= min(file.last_day, self._today()):
            try:
                found.append((day, self._archive.get(file.path_of_day(day), fresh=fresh)))
            except FileNotFoundError:
                if day.isoweekday() not in WEEKEND_DAYS:
                    break
            day += ONE_DAY
        if not found:
            raise FileNotFoundError(file.path_of_day(file.first_day))
        urls = [self._archive.url_of(file.path_of_day(of_day)) for of_day, _ in found]
        quotes = joined([fetched for _, fetched in found], urls, file)
        digest = sha256(b"".join(sha256(fetched.content).digest() for _, fetched in found))
        origin = Origin("archive", url=urls[0], sha256=digest.hexdigest(), unit="ms")
        receipt.rows, receipt.size_bytes = quotes.height, sum(len(f.content) for _, f in found)
        is_running = day <= file.last_day
        return Month(
            file, dict(by_day(quotes, file, origin, is_running=is_running)), is_running, ""
        )

    def _once(self, file: MonthFile, receipt: Receipt, *, fresh: bool) -> Month:
        """Fetch the month with one download."""
        return self._parsed(file, file.path, self._archive.get(file.path, fresh=fresh), receipt)

    def _parsed(self, file: MonthFile, path: str, fetched: Fetched, receipt: Receipt) -> Month:
        """Parse the quotes of the month in a file; that of a year need not have the month."""
        origin = Origin(
            "archive",
            url=self._archive.url_of(path),
            sha256=sha256(fetched.content).hexdigest(),
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            unit="ms",
        )
        quotes = quotes_of(fetched, file._replace(source=origin.url))
        warn_of_tails(int(quotes["tails"].sum()), origin.url)
        is_running = self._is_running(file, fetched)
        if quotes.is_empty() and not is_running:
            if file.is_of_year:
                raise FileNotFoundError(path)
            sentence = f"`{origin.url}` has no quote of its month"
            raise corrupt(with_hint(sentence, "fetch the file again"), file, origin.url)
        receipt.rows, receipt.size_bytes = quotes.height, len(fetched.content)
        days = dict(by_day(quotes, file, origin, is_running=is_running))
        return Month(file._replace(is_of_year=False), days, is_running, origin.etag)

    def _is_running(self, file: MonthFile, fetched: Fetched) -> bool:
        """Return whether more quotes may follow, because the file was written before the month ended."""
        if file.last_day >= self._today():
            return True
        end = day_start(file.last_day + ONE_DAY)
        written = fetched.last_modified
        return bool(written) and datetime.fromisoformat(written) < end

    def _missing(self, file: MonthFile) -> ArchiveMissingError:
        """Make the error for a missing file."""
        sentence = f"the archive has no file `{self._archive.url_of(file.path)}`"
        kind, hint = (
            ArchiveMissingError,
            "the symbol may have started later, or be spelled differently",
        )
        if file.last_day + PATIENCE >= self._today():
            kind, hint = NotYetPublishedError, "it may still be published"
        url = self._archive.url_of(file.path)
        return kind(with_hint(sentence, hint), symbol=file.symbol, day=file.first_day, url=url)


def month_file(symbol: str, year: int, month: int) -> MonthFile:
    """Return the file of a month, with the name that the registry has for the symbol."""
    entry = get_symbol_entries().get(symbol)
    return MonthFile(symbol, year, month, archive_name=entry.archive_name if entry else "")


def joined(files: Sequence[Fetched], urls: Sequence[str], file: MonthFile) -> pl.DataFrame:
    """Return the quotes of successive files of a month as those of one file."""
    frames: list[pl.DataFrame] = []
    last: datetime | None = None
    for fetched, url in zip(files, urls, strict=True):
        quotes = quotes_of(fetched, file._replace(source=url), after=last)
        frames.append(quotes)
        last = quotes["timestamp"][-1] if quotes.height else last
    for quotes, url in zip(frames, urls, strict=True):
        warn_of_tails(int(quotes["tails"].sum()), url)
    ids = pl.int_range(pl.len(), dtype=pl.Int64) + first_id(file.year, file.month)
    return pl.concat(frames).with_columns(ids.alias("agg_trade_id"))


def utc_today() -> date:
    """Return the UTC date by the clock of this machine."""
    return clock.utc_now().date()


def quotes_of(fetched: Fetched, file: MonthFile, *, after: datetime | None = None) -> pl.DataFrame:
    """Parse the quotes in a zip file of the archive; `after` is the time of the quote before it."""
    try:
        try:
            return read_month(member_pieces(fetched.content, file.source), file, after=after)
        except TickDataError:
            # An invalid line may come from damaged data, which only shows at their end.
            for _piece in member_pieces(fetched.content, file.source):
                pass
            raise
    except DamagedFileError as error:
        raise corrupt(f"{error}", file, file.source) from error


def corrupt(message: str, file: MonthFile, url: str) -> CorruptSourceError:
    """Make the error for a damaged file of the archive, which may be that of a year or a day."""
    return CorruptSourceError(message, symbol=file.symbol, day=file.first_day, url=url)


def by_day(
    quotes: pl.DataFrame, file: MonthFile, origin: Origin, *, is_running: bool
) -> Iterator[tuple[date, DayTicks]]:
    """Split the quotes into UTC days; for a running month, up to the day of the last quote.

    A time just outside the month belongs to the nearest day.
    """
    days = [file.first_day + offset * ONE_DAY for offset in range(file.last_day.day)]
    starts = [quotes["timestamp"].search_sorted(day_start(day)) for day in days]
    bounds = [0, *map(int, starts[1:]), quotes.height]
    for day, start, end in zip(days, bounds[:-1], bounds[1:], strict=True):
        part = quotes[start:end]
        if is_running and start == quotes.height:
            return
        reason = "" if part.height else EMPTY_SO_FAR if is_running else EMPTY_DAY
        repaired = replace(origin, raised=int(part["raised"].sum()), tails=int(part["tails"].sum()))
        ticks = part.select(QUOTES_SCHEMA.names())
        yield day, DayTicks(day, ticks, repaired, is_tail=is_running, reason=reason)
