"""What is stored of a symbol: the series to continue, their states, and bars that are computed again.

All of it waits for files or for the exchange, and runs in threads beside the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.live_builders import LiveBuilders
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.exceptions import RangeBarError, SourceError
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.live.coins import stored_in_coins
from rangebar_polars.live.consumers.replay import Replayed
from rangebar_polars.live.engine import HistoryError, Prepared
from rangebar_polars.live.protocol.sequencing import Start
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.live.protocol.states import Failure
from rangebar_polars.live.series import SeriesGroup, fresh_state
from rangebar_polars.live.symbol_parts import SymbolRun
from rangebar_polars.storage.live.journal import LiveJournal, encode_frame
from rangebar_polars.storage.live.journal_file import JournalSchemaError
from rangebar_polars.storage.live.live_days import (
    given_day_after,
    is_settled,
    live_from,
    live_view,
    recover_journals,
)
from rangebar_polars.storage.live.state_file import read_state
from rangebar_polars.symbol_registry import get_effective_start_date

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date
    from typing import Any

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.live.interfaces import RestQueue
    from rangebar_polars.live.series import SeriesBars
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["Base", "Followed", "HistoryOptions", "StoredHistory", "StoredStates"]

ID, TIME = "agg_trade_id", "timestamp"
#: Trades that are pushed at once.
ROWS = 100_000


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """Which series are streamed."""

    #: By symbol, in the order of the thresholds.
    specs: Mapping[str, Sequence[BarSpec]]
    anchor: Literal["segment"] | datetime | None = None
    since: datetime | None = None
    #: Whether the series begin with the next trade.
    is_now: bool = False
    #: Whether whole days that are missing are fetched.
    fills_gaps: bool = True


class Base(NamedTuple):
    """A state of a series, after a whole day."""

    state: bytes
    #: The first day whose trades are not in the state.
    first_day: date
    #: Last id of the state; None before its first trade.
    last_id: int | None


class StoredStates:
    """States of series after whole days. This one has none but those before the first trade."""

    def continued(self, spec: BarSpec, day: date) -> BarSeries | None:
        """Return the stored series of the segment of a day that a population would continue."""
        del spec, day
        return None

    def base(self, series: BarSeries, through_id: int | None = None) -> Base:
        """Return the newest state of a series whose last id is at most `through_id`."""
        del through_id
        return Base(fresh_state(series.spec), series.first_day, None)


@dataclass(slots=True)
class _Pushed:
    """How far stored trades were pushed."""

    applied_id: int | None = None
    highest_us: int = 0
    last_day: date | None = None
    is_closed: bool = False
    missing: list[MissingIds] = field(default_factory=list)


@dataclass(slots=True)
class Followed:
    """A symbol whose journals another process writes, after the trades that are stored."""

    group: SeriesGroup
    begins: tuple[BarSeries | None, ...]
    applied_id: int
    highest_us: int
    #: The first day whose journals may have later trades.
    first_day: date


class StoredHistory:
    """The stored trades of symbols, and the bars that they give.

    Parameters
    ----------
    options
        Which series are streamed.
    storage
        The tick store.
    venue
        Source and market.
    states
        States after whole days.
    now
        Returns the time of the exchange.
    """

    def __init__(
        self,
        options: HistoryOptions,
        storage: TickStorage,
        venue: tuple[str, str],
        states: StoredStates,
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._storage = storage
        self._venue = venue
        self._states = states
        self._now = now
        #: Set by the engine before the first call.
        self.rest: RestQueue | None = None

    def _today(self) -> date:
        return self._now().date()

    def folder(self, symbol: str) -> SymbolDir:
        """Return the folder of a symbol in the store."""
        return self._storage.symbol_dir(symbol, *self._venue)

    # The start of a symbol

    def prepare(self, symbol: str, head_id: int) -> Prepared:
        """Return a symbol after the trades that are stored.

        Raises
        ------
        HistoryError
            There is no state to start from.
        JournalSchemaError
            A newer version of this package has written a journal.
        """
        try:
            return (
                self._from_head(symbol, head_id) if self._options.is_now else self._prepared(symbol)
            )
        except JournalSchemaError:
            # An older version must not write beside a newer one: this ends the program.
            raise
        except SourceError as error:
            raise HistoryError(Failure.NOT_AT_SOURCE, str(error)) from error
        except RangeBarError as error:
            raise HistoryError(Failure.COVERAGE, str(error)) from error

    def _prepared(self, symbol: str) -> Prepared:
        folder, today = self.folder(symbol), self._today()
        damages = recover_journals(folder)
        series = self._chosen(symbol, today)
        bases = [self._states.base(one) for one in series]
        first_day = min(base.first_day for base in bases)
        self._fetch(symbol, first_day, today)
        start_day = live_from(folder, first_day, today)
        if (given := given_day_after(folder, start_day, today)) is not None:
            text = f"{given} was written by the user; `delete_ticks` removes it from the store"
            raise HistoryError(Failure.GIVEN_DAY, text)
        group = SeriesGroup(series, LiveBuilders([base.state for base in bases]))
        pushed = self._push_stored(folder, group, bases, today)
        applied_id = pushed.applied_id
        if applied_id is None:
            applied_id = self._id_before(symbol, first_day)
        open_day = start_day if pushed.last_day is None else max(pushed.last_day, start_day)
        if pushed.is_closed and open_day == pushed.last_day:
            open_day += ONE_DAY
        start = Start(applied_id, pushed.highest_us, tuple(pushed.missing))
        journal = LiveJournal(folder, day=open_day, applied_id=applied_id)
        run = SymbolRun(start, group, stored_in_coins(journal, folder), open_day)
        return Prepared(run, tuple(self._first_series(one) for one in series), damages)

    def _from_head(self, symbol: str, head_id: int) -> Prepared:
        """Begin after the newest trade, in an empty store."""
        folder, now = self.folder(symbol), self._now()
        series = [spec.series(now) for spec in self._options.specs[symbol]]
        group = SeriesGroup(series, LiveBuilders([fresh_state(one.spec) for one in series]))
        journal = LiveJournal(folder, day=now.date(), applied_id=head_id)
        run = SymbolRun(Start(head_id), group, stored_in_coins(journal, folder), now.date())
        return Prepared(run, (None,) * len(series))

    # A symbol of another writer

    def followed(self, symbol: str) -> Followed | None:
        """Return a symbol after the trades that its writer has stored; None if there are none yet.

        Raises
        ------
        StorageError
            A file cannot be read.
        """
        folder, today = self.folder(symbol), self._today()
        if read_state(folder) is None:
            return None
        if self._options.is_now:
            now = self._now()
            series = [spec.series(now) for spec in self._options.specs[symbol]]
        else:
            series = self._chosen(symbol, today)
        bases = [self._states.base(one) for one in series]
        group = SeriesGroup(series, LiveBuilders([base.state for base in bases]))
        pushed = self._push_stored(folder, group, bases, today + ONE_DAY)
        if pushed.applied_id is None:
            return None
        first_day = today - ONE_DAY if pushed.last_day is None else pushed.last_day
        begins = tuple(self._first_series(one) for one in series)
        return Followed(group, begins, pushed.applied_id, pushed.highest_us, first_day)

    def _chosen(self, symbol: str, today: date) -> list[BarSeries]:
        """Choose one series for each threshold."""
        known = read_state(self.folder(symbol)) or {}
        return [self._choose(spec, today, known) for spec in self._options.specs[symbol]]

    def _choose(self, spec: BarSpec, today: date, known: Mapping[str, Any]) -> BarSeries:
        options = self._options
        segment = segment_of(today, spec.reset)
        first = get_effective_start_date(spec.symbol)
        earliest = day_start(segment.start)
        if first is not None:
            earliest = max(earliest, day_start(type(today).fromisoformat(first)))
        if options.anchor == "segment":
            return spec.series(earliest)
        if isinstance(options.anchor, datetime):
            return spec.series(max(options.anchor, earliest))
        if options.since is not None:
            return self._states.continued(spec, today) or spec.series(max(options.since, earliest))
        kept = _kept(spec, known)
        if kept is not None:
            # Its segment may have ended while nobody streamed. Its last bars come first then, and
            # the next series begins at the boundary.
            return kept
        return self._states.continued(spec, today) or spec.series(today)

    def _first_series(self, series: BarSeries) -> BarSeries | None:
        """Return the series in which a consumer with `since` begins; None without one."""
        since = self._options.since
        if since is None:
            return None
        if since >= day_start(series.segment_start):
            return series
        return series.spec.series(since)

    def _fetch(self, symbol: str, first_day: date, today: date) -> None:
        """Fetch whole days that are missing before today."""
        source, market = self._venue
        if not self._options.fills_gaps or first_day >= today:
            return
        view = live_view(self.folder(symbol), first_day, today - ONE_DAY)
        days = (today - first_day).days
        settled = sum(is_settled(entry) for day, entry in view.entries.items() if first_day <= day)
        if settled < days and not view.journals:
            fetch_ticks(
                symbol,
                first_day,
                today - ONE_DAY,
                source=source,
                market=market,
                cache_dir=self._storage.root.parent.parent,
                verbose=False,
            )

    def _id_before(self, symbol: str, day: date) -> int:
        if self.rest is None:
            raise HistoryError(Failure.NOT_AT_SOURCE, f"no trade of `{symbol}` is known")
        return self.rest.first_id(symbol, day) - 1

    # Stored trades

    def _push_stored(
        self, folder: SymbolDir, group: SeriesGroup, bases: Sequence[Base], today: date
    ) -> _Pushed:
        """Push the trades after the states, as far as they are contiguous."""
        known = [base.last_id for base in bases if base.last_id is not None]
        pushed = _Pushed(min(known) if len(known) == len(bases) else None)
        first_day = min(base.first_day for base in bases)
        anchors = [series.anchor for series in group.series]
        for day, trades in self._contiguous(folder, first_day, today, pushed):
            for index, base in enumerate(bases):
                if day < base.first_day:
                    continue
                own = trades
                if day_start(day) < anchors[index]:
                    own = trades.filter(pl.col(TIME) >= anchors[index])
                if own.height:
                    group.push_one(index, day, encode_frame(own))
        return pushed

    def _contiguous(
        self, folder: SymbolDir, first_day: date, last_day: date, pushed: _Pushed
    ) -> Iterator[tuple[date, pl.DataFrame]]:
        """Yield stored trades day by day, in parts, as far as no id is missing."""
        view = live_view(folder, first_day, last_day)
        for found in view.days():
            if pushed.applied_id is None:
                ids = [*(first for first, _ in found.absent), *found.trades.get_column(ID).head(1)]
                if not ids:
                    continue
                pushed.applied_id = min(ids) - 1
            after_id = pushed.applied_id
            end_id = found.chain_end(after_id)
            trades = found.trades.filter(pl.col(ID).is_between(after_id + 1, end_id))
            pushed.missing += [
                MissingIds(one.first, one.last, MissingReason(one.reason))
                for one in found.missing
                if one.last <= end_id
            ]
            for part in trades.iter_slices(ROWS):
                yield found.day, part
            pushed.applied_id, pushed.last_day = end_id, found.day
            pushed.is_closed = found.is_closed
            if trades.height:
                pushed.highest_us = int(trades.get_column(TIME).dt.epoch("us")[-1])
            if found.trades.height and end_id < found.trades.get_column(ID)[-1]:
                return

    # Bars again

    def bars_after(
        self, symbol: str, series: BarSeries, last_id: int, limit: int
    ) -> Iterator[Replayed]:
        """Yield the bars of a series that end after an id. See `ReplaySource`."""
        folder, base = self.folder(symbol), self._states.base(series, last_id)
        group = SeriesGroup([series], LiveBuilders([base.state]))
        pushed = _Pushed(base.last_id)
        end = segment_of(series.anchor, series.spec.reset).end
        ids = pl.col("last_agg_trade_id")
        is_last = False
        today = self._today() + ONE_DAY
        for day, trades in self._contiguous(folder, base.first_day, today, pushed):
            own = trades
            if day_start(day) < series.anchor:
                own = trades.filter(pl.col(TIME) >= series.anchor)
            is_last = end is not None and day >= end
            for part in own.iter_slices(max(1, limit)):
                bars = group.push_one(0, day, encode_frame(part))
                through_id = int(part.get_column(ID)[-1])
                yield Replayed(_after(bars, series, last_id, ids), through_id)
                if is_last:
                    return
        applied_id = last_id if pushed.applied_id is None else max(last_id, pushed.applied_id)
        yield Replayed(_after([], series, last_id, ids), applied_id)


def _after(
    bars: Sequence[SeriesBars], series: BarSeries, last_id: int, ids: pl.Expr
) -> pl.DataFrame:
    """Return the bars of a series that end after an id, and its orphan."""
    from rangebar_polars.bar_series.days import no_bars

    own = [one.bars for one in bars if one.series == series]
    if not own:
        return no_bars()
    is_orphan = ~pl.col("is_closed") & (ids == last_id)
    return pl.concat(own).filter((ids > last_id) | is_orphan)


def _kept(spec: BarSpec, known: Mapping[str, Any]) -> BarSeries | None:
    """Return the newest series of a spec that a state file names; None without one."""
    found = []
    for one in known.get("held") or ():
        if not isinstance(one, dict) or one.get("threshold") != spec.threshold:
            continue
        if one.get("config_id") != spec.rules.id or one.get("reset") != spec.reset:
            continue
        try:
            found.append(spec.series(datetime.fromisoformat(str(one.get("anchor")))))
        except (ValueError, RangeBarError):
            continue
    return max(found, key=lambda series: series.anchor_us, default=None)
