"""What a helper does for a live process: the commands, and the values that they take and return."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.identity import instant_of
from rangebar_polars.bar_series.live_builders import bars_state
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.bar_series.selection import furthest, select_series
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.exceptions import LeaseError, PopulationError, StorageError
from rangebar_polars.ingest.id_gap import Hole, first_line
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.live.helper.finalize import FinalizePass
from rangebar_polars.live.helper.messages import Message, day_of, series_of, series_values, spec_of
from rangebar_polars.live.helper.populating import populate_exactly
from rangebar_polars.live.helper.unit_bars import units_after
from rangebar_polars.populate.ticks import PopulationTicks
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import past_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain, Unit

__all__ = ["Commands"]

#: How often old files of a symbol are removed.
_SWEEP_S = 86_400.0


class Commands:
    """The commands of a helper.

    Parameters
    ----------
    cache_dir, dsn
        The cache, and the tick store beside it.
    """

    #: Commands that change nothing, and run beside the others.
    READS = frozenset({"choose", "bars"})

    def __init__(self, cache_dir: str | None = None, dsn: str | None = None) -> None:
        self._cache_dir, self._dsn = cache_dir, dsn
        self._commands: dict[str, Callable[[Mapping[str, Any]], Message]] = {
            "choose": self._choose,
            "prepare": self._prepare,
            "bars": self._bars,
            "finalize": self._finalize,
        }
        self._swept_at: dict[tuple[Venue, str], float] = {}

    def run(self, request: Message) -> Message:
        """Run a command, and return its answer.

        Raises
        ------
        RangeBarError
            It cannot be done now.
        """
        return self._commands[request.values["command"]](request.values)

    def _chains(
        self, specs: Sequence[BarSpec], segment_starts: set[date] | None = None
    ) -> Mapping[BarSeries, Chain]:
        """Read the chains of specs that have units."""
        with reading(self._dsn, cache_dir=self._cache_dir) as cache:
            if cache is None:
                return {}
            found = read_chains(cache, specs, segment_starts=segment_starts)
        return {series: chain for series, chain in found.items() if chain.units}

    # Which series

    def _choose(self, values: Mapping[str, Any]) -> Message:
        """Choose a series of each spec: `specs`, `day`, and `since_us` or None.

        Return `series`: for each spec the one of the segment of the day, after those of earlier
        segments that a read from `since_us` takes; None without stored units.
        """
        specs = [spec_of(one) for one in values["specs"]]
        day, since_us = day_of(values["day"]), values["since_us"]
        assert day is not None  # noqa: S101
        chains = self._chains(specs)
        since = None if since_us is None else instant_of(since_us)
        found = [_chosen(spec, day, since, chains) for spec in specs]
        return Message(
            {"series": [None if one is None else [*map(series_values, one)] for one in found]}
        )

    # States

    def _prepare(self, values: Mapping[str, Any]) -> Message:
        """Bring series up to a day, if they have units: `series`, `last_day`, and whether it `fills`.

        Return `bases`: for each series the day and the last id of its newest unit, or None; the parts
        are their states. `notes` say why a series does not reach the day.
        """
        series = [series_of(one) for one in values["series"]]
        last_day = day_of(values["last_day"])
        assert last_day is not None  # noqa: S101
        notes = []
        chains = self._chains([one.spec for one in series])
        if values["fills"]:
            notes = self._fill(series, last_day, chains)
            chains = self._chains([one.spec for one in series])
        bases: list[dict[str, Any] | None] = []
        parts = []
        for one in series:
            found = self._base(chains.get(one))
            bases.append(None if found is None else found[0])
            if found is not None:
                parts.append(found[1])
        return Message({"bases": bases, "notes": notes}, tuple(parts))

    def _fill(
        self, series: Sequence[BarSeries], last_day: date, chains: Mapping[BarSeries, Chain]
    ) -> list[str]:
        """Populate the series of specs that have units, and return why days are missing after it."""
        with_units = {chain.series.spec for chain in chains.values()}
        behind = [
            one
            for one in series
            if one.spec in with_units
            and one.anchor == day_start(one.first_day)
            and _first_missing(one, chains) <= last_day
        ]
        if not behind:
            return []
        spec = behind[0].spec
        first_day = min(_first_missing(one, chains) for one in behind)
        with past_gate(spec.symbol):
            clamp = newest_day(
                spec.symbol,
                last_day,
                first_day=first_day,
                venue=spec.venue,
                cache_dir=self._cache_dir,
            )
            if clamp.day < first_day:
                return [clamp.why]
            try:
                populate_exactly(behind, first_day, clamp, cache_dir=self._cache_dir, dsn=self._dsn)
            except (PopulationError, LeaseError) as error:
                # Live bars continue from what is there, by trades.
                return [first_line(error)]
        return []

    def _base(self, chain: Chain | None) -> tuple[dict[str, Any], bytes] | None:
        """Return the values and the state after the newest unit of a chain; None without one."""
        if chain is None or chain.last is None:
            return None
        with SharedCache(self._dsn, cache_dir=self._cache_dir) as shared:
            ticks = PopulationTicks(self._cache_dir, verbose=False)
            rebuilt = ticks.state_before(chain, chain.frontier, shared)
        if isinstance(rebuilt, Hole) or rebuilt.state is None:
            return None
        # A rebuilt state may be that of an earlier day: the units after it are stale.
        day = chain.last.day if rebuilt.differs is None else rebuilt.differs - ONE_DAY
        values = {"day": day.isoformat(), "last_id": _last_id(chain.units, day)}
        return values, bars_state(rebuilt.state)

    def _finalize(self, values: Mapping[str, Any]) -> Message:
        """Run a pass over closed days of a `symbol`: `first_day`, `last_day`, `series`, `cache`.

        See `FinalizePass`. Return `through`, the last day that is finalized (None without one), the
        days `compacted`, `differences`, what is `waiting`, and the `states` of the series, which are
        the parts.
        """
        first_day, last_day = day_of(values["first_day"]), day_of(values["last_day"])
        assert first_day is not None and last_day is not None  # noqa: S101, PT018
        work = FinalizePass(
            Venue(values["source"], values["market"]),
            values["symbol"],
            first_day,
            last_day,
            [series_of(one) for one in values["series"]],
            self._cache_dir,
            self._dsn,
            values["cache"],
            lambda series: self._chains([one.spec for one in series]),
            self._state_before,
            self._base,
        )
        with past_gate(values["symbol"]):
            answer = work.run()
        self._sweep(work.venue, work.symbol)
        return answer

    def _sweep(self, venue: Venue, symbol: str) -> None:
        """Remove files of a symbol that nothing needs any more, once a day."""
        now = clock.monotonic()
        if now < self._swept_at.get((venue, symbol), float("-inf")) + _SWEEP_S:
            return
        self._swept_at[venue, symbol] = now
        # What cannot be removed now is garbage tomorrow, too.
        with suppress(StorageError):
            TickStorage(self._cache_dir).gc(
                dry_run=False, symbol=symbol, source=venue.source, market=venue.market
            )

    def _state_before(self, series: BarSeries, day: date) -> bytes | None:
        """Return the state of a series with units at the start of a day; None if it is not stored."""
        chain = self._chains([series.spec]).get(series)
        if chain is None or chain.unit(day - ONE_DAY) is None:
            return None
        with SharedCache(self._dsn, cache_dir=self._cache_dir) as shared:
            found = PopulationTicks(self._cache_dir, verbose=False).state_before(chain, day, shared)
        return None if isinstance(found, Hole) or found.state is None else bars_state(found.state)

    # Bars

    def _bars(self, values: Mapping[str, Any]) -> Message:
        """Read bars of the units of a `series` that end after an id: `after_id`, `from_day`, `limit`.

        Whole units are read until there are `limit` bars. Return `next_day` (None at the end of the
        units), `through_id`, and the bars as a part. At the end, there is the `base` of the last unit
        and its state.
        """
        series = series_of(values["series"])
        with reading(self._dsn, cache_dir=self._cache_dir) as cache:
            chain = None
            if cache is not None:
                starts = {series.segment_start}
                chain = read_chains(cache, [series.spec], segment_starts=starts).get(series)
            if cache is None or chain is None or not chain.units:
                return Message({"next_day": None, "through_id": None, "base": None})
            found = units_after(
                cache, chain, values["after_id"], day_of(values["from_day"]), values["limit"]
            )
            parts, base = [_arrow(found.bars)], None
            if found.next_day is None:
                base = self._base(chain)
        if base is not None:
            parts.append(base[1])
        return Message(
            {
                "next_day": None if found.next_day is None else found.next_day.isoformat(),
                "through_id": _last_id(chain.units, found.last_day),
                "base": None if base is None else base[0],
            },
            tuple(parts),
        )


def _chosen(
    spec: BarSpec, day: date, since: datetime | None, chains: Mapping[BarSeries, Chain]
) -> list[BarSeries] | None:
    own = {series: chain for series, chain in chains.items() if series.spec == spec}
    if not own:
        return None
    if since is not None:
        span = Span(since, max(day_start(day + ONE_DAY), since + ONE_DAY))
        return [selection.series for selection in select_series(spec, span, own)]
    newest = furthest(list(own.values()))
    start = segment_of(day, spec.reset).start
    if newest.series.segment_start >= start:
        return [newest.series]
    # An update passes the reset, and the next series begins there.
    return [spec.series(day_start(start))]


def _first_missing(series: BarSeries, chains: Mapping[BarSeries, Chain]) -> date:
    """Return the first day of a series without a unit."""
    chain = chains.get(series)
    return series.first_day if chain is None else chain.frontier


def _last_id(units: Sequence[Unit], day: date) -> int | None:
    """Return the last id of the units up to a day; None before the first trade."""
    ids = (unit.tick_last_id for unit in reversed(units) if unit.day <= day)
    return next((number for number in ids if number is not None), None)


def _arrow(bars: Any) -> bytes:  # noqa: ANN401 - a frame
    buffer = BytesIO()
    bars.write_ipc(buffer)
    return buffer.getvalue()
