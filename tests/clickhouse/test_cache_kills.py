"""A writer that is killed at any step leaves the old or the new bars, complete."""

from __future__ import annotations

import signal
from datetime import date, timedelta

import pytest
from series_data import FIRST, SERIES, SPEC, days, drafts, expected

from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import read_chains


def chain_of(cache):
    return read_chains(cache, [SPEC])[SERIES]


def bars_in(cache):
    return read_bars(cache, chain_of(cache).units, include_orphans=True)


PUBLISH_AND_DIE = """
import os, signal, sys
from series_data import drafts, days
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.clickhouse.commit.publish import publish

# The second call opens the folder again.
os.environ["RANGEBAR_CACHE_IDLE_S"] = "0"

def die(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

with open_cache(cache_dir=sys.argv[1], write=True) as cache:
    last = publish(cache, drafts(2))[-1]
with on_failpoint(die), open_cache(cache_dir=sys.argv[1], write=True) as cache:
    publish(cache, drafts(3, first=days(3)[2], built_on=last.attempt))
"""

#: Steps of publishing, and whether the group is visible after a kill there.
DEATHS = {
    Step.CACHE_OPENED: False,
    Step.BARS_BEFORE: False,
    Step.BARS_INSERTED: False,
    Step.BARS_PROVED: False,
    Step.UNITS_INSERTED: True,
    Step.UNITS_PROVED: True,
}


def test_every_step_of_publishing_is_tried(embedded):
    reached = []
    with on_failpoint(reached.append), embedded.open(write=True) as cache:
        publish(cache, drafts(3))
    assert set(reached) == set(DEATHS)


@pytest.mark.parametrize("step", DEATHS, ids=str)
def test_a_kill_leaves_the_old_or_the_new_bars_complete(embedded, run, step):
    process = run(PUBLISH_AND_DIE, embedded.folder, step)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors
    with embedded.open(write=True) as cache:
        visible = 5 if DEATHS[step] else 2
        assert chain_of(cache).frontier == days(6)[visible]
        assert bars_in(cache).equals(expected(days(visible)))
        if visible < 5:
            last = chain_of(cache).last
            publish(cache, drafts(3, first=days(3)[2], built_on=last.attempt))
        assert bars_in(cache).equals(expected(days(5)))


def test_rows_of_a_killed_attempt_stay_invisible_after_a_merge(embedded):
    with embedded.open(write=True) as cache:
        publish(cache, drafts(2))

        def stop(step):
            if step is Step.BARS_PROVED:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), on_failpoint(stop):
            publish(cache, drafts(2, scale=5.0))
        cache.command(f"OPTIMIZE TABLE {cache.table('bars')} FINAL")
        assert cache.scalar(f"SELECT count() FROM {cache.table('bars')}") == 48
        assert bars_in(cache).equals(expected(days(2)))


def test_months_are_inserted_separately(embedded):
    steps = []
    with embedded.open(write=True) as cache, on_failpoint(steps.append):
        publish(cache, drafts(3))
    assert days(3)[-1] == date(2024, 2, 1) == FIRST + timedelta(days=2)
    assert steps.count(Step.BARS_INSERTED) == 2
