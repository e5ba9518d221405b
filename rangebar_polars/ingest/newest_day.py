"""The newest whole day of a symbol: the last day that a population can reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    ClampWarning,
    ClockSkewError,
    NoAnswerError,
    TicksNotCachedError,
    with_hint,
)
from rangebar_polars.fetch.registry import archive_probe
from rangebar_polars.sources import Venue, is_user_source
from rangebar_polars.storage.layout import write_hint
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading.plan import covered_days, entries_around
from rangebar_polars.storage.verify import stored_days

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from rangebar_polars.fetch.source import ArchiveProbe
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["Clamp", "ClampWarning", "newest_day"]

_STORED = "the tick store holds it"


@dataclass(frozen=True, slots=True)
class Clamp:
    """The newest whole day up to a requested day, with the reason."""

    day: date
    #: None if the newest day of all was requested.
    requested: date | None
    why: str
    #: False if the source gave no answer, so that there may be a newer day.
    is_certain: bool = True

    @property
    def is_earlier(self) -> bool:
        """Whether the requested day is not available."""
        return self.requested is not None and self.day < self.requested


_DEFAULT_VENUE = Venue()


def newest_day(
    symbol: str,
    last_day: date | None,
    *,
    first_day: date | None = None,
    venue: Venue = _DEFAULT_VENUE,
    cache_dir: Path | str | None = None,
    now: Callable[[], float] = clock.unix_seconds,
) -> Clamp:
    """Find the newest whole day up to a requested day, in the tick store or the source's archive.

    The source is asked only if the store holds neither the requested day nor yesterday. The search
    then goes back day by day, at most ten days, and ends at the first day that the archive or the
    store has. With `first_day`, the search continues back to that day in longer steps, for mirrors
    that are no longer updated.

    Parameters
    ----------
    symbol
        A symbol in upper case that has passed the gate.
    last_day
        The requested day; None for the newest day of all.
    first_day
        The earliest day of interest; None to go back no further than ten days.
    venue
        The source and market that the symbol is traded at.
    cache_dir
        Folder of the tick store.
    now
        Seconds since 1970 by this machine's clock. It is read once to decide which day today is.

    Raises
    ------
    ArchiveMissingError
        None of the days of the search is whole.
    ClockSkewError
        The answer depends on today's date, and the source's clock differs from this machine's.
    TransientSourceError
        The source could be reached but did not answer, or could not be reached while the store
        holds no day.
    TicksNotCachedError
        The source is one of your own, and the store holds no day of it.
    MissingExtraError
        The source has to be asked, and the extra `fetch` is not installed.

    Examples
    --------
    >>> from datetime import date
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.ingest.newest_day import newest_day
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> newest_day("ETHUSDT", date(2024, 8, 8), cache_dir=folder).why
    'the tick store holds it'
    """
    started = now()
    symbol_dir = TickStorage(cache_dir).symbol_dir(symbol, venue.source, venue.market)
    yesterday = _day_before(started)
    latest = yesterday if last_day is None else min(last_day, yesterday)
    if _is_stored(symbol_dir, latest):
        return Clamp(latest, last_day, _STORED)
    if is_user_source(venue.source):
        return _newest_of_user(symbol_dir, last_day, latest)
    probe = archive_probe(symbol, venue.source, venue.market, now=now)
    return _Search(symbol_dir, probe, last_day, started, first_day).run()


def _day_before(seconds: float) -> date:
    """Return the UTC day before an instant."""
    return datetime.fromtimestamp(seconds, UTC).date() - ONE_DAY


def _is_stored(symbol_dir: SymbolDir, day: date) -> bool:
    """Return whether the store holds a day that will not grow."""
    span = Span(day_start(day), day_start(day + ONE_DAY))
    return covered_days(symbol_dir, span, entries_around(symbol_dir, span))[0].state in SETTLED


def _newest_of_user(symbol_dir: SymbolDir, requested: date | None, latest: date) -> Clamp:
    """Return the newest stored day of a user source, which has no archive.

    Raises
    ------
    TicksNotCachedError
        The store holds no day up to the latest possible one.
    """
    day = _newest_stored(symbol_dir, latest)
    if day is not None:
        return Clamp(day, requested, _STORED)
    raise TicksNotCachedError(
        with_hint(
            f"the store holds no day of {symbol_dir.label} up to {latest}; ticks of "
            f"`{symbol_dir.source}` come from write_ticks only",
            write_hint(symbol_dir),
        ),
        symbol=symbol_dir.symbol,
        days=[latest],
    )


def _newest_stored(symbol_dir: SymbolDir, latest: date) -> date | None:
    """Return the newest whole day of the store, up to the latest possible day."""
    days = (
        day
        for day, entry in stored_days(symbol_dir).items()
        if entry.state in SETTLED and day <= latest
    )
    return max(days, default=None)


@dataclass(frozen=True, slots=True)
class _Search:
    """One search for the newest day; `started` decides which day is yesterday."""

    symbol_dir: SymbolDir
    probe: ArchiveProbe
    requested: date | None
    started: float
    first_day: date | None = None

    @property
    def latest(self) -> date:
        """The day that the search begins with."""
        yesterday = _day_before(self.started)
        return yesterday if self.requested is None else min(self.requested, yesterday)

    def run(self) -> Clamp:
        """Search the archive; fall back to the store if the source cannot be reached."""
        try:
            return self._search_archive()
        except NoAnswerError as error:
            return self._fall_back(error)

    def _search_archive(self) -> Clamp:
        """Go back from the latest day to the first that the archive or the store has."""
        day = self.latest
        while (self.latest - day).days <= self.probe.patience:
            if _is_stored(self.symbol_dir, day):
                return Clamp(day, self.requested, _STORED)
            is_published = self.probe.has(day)
            self._check_clock()
            if is_published:
                return Clamp(day, self.requested, "the archive has it")
            day = self.probe.before(day)
        found = self._search_back(day)
        if found is None:
            raise self._not_found()
        self._warn_of_age(found)
        return Clamp(found, self.requested, "the archive and the tick store have nothing newer")

    def _search_back(self, missing: date) -> date | None:
        """Search from a day without ticks back to `first_day`: in doubling steps, then by halves."""
        first, stride = self.first_day, ONE_DAY
        if first is None or missing < first:
            return None
        day = missing
        while not self._has(day):
            if day == first:
                return None
            missing, stride = day, stride * 2
            day = max(first, day - stride)
        while missing - day > ONE_DAY:
            middle = day + (missing - day) // 2
            day, missing = (middle, missing) if self._has(middle) else (day, middle)
        return day

    def _has(self, day: date) -> bool:
        return _is_stored(self.symbol_dir, day) or self.probe.has(day)

    def _warn_of_age(self, found: date) -> None:
        """Warn that the newest day is old, which nothing else shows."""
        label, url = self.symbol_dir.label, self.probe.transport.url
        message = with_hint(
            f"the newest day of {label} in the archive `{url}` is `{found}`",
            "if that is a mirror, check that it is updated; a symbol may have been delisted",
        )
        warn_caller(message, ClampWarning)

    def _check_clock(self) -> None:
        """Refuse an answer that depends on today's date if the two clocks differ."""
        transport = self.probe.transport
        skew = transport.clock_skew_s
        if skew is None or not transport.is_skewed:
            return
        if self.requested is None or self.requested > self.latest:
            sentence = (
                f"the newest day is uncertain: this machine's clock is `{abs(skew):.0f}` s "
                f"{'ahead of' if skew > 0 else 'behind'} the clock of `{transport.url}`"
            )
            hint = "synchronise the system clock, or pass an earlier end_date"
            raise ClockSkewError(with_hint(sentence, hint))

    def _fall_back(self, error: NoAnswerError) -> Clamp:
        """Take the newest stored day, with a warning."""
        stored = _newest_stored(self.symbol_dir, self.latest)
        if stored is None:
            error.symbol, error.day = self.symbol_dir.symbol, self.latest
            error.add_note(f"the tick store holds no whole day of {self.symbol_dir.label} either")
            raise error
        reason = f"{error}".partition("\n")[0]
        message = with_hint(
            f"the newest day of {self.symbol_dir.label} is assumed to be `{stored}`, the newest in "
            f"the tick store: {reason}",
            "run it again with a connection to add newer days",
        )
        warn_caller(message, ClampWarning)
        why = f"{_STORED}; the source gave no answer"
        return Clamp(stored, self.requested, why, is_certain=False)

    def _not_found(self) -> ArchiveMissingError:
        symbol_dir, stored = self.symbol_dir, _newest_stored(self.symbol_dir, self.latest)
        earliest = self.latest - timedelta(days=self.probe.patience)
        sentence = f"the archive has no whole day of {symbol_dir.label} from `{earliest}` to `{self.latest}`"
        hint = "check `source` and `market`; the symbol may have been delisted"
        if stored is not None:
            hint += f'. The tick store holds days up to {stored}: end_date="{stored}"'
        return ArchiveMissingError(
            with_hint(sentence, hint),
            symbol=symbol_dir.symbol,
            day=self.latest,
            url=self.probe.transport.url,
        )
