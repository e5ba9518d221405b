"""Bars that a loop or a coroutine takes: waits, ends, errors, cancelled calls, replays."""

from __future__ import annotations

import asyncio
import threading

import pytest

from live.bar_world import STORAGE_ERROR, BarWorld, frames_of
from live.consumer_kit import Taken, begin, expected_ids
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.live.consumers import BarIterator, DeliveryOptions
from rangebar_polars.live.consumers.positions import Position


def iterator(world, *, source=True, most=10_000):
    options = DeliveryOptions("live", "iterator", most, has_cursors=False)
    return BarIterator(options, frames_of(world), world if source else None)


def feed(world, found, counts):
    for count in counts:
        bars = world.apply(count)
        if bars:
            found.queue("BTCUSDT", bars, world.applied_id)


def rest(found):
    """Take all frames until the end."""
    taken = Taken()
    while (frame := found.take(120.0)) is not None:
        taken(frame)
    return taken


def check(world, taken, after_id):
    for threshold in world.thresholds:
        assert taken.ids(threshold) == expected_ids(world, threshold, after_id)


def test_a_loop_takes_all_bars_and_ends_with_the_iterator():
    world = BarWorld()
    found = iterator(world)
    begin(world, found, 20)
    worker = threading.Thread(target=feed, args=(world, found, [5] * 30))
    worker.start()
    taken = Taken()
    while len(taken.ids(250)) < 20:
        taken(found.take(120.0))
    worker.join()
    found.close(lambda: None)
    for frame in rest(found).frames:
        taken(frame)
    check(world, taken, 20)
    assert found.take() is None
    status = found.status()
    assert (status.kind, status.state, status.cursor_lag_s) == ("iterator", "ok", 0)


def test_history_comes_first_then_live_without_a_seam():
    world = BarWorld(spacing=(2, 5))
    world.applied_id = 130
    found = iterator(world)
    first = {t: Position(world.series(t, 0), 15) for t in world.thresholds}
    found.begin("BTCUSDT", world.starts(begin=first), [], 130)
    feed(world, found, [20, 20])
    found.close(lambda: None)
    taken = rest(found)
    check(world, taken, 15)
    for frame in taken.frames:
        ids = frame["last_agg_trade_id"]
        assert (frame["is_replay"] == (ids <= 130)).all()


def test_a_wait_ends_after_its_time():
    world = BarWorld()
    found = iterator(world)
    begin(world, found, 20)
    clock.install(rate=600.0)
    try:
        with pytest.raises(TimeoutError):
            found.take(30.0)
        with pytest.raises(TimeoutError):
            asyncio.run(found.take_async(30.0))
    finally:
        clock.install()


def test_a_loop_that_falls_behind_misses_nothing():
    world = BarWorld(spacing=(1, 2))
    found = iterator(world, most=10)
    begin(world, found, 20)
    feed(world, found, [30] * 6)
    assert found.status().state == "lagging"
    assert found.status().pending <= 10
    found.close(lambda: None)
    check(world, rest(found), 20)
    assert world.asked > 0


def test_without_a_store_bars_that_are_not_taken_are_an_error():
    world = BarWorld(spacing=(1, 2))
    found = iterator(world, source=False, most=10)
    begin(world, found, 20)
    feed(world, found, [5])
    assert found.take(120.0).height
    feed(world, found, [30])
    with pytest.raises(CoverageError, match="more than 10 bars of BTCUSDT were not taken"):
        found.take(120.0)


def test_an_error_comes_after_the_bars_that_are_there():
    world = BarWorld()
    found = iterator(world)
    begin(world, found, 20)
    feed(world, found, [20])
    found.fail(CoverageError("every symbol has failed"))
    assert found.take(120.0).height
    with pytest.raises(CoverageError, match="every symbol"):
        found.take(120.0)


def test_abort_ends_a_wait():
    world = BarWorld()
    found = iterator(world)
    begin(world, found, 20)
    results = []
    thread = threading.Thread(target=lambda: results.append(found.take(120.0)))
    thread.start()
    found.abort()
    thread.join()
    assert results == [None]


def test_coroutines_take_bars_from_other_threads_and_lose_none_when_cancelled():
    world = BarWorld(spacing=(1, 2))
    found = iterator(world, most=40)
    begin(world, found, 20)
    taken = Taken()
    goes = threading.Event()

    def work():
        assert goes.wait(120.0)
        feed(world, found, [7] * 20)
        found.close(lambda: None)

    async def main():
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(3):
            task = asyncio.ensure_future(found.take_async())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        goes.set()
        while True:
            task = asyncio.ensure_future(found.take_async())
            await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    frame = task.result()
                else:
                    frame = await found.take_async()
            else:
                frame = task.result()
            if frame is None:
                break
            taken(frame)
        worker.join()

    asyncio.run(main())
    check(world, taken, 20)


def test_a_source_that_is_away_is_asked_again_and_the_end_comes_without_it():
    world = BarWorld(spacing=(1, 2))
    found = iterator(world, most=10)
    begin(world, found, 20)
    world.errors = [STORAGE_ERROR]
    feed(world, found, [60])
    clock.install(rate=600.0)
    try:
        taken = Taken()
        while len(taken.ids(250)) < 60:
            taken(found.take(120.0))
    finally:
        clock.install()
    check(world, taken, 20)


@pytest.mark.parametrize("errors", [3, 4])
def test_the_last_bars_are_computed_again_or_an_error_says_that_they_are_not(errors):
    world = BarWorld(spacing=(1, 2))
    found = iterator(world, most=10)
    begin(world, found, 20)
    feed(world, found, [60])
    world.errors = [STORAGE_ERROR] * errors
    found.close(lambda: None)
    clock.install(rate=600.0)
    try:
        if errors < 4:
            check(world, rest(found), 20)
            return
        with pytest.raises(CoverageError, match="the disk is away"):
            rest(found)
    finally:
        clock.install()
    assert found.status().state == "lagging"
    assert "the disk is away" in found.status().last_error
