"""What is stored of a symbol: the series to continue, their states, and bars that are computed again.

All of it waits for files or for the exchange, and runs in threads beside the event loop.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.days import no_bars
from rangebar_polars.bar_series.live_builders import LiveBuilders
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.exceptions import (
    CacheError,
    RangeBarError,
    SourceError,
    TransientSourceError,
    WorkerLostError,
)
from rangebar_polars.ingest.fetch import fetch_ticks
from rangebar_polars.live.coins import stored_in_coins
from rangebar_polars.live.consumers.positions import series_from
from rangebar_polars.live.consumers.replay import Replayed
from rangebar_polars.live.engine import HistoryDelayedError, HistoryError, Prepared
from rangebar_polars.live.finalizing.digests import begin_revisions, digests_of
from rangebar_polars.live.finalizing.revising import revision_of
from rangebar_polars.live.protocol.sequencing import Start
from rangebar_polars.live.protocol.states import Failure, Reason
from rangebar_polars.live.series import SeriesGroup, fresh_state, held_series
from rangebar_polars.live.stored.trades import ID, TIME, Reached, contiguous
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
    from typing import Any

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.live.helper.base import Base, StoredStates
    from rangebar_polars.live.interfaces import RestQueue
    from rangebar_polars.live.series import SeriesBars
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.parquet import TickStorage

__all__ = [
    "Followed",
    "HistoryOptions",
    "StoredHistory",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


@dataclass(slots=True)
class Followed:
    """A symbol whose journals another process writes, after the trades that are stored."""

    group: SeriesGroup
    begins: tuple[BarSeries | None, ...]
    applied_id: int
    highest_us: int
    #: The first day whose journals may have later trades.
    first_day: date
    #: Number of the newest revision that it is after.
    revision: int = 0


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
        HistoryDelayedError
            The cache cannot be opened now.
        """
        with _worded():
            if self._options.is_now:
                return self._from_head(symbol, head_id)
            return self._prepared(symbol)

    def prepare_without_bars(self, symbol: str) -> Prepared:
        """Return a symbol without series after the newest stored trade, or before today's first.

        Its trades are journalled; a later `prepare` computes their bars.

        Raises
        ------
        HistoryError, HistoryDelayedError, JournalSchemaError
            As for `prepare`.
        """
        with _worded():
            folder, today = self.folder(symbol), self._today()
            damages = recover_journals(folder)
            reached = Reached()
            for _ in contiguous(folder, today - ONE_DAY, today, reached):
                pass
            first_day = today if reached.applied_id is None else today - ONE_DAY
            group = SeriesGroup([], LiveBuilders([]))
            start_day = _start_day(folder, first_day, today)
            run, _ = self._begun(symbol, group, reached, first_day, start_day)
            return Prepared(run, (), damages)

    def check_states(self, symbol: str) -> None:
        """Check that the states of series can be asked for.

        Raises
        ------
        HistoryError, HistoryDelayedError
            As for `prepare`.
        """
        with _worded():
            self._states.chosen(self._options.specs[symbol], self._today(), self._options.since)

    def _prepared(self, symbol: str) -> Prepared:
        folder, today = self.folder(symbol), self._today()
        damages = recover_journals(folder)
        chosen = self._chosen(symbol, today)
        series = [one for *_, one in chosen]
        bases = self._states.bases(series, today, fills=self._options.fills_gaps)
        first_day = min(base.first_day for base in bases)
        self._fetch(symbol, first_day, today)
        group = SeriesGroup(series, LiveBuilders([base.state for base in bases]))
        start_day = _start_day(folder, first_day, today)
        reached = self._push_stored(folder, group, bases, today)
        run, journal = self._begun(symbol, group, reached, first_day, start_day)
        try:
            known = digests_of(read_state(folder) or {})
            revisions = begin_revisions(journal, group.series, bases, reached.revisions, known)
        except OSError as error:
            # The next attempt writes what could not be synced again.
            with suppress(OSError):
                journal.close()
            raise HistoryDelayedError(Reason.DISK_FULL, str(error)) from error
        return Prepared(run, self._begins(chosen), damages, revisions, tuple(bases))

    def _begun(
        self, symbol: str, group: SeriesGroup, reached: Reached, first_day: date, start_day: date
    ) -> tuple[SymbolRun, LiveJournal]:
        """Return what goes on after the stored trades, and its journal."""
        folder = self.folder(symbol)
        applied_id = reached.applied_id
        if applied_id is None:
            applied_id = self._id_before(symbol, first_day)
        open_day = start_day if reached.last_day is None else max(reached.last_day, start_day)
        if reached.is_closed and open_day == reached.last_day:
            open_day += ONE_DAY
        start = Start(applied_id, reached.highest_us, tuple(reached.missing))
        journal = LiveJournal(folder, day=open_day, applied_id=applied_id)
        run = SymbolRun(start, group, stored_in_coins(journal, folder), open_day, start_day)
        return run, journal

    def _from_head(self, symbol: str, head_id: int) -> Prepared:
        """Begin after the newest trade, in an empty store."""
        folder, now = self.folder(symbol), self._now()
        series = [spec.series(now) for spec in self._options.specs[symbol]]
        group = SeriesGroup(series, LiveBuilders([fresh_state(one.spec) for one in series]))
        journal = LiveJournal(folder, day=now.date(), applied_id=head_id)
        journal_of = stored_in_coins(journal, folder)
        run = SymbolRun(Start(head_id), group, journal_of, now.date(), now.date())
        return Prepared(run, (None,) * len(series))

    # A symbol of another writer

    def followed(self, symbol: str) -> Followed | None:
        """Return a symbol after the trades that its writer has stored; None if there are none yet.

        Raises
        ------
        CacheError, WorkerLostError
            The states cannot be read now.
        StorageError
            A file cannot be read.
        """
        folder, today = self.folder(symbol), self._today()
        if read_state(folder) is None:
            return None
        begins: tuple[BarSeries | None, ...]
        if self._options.is_now:
            now = self._now()
            series = [spec.series(now) for spec in self._options.specs[symbol]]
            begins = (None,) * len(series)
        else:
            chosen = self._chosen(symbol, today)
            series, begins = [one for *_, one in chosen], self._begins(chosen)
        return self._followed(symbol, series, begins)

    def followed_again(self, symbol: str, followed: Followed) -> Followed | None:
        """Compute the same series again, from their newest states over the trades that are stored now.

        Raises
        ------
        CacheError, WorkerLostError, StorageError
            As for `followed`.
        """
        return self._followed(symbol, followed.group.series, followed.begins)

    def _followed(
        self, symbol: str, series: Sequence[BarSeries], begins: tuple[BarSeries | None, ...]
    ) -> Followed | None:
        folder, today = self.folder(symbol), self._today()
        bases = self._states.bases(series, today, fills=None)
        group = SeriesGroup(series, LiveBuilders([base.state for base in bases]))
        reached = self._push_stored(folder, group, bases, today + ONE_DAY)
        if reached.applied_id is None:
            return None
        first_day = today - ONE_DAY if reached.last_day is None else reached.last_day
        records = filter(None, map(revision_of, reached.revisions))
        revision = max((one.number for one in records), default=0)
        return Followed(group, begins, reached.applied_id, reached.highest_us, first_day, revision)

    def _begins(self, chosen: Sequence[Sequence[BarSeries]]) -> tuple[BarSeries | None, ...]:
        """Return where new consumers begin: with the first series, or where the symbol is live."""
        is_begun = self._options.since is not None
        return tuple(first if is_begun else None for first, *_ in chosen)

    def interrupt(self) -> None:
        """End the calls that wait, each with an error."""
        self._states.interrupt()

    def close(self) -> None:
        """End the work of the helper. Bars are not read any more."""
        self._states.close()

    # Which series

    def _chosen(self, symbol: str, today: date) -> list[Sequence[BarSeries]]:
        """Choose the series of each threshold: the last one is streamed, bars begin with the first."""
        options = self._options
        specs = options.specs[symbol]
        known = read_state(self.folder(symbol)) or {}
        found = [self._named(spec, today, known) for spec in specs]
        if all(found):
            return [one for one in found if one is not None]
        since = options.since
        if since is not None:
            since = max(since, _effective_start(symbol))
        stored = self._states.chosen(specs, today, since)
        return [
            named or other or self._new_series(spec, today)
            for spec, named, other in zip(specs, found, stored, strict=True)
        ]

    def _new_series(self, spec: BarSpec, today: date) -> Sequence[BarSeries]:
        """Return new series, of a spec of which nothing is stored."""
        since = self._options.since
        if since is None:
            return [spec.series(today)]
        first = spec.series(max(since, _effective_start(spec.symbol)))
        return list(series_from(first, spec.series(today)))

    def _named(
        self, spec: BarSpec, today: date, known: Mapping[str, Any]
    ) -> Sequence[BarSeries] | None:
        """Return the series that the anchor or the state file names; None without one."""
        options = self._options
        start = day_start(segment_of(today, spec.reset).start)
        earliest = max(start, _effective_start(spec.symbol))
        series = None
        if options.anchor == "segment":
            series = spec.series(earliest)
        elif isinstance(options.anchor, datetime):
            series = spec.series(max(options.anchor, earliest))
        elif options.since is None:
            for kept in held_series(spec, known)[-1:]:
                # Its segment may have ended while nobody streamed. Its last bars come first then,
                # and the next series begins at the boundary.
                series = kept
        if series is None:
            return None
        since = options.since
        if since is None or since >= start:
            return [series]
        first = max(since, _effective_start(spec.symbol))
        anchor = day_start(segment_of(first.date(), spec.reset).start)
        if isinstance(options.anchor, datetime):
            anchor = max(anchor, min(options.anchor, first))
        return [spec.series(max(anchor, _effective_start(spec.symbol))), series]

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
    ) -> Reached:
        """Push the trades after the states, as far as they are contiguous."""
        known = [base.last_id for base in bases if base.last_id is not None]
        reached = Reached(min(known) if len(known) == len(bases) else None)
        first_day = min(base.first_day for base in bases)
        anchors = [series.anchor for series in group.series]
        for day, trades in contiguous(folder, first_day, today, reached):
            whole = encode_frame(trades)
            for index, base in enumerate(bases):
                if day < base.first_day:
                    continue
                own, record = trades, whole
                if day_start(day) < anchors[index]:
                    own = trades.filter(pl.col(TIME) >= anchors[index])
                    record = encode_frame(own)
                if own.height:
                    group.push_one(index, day, record)
        return reached

    # Bars again

    def computed_again(
        self, symbol: str, series: BarSeries, base: Base
    ) -> tuple[SeriesGroup, int | None]:
        """Compute a series again from a state over the stored trades after it.

        Return the series in the state after them, and their last id; None without any trade.

        Raises
        ------
        StorageError
            A file cannot be read.
        """
        folder = self.folder(symbol)
        group = SeriesGroup([series], LiveBuilders([base.state]))
        reached = Reached(base.last_id)
        today = self._today() + ONE_DAY
        for day, trades in contiguous(folder, base.first_day, today, reached):
            own = trades
            if day_start(day) < series.anchor:
                own = trades.filter(pl.col(TIME) >= series.anchor)
            if own.height:
                group.push_one(0, day, encode_frame(own))
        return group, reached.applied_id

    def bars_after(
        self, symbol: str, series: BarSeries, last_id: int, limit: int
    ) -> Iterator[Replayed]:
        """Yield the bars of a series that end after an id. See `ReplaySource`."""
        folder = self.folder(symbol)
        base = yield from self._states.bars_after(series, last_id, limit)
        end = segment_of(series.anchor, series.spec.reset).end
        if end is not None and base.first_day >= end:
            yield Replayed(no_bars(), max(last_id, -1 if base.last_id is None else base.last_id))
            return
        group = SeriesGroup([series], LiveBuilders([base.state]))
        reached = Reached(base.last_id)
        ids = pl.col("last_agg_trade_id")
        is_last = False
        today = self._today() + ONE_DAY
        for day, trades in contiguous(folder, base.first_day, today, reached):
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
        applied_id = last_id if reached.applied_id is None else max(last_id, reached.applied_id)
        yield Replayed(_after([], series, last_id, ids), applied_id)


def _start_day(folder: SymbolDir, first_day: date, today: date) -> date:
    """Return the first day whose trades are journalled."""
    start_day = live_from(folder, first_day, today)
    if (given := given_day_after(folder, start_day, today)) is not None:
        text = f"{given} was written by the user; `delete_ticks` removes it from the store"
        raise HistoryError(Failure.GIVEN_DAY, text)
    return start_day


@contextmanager
def _worded() -> Iterator[None]:
    """Raise what a symbol can wait for as `HistoryDelayedError`, and the rest as `HistoryError`."""
    try:
        yield
    except JournalSchemaError:
        # An older version must not write beside a newer one: this ends the program.
        raise
    except (CacheError, WorkerLostError) as error:
        raise HistoryDelayedError(Reason.CACHE_UNAVAILABLE, str(error)) from error
    except TransientSourceError as error:
        raise HistoryDelayedError(Reason.REST_UNREACHABLE, str(error)) from error
    except SourceError as error:
        raise HistoryError(Failure.NOT_AT_SOURCE, str(error)) from error
    except RangeBarError as error:
        raise HistoryError(Failure.COVERAGE, str(error)) from error


def _after(
    bars: Sequence[SeriesBars], series: BarSeries, last_id: int, ids: pl.Expr
) -> pl.DataFrame:
    """Return the bars of a series that end after an id, and its orphan."""
    own = [one.bars for one in bars if one.series == series]
    if not own:
        return no_bars()
    is_orphan = ~pl.col("is_closed") & (ids == last_id)
    return pl.concat(own).filter((ids > last_id) | is_orphan)


def _effective_start(symbol: str) -> datetime:
    """Return the first instant of a symbol that the registry knows."""
    first = get_effective_start_date(symbol)
    return _EPOCH if first is None else day_start(date.fromisoformat(first))
