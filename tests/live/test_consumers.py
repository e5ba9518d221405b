"""Consumers with real threads: callbacks that return, raise, hang, exit, are slow, and coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import pairwise

import polars as pl
import pytest

from live.bar_world import STORAGE_ERROR, BarWorld
from live.consumer_kit import (
    Reports,
    Taken,
    apply,
    begin,
    closed,
    consumer,
    expected_ids,
    store,
    wait_for,
)
from rangebar_polars._utils import clock
from rangebar_polars.live.consumers import CallbackReceiver

THRESHOLDS = (250, 500)


@pytest.fixture
def fast():
    """Virtual time: waits of minutes pass in moments."""
    clock.install(rate=600.0)
    yield
    clock.install()


@pytest.fixture
def world():
    return BarWorld(6, (2, 5))


def check_all(world, taken, after_id):
    for threshold in world.thresholds:
        assert taken.ids(threshold) == expected_ids(world, threshold, after_id)


def test_every_bar_is_delivered_in_order_and_the_cursor_follows(world, tmp_path):
    taken, reports = Taken(), Reports()
    found = consumer(world, tmp_path, taken, reports)
    begin(world, found, 30)
    for count in (1, 7, 30, 2, 60):
        apply(world, found, count)
    status = closed(found)
    check_all(world, taken, 30)
    assert (status.state, status.pending, status.failures) == ("ok", 0, 0)
    assert status.delivered == sum(frame.height for frame in taken.frames)
    assert status.cursor_lag_s == 0
    cursor = store(tmp_path).load("BTCUSDT")
    assert cursor.live_id == 30
    assert cursor.is_closed
    for threshold in world.thresholds:
        place = cursor.mark(world.series(threshold, 0).spec).position
        assert place.last_id == taken.ids(threshold)[-1]
        assert place.series.anchor <= world.newest(threshold).anchor
    assert not any(frame["is_replay"].any() for frame in taken.frames)
    assert reports.events == reports.stops == []


def test_the_cursor_is_written_before_the_first_bar_and_soon_after_each(world, tmp_path):
    seen = []
    taken = Taken(lambda _frame: seen.append(store(tmp_path).load("BTCUSDT")))
    found = consumer(world, tmp_path, taken, Reports())
    begin(world, found, 30)
    apply(world, found, 10)
    wait_for(taken.condition, lambda: taken.frames)
    assert seen[0].live_id == 30
    assert {mark.position.last_id for mark in seen[0].marks} == {30}
    last = max(taken.ids(250))
    path = store(tmp_path).path("BTCUSDT")
    while f'"last_id": {last}' not in path.read_text():  # the thread of cursors writes it
        threading.Event().wait(0.01)
    closed(found)


def test_a_kill_before_the_first_bar_loses_none(world, tmp_path):
    found = consumer(world, tmp_path, Taken(), Reports())
    begin(world, found, 30)
    path = store(tmp_path).path("BTCUSDT")
    while not path.exists():
        threading.Event().wait(0.01)
    # The first consumer is given up; the second one knows nothing but the file.
    world.applied_id = 90
    taken = Taken()
    second = consumer(world, tmp_path, taken, Reports())
    second.begin("BTCUSDT", world.starts(), [], 90)
    closed(second)
    check_all(world, taken, 30)
    assert all(frame["is_replay"].all() for frame in taken.frames)


def test_stored_bars_that_are_passed_are_not_computed_again(world, tmp_path):
    first = consumer(world, tmp_path, Taken(), Reports())
    begin(world, first, 50)
    closed(first)
    world.applied_id = 40
    stored = world.apply(55)
    taken = Taken()
    second = consumer(world, tmp_path, taken, Reports())
    second.begin("BTCUSDT", world.starts(after_id=40), stored, 95)
    closed(second)
    check_all(world, taken, 50)
    assert world.asked == 0


@pytest.mark.parametrize("raises", [1, 3])
def test_a_frame_is_offered_again_until_it_is_taken(world, tmp_path, fast, raises):
    offered = []

    def before(frame):
        offered.append((clock.monotonic(), frame))
        if len(offered) <= raises:
            raise KeyError("once")

    taken, reports = Taken(before), Reports()
    found = consumer(world, tmp_path, taken, reports)
    begin(world, found, 30)
    apply(world, found, 10)
    wait_for(taken.condition, lambda: taken.frames)
    apply(world, found, 10)
    status = closed(found)
    assert all(frame.equals(offered[0][1]) for _, frame in offered[: raises + 1])
    waits = [b[0] - a[0] for a, b in pairwise(offered)]
    assert all(wait >= limit for wait, limit in zip(waits, (1, 2, 4), strict=False))
    check_all(world, taken, 30)
    assert (status.failures, status.state, reports.events) == (raises, "ok", [])
    assert status.last_error == "KeyError: 'once'"


def test_a_callback_that_always_raises_is_failing_and_loses_nothing(world, tmp_path, fast, caplog):
    works = threading.Event()

    def before(_frame):
        if not works.is_set():
            raise ValueError("no")

    taken, reports = Taken(before), Reports()
    found = consumer(world, tmp_path, taken, reports)
    begin(world, found, 30)
    with caplog.at_level(logging.ERROR, "rangebar_polars.live"):
        apply(world, found, 40)
        wait_for(reports.condition, lambda: reports.events)
    symbol, name, fields = reports.events[0]
    assert (symbol, name) == ("BTCUSDT", "consumer_failed")
    assert fields["consumer"] == "test"
    assert fields["first_id"] == min(i for t in THRESHOLDS for i in expected_ids(world, t, 30))
    assert (fields["is_skipped"], fields["error"]) == (False, "ValueError: no")
    assert "Traceback" in caplog.text
    assert "before" in caplog.text
    status = found.status()
    assert status.state == "failing"
    assert status.failures >= 4
    assert status.cursor_lag_s > 0
    works.set()
    wait_for(taken.condition, lambda: taken.frames)
    status = closed(found)
    assert (status.state, status.pending) == ("ok", 0)
    assert len(reports.events) == 1
    check_all(world, taken, 30)


def test_skipped_frames_are_counted_and_the_next_ones_delivered(world, tmp_path, fast):
    bad = []

    def before(frame):
        if not bad or frame.equals(bad[0]):
            bad.append(frame)
            raise ValueError("no")

    taken, reports = Taken(before), Reports()
    found = consumer(world, tmp_path, taken, reports, skips=True)
    begin(world, found, 30)
    apply(world, found, 10)
    wait_for(reports.condition, lambda: reports.events)
    apply(world, found, 30)
    status = closed(found)
    assert len(bad) == 4
    assert reports.events[0][2]["is_skipped"] is True
    assert (status.skipped, status.state) == (bad[0].height, "ok")
    for threshold in THRESHOLDS:
        lost = bad[0].filter(threshold=threshold)["last_agg_trade_id"].to_list()
        assert [*lost, *taken.ids(threshold)] == expected_ids(world, threshold, 30)


def test_a_callback_that_hangs_delays_nobody_and_no_bar_is_lost(world, tmp_path, fast):
    hangs, goes = threading.Event(), threading.Event()

    def before(_frame):
        hangs.set()
        assert goes.wait(120.0)

    slow, other = Taken(before), Taken()
    first = consumer(world, tmp_path / "a", slow, Reports(), max_pending_bars=8)
    second = consumer(world, tmp_path / "b", other, Reports())
    for found in (first, second):
        begin(world, found, 30)
    for _ in range(20):
        bars = world.apply(8)
        for found in (first, second):
            found.queue("BTCUSDT", bars, world.applied_id)
        if not hangs.is_set():
            assert hangs.wait(120.0)
    closed(second)
    check_all(world, other, 30)
    status = first.status()
    assert status.state == "lagging"
    assert status.pending <= 8 + slow_rows(world)
    goes.set()
    status = closed(first)
    assert status.state == "ok"
    check_all(world, slow, 30)
    assert world.asked > 0
    assert any(frame["is_replay"].any() for frame in slow.frames)


def slow_rows(world):
    return max(len(expected_ids(world, t, 30)) for t in world.thresholds)


def test_a_slow_callback_gets_every_bar_and_memory_is_bounded(tmp_path):
    world = BarWorld(60, (1, 1), reset="none")
    turn = threading.Semaphore(0)
    taken = Taken(lambda _frame: turn.acquire(timeout=120.0))
    found = consumer(world, tmp_path, taken, Reports(), max_pending_bars=50)
    begin(world, found, 30)
    most = 0
    while world.applied_id < world.last_id:
        apply(world, found, 10)
        turn.release()
        most = max(most, found.status().pending)
    for _ in range(2_000):
        turn.release()
    closed(found)
    check_all(world, taken, 30)
    assert most <= 50 + 50 + 50  # the queue, those computed again, and the frame in hand


def test_a_frame_has_at_most_1000_bars(tmp_path):
    world = BarWorld(60, (1, 1), reset="none")
    goes = threading.Event()
    taken = Taken(lambda _frame: goes.wait(120.0))
    found = consumer(world, tmp_path, taken, Reports())
    begin(world, found, 30)
    while world.applied_id < world.last_id:
        apply(world, found, 100)
    goes.set()
    closed(found)
    check_all(world, taken, 30)
    heights = [frame.height for frame in taken.frames]
    assert max(heights) == 1_000
    assert sum(heights) > 4_000


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_exception_stops_in_order(world, tmp_path, error):
    def before(_frame):
        raise error

    reports = Reports()
    found = consumer(world, tmp_path, Taken(before), reports)
    begin(world, found, 30)
    apply(world, found, 10)
    wait_for(reports.condition, lambda: reports.stops)
    assert reports.stops[0][1] is error
    status = closed(found)
    assert status.delivered == 0
    assert {m.position.last_id for m in store(tmp_path).load("BTCUSDT").marks} == {30}


def test_a_coroutine_function_runs_in_a_loop_of_its_own(world, tmp_path):
    taken, loops, background = Taken(), set(), []

    async def tick():
        await asyncio.sleep(0)
        background.append(asyncio.get_running_loop())

    async def on_bars(frame):
        loops.add(asyncio.get_running_loop())
        asyncio.get_running_loop().create_task(tick())
        await asyncio.sleep(0)
        taken(frame)

    found = consumer(world, tmp_path, on_bars, Reports())
    begin(world, found, 30)
    for _ in range(10):
        apply(world, found, 10)
    before = threading.active_count()
    closed(found)
    check_all(world, taken, 30)
    assert len(loops) == 1
    assert set(background) == loops
    assert threading.active_count() < before


def test_a_coroutine_function_runs_in_the_loop_of_the_caller(world, tmp_path):
    taken, reports = Taken(), Reports()
    threads = set()

    async def on_bars(frame):
        threads.add(threading.current_thread())
        await asyncio.sleep(0)
        if not taken.frames and len(threads) == 1 and not reports.events:
            reports.events.append(("", "raised", {}))
            raise SystemExit(1)
        taken(frame)

    async def main():
        receiver = CallbackReceiver(on_bars, "test", asyncio.get_running_loop())
        found = consumer(world, tmp_path, receiver, reports)
        begin(world, found, 30)
        apply(world, found, 10)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(wait_for, reports.condition, lambda: reports.stops)
        found.close(lambda: loop.call_soon_threadsafe(done.set))
        await done.wait()
        return found.status()

    status = asyncio.run(main())  # SystemExit in the coroutine does not end it
    assert threads == {threading.current_thread()}
    assert isinstance(reports.stops[0][1], SystemExit)
    assert status.delivered == 0


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_abort_ends_a_close_that_takes_too_long(world, tmp_path, kind):
    hangs, goes = threading.Event(), threading.Event()
    cancelled = []

    def function(_frame):
        hangs.set()
        goes.wait(120.0)

    async def coroutine(_frame):
        hangs.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    found = consumer(world, tmp_path, function if kind == "function" else coroutine, Reports())
    begin(world, found, 30)
    apply(world, found, 20)
    assert hangs.wait(120.0)
    done = threading.Event()
    found.close(done.set)
    assert not done.wait(0.05)
    found.abort()
    assert done.wait(120.0)
    assert found.status().delivered == 0
    assert found.status().pending > 0
    cursor = store(tmp_path).load("BTCUSDT")
    assert {mark.position.last_id for mark in cursor.marks} == {30}
    goes.set()
    if kind == "coroutine":
        for thread in found._threads:
            thread.join(120.0)
        assert cancelled == [True]


def test_a_source_that_is_away_is_asked_again(world, tmp_path, fast):
    first = consumer(world, tmp_path, Taken(), Reports())
    begin(world, first, 30)
    closed(first)
    world.errors = [STORAGE_ERROR, OSError("gone")]
    world.applied_id = 150
    taken = Taken()
    found = consumer(world, tmp_path, taken, Reports())
    begin(world, found)
    wait_for(taken.condition, lambda: world.asked > 2 and taken.frames)
    assert closed(found).state == "ok"
    check_all(world, taken, 30)


def test_an_error_of_the_source_that_is_a_fault_of_ours_stops(world, tmp_path):
    first = consumer(world, tmp_path, Taken(), Reports())
    begin(world, first, 30)
    closed(first)
    world.errors = [ZeroDivisionError()]
    world.applied_id = 150
    reports = Reports()
    found = consumer(world, tmp_path, Taken(), reports)
    begin(world, found)
    wait_for(reports.condition, lambda: reports.stops)
    assert isinstance(reports.stops[0][1], ZeroDivisionError)
    closed(found)


def test_a_callback_cannot_change_what_is_offered_again(world, tmp_path, fast):
    seen = []

    def on_bars(frame):
        seen.append(frame.columns)
        frame.drop_in_place("open")
        if len(seen) == 1:
            raise ValueError("again")

    found = consumer(world, tmp_path, on_bars, Reports())
    begin(world, found, 30)
    apply(world, found, 10)
    closed(found)
    assert seen[0] == seen[1]
    assert "open" in seen[1]


def test_frames_have_the_columns_and_marks_of_the_contract(world, tmp_path):
    taken = Taken()
    found = consumer(world, tmp_path, taken, Reports())
    begin(world, found, 30)
    apply(world, found, 60)
    closed(found)
    frame = pl.concat(taken.frames)
    assert frame.columns[:3] == ["symbol", "threshold", "anchor"]
    assert frame.columns[-2:] == ["is_replay", "is_revised"]
    assert frame.schema["threshold"] == pl.UInt32
    assert set(frame["symbol"]) == {"BTCUSDT"}
    for threshold, anchor, last in frame.select(
        "threshold", "anchor", "last_agg_trade_id"
    ).iter_rows():
        assert anchor == world.series(threshold, world.day_of(last)).anchor
