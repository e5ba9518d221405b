"""Lines of JSON to real pipes and files: closed, blocked, slow, full."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from contextlib import suppress

import polars as pl
import pytest

from live.bar_world import BarWorld, frames_of
from live.consumer_kit import (
    Reports,
    apply,
    begin,
    closed,
    consumer,
    expected_ids,
    store,
    wait_for,
)
from rangebar_polars._utils import clock
from rangebar_polars.live.consumers import NdjsonReceiver, ndjson
from rangebar_polars.live.consumers.ndjson import json_lines


@pytest.fixture
def world():
    return BarWorld(20, (1, 2), reset="none")


@pytest.fixture
def pipe():
    reads, writes = os.pipe()
    reader, writer = os.fdopen(reads, "rb"), os.fdopen(writes, "w", encoding="utf-8")
    yield reader, writer
    for file in (reader, writer):
        with suppress(BrokenPipeError):
            file.close()


def reading(reader):
    """Read to the end in a thread; return where the lines are and the thread."""
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(reader))
    thread.start()
    return lines, thread


def ids_of(lines, threshold):
    found = [json.loads(line) for line in lines]
    return [bar["last_agg_trade_id"] for bar in found if bar["threshold"] == threshold]


def test_a_line_has_the_columns_and_values_of_its_bar(world):
    frames = frames_of(world, features="microstructure")
    rows = frames.rows(world.apply(30)).with_columns(
        high=pl.lit(float("nan")),
        low=pl.lit(float("inf")),
        close=pl.lit(1 / 3),
        volume=pl.lit(1e22),
    )
    frame = frames.frame("币/USDT", rows, replay_until=10)
    lines = json_lines(frame)
    assert len(lines) == frame.height
    assert all(line.isascii() for line in lines)
    for line, bar in zip(lines, frame.iter_rows(named=True), strict=True):
        found = json.loads(line)
        assert list(found) == frame.columns
        assert found["symbol"] == "币/USDT"
        assert found["high"] is found["low"] is found["vwap"] is None
        assert '"close":0.3333333333333333,"volume":1e+22' in line
        for name in ("anchor", "close_time"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found[name])
            assert found[name] == bar[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert found["is_replay"] == (bar["last_agg_trade_id"] <= 10)
        assert found["is_closed"] is True
        assert found["ended_by"] is None or found["ended_by"] == bar["ended_by"]


def test_real_bars_come_back_bit_for_bit(shared):
    import rangebar_polars as rb
    from rangebar_polars.bar_series.days import new_builder
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.live.frames import BarFrames
    from rangebar_polars.live.series import SeriesBars

    spec = BarSpec.of("ETHUSDT", 250)
    bars = new_builder(spec).push(rb.sample_ticks())
    frames = BarFrames([250], "microstructure")
    series = spec.series(bars.item(0, "open_time").date())
    frame = frames.frame("ETHUSDT", frames.rows([SeriesBars(0, series, bars)]))
    found = [json.loads(line) for line in json_lines(frame)]
    for name in frame.columns:
        values = frame.get_column(name)
        if values.dtype == pl.Float64:
            assert [bar[name] for bar in found] == values.to_list()


def test_every_bar_goes_through_a_pipe(world, tmp_path, pipe):
    reader, writer = pipe
    lines, thread = reading(reader)
    found = consumer(world, tmp_path, NdjsonReceiver(writer), Reports(), kind="ndjson")
    begin(world, found, 30)
    for _ in range(30):
        apply(world, found, 20)
    status = closed(found)
    writer.close()
    thread.join()
    for threshold in world.thresholds:
        assert ids_of(lines, threshold) == expected_ids(world, threshold, 30)
    assert (status.kind, status.delivered) == ("ndjson", len(lines))
    place = store(tmp_path, "ndjson").load("BTCUSDT").marks[0].position
    assert place.last_id == world.applied_id


def test_a_closed_pipe_stops_in_order(world, tmp_path, pipe):
    reader, writer = pipe
    reports = Reports()
    found = consumer(world, tmp_path, NdjsonReceiver(writer), reports, kind="ndjson")
    begin(world, found, 30)
    apply(world, found, 5)
    first = reader.readline()
    reader.close()
    apply(world, found, 5)
    apply(world, found, 5)
    wait_for(reports.condition, lambda: reports.stops)
    reason, error = reports.stops[0]
    assert "nobody reads the stream" in reason
    assert error is None
    assert reports.events == []
    closed(found)
    assert json.loads(first)["last_agg_trade_id"] == 31


def test_a_closed_stream_object_stops_in_order(world, tmp_path):
    stream, reports = io.StringIO(), Reports()
    found = consumer(world, tmp_path, NdjsonReceiver(stream), reports, kind="ndjson")
    begin(world, found, 30)
    stream.close()
    apply(world, found, 5)
    wait_for(reports.condition, lambda: reports.stops)
    assert reports.stops[0][1] is None
    closed(found)


def test_a_blocked_pipe_blocks_nobody_else_and_loses_nothing(tmp_path, pipe):
    world = BarWorld(60, (1, 2), reset="none")
    reader, writer = pipe
    other = Reports()
    blocked = consumer(
        world, tmp_path, NdjsonReceiver(writer), Reports(), kind="ndjson", max_pending_bars=40
    )
    taken = []
    second = consumer(world, tmp_path, taken.append, other)
    for found in (blocked, second):
        begin(world, found, 30)
    while world.applied_id < world.last_id:
        bars = world.apply(20)
        for found in (blocked, second):
            found.queue("BTCUSDT", bars, world.applied_id)
    assert closed(second).pending == 0
    status = blocked.status()
    assert status.state == "lagging"
    assert status.pending <= 40 + 40 + 1_000
    lines, thread = reading(reader)
    assert closed(blocked).state == "ok"
    writer.close()
    thread.join()
    for threshold in world.thresholds:
        assert ids_of(lines, threshold) == expected_ids(world, threshold, 30)


def test_abort_gives_a_blocked_write_up_and_the_cursor_has_what_was_written(world, tmp_path, pipe):
    reader, writer = pipe
    found = consumer(world, tmp_path, NdjsonReceiver(writer), Reports(), kind="ndjson")
    begin(world, found, 30)
    apply(world, found, 700)
    while not found.status().delivered:
        threading.Event().wait(0.01)
    done = threading.Event()
    found.close(done.set)
    assert not done.wait(0.05)
    found.abort()
    assert done.wait(120.0)
    for thread in found._threads:
        thread.join(120.0)
        assert not thread.is_alive()
    writer.close()
    lines = reader.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    status = found.status()
    # Lines are counted once they are out, and a part of the last one may be out, too.
    assert status.delivered == len(whole)
    assert status.pending > 0
    for mark in store(tmp_path, "ndjson").load("BTCUSDT").marks:
        threshold = mark.position.series.spec.threshold
        assert ids_of(whole, threshold)[-1] == mark.position.last_id


def test_a_write_that_fails_in_a_line_is_continued_there(world, tmp_path, monkeypatch):
    """A full disk takes some bytes, then none; later it has room again."""
    path = tmp_path / "bars.ndjson"
    sizes = iter([900, 0, 0, 1, 300, 0, 2])

    def write(file, data):
        size = next(sizes, None) if file == stream.fileno() else None
        if size == 0:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[:size])

    pwrite = os.write
    monkeypatch.setattr(ndjson.os, "write", write)
    clock.install(rate=600.0)
    try:
        with path.open("w", encoding="utf-8") as stream:
            found = consumer(world, tmp_path, NdjsonReceiver(stream), Reports(), kind="ndjson")
            begin(world, found, 30)
            apply(world, found, 40)
            status = closed(found)
    finally:
        clock.install()
    lines = path.read_bytes().splitlines()
    for threshold in world.thresholds:
        assert ids_of(lines, threshold) == expected_ids(world, threshold, 30)
    assert status.failures == 3
    assert status.delivered == len(lines)


def test_other_text_streams_are_written_and_flushed(world, tmp_path):
    class Stream(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    stream = Stream()
    found = consumer(world, tmp_path, NdjsonReceiver(stream), Reports(), kind="ndjson")
    begin(world, found, 30)
    apply(world, found, 40)
    closed(found)
    assert stream.flushed >= 1
    for threshold in world.thresholds:
        found_ids = ids_of(stream.getvalue().splitlines(), threshold)
        assert found_ids == expected_ids(world, threshold, 30)


def test_a_compressed_stream_is_written_through_its_own_layers(world, tmp_path):
    import gzip

    path = tmp_path / "bars.gz"
    with gzip.open(path, "wt", encoding="ascii") as stream:
        found = consumer(world, tmp_path, NdjsonReceiver(stream), Reports(), kind="ndjson")
        begin(world, found, 30)
        apply(world, found, 40)
        closed(found)
    with gzip.open(path, "rt") as stream:
        assert ids_of(stream.readlines(), 250) == expected_ids(world, 250, 30)
