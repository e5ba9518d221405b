"""Stored ticks, jobs over them, and their expected units: for tests of several workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from exchange import Tape
from rangebar_polars._utils.span import parse_span
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.query.units import read_chains, states_of
from rangebar_polars.clickhouse.schema.rows import rows_of
from rangebar_polars.clickhouse.shared import SharedCache
from rangebar_polars.populate.plan import Job, SeriesJob
from rangebar_polars.populate.workers.publish import Publisher
from rangebar_polars.populate.workers.work import compute_units
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage

sys.path.append(str(Path(__file__).parents[1] / "clickhouse"))

from places import Bridge, Place

__all__ = ["Bridge", "Place"]

SYMBOL = "ETHUSDT"
THRESHOLDS = (250, 1000)
#: Two segments, of six groups each.
SPAN = ("2023-09-30", "2024-04-01")
DAYS = 185
PER_DAY = 120


def store_ticks(folder):
    """Fill a store, so that nothing has to be fetched."""
    tape = Tape.generate(SYMBOL, SPAN[0], DAYS, per_day=PER_DAY, absent=0, archive_lacks=0)
    TickStorage(folder).write_ticks(SYMBOL, tape.ticks)
    return folder


def series_of(span):
    """Return the series of a segment, one for each threshold."""
    return [BarSpec.of(SYMBOL, one, reset="year").series(span.start) for one in THRESHOLDS]


def lease_keys():
    spans = parts(parse_span(*SPAN), "year")
    return [series.lease_key for _, span in spans for series in series_of(span)]


def jobs_of(place, leases, *, ticks=None):
    """Yield the jobs of all segments, each from its first day."""
    dsn = place.dsn or f"chdb://{place.folder}/clickhouse"
    for segment, span in parts(parse_span(*SPAN), "year"):
        series_jobs = tuple(
            SeriesJob(series, span.first_day, 0, None, 0, leases.fencing[series.lease_key])
            for series in series_of(span)
        )
        yield Job(
            SYMBOL, Venue(), "year", segment.start, span.first_day, span.last_day,
            series_jobs, str(ticks or place.folder), dsn, leases.holder,
        )  # fmt: skip


class Nobody:
    """Leases for series without a writer."""

    holder = 0

    def __init__(self):
        self.fencing = dict.fromkeys(lease_keys(), 0)


def truth(place):
    """Compute each unit in this process; return its rows, hash sum, tick hash and state."""
    found = {}
    for job in jobs_of(place, Nobody()):
        for drafts in compute_units(job):
            rows = rows_of([draft.bars for draft in drafts])
            for draft, frame in zip(drafts, rows, strict=True):
                unit = (frame.height, frame["row_hash"].sum(), draft.ticks.hash, draft.state)
                found[draft.series, draft.day] = unit
    return found


def kept(place):
    """Return the same values for the visible units of a cache."""
    with place.open(write=True) as cache:
        chains = read_chains(cache)
        units = [unit for chain in chains.values() for unit in chain.units]
        states = states_of(cache, units)
    return {(u.series, u.day): (u.rows, u.row_hash_sum, u.tick_hash, states[u]) for u in units}


@contextmanager
def population(place):
    """Yield leases, and a publisher of this process."""
    with (
        hold_leases(lease_keys(), place.dsn, cache_dir=place.folder) as leases,
        SharedCache(place.dsn, cache_dir=place.folder) as shared,
    ):
        yield leases, Publisher(shared, leases.check, cache_dir=place.folder)


def spawn_pool(workers=2):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def kill(process):
    os.kill(process, signal.SIGKILL)
