"""What a pass looks at: symbols of a store, and the chains of their stored bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.identity import BAR_SEMANTICS, instant_of
from rangebar_polars.kintsugi.shards import Shard
from rangebar_polars.storage.layout import is_folder
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.reading.plan import covered_days, current_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.kintsugi.shards import Kind, Priority
    from rangebar_polars.storage.coverage import DayCoverage
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["Place", "Scope", "hours_between", "is_populated"]

#: From this length on, a hole has priority P2.
LONG_HOURS = 48.0
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Scope:
    """The symbols of a pass.

    Parameters
    ----------
    storage
        The tick store.
    cache_dir, dsn
        The cache.
    symbols
        Only these; all if it is empty.
    source, market
        Only this one; None for all.
    """

    storage: TickStorage
    cache_dir: Path | str | None = None
    dsn: str | None = field(default=None, repr=False)
    symbols: tuple[str, ...] = ()
    source: str | None = None
    market: str | None = None

    def has(self, source: str, market: str, symbol: str) -> bool:
        """Return whether a symbol belongs to the pass."""
        return (
            (not self.symbols or symbol in self.symbols)
            and self.source in (None, source)
            and self.market in (None, market)
        )

    def folders(self) -> list[SymbolDir]:
        """Return the folders of the stored symbols of the pass."""
        storage = self.storage
        return [
            storage.symbol_dir(symbol, venue.source, venue.market)
            for venue in storage.list_venues()
            for symbol in storage.list_symbols(source=venue.source, market=venue.market)
            if self.has(venue.source, venue.market, symbol)
        ]


@dataclass(slots=True)
class Place:
    """A symbol with its stored days and bars.

    Parameters
    ----------
    folder
        The symbol in the tick store.
    chains
        The stored bars.
    """

    folder: SymbolDir
    chains: Sequence[Chain] = ()
    _entries: dict[date, DayEntry] | None = None

    def __str__(self) -> str:
        return f"{self.folder.symbol} ({self.folder.source} {self.folder.market})"

    @property
    def named_days(self) -> dict[date, DayEntry]:
        """The days that the manifests name, with their entries."""
        if self._entries is None:
            self._entries = {}
            for month in self.folder.months():
                self._entries |= read_manifest(self.folder, month).days
        return self._entries

    def span(self) -> Span | None:
        """Return the days from the first to the last that is stored or lies under bars."""
        days = set(self.named_days)
        for chain in self.chains:
            if chain.units:
                days |= {chain.series.first_day, chain.frontier - ONE_DAY}
        if not days:
            return None
        return Span(day_start(min(days)), day_start(max(days) + ONE_DAY))

    def coverage(self) -> tuple[list[DayCoverage], Mapping[date, DayEntry]]:
        """Return the coverage of these days, and their entries as readers see them."""
        span = self.span()
        if span is None:
            return [], {}
        entries = current_entries(self.folder, span)
        return covered_days(self.folder, span, entries, check_end=False), entries

    def streamed(self, days: Sequence[date]) -> set[date]:
        """Return the days that a process streams into the store at the moment."""
        if not is_folder(self.folder.live):
            return set()
        from rangebar_polars.storage.live.writer_state import streamed_days

        return set(streamed_days(self.folder, days))

    def shard(
        self,
        kind: Kind,
        days: Sequence[date],
        reason: str,
        *,
        priority: Priority | None = None,
        chains: Sequence[Chain] | None = None,
        ids: tuple[int, int] | None = None,
        around: tuple[tuple[int | None, int | None], int | None] = ((None, None), None),
    ) -> Shard:
        """Return a task here.

        `around` has the times in microseconds of the trades before and after it, and the id of the
        one before. Without a priority, the length decides.
        """
        (before_us, after_us), before_id = around
        hours = hours_between(before_us, after_us)
        touched = self._touched(days) if chains is None else list(chains)
        series = tuple(chain.series for chain in touched)
        thresholds = [one.spec.threshold for one in series]
        return Shard(
            symbol=self.folder.symbol,
            threshold_decimal_bps=thresholds[0] if len(thresholds) == 1 else None,
            gap_start_ms=None if before_us is None else before_us // 1000,
            gap_end_ms=None if after_us is None else after_us // 1000,
            gap_hours=hours,
            priority=priority or ("P1" if hours < LONG_HOURS else "P2"),
            last_agg_trade_id_before=before_id,
            ouroboros_boundaries=_boundaries(touched, days, before_us, after_us),
            kind=kind,
            source=self.folder.source,
            market=self.folder.market,
            series=series,
            first_id=None if ids is None else ids[0],
            last_id=None if ids is None else ids[1],
            days=tuple(days),
            reason=reason,
        )

    def _touched(self, days: Sequence[date]) -> list[Chain]:
        return [
            chain
            for chain in self.chains
            if any(chain.series.first_day <= day < chain.frontier for day in days)
        ]


def is_populated(chain: Chain) -> bool:
    """Return whether this version of the package populates the bars of a chain."""
    rules = chain.series.spec.rules
    return (
        bool(chain.units)
        and rules.bar_semantics == BAR_SEMANTICS
        and rules.max_gap_us is None
        and chain.series.anchor == day_start(chain.series.first_day)
    )


def hours_between(before_us: int | None, after_us: int | None) -> float:
    """Return the hours between two instants in microseconds; 0 if one is not known.

    Examples
    --------
    >>> from rangebar_polars.kintsugi.scope import hours_between
    >>> hours_between(0, 5_400_000_000), hours_between(None, 1)
    (1.5, 0.0)
    """
    if before_us is None or after_us is None:
        return 0.0
    return (after_us - before_us) / _HOUR_US


def _boundaries(
    chains: Sequence[Chain], days: Sequence[date], before_us: int | None, after_us: int | None
) -> tuple[datetime, ...]:
    """Return the instants at which series begin again between two trades, or inside some days."""
    if not days:
        return ()
    first = day_start(days[0]) if before_us is None else instant_of(before_us)
    last = day_start(days[-1] + ONE_DAY) if after_us is None else instant_of(after_us)
    bounds = {
        day_start(day)
        for chain in chains
        for day in (chain.series.segment.start, chain.series.segment.end)
        if day is not None
    }
    return tuple(sorted(bound for bound in bounds if first < bound < last))
