"""Remove ticks that stored bars have made dispensable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._files.disk import Disk
from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.checks import whole_number
from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.identity import BAR_SEMANTICS, is_other_semantics
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains, replay_day, replays_of
from rangebar_polars.exceptions import with_hint
from rangebar_polars.readers.coverage import stale_units
from rangebar_polars.readers.request import MAX_COMPUTED_DAYS
from rangebar_polars.sources import canonical_market, canonical_symbol
from rangebar_polars.storage.days.journaled import is_journaled
from rangebar_polars.storage.days.prune import prune_days, stored_entries, without_neighbours
from rangebar_polars.storage.layout import symbol_dirs
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["PRUNE_SCHEMA", "PruneReport", "SymbolPruning", "prune"]

#: Columns and dtypes of `PruneReport.to_frame`.
PRUNE_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "market": pl.String(),
        "symbol": pl.String(),
        "days": pl.Int64(),
        "first_day": pl.Date(),
        "last_day": pl.Date(),
        "rows": pl.Int64(),
        "bytes": pl.Int64(),
        "stay": pl.Int64(),
        "reason": pl.String(),
    }
)

_NO_BARS = "no bars of the symbol are stored"
_COMPUTED = "a read computes bars from it"
_STALE = "its bars were made from other ticks"
_JOURNAL = "it has a journal"
_NEIGHBOUR = "its file reaches into a day that stays"


@dataclass(frozen=True, slots=True)
class SymbolPruning:
    """The days of one symbol that a prune removes, and those that stay although they are old."""

    symbol_dir: SymbolDir
    days: Mapping[date, DayEntry]
    #: Reasons of the old final days that stay.
    stay: Mapping[date, str]


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The outcome of a prune, symbol by symbol."""

    symbols: Sequence[SymbolPruning] = ()
    is_dry: bool = True
    #: Number of removed days; in a dry run, of those that would be removed.
    days: int = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        entries = [entry for found in self.symbols for entry in found.days.values()]
        object.__setattr__(self, "days", len(entries))
        object.__setattr__(self, "bytes", sum(entry.bytes for entry in entries))

    def to_frame(self) -> pl.DataFrame:
        """Return a row for each symbol; `reason` is the most common one of the days that stay."""
        return pl.DataFrame(
            [_row(found) for found in self.symbols], schema=PRUNE_SCHEMA, orient="row"
        )


def _row(found: SymbolPruning) -> tuple[object, ...]:
    place, entries = found.symbol_dir, found.days.values()
    reasons = Counter(found.stay.values()).most_common(1)
    return (
        place.source,
        place.market,
        place.symbol,
        len(found.days),
        min(found.days, default=None),
        max(found.days, default=None),
        sum(entry.rows for entry in entries),
        sum(entry.bytes for entry in entries),
        len(found.stay),
        reasons[0][0] if reasons else None,
    )


def prune(
    keep_days: int,
    symbols: Iterable[str] = (),
    *,
    source: str | None = None,
    market: str | None = None,
    dry_run: bool = True,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> PruneReport:
    """Remove old ticks that every stored family of bars covers, or only list them.

    A family is the series of a symbol with one threshold, one reset mode and one set of rules. A day
    is removed if its state is `final` and each family of its symbol has stored bars of it. Reads of
    these bars return the same as before. Days stay that such a read computes bars from: those
    around the end of a series, and around days without bars.

    Parameters
    ----------
    keep_days
        Number of days before today (UTC) whose ticks stay.
    symbols
        Only these; by default all in the store.
    source, market
        Only the symbols of this source, and of this market.
    dry_run
        Remove nothing.
    cache_dir, dsn
        The store of the ticks, and the cache of the bars.

    Returns
    -------
    PruneReport
        The days by symbol, and the reasons of old days that stay.

    Raises
    ------
    CacheUnavailableError
        The cache cannot be reached. Nothing is removed.
    StorageError
        A manifest cannot be read or written.

    Notes
    -----
    The files stay for a week, for lazy frames that still read them; `TickStorage.gc` removes them.
    A pruned day is no gap. `fetch_ticks` fetches it again if it is asked for the day.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.maintenance.prune import prune
    >>> folder = mkdtemp()
    >>> report = rb.TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> prune(30, cache_dir=folder).days
    0
    """
    kept = whole_number("keep_days", keep_days, meant=30)
    if kept < 0:
        raise ValueError(with_hint(f"`keep_days` is `{kept}`", "pass 0 or more days"))
    if source is not None and market is not None:
        source, market = canonical_market(source, market)
    names = {canonical_symbol(symbol) for symbol in symbols}
    limit = clock.utc_now().date() - timedelta(days=min(kept, _LONGEST_DAYS))
    places = [
        place
        for place in symbol_dirs(TickStorage(cache_dir).root, source, market, None, Disk())
        if not names or place.symbol in names
    ]
    found = []
    with reading(dsn, cache_dir=cache_dir) as cache:
        by_place = {} if cache is None else _chains_by_place(cache)
        for place in places:
            chains = by_place.get((place.source, place.market, place.symbol), [])
            one = _pruning(place, chains, limit, cache, cache_dir)
            if one.days or one.stay:
                found.append(one)
    if dry_run:
        return PruneReport(found)
    return PruneReport([_removed(one) for one in found], is_dry=False)


_LONGEST_DAYS = 365_000


def _removed(planned: SymbolPruning) -> SymbolPruning:
    if not planned.days:
        return planned
    removed = prune_days(planned.symbol_dir, planned.days)
    return replace(planned, days={day: planned.days[day] for day in removed})


def _chains_by_place(cache: Cache) -> dict[tuple[str, str, str], list[Chain]]:
    found: dict[tuple[str, str, str], list[Chain]] = {}
    for chain in read_chains(cache).values():
        spec = chain.series.spec
        found.setdefault((spec.source, spec.market, spec.symbol), []).append(chain)
    return found


def _pruning(
    symbol_dir: SymbolDir,
    chains: Sequence[Chain],
    limit: date,
    cache: Cache | None,
    cache_dir: Path | str | None,
) -> SymbolPruning:
    """Decide which days of a symbol to remove."""
    entries = stored_entries(symbol_dir)
    old = [day for day, entry in entries.items() if entry.state == "final" and day < limit]
    stay: dict[date, str] = {}
    families = _families(chains)
    if old and not families:
        stay |= dict.fromkeys(old, _NO_BARS)
    elif old and cache is not None:
        for spec, of_spec in families.items():
            stay = {**_needed(cache, spec, of_spec, entries.keys(), cache_dir), **stay}
    stay = {day: stay[day] for day in old if day in stay}
    stay |= {day: _JOURNAL for day in old if day not in stay and is_journaled(symbol_dir, day)}
    left = {day for day in old if day not in stay}
    separable = without_neighbours(entries, left)
    stay |= dict.fromkeys(left - separable, _NEIGHBOUR)
    return SymbolPruning(symbol_dir, {day: entries[day] for day in sorted(separable)}, stay)


def _families(chains: Iterable[Chain]) -> dict[BarSpec, list[Chain]]:
    """Group the chains that have units by their spec, without the version of the bar rule.

    Bars of another version are rebuilt from ticks, so that their family has no chain of them.
    """
    found: dict[BarSpec, list[Chain]] = {}
    for chain in chains:
        if not chain.units:
            continue
        spec = chain.series.spec
        family = replace(spec, rules=replace(spec.rules, bar_semantics=BAR_SEMANTICS))
        of_family = found.setdefault(family, [])
        if not is_other_semantics(spec):
            of_family.append(chain)
    return found


def _needed(
    cache: Cache,
    spec: BarSpec,
    chains: Sequence[Chain],
    stored: AbstractSet[date],
    cache_dir: Path | str | None,
) -> dict[date, str]:
    """Return the stored days that a family needs, each with the reason.

    A read computes bars of at most 31 days: from the start of a part without bars, or from the end
    of the bars that it continues.
    """
    covered = {day for chain in chains for day in _whole_days(chain)}
    bare = [day for day in stored if day not in covered]
    reason = f"no bars of it at {spec.threshold} dbps, reset {spec.reset}, are stored"
    found = {unit.day: _STALE for unit in _stale(chains, cache_dir)}
    for day in bare:
        found |= dict.fromkeys(_within(spec, day, day, _last_computed(day)), _COMPUTED)
    hidden = superseded(chains)
    for chain in chains:
        end = chain.series.segment.end
        if chain.series in hidden or (end is not None and chain.frontier >= end):
            continue
        first, last = _first_resumed(cache, chain), _last_computed(chain.frontier)
        found |= dict.fromkeys(_within(spec, chain.series.first_day, first, last), _COMPUTED)
    return found | dict.fromkeys(bare, reason)


def _last_computed(first_day: date) -> date:
    return first_day + (MAX_COMPUTED_DAYS - 1) * ONE_DAY


def _within(spec: BarSpec, of_segment: date, first: date, last: date) -> Iterator[date]:
    """Yield the days from the first to the last one that lie in the segment of a day."""
    segment = segment_of(of_segment, spec.reset)
    for offset in range((last - first).days + 1):
        if first + offset * ONE_DAY in segment:
            yield first + offset * ONE_DAY


def _whole_days(chain: Chain) -> Iterator[date]:
    """Yield the days that a chain covers from midnight to midnight."""
    for unit in chain.units:
        if chain.series.anchor <= day_start(unit.day):
            yield unit.day


def _first_resumed(cache: Cache, chain: Chain) -> date:
    """Return the first day whose ticks a continuation of a chain reads.

    That is the last day with bars, whose ids the next tick has to follow; with optional feature
    groups it may be earlier.
    """
    first = chain.units[-1].day
    if not chain.features.groups:
        return first
    count = replays_of(cache, chain.units[-1:])[chain.units[-1]]
    return min(first, replay_day(cache, chain.units, count)) if count else first


def _stale(chains: Sequence[Chain], cache_dir: Path | str | None) -> Iterator[Unit]:
    """Yield the units whose bars were made from other ticks than the store has now."""
    units = [unit for chain in chains for unit in chain.units]
    yield from stale_units(units, cache_dir)
