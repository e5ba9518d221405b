"""Publish groups of units under leases, with copies of the newest states."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.clickhouse.commit.leases import Leases
from rangebar_polars.clickhouse.commit.publish import publish, write_checkpoints
from rangebar_polars.clickhouse.query.units import read_chains, replays_of, states_of
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.events import CheckpointSaved, emit
from rangebar_polars.populate.local_checkpoint import forget_local, write_local
from rangebar_polars.populate.outcome import Outcome, SeriesOutcome
from rangebar_polars.populate.workers.in_process import run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSeries, LeaseKey
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.populate.plan import Job, SeriesJob

    OnPublished: TypeAlias = Callable[[Sequence[UnitDraft]], object]

__all__ = ["Publisher", "publisher_of", "run_published"]


class Publisher:
    """Publishes groups of units of any number of series; those of one series come in order.

    Parameters
    ----------
    shared
        The cache.
    check
        Raises an error if the leases of series are lost; called before each group is published.
    cache_dir
        Folder that holds the local copies of states.
    notify
        Whether to send an event for each group.
    on_published
        Called with the units of each published group. Its errors end the population.
    """

    def __init__(
        self,
        shared: SharedCache,
        check: Callable[[Cache, Collection[LeaseKey]], None],
        *,
        cache_dir: str | Path | None = None,
        notify: bool = False,
        on_published: OnPublished | None = None,
    ) -> None:
        self.shared = shared
        self._check = check
        self._cache_dir = cache_dir
        self._notify = notify
        self._on_published = on_published
        self._attempts: dict[BarSeries, int] = {}

    def publish(self, drafts: Sequence[UnitDraft]) -> list[Unit]:
        """Publish a group of units, and copy the newest state of each series.

        Raises
        ------
        LeaseLostError
            Another writer has taken over a series; nothing of the group counts.
        CacheError
            The read-back did not confirm the group.
        """
        drafts = self._with_bases(drafts)
        cache = self.shared.cache
        self._check(cache, {draft.series.lease_key for draft in drafts})
        units = publish(cache, drafts)
        newest = {unit.series: (unit, draft) for unit, draft in zip(units, drafts, strict=True)}
        self._attempts.update({series: unit.attempt for series, (unit, _) in newest.items()})
        write_checkpoints(cache, [unit for unit, _ in newest.values()])
        for unit, draft in newest.values():
            self._copy_state(unit, draft.state)
            failpoint(Step.LOCAL_COPY_WRITTEN)
            if self._notify:
                self._emit(unit)
        # The callback may be slow, and other processes wait for the folder.
        self.shared.yield_if_wanted()
        if self._on_published is not None:
            self._on_published(drafts)
        return units

    def _copy_state(self, unit: Unit, state: bytes) -> None:
        """Write a local copy of the newest state; remove it once the segment has ended."""
        end = unit.series.segment.end
        if end is not None and unit.day + ONE_DAY >= end:
            forget_local(self._cache_dir, unit.series)
        else:
            write_local(self._cache_dir, unit, state)

    def _with_bases(self, drafts: Sequence[UnitDraft]) -> list[UnitDraft]:
        """Fill in the attempt that the first draft of each series is built on."""
        seen: set[BarSeries] = set()
        completed = []
        for draft in drafts:
            is_first = draft.series not in seen
            seen.add(draft.series)
            if is_first and draft.built_on is None:
                completed.append(replace(draft, built_on=self._attempts[draft.series]))
            else:
                completed.append(draft)
        return completed

    def _emit(self, unit: Unit) -> None:
        spec = unit.series.spec
        emit(CheckpointSaved(spec.symbol, spec.threshold, unit.series.segment.name, unit.day))


@contextmanager
def publisher_of(job: Job) -> Iterator[Publisher]:
    """Open a publisher in a worker, under leases that another process holds."""
    with SharedCache(job.dsn, cache_dir=job.cache_dir) as shared:
        leases = Leases(job.fencing, job.holder)
        yield Publisher(shared, leases.verify, cache_dir=job.cache_dir)


def run_published(job: Job) -> Outcome:
    """Compute a job and publish it from this worker, starting after its published units."""
    with publisher_of(job) as publisher:
        published, rest = _split_published(job, publisher.shared.cache)
        new = run_job(rest, publisher.publish) if rest.series_jobs else Outcome(())
    added = {outcome.series: outcome for outcome in new.series}
    return Outcome(tuple(_add(before, added.get(before.series)) for before in published))


def _split_published(job: Job, cache: Cache) -> tuple[list[SeriesOutcome], Job]:
    """Split a job into the outcome that is already published and the job that is left."""
    chains = read_chains(
        cache,
        {part.series.spec: None for part in job.series_jobs},
        segment_starts={job.segment_start},
        as_if_published={(p.series, p.generation) for p in job.series_jobs if p.generation},
    )
    published, left = [], []
    for series_job in job.series_jobs:
        chain = chains.get(series_job.series)
        units = chain.between(series_job.first_day, job.last_day) if chain is not None else ()
        own = [unit for unit in units if unit.generation == series_job.generation]
        published.append(_outcome_of(series_job, own))
        if not own:
            left.append(series_job)
        elif own[-1].day < job.last_day:
            left.append(_after(series_job, own[-1], cache))
    first_day = min((series_job.first_day for series_job in left), default=job.first_day)
    return published, replace(job, series_jobs=tuple(left), first_day=first_day)


def _after(series_job: SeriesJob, unit: Unit, cache: Cache) -> SeriesJob:
    """Return the job that starts after a unit."""
    return replace(
        series_job,
        first_day=unit.day + ONE_DAY,
        built_on=unit.attempt,
        state=states_of(cache, [unit])[unit],
        replay=replays_of(cache, [unit])[unit] if series_job.features else 0,
    )


def _outcome_of(series_job: SeriesJob, units: Sequence[Unit]) -> SeriesOutcome:
    bars = sum(unit.closed_rows for unit in units)
    orphans = sum(unit.orphan_rows for unit in units)
    return SeriesOutcome(series_job.series, len(units), (), bars, orphans, None)


def _add(before: SeriesOutcome, new: SeriesOutcome | None) -> SeriesOutcome:
    """Add the outcome of the job that was left to the outcome that was already published."""
    if new is None:
        return before
    return replace(
        new,
        days=before.days + new.days,
        bars=before.bars + new.bars,
        orphans=before.orphans + new.orphans,
    )
