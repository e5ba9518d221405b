"""Forming bars between the bars that have ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import (
    SYMBOL,
    assert_same_bars,
    day_start_of,
    point_at,
    tape_of,
    this_moment,
    truth,
    wait_for,
)
from rangebar_polars.live.bars import live_bars
from rangebar_polars.live.consumers.forming import FormingBars

NOW = this_moment()
START = day_start_of(NOW)
EVERY = timedelta(milliseconds=20)


@pytest.fixture
def market(tmp_path, monkeypatch):
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange, tape


def last_id(exchange, tape):
    return int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])


def forming_at(tape, threshold, through_id):
    builder = rb.RangeBarBuilder(threshold, features="microstructure")
    ticks = tape.ticks.filter(
        (pl.col("timestamp") >= START) & (pl.col("agg_trade_id") <= through_id)
    )
    builder.push(ticks)
    return builder.partial()


def is_forming_at(frame, through_id):
    """Whether a frame has the bar of the highest threshold after a trade; the others may have ended."""
    last = frame.filter(pl.col("threshold") == 100_000)["last_agg_trade_id"].to_list()
    return not frame["is_closed"][0] and last == [through_id]


def taken(live, is_over):
    """Frames of an iteration until a condition holds for one of them."""
    found = []
    for frame in live:
        found.append(frame)
        if is_over(frame):
            return found
    raise AssertionError("the iteration has ended")


def test_they_come_after_the_bars_that_have_ended(market):
    exchange, tape = market
    with live_bars(SYMBOL, [250, 100_000], since=START, partial_every=EVERY) as live:
        assert live.schema.names()[-4:] == ["is_closed", "ended_by", "is_replay", "is_revised"]
        found = []
        for _ in range(3):
            exchange.play(timedelta(seconds=120))
            last = last_id(exchange, tape)
            found += taken(
                live,
                lambda frame: is_forming_at(frame, last),  # noqa: B023
            )
            forming = found[-1]
            assert forming["ended_by"].null_count() == forming.height
            for threshold in (250, 100_000):
                own = forming.filter(pl.col("threshold") == threshold)
                assert_same_bars(own, forming_at(tape, threshold, last))
    for frame in found:
        assert frame["is_closed"].n_unique() == 1
        assert frame.schema == live.schema
    # Without them, the bars are those of an iteration that does not ask for them.
    ended = pl.concat([frame for frame in found if frame["is_closed"][0]])
    assert_same_bars(ended.filter(pl.col("threshold") == 250), truth(tape, 250, START, last))
    assert not ended.filter(pl.col("threshold") == 100_000).height
    # In the order of the iteration, a bar forms after those of its threshold that have ended.
    reached = 0
    for frame in found:
        own = frame.filter(pl.col("threshold") == 250)
        for row in own.iter_rows(named=True):
            assert row["first_agg_trade_id"] > reached or row["is_closed"]
            if row["is_closed"]:
                assert row["last_agg_trade_id"] > reached
                reached = row["last_agg_trade_id"]


def test_a_follower_and_an_async_iteration_give_them_too(market):
    exchange, tape = market

    async def first_of(live, last):
        async for frame in live:
            if is_forming_at(frame, last):
                return frame
        raise AssertionError("the iteration has ended")

    with (
        live_bars(SYMBOL, 250, since=START) as writer,
        live_bars(SYMBOL, [250, 100_000], since=START, partial_every="20ms") as follower,
    ):
        exchange.play(timedelta(seconds=120))
        last = last_id(exchange, tape)
        wait_for(lambda: (writer.status()[0]["applied_id"] or -1) >= last, writer.status)
        frame = asyncio.run(first_of(follower, last))
        for threshold in (250, 100_000):
            own = frame.filter(pl.col("threshold") == threshold)
            assert_same_bars(own, forming_at(tape, threshold, last))
        # `collect` counts and returns bars that have ended.
        expected = truth(tape, 250, START, last)
        exchange.play(timedelta(seconds=600))
        later = follower.collect(3, timeout=60)
        assert later["is_closed"].all()
        assert later["first_agg_trade_id"][0] == expected["last_agg_trade_id"][-1] + 1


class Parts:
    """Forming bars that a test sets."""

    def __init__(self):
        self.frames = []

    def partial(self, _frames):
        return self.frames


def frame_of(symbol, close):
    return pl.DataFrame({"symbol": [symbol], "close": [close]})


def test_only_those_that_have_changed_are_given(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rangebar_polars._utils.clock.monotonic", lambda: now[0])
    parts = Parts()
    forming = FormingBars(parts, None, 1.0)
    assert forming.wait_s(60.0) == 1.0
    assert forming.take() is None
    parts.frames = [frame_of("A", 1.0), frame_of("B", 1.0), frame_of("C", 1.0).clear()]
    now[0] = 1.0
    assert forming.wait_s(60.0) == 0.0
    # The first call looks; bars that have ended meanwhile come before what it has found.
    assert forming.take() is None
    assert forming.wait_s(60.0) == 0.0
    assert [forming.take().item(0, "symbol") for _ in range(2)] == ["A", "B"]
    assert forming.wait_s(60.0) == 1.0
    now[0] = 2.0
    assert (forming.take(), forming.take()) == (None, None)
    parts.frames[0] = frame_of("A", 2.0)
    now[0] = 3.5
    assert forming.take() is None
    assert forming.take()["close"].to_list() == [2.0]
    assert forming.wait_s(60.0) == 1.0
    # What was not given before a bar ended is given again if it is still so.
    parts.frames = [frame_of("A", 3.0), frame_of("B", 3.0)]
    now[0] = 5.0
    assert forming.take() is None
    forming.drop()
    now[0] = 6.5
    assert forming.take() is None
    assert [forming.take()["close"].item() for _ in range(2)] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(1, TypeError), ("0s", ValueError), ("soon", ValueError), (timedelta(-1), ValueError)],
)
def test_a_wrong_interval_is_refused(wrong, kind):
    with pytest.raises(kind, match="partial_every"):
        live_bars(SYMBOL, 250, partial_every=wrong)
