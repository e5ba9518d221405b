"""Cursor files: what they hold, that they are always complete, and what happens to damaged ones."""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from datetime import date

import pytest

from live.bar_world import BarWorld, frames_of
from live.consumer_kit import Reports, Taken, begin, closed, consumer, store, wait_for
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.consumers import CursorStore, boot_id, check_consumer_name
from rangebar_polars.live.consumers.cursors import Cursor, Mark
from rangebar_polars.live.consumers.delivery import Delivery, DeliveryOptions, Offer, Save
from rangebar_polars.live.consumers.positions import Position
from rangebar_polars.sources import Venue
from storage.disks import FailingDisk, RecordingDisk

DAY = date(2026, 11, 2)


def mark(threshold=250, last_id=77, revision=0, **options):
    series = BarSpec.of("BTCUSDT", threshold, **options).series(DAY)
    return Mark(Position(series, last_id), revision)


CURSOR = Cursor(5, (mark(), mark(500, 80, 3)), "boot")


def test_a_cursor_comes_back_as_it_was_and_its_path_is_that_of_the_contract(tmp_path):
    found = store(tmp_path, name="strategy-1")
    assert found.load("BTCUSDT") is None
    found.save("BTCUSDT", CURSOR)
    path = tmp_path / "live/cursors/strategy-1.callback/binance.spot.BTCUSDT.json"
    assert path.is_file()
    assert found.path("BTCUSDT") == path
    assert found.load("BTCUSDT") == CURSOR
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert store(tmp_path, "ndjson", "strategy-1").load("BTCUSDT") is None


def test_names_that_no_file_may_have(tmp_path):
    found = CursorStore(tmp_path, "x", "ndjson", Venue("binance", "um"))
    assert found.path("币/USDT").name == "binance.um.%E5%B8%81%2FUSDT.json"
    for name in ("", ".", "..", "a/b", "a b", "x" * 65, 5, None, "é"):
        with pytest.raises(ValueError, match="`consumer` must be a name"):
            check_consumer_name(name)
        with pytest.raises(ValueError, match="`consumer` must be a name"):
            CursorStore(tmp_path, name, "ndjson", Venue("binance", "um"))


def test_marks_of_other_thresholds_stay():
    found = CURSOR.with_marks([mark(500, 90, 4), mark(1_000, 1)])
    thresholds = [one.position.series.spec.threshold for one in found.marks]
    assert thresholds == [250, 500, 1_000]
    assert found.mark(BarSpec.of("BTCUSDT", 500)) == mark(500, 90, 4)
    assert found.mark(BarSpec.of("BTCUSDT", 500, reset="month")) is None


def changed(values, **body):
    """Return a file whose checksum is right for other content."""
    from rangebar_polars.live.consumers import cursors

    values["cursor"].update(body)
    values["crc32"] = cursors._checksum(values["cursor"])
    return json.dumps(values).encode()


BAD = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "other bytes": lambda data: bytes(range(256)),
    "a bit": lambda data: data.replace(b'"last_id": 77', b'"last_id": 76'),
    "a list": lambda data: b"[1, 2]",
    "deep": lambda data: b"[" * 100_000,
    "no cursor": lambda data: b'{"schema": 1, "crc32": "0", "cursor": null}',
    "newer": lambda data: data.replace(b'"schema": 1', b'"schema": 2'),
    "another symbol": lambda data: changed(json.loads(data), symbol="ETHUSDT"),
    "another consumer": lambda data: changed(json.loads(data), consumer="other"),
    "no series": lambda data: changed(json.loads(data), series=None),
    "text for a number": lambda data: changed(json.loads(data), live_id="5"),
    "an anchor elsewhere": lambda data: changed(
        json.loads(data),
        series=[json.loads(data)["cursor"]["series"][0] | {"segment_start": "2025-01-01"}],
    ),
}
WORDS = {
    "newer": "schema `2`, and this version reads 1",
    "another symbol": "its symbol is `ETHUSDT`, not `BTCUSDT`",
    "another consumer": "its consumer is `other`, not `test`",
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_used_is_an_error_that_says_what_to_do(tmp_path, case):
    found = store(tmp_path)
    found.save("BTCUSDT", CURSOR)
    path = found.path("BTCUSDT")
    path.write_bytes(BAD[case](path.read_bytes()))
    content = path.read_bytes()
    with pytest.raises(StorageError) as raised:
        found.load("BTCUSDT")
    text = str(raised.value)
    assert str(path) in text
    assert WORDS.get(case, "is damaged") in text
    assert "restore the file; or remove it" in text
    assert path.read_bytes() == content
    world = BarWorld()
    with pytest.raises(StorageError):
        consumer(world, tmp_path, Taken(), Reports())


def test_every_flipped_bit_is_noticed(tmp_path):
    found = store(tmp_path)
    found.save("BTCUSDT", CURSOR)
    path = found.path("BTCUSDT")
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(bytes(flipped))
        try:
            assert found.load("BTCUSDT") == CURSOR  # blanks between values, for example
        except StorageError:
            continue


def test_a_folder_in_its_place_is_an_error(tmp_path):
    found = store(tmp_path)
    found.path("BTCUSDT").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be read"):
        found.load("BTCUSDT")


@pytest.mark.parametrize("operation", ["create", "write", "sync", "sync_folder"])
def test_a_failed_write_leaves_the_old_cursor_or_the_new_one(tmp_path, operation):
    other = Cursor(5, (mark(last_id=99),), "boot")
    store(tmp_path).save("BTCUSDT", CURSOR)
    number = 0
    while True:
        number += 1
        disk = FailingDisk((operation,), number, errno.ENOSPC)
        found = store(tmp_path, disk=disk)
        with suppress(StorageError):
            found.save("BTCUSDT", other)
        assert store(tmp_path).load("BTCUSDT") in (CURSOR, other)
        leftovers = [p for p in found.path("BTCUSDT").parent.iterdir() if p.suffix == ".tmp"]
        assert leftovers == []
        if not disk.failed:
            break
    assert store(tmp_path).load("BTCUSDT") == other


def test_the_bytes_are_synced_before_the_name_and_the_name_after(tmp_path):
    disk = RecordingDisk()
    found = store(tmp_path, disk=disk)
    found.save("BTCUSDT", CURSOR)
    folder = found.path("BTCUSDT").parent
    kinds = [(one.kind, one.path) for one in disk.operations]
    sync = next(i for i, (kind, path) in enumerate(kinds) if kind == "sync")
    assert kinds[sync][1].parent == folder
    assert ("sync_folder", folder) in kinds[sync + 1 :]
    made = [path for kind, path in kinds[:sync] if kind == "make_folder"]
    synced = {path for kind, path in kinds[:sync] if kind == "sync_folder"}
    assert folder in made
    assert {path.parent for path in made} <= synced


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    found = store(tmp_path)
    found.save("BTCUSDT", CURSOR)
    path = found.path("BTCUSDT")
    leftover = path.parent / f".{path.name}.123.0123abcd.tmp"
    other = path.parent / ".binance.spot.ETHUSDT.json.123.0123abcd.tmp"
    leftover.touch()
    other.touch()
    found.sweep("BTCUSDT")
    assert not leftover.exists()
    assert other.exists()


class FullDisk(RecordingDisk):
    """A disk without room until it gets some."""

    is_full = True

    def create(self, path):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)


def test_without_a_cursor_no_bar_is_delivered_until_there_is_room(tmp_path):
    world, taken, disk = BarWorld(spacing=(1, 2)), Taken(), FullDisk()
    found = consumer(world, tmp_path, taken, Reports(), disk=disk)
    begin(world, found, 30)
    found.queue("BTCUSDT", world.apply(5), world.applied_id)
    while found.status().last_error is None:
        wait_for(found._condition, lambda: True)
    assert "No space left" in found.status().last_error
    assert taken.frames == []
    disk.is_full = False
    closed(found)
    assert taken.ids(250) == [31, 32, 33, 34, 35]


def test_another_anchor_begins_at_the_applied_id_and_the_next_segment_at_its_start(tmp_path):
    world = BarWorld(spacing=(1, 2))
    first = consumer(world, tmp_path, Taken(), Reports())
    begin(world, first, 30)
    closed(first)
    world.applied_id = 70  # on the next day
    reports, taken = Reports(), Taken()
    second = consumer(world, tmp_path, taken, reports)
    starts = world.starts()
    noon = starts[1].series.anchor.replace(hour=12)
    other = starts[1].series.spec.series(noon)
    second.begin("BTCUSDT", [starts[0], type(starts[0])(other, 70)], [], 70)
    closed(second)
    assert reports.events == [
        (
            "BTCUSDT",
            "sidecar_new_series",
            {"consumer": "test", "threshold": 500, "segment": "2026-11-03", "anchor": noon},
        )
    ]
    assert taken.ids(250) == list(range(31, 71))
    assert taken.ids(500) == []
    cursor = store(tmp_path).load("BTCUSDT")
    assert cursor.mark(other.spec).position == Position(other, 70)


def test_the_cursor_is_stored_before_the_first_bar_is_delivered():
    world = BarWorld(spacing=(1, 2), reset="none")
    world.applied_id = 30
    delivery = Delivery(DeliveryOptions("test", "callback", boot="boot"), frames_of(world))
    delivery.begin(world.symbol, world.starts(), [], 30, None, 0.0)
    delivery.live(world.symbol, 30, 0.0)
    bars = world.apply(10)
    delivery.queue(world.symbol, bars, world.applied_id, 0.0)
    assert delivery.next(0.0) == Save(world.symbol)
    one = delivery.cursor(world.symbol)
    assert one.cursor.live_id == 30
    delivery.saved(one.symbol, one.version, 0.0)
    found = delivery.next(0.0)
    assert isinstance(found, Offer)
    assert found.offered.frame["last_agg_trade_id"].min() == 31


@pytest.mark.parametrize("ends", ["in order", "by a loss of power"])
def test_bars_of_another_boot_are_replayed_until_the_symbol_is_live(tmp_path, ends):
    world = BarWorld(spacing=(1, 2), reset="none")
    first = consumer(world, tmp_path, Taken(), Reports(), boot="one")
    begin(world, first, 30)
    closed(first)
    if ends != "in order":
        cursor = store(tmp_path).load("BTCUSDT")
        store(tmp_path).save("BTCUSDT", Cursor(cursor.live_id, cursor.marks, "one"))
    taken = Taken()
    second = consumer(world, tmp_path, taken, Reports(), boot="two")
    second.begin("BTCUSDT", world.starts(), [], 30)
    second.queue("BTCUSDT", world.apply(10), 40)
    wait_for(taken.condition, lambda: 40 in taken.ids(250))
    second.live("BTCUSDT", 45)
    second.queue("BTCUSDT", world.apply(10), 50)
    closed(second)
    replayed = {
        last: mark
        for frame in taken.frames
        for last, mark in frame.select("last_agg_trade_id", "is_replay").iter_rows()
    }
    until = 30 if ends == "in order" else 45
    assert replayed == {number: number <= until for number in range(31, 51)}
    assert boot_id() == boot_id()
