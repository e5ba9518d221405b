"""A pass over the closed days of a symbol: compact, fetch archives, compare, and store units."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from rangebar_polars import _internal
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.bar_series.days import Track, compute_days, new_builder, restored
from rangebar_polars.bar_series.live_builders import bars_digest, bars_state
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.exceptions import (
    CacheError,
    CheckpointError,
    LeaseError,
    PopulationError,
    RangeBarError,
    TransientSourceError,
)
from rangebar_polars.ingest.fetch import ensure_days
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.ingest.newest_day import Clamp
from rangebar_polars.live.helper.messages import Message
from rangebar_polars.live.helper.populating import populate_exactly
from rangebar_polars.populate.local_checkpoint import LocalCheckpoint, read_live, write_live
from rangebar_polars.sources import DEFAULT_MARKET
from rangebar_polars.storage.live.compact import compact_day, compare_day, set_streamed_aside
from rangebar_polars.storage.live.live_days import is_settled
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading.plan import entries_around
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rangebar_polars.bar_series.featured import BarBuilder
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.sources import Venue
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.compact import DayDifference

__all__ = ["MOST_DAYS", "FinalizePass"]

#: Most days of bars that a pass computes.
MOST_DAYS = 10


class _State(NamedTuple):
    """The state of a series after a whole day."""

    day: date
    last_id: int | None
    state: bytes


@dataclass(slots=True)
class FinalizePass:
    """One pass over the closed days of a symbol.

    Parameters
    ----------
    venue, symbol
        The symbol.
    first_day, last_day
        The closed days that are not finalized.
    series
        The live series of these days.
    cache_dir, dsn
        The store and the cache.
    has_cache
        Whether bars are stored as units. Otherwise states are stored in local files.
    chains
        Reads the chains of series that have units.
    base
        Reads the values and the state after the newest unit of a chain.
    """

    venue: Venue
    symbol: str
    first_day: date
    last_day: date
    series: Sequence[BarSeries]
    cache_dir: str | None
    dsn: str | None
    has_cache: bool
    chains: Callable[[Sequence[BarSeries]], Mapping[BarSeries, Chain]]
    #: Reads the state at the start of a day; None if it is not stored.
    state_before: Callable[[BarSeries, date], bytes | None]
    base: Callable[[Chain | None], tuple[dict[str, Any], bytes] | None]
    _waiting: list[dict[str, str]] = field(default_factory=list)

    def run(self) -> Message:
        """Run the pass, as far as it comes.

        What has to wait is tried again by the next pass; `waiting` says why.
        """
        folder = TickStorage(self.cache_dir).symbol_dir(self.symbol, *self.venue)
        compacted = self._compact(folder)
        self._fetch()
        final_through = self._final_through(folder)
        differences = self._compare(folder, final_through)
        through, states = self._bars(final_through)
        parts = [state.state for state in states if state is not None]
        return Message(
            {
                "compacted": [day.isoformat() for day in compacted],
                "through": None if through is None else through.isoformat(),
                "differences": [self._described(one) for one in differences],
                "waiting": self._waiting,
                "states": [
                    None
                    if state is None
                    else {
                        "day": state.day.isoformat(),
                        "last_id": state.last_id,
                        "digest": bars_digest(state.state),
                    }
                    for state in states
                ],
            },
            tuple(parts),
        )

    def _wait(self, kind: str, day: date, error: object, command: str = "") -> None:
        text = first_line(error) if isinstance(error, BaseException) else str(error)
        self._waiting.append(
            {"kind": kind, "day": day.isoformat(), "reason": text, "command": command}
        )

    @property
    def _days(self) -> list[date]:
        count = (self.last_day - self.first_day).days + 1
        return [self.first_day + number * ONE_DAY for number in range(count)]

    # Trades

    def _compact(self, folder: SymbolDir) -> list[date]:
        """Compact the closed days, the oldest first and none after a failure."""
        compacted = []
        for day in self._days:
            try:
                if compact_day(folder, day):
                    compacted.append(day)
            except RangeBarError as error:
                self._wait("compaction", day, error)
                break
        return compacted

    def _fetch(self) -> None:
        """Fetch the archives of closed days that are published."""
        span = Span(day_start(self.first_day), day_start(self.last_day + ONE_DAY))
        try:
            ensure_days(
                self.venue,
                self.symbol,
                span,
                cache_dir=self.cache_dir,
                verbose=False,
                archives_only=True,
            )
        except RangeBarError as error:
            kind = "source" if isinstance(error, TransientSourceError) else "archive"
            self._wait(kind, self.first_day, error, self._fetch_command)

    @property
    def _fetch_command(self) -> str:
        market = self.venue.market
        option = "" if market == DEFAULT_MARKET else f" --market {market}"
        return f"rangebar fetch {self.symbol} {self.first_day} {self.last_day}{option}"

    def _final_through(self, folder: SymbolDir) -> date | None:
        """Return the last of the days that do not grow any more, without a break; None without one."""
        span = Span(day_start(self.first_day), day_start(self.last_day + ONE_DAY))
        entries = entries_around(folder, span)
        through = None
        for day in self._days:
            if not is_settled(entries.get(day)):
                if not any(one["kind"] in ("archive", "source") for one in self._waiting):
                    self._wait("archive", day, "its archive is not published", self._fetch_command)
                break
            through = day
        if through is not None:
            failpoint(Step.DAY_FINAL)
        return through

    def _compare(self, folder: SymbolDir, through: date | None) -> list[DayDifference]:
        """Compare final days with what was streamed, and set aside what they do not contain."""
        found = []
        for day in self._days:
            if through is None or day > through:
                break
            difference = compare_day(folder, day)
            if difference is not None:
                set_streamed_aside(folder, difference)
                found.append(difference)
        return found

    def _described(self, difference: DayDifference) -> dict[str, Any]:
        """Return what an event says about a difference.

        `bars` has for each series the numbers of bars that are changed, added and removed.
        """
        bars = []
        for series in self.series:
            before = self._before(series, difference.day)
            counts = [0, 0, 0] if before is None else self._differing_bars(before, difference)
            bars.append(counts)
        trades = [difference.changed, difference.added, difference.removed]
        day, ids = difference.day.isoformat(), list(difference.ids)
        return {"day": day, "ids": ids, "trades": trades, "bars": bars}

    def _before(self, series: BarSeries, day: date) -> BarBuilder | None:
        """Return a builder in the state at the start of a day; None if that is not stored."""
        if (
            not series.first_day <= day
            or series.segment_start != segment_of(day, series.spec.reset).start
        ):
            return None
        if day == series.first_day:
            return new_builder(series.spec)
        state = self.state_before(series, day) if self._has_units(series) else None
        return None if state is None else restored(state)

    def _differing_bars(self, before: BarBuilder, difference: DayDifference) -> list[int]:
        """Return how many bars of a day are changed, added and removed."""
        state = before.checkpoint()
        final, streamed = (
            restored(state).push(trades) for trades in (difference.final, difference.applied)
        )
        keys = "last_agg_trade_id"
        both = final.join(streamed, on=keys, how="semi")
        other = streamed.join(final, on=keys, how="semi")
        rows = zip(
            both.drop("bar_id", strict=False).rows(),
            other.drop("bar_id", strict=False).rows(),
            strict=True,
        )
        return [
            sum(one != two for one, two in rows),
            final.height - both.height,
            streamed.height - other.height,
        ]

    # Bars

    def _bars(self, final_through: date | None) -> tuple[date | None, list[_State | None]]:
        """Store bars or states through a day, and return how far all series come, with their states.

        Without a day, nothing is stored.
        """
        through = self.first_day - ONE_DAY if final_through is None else final_through
        stored = [one for one in self.series if self._has_units(one)]
        reached: dict[BarSeries, _State | None] = {}
        if stored:
            reached |= self._units(stored, through)
        local = [one for one in self.series if not self._has_units(one)]
        reached |= {one: self._local(one, through) for one in local}
        ends = [self._end_of(one, reached[one], through) for one in self.series]
        end = min([through, *ends])
        return (None if end < self.first_day else end), [reached[one] for one in self.series]

    def _has_units(self, series: BarSeries) -> bool:
        return self.has_cache and series.anchor == day_start(series.first_day)

    @staticmethod
    def _end_of(series: BarSeries, state: _State | None, through: date) -> date:
        """Return through which day a series does not hold up the others."""
        end = series.segment.end
        last_day = through if end is None else min(through, end - ONE_DAY)
        if last_day < series.first_day:
            return through
        done = series.first_day - ONE_DAY if state is None else state.day
        return through if done >= last_day else done

    def _units(self, series: Sequence[BarSeries], through: date) -> dict[BarSeries, _State | None]:
        """Populate exactly these series, some days at most."""
        try:
            chains = self.chains(series)
            frontiers = [chains[s].frontier if s in chains else s.first_day for s in series]
            first_day = min(frontiers)
            last_day = min(through, first_day + (MOST_DAYS - 1) * ONE_DAY)
            if last_day < through:
                count = (through - first_day).days + 1
                self._wait("days", first_day, f"{count} days of bars are missing", self._update)
            if first_day <= last_day:
                clamp = Clamp(last_day, None, "its day is finalized")
                populate_exactly(series, first_day, clamp, cache_dir=self.cache_dir, dsn=self.dsn)
                failpoint(Step.UNITS_STORED)
        except PopulationError as error:
            self._wait("bars", through, error, self._update)
        except (CacheError, LeaseError) as error:
            kind = "lease" if isinstance(error, LeaseError) else "cache"
            self._wait(kind, through, error)
            return dict.fromkeys(series)
        chains = self.chains(series)
        return {one: _state_of(self.base(chains.get(one))) for one in series}

    @property
    def _update(self) -> str:
        return f"rangebar cache update {self.symbol}"

    def _local(self, series: BarSeries, through: date) -> _State | None:
        """Compute the state of a series without units through a day, and store it."""
        end = series.segment.end
        last_day = through if end is None else min(through, end - ONE_DAY)
        known = read_live(self.cache_dir, series)
        builder, first_day, last_id = new_builder(series.spec), series.first_day, None
        if known is not None:
            try:
                builder, first_day, last_id = (
                    restored(known.state),
                    known.day + ONE_DAY,
                    known.tick_last_id,
                )
            except CheckpointError:
                known = None
        if first_day > last_day:
            if known is None:
                return None
            return _State(known.day, last_id, bars_state(known.state))
        stop = min(last_day, first_day + (MOST_DAYS - 1) * ONE_DAY)
        if stop < last_day:
            count = (last_day - first_day).days + 1
            self._wait("days", first_day, f"{count} days of states are missing")
        ticks = snapshot(
            TickStorage(self.cache_dir),
            self.symbol,
            first_day,
            stop,
            source=self.venue.source,
            market=self.venue.market,
            check_end=False,
        )
        hole = next((day.day for day in ticks.days if not day.is_final), None)
        if hole is not None:
            self._wait("bars", hole, "its ticks are not complete", self._fetch_command)
            stop = hole - ONE_DAY
            if stop < first_day:
                return None if known is None else _State(known.day, last_id, known.state)
        for computed in compute_days(ticks, [Track(series, builder, first_day)], stop):
            last_id = computed.last_id if computed.last_id is not None else last_id
        state = builder.checkpoint()
        day = ticks[stop]
        write_live(
            self.cache_dir,
            LocalCheckpoint(
                series, stop, 0, 0, last_id, day.tick_hash, state, _internal.__version__
            ),
        )
        return _State(stop, last_id, bars_state(state))


def _state_of(found: tuple[dict[str, Any], bytes] | None) -> _State | None:
    if found is None:
        return None
    values, state = found
    return _State(date.fromisoformat(values["day"]), values["last_id"], state)
