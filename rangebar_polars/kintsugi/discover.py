"""Run all detectors over the symbols of a pass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rangebar_polars._utils.caught import Caught
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import MissingExtraError, SettingError
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.kintsugi import detect_bars, detect_ticks
from rangebar_polars.kintsugi.scope import Place
from rangebar_polars.kintsugi.shards import BAR_KINDS, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.kintsugi.checked import Checked
    from rangebar_polars.kintsugi.scope import Scope
    from rangebar_polars.kintsugi.shards import Shard

__all__ = ["Discovery", "bars_of", "discover", "in_order", "ticks_of"]


@dataclass(slots=True)
class Discovery:
    """What detectors have found, and which of them failed."""

    shards: list[Shard] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, name: str, detector: Callable[[], list[Shard]]) -> None:
        """Run a detector. If it fails, what it would have found is unknown."""
        with Caught() as caught:
            self.shards += detector()
        if isinstance(caught.error, (SettingError, MissingExtraError)):
            raise caught.error
        if caught.error is not None:
            self.failures.append(f"{name}: {first_line(caught.error)}")


def discover(
    scope: Scope, checked: Checked, max_stale_hours: float, is_late: Callable[[], bool]
) -> Discovery:
    """Run all detectors.

    Parameters
    ----------
    scope
        The symbols.
    checked
        When files were read last.
    max_stale_hours
        How old the first day without bars may be.
    is_late
        Returns whether the time of the pass is over: no further file is read then.
    """
    found = Discovery()
    chains = _chains(scope, found)
    for place in _places(scope, chains):
        found.shards += ticks_of(place, found, checked, is_late)
    for place in _places(scope, chains):
        with_bars(place, scope, found, max_stale_hours)
    found.shards = in_order(found.shards)
    return found


def _chains(scope: Scope, found: Discovery) -> list[Chain]:
    """Read the stored bars; if the cache is away, what they need is unknown."""
    chains: list[Chain] = []

    def read() -> list[Shard]:
        with reading(scope.dsn, cache_dir=scope.cache_dir) as cache:
            if cache is not None:
                chains.extend(read_chains(cache).values())
        return []

    found.run("bars", read)
    return [
        one
        for one in chains
        if one.units
        and scope.has(one.series.spec.source, one.series.spec.market, one.series.spec.symbol)
    ]


def _places(scope: Scope, chains: list[Chain]) -> list[Place]:
    folders = {(one.source, one.market, one.symbol): one for one in scope.folders()}
    by_symbol: dict[tuple[str, str, str], list[Chain]] = {}
    for chain in chains:
        spec = chain.series.spec
        by_symbol.setdefault((spec.source, spec.market, spec.symbol), []).append(chain)
    for source, market, symbol in by_symbol:
        key = (source, market, symbol)
        folders.setdefault(key, scope.storage.symbol_dir(symbol, source, market))
    return [Place(folder, by_symbol.get(key, ())) for key, folder in sorted(folders.items())]


def ticks_of(
    place: Place, found: Discovery, checked: Checked, is_late: Callable[[], bool]
) -> list[Shard]:
    """Run the detectors of ticks over a symbol, and return what they find."""
    own = Discovery(failures=found.failures)
    own.run(f"journals of {place}", lambda: detect_ticks.orphan_journals(place))
    own.run(f"files of {place}", lambda: detect_ticks.faulty_files(place, checked, is_late))
    own.run(f"ticks of {place}", lambda: detect_ticks.holes_and_tails(place))
    own.run(f"edges of {place}", lambda: detect_ticks.cut_edges(place))
    own.run(f"archives of {place}", lambda: detect_ticks.changed_archives(place, checked))
    return _without_copies(own.shards)


def _without_copies(shards: list[Shard]) -> list[Shard]:
    """Return tasks by their key: a quarantined day may be found by its entry and by its file."""
    return list({shard.key: shard for shard in reversed(shards)}.values())[::-1]


def bars_of(scope: Scope, symbol: str, source: str, market: str) -> Discovery:
    """Run the detectors of bars over a symbol, as its ticks and bars are now."""
    own = replace(scope, symbols=(symbol,), source=source, market=market)
    found = Discovery()
    for place in _places(own, _chains(own, found)):
        with_bars(place, own, found, None)
    return found


def with_bars(place: Place, scope: Scope, found: Discovery, max_stale_hours: float | None) -> None:
    """Run the detectors of the bars of a symbol."""
    if not place.chains:
        return

    def in_cache(detector: Callable[[Place, Cache], list[Shard]]) -> Callable[[], list[Shard]]:
        def run() -> list[Shard]:
            with reading(scope.dsn, cache_dir=scope.cache_dir) as cache:
                return [] if cache is None else detector(place, cache)

        return run

    found.run(f"rebuilds of {place}", lambda: detect_bars.open_generations(place))
    found.run(f"states of {place}", in_cache(detect_bars.unreadable_states))
    found.run(f"bars of {place}", in_cache(detect_bars.damaged_units))
    found.run(f"units of {place}", lambda: detect_bars.stale_units(place, scope))
    if max_stale_hours is not None:
        hours = max_stale_hours
        found.run(f"head of {place}", lambda: detect_bars.heads_behind(place, scope, hours))


def in_order(shards: list[Shard]) -> list[Shard]:
    """Return tasks in the order of their repair: by priority, then the oldest first."""
    order = {kind: number for number, kind in enumerate(KINDS)}

    def place(shard: Shard) -> tuple[object, ...]:
        # Bars are computed from ticks, and new days continue bars that are whole.
        stage = 2 if shard.kind == "head_behind" else 1 if shard.kind in BAR_KINDS else 0
        return (
            stage,
            shard.priority,
            str(min(shard.days, default="")),
            order[shard.kind],
            shard.key,
        )

    return sorted(shards, key=place)
