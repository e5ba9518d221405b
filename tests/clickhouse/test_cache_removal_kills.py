"""A killed removal leaves a series complete or invisible, and the next run finishes it."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest
from series_data import SERIES, SPEC, days, drafts, expected

from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.drop import drop
from rangebar_polars.clickhouse.gc import gc
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains

REMOVE_AND_DIE = """
import os, signal, sys
from datetime import timedelta
from series_data import SERIES, drafts
from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.drop import drop
from rangebar_polars.clickhouse.gc import gc
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.publish import publish

def stop(step):
    if step is Step.BARS_PROVED:
        raise KeyboardInterrupt

def dying(effect):
    def reach(cache, statement, *arguments):
        is_here = sys.argv[3] in statement
        if is_here and sys.argv[4] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        effect(cache, statement, *arguments)
        if is_here:
            os.kill(os.getpid(), signal.SIGKILL)
    return reach

with open_cache(cache_dir=sys.argv[1], write=True) as cache:
    publish(cache, drafts(3))
    try:
        with on_failpoint(stop):
            publish(cache, drafts(3, scale=5.0))
    except KeyboardInterrupt:
        pass
    Cache.command, Cache.insert = dying(Cache.command), dying(Cache.insert)
    if sys.argv[2] == "drop":
        drop(cache, [SERIES])
    else:
        gc(cache, min_age=timedelta(0))
"""


def killed(run, folder, *arguments):
    process = run(REMOVE_AND_DIE, folder, *arguments)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors


def seen(cache):
    chain = read_chains(cache, [SPEC]).get(SERIES)
    return chain.units if chain is not None else ()


@pytest.mark.parametrize(
    ("word", "when", "is_seen"),
    [
        ("generations", "before", True),
        ("generations", "after", False),
        ("units DELETE", "after", False),
        ("bars DELETE", "before", False),
    ],
)
def test_a_killed_drop_leaves_the_series_complete_or_invisible(embedded, run, word, when, is_seen):
    killed(run, embedded.folder, "drop", word, when)
    with embedded.open(write=True) as cache:
        assert len(seen(cache)) == 3 * is_seen
        if is_seen:
            assert read_bars(cache, seen(cache)).equals(expected(days(3)))
        drop(cache, [SERIES])
        assert read_chains(cache, [SPEC]) == {}
        for table in ("bars", "units"):
            assert cache.scalar(f"SELECT count() FROM {cache.table(table)}") == 0
        publish(cache, drafts(3))
        assert read_bars(cache, seen(cache)).equals(expected(days(3)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_collection_changes_nothing_visible(embedded, run, when):
    killed(run, embedded.folder, "gc", "bars DELETE", when)
    with embedded.open(write=True) as cache:
        assert read_bars(cache, seen(cache)).equals(expected(days(3)))
        gc(cache, min_age=timedelta(0))
        assert read_bars(cache, seen(cache)).equals(expected(days(3)))
        assert cache.scalar(f"SELECT count() FROM {cache.table('bars')}") == 36
        assert not gc(cache, min_age=timedelta(0))
