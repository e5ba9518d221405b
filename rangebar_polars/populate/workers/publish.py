"""Groups of units on their way into the cache, under leases, with their derived copies."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.clickhouse.commit.leases import Leases
from rangebar_polars.clickhouse.commit.publish import publish, write_checkpoints
from rangebar_polars.clickhouse.query.units import read_chains, states_of
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.events import CheckpointSaved, emit
from rangebar_polars.populate.listeners import told
from rangebar_polars.populate.local_checkpoint import forget_local, write_local
from rangebar_polars.populate.outcome import Outcome, TrackOutcome
from rangebar_polars.populate.workers.in_process import run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSeries, LeaseKey
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.plan import Job, SeriesJob

__all__ = ["Publisher", "publisher_of", "run_published"]


class Publisher:
    """Publishes the groups of any number of series, those of one series in order.

    Parameters
    ----------
    turns
        The cache.
    check
        Raises an error, before a group is published, if the leases of its series are lost.
    cache_dir
        Folder in which the local copies of states are kept.
    notify
        Whether each group is an event.
    """

    def __init__(
        self,
        turns: SharedCache,
        check: Callable[[Cache, Collection[LeaseKey]], None],
        *,
        cache_dir: str | Path | None = None,
        notify: bool = False,
    ) -> None:
        self.turns = turns
        self._check = check
        self._cache_dir = cache_dir
        self._notify = notify
        self._attempts: dict[BarSeries, int] = {}

    def publish(self, drafts: Sequence[UnitDraft]) -> list[Unit]:
        """Publish a group, prove it, and copy the newest state of each series.

        Raises
        ------
        LeaseLostError
            Another writer has taken a series over; nothing of the group counts.
        CacheError
            The group is not proved to be there.
        """
        placed = self._placed(drafts)
        cache = self.turns.cache
        self._check(cache, {draft.series.lease_key for draft in placed})
        units = publish(cache, placed)
        newest = {unit.series: (unit, draft) for unit, draft in zip(units, placed, strict=True)}
        self._attempts.update({series: unit.attempt for series, (unit, _) in newest.items()})
        write_checkpoints(cache, [unit for unit, _ in newest.values()])
        for unit, draft in newest.values():
            self._copy_state(unit, draft.state)
            failpoint(Step.LOCAL_COPY_WRITTEN)
            if self._notify:
                self._tell(unit)
        # Whoever is told may take its time, and others wait for the folder.
        self.turns.yield_if_wanted()
        told(placed)
        return units

    def _copy_state(self, unit: Unit, state: bytes) -> None:
        """Keep a local copy of the newest state; nothing continues a segment that has ended."""
        end = unit.series.segment.end
        if end is not None and unit.day + ONE_DAY >= end:
            forget_local(self._cache_dir, unit.series)
        else:
            write_local(self._cache_dir, unit, state)

    def _placed(self, drafts: Sequence[UnitDraft]) -> list[UnitDraft]:
        """The drafts, with what the first one of each series is built on."""
        seen: set[BarSeries] = set()
        placed = []
        for draft in drafts:
            is_first = draft.series not in seen
            seen.add(draft.series)
            if is_first and draft.built_on is None:
                placed.append(replace(draft, built_on=self._attempts[draft.series]))
            else:
                placed.append(draft)
        return placed

    def _tell(self, unit: Unit) -> None:
        spec = unit.series.spec
        emit(CheckpointSaved(spec.symbol, spec.threshold, unit.series.segment.name, unit.day))


@contextmanager
def publisher_of(job: Job) -> Iterator[Publisher]:
    """Publisher for a worker, whose leases another process holds."""
    with SharedCache(job.dsn, cache_dir=job.cache_dir) as turns:
        leases = Leases(job.fencing, job.holder)
        yield Publisher(turns, leases.verify, cache_dir=job.cache_dir)


def run_published(job: Job) -> Outcome:
    """Compute a job and publish it from here; what an earlier try has published is taken as done."""
    with publisher_of(job) as publisher:
        done, rest = _since(job, publisher.turns.cache)
        outcome = run_job(rest, publisher.publish) if rest.tracks else Outcome(())
    left = {track.series: track for track in outcome.tracks}
    return Outcome(tuple(_sum(one, left.get(one.series)) for one in done))


def _since(job: Job, cache: Cache) -> tuple[list[TrackOutcome], Job]:
    """What stands of a job in the cache, and the job that is left."""
    chains = read_chains(
        cache,
        {track.series.spec: None for track in job.tracks},
        segment_starts={job.segment_start},
        as_if_published={(t.series, t.generation) for t in job.tracks if t.generation},
    )
    done, left = [], []
    for track in job.tracks:
        chain = chains.get(track.series)
        units = chain.between(track.first_day, job.last_day) if chain is not None else ()
        own = [unit for unit in units if unit.generation == track.generation]
        done.append(_published(track, own))
        if not own:
            left.append(track)
        elif own[-1].day < job.last_day:
            left.append(_after(track, own[-1], cache))
    first_day = min((track.first_day for track in left), default=job.first_day)
    return done, replace(job, tracks=tuple(left), first_day=first_day)


def _after(track: SeriesJob, unit: Unit, cache: Cache) -> SeriesJob:
    return replace(
        track,
        first_day=unit.day + ONE_DAY,
        built_on=unit.attempt,
        state=states_of(cache, [unit])[unit],
    )


def _published(track: SeriesJob, units: Sequence[Unit]) -> TrackOutcome:
    bars = sum(unit.closed_rows for unit in units)
    orphans = sum(unit.orphan_rows for unit in units)
    return TrackOutcome(track.series, len(units), (), bars, orphans, None)


def _sum(done: TrackOutcome, rest: TrackOutcome | None) -> TrackOutcome:
    if rest is None:
        return done
    return replace(
        rest,
        days=done.days + rest.days,
        bars=done.bars + rest.bars,
        orphans=done.orphans + rest.orphans,
    )
