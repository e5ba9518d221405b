"""A sidecar that is killed while series are computed again: its successor marks the revision once."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from exchange import Exchange, Tape
from exchange.archive import trades_csv, zip_of
from live.market import tape_of, truth, wait_for
from live.test_finalize import (
    LAST,
    NOW,
    SYMBOL,
    TODAY,
    days,
    midnight,
    newest,
    units,
    with_quantity,
)
from rangebar_polars._files.failpoints import Step

THRESHOLDS = (250, 500)
OPTIONS = {"thresholds": THRESHOLDS, "cache": True, "finalize_interval_s": 10.0}
#: The row of the closed day whose quantity is another one in the archive.
ROW = 1500
ID, LAST_ID = "agg_trade_id", "last_agg_trade_id"


@pytest.fixture(scope="module")
def tape():
    return tape_of(NOW, before=timedelta(days=3, hours=12), per_minute=2, volatility=1.0)


def publish(exchange, tape, archived):
    path = exchange.path(LAST)
    member = path.rpartition("/")[2].replace(".zip", ".csv")
    exchange.put(path, zip_of({member: trades_csv(archived, tape)}))


@pytest.mark.parametrize("step", [Step.REVISION_WRITTEN, Step.REVISED])
def test_killed_while_series_are_computed_again(step, sidecars, tmp_path, tape):
    archived = with_quantity(tape.day(LAST), ROW)
    with Exchange(tape, now=midnight(TODAY) - timedelta(minutes=5)) as exchange:
        killed = sidecars.start(exchange, tmp_path, kill=(step, 1), **OPTIONS)
        killed.wait_state("live")
        exchange.play(timedelta(minutes=10))
        wait_for(lambda: LAST in days(tmp_path), lambda: (killed.state(), killed.said()))
        exchange.play(midnight(TODAY) + timedelta(hours=6))
        killed.wait_applied(newest(tape, exchange.now))
        before = exchange.now
        publish(exchange, tape, archived)
        assert killed.wait() == -9, f"the step was never reached: {killed.said()}"
        last = sidecars.start(exchange, tmp_path, **OPTIONS)
        wait_for(
            lambda: last.state().get("finalized_through") == str(LAST),
            lambda: (last.state(), last.said()),
        )
        last.wait_state("live")
        exchange.play(midnight(TODAY) + timedelta(hours=9))
        last.wait_applied(newest(tape, exchange.now))
        assert last.stop() == 0, last.said()
        now = exchange.now
    final = Tape(SYMBOL, pl.concat([archived, tape.between(TODAY, now)]))
    for threshold in THRESHOLDS:
        expected = truth(final, threshold, midnight(LAST), newest(tape, now))
        lines = [
            one for run in (killed, last) for one in run.lines() if one["threshold"] == threshold
        ]
        ids = list(dict.fromkeys(one[LAST_ID] for one in lines))
        # What was delivered goes on without a seam.
        assert ids == expected[LAST_ID].tail(len(ids)).to_list()
        later = expected.filter(pl.col(LAST_ID) > newest(tape, before))
        assert later.height > 0
        assert [one[LAST_ID] for one in lines if one["is_revised"]] == later[LAST_ID].head(
            1
        ).to_list()
        volumes = {one[LAST_ID]: one["volume"] for one in lines}
        assert [volumes[number] for number in later[LAST_ID]] == later["volume"].to_list()
        closed = expected.filter(pl.col("close_time") < midnight(TODAY)).height
        assert [
            one[3] for one in units(tmp_path) if one[0] == threshold and one[2] == str(LAST)
        ] == [closed]
