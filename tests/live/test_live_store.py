"""The tick store with journals: what its readers see, and what its writers refuse."""

from __future__ import annotations

import os
import pickle
import time
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from faulty import in_plan
from live.test_journal import absent, journal, trades
from rangebar_polars._utils import clock
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import (
    CoverageError,
    CoverageWarning,
    SnapshotExpiredError,
    StorageError,
    TicksNotCachedError,
)
from rangebar_polars.storage.live.journal_file import (
    HEADER_BYTES,
    PinnedJournal,
    list_journals,
    read_journal,
)
from rangebar_polars.storage.live.recent_journals import read_pinned
from rangebar_polars.storage.live.state_file import write_state
from rangebar_polars.storage.live.writer_lock import WriterLock
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

BEFORE, DAY, NEXT = (date(2026, 11, 2) + timedelta(days=n) for n in (-1, 0, 1))
SYMBOL = "BTCUSDT"


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


@pytest.fixture
def where(storage):
    return storage.symbol_dir(SYMBOL, "binance", "spot")


@pytest.fixture
def on_next_day():
    """Noon of the second day."""
    noon = datetime(NEXT.year, NEXT.month, NEXT.day, 12, tzinfo=UTC)
    clock.install(offset_s=(noon - datetime.now(UTC)).total_seconds())
    yield
    clock.install()


def put(storage, first, last, day=DAY, *, is_tail=True, kind="rest", **options):
    ticks = trades(first, last, day).frame()
    item = DayTicks(day, ticks, Origin(kind), is_tail=is_tail, **options)
    return storage.put_days(SYMBOL, [item])


def ids(storage, first=DAY, last=NEXT, **options):
    return storage.get_ticks(SYMBOL, first, last, **options)["agg_trade_id"].to_list()


def row(storage, day=DAY):
    return storage.coverage(SYMBOL, day, day).row(0, named=True)


def damage(where, number=0):
    """Change a byte in the middle of the second record of a journal."""
    path = list_journals(where)[number].path
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)


def test_days_with_journals_are_tails_and_their_missing_ids_are_known(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
        live.append_missing([absent(5, 6)])
        live.append_trades(NEXT, trades(7, 9, NEXT))
    first, second = row(storage), row(storage, NEXT)
    assert (first["state"], first["rows"], first["first_id"], first["last_id"]) == ("tail", 4, 1, 4)
    assert first["reason"] == "2 ids do not exist at the source"
    assert (second["state"], second["rows"], second["missing_before"]) == ("tail", 3, 0)
    assert ids(storage) == [1, 2, 3, 4, 7, 8, 9]
    assert storage.list_days(SYMBOL) == [DAY, NEXT]
    assert storage.list_symbols() == [SYMBOL]
    stats = storage.stats(SYMBOL)
    assert (stats["days"], stats["rows"], stats["last_id"]) == (2, 7, 9)
    assert stats["states"] == {"tail": 2}
    assert storage.gaps(SYMBOL, DAY, NEXT) == []
    assert set(storage.verify()["state"]) == {"ok"}


def test_values_are_those_of_the_journal(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 400))
    assert storage.get_ticks(SYMBOL, DAY, DAY).equals(trades(1, 400).frame())
    half = storage.scan_ticks(SYMBOL, DAY, DAY).filter(pl.col("price") > 102).select("price")
    assert half.collect().equals(trades(1, 400).frame().filter(pl.col("price") > 102)[["price"]])


def test_a_plan_pins_the_journals(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
        plan = storage.scan_ticks(SYMBOL, DAY, DAY)
        pinned = pickle.loads(pickle.dumps(storage.plan_ticks(SYMBOL, DAY, DAY)))
        days = pickle.loads(pickle.dumps(snapshot(storage, SYMBOL, DAY, DAY)))
        before = snapshot(storage, SYMBOL, DAY, DAY)[DAY].tick_hash
        live.append_trades(DAY, trades(5, 6))
        assert plan.collect()["agg_trade_id"].to_list() == [1, 2, 3, 4]
        assert pinned.plan.days[0].entry.rows == 4
        assert [frame.height for frame in days.frames(DAY, DAY)] == [4]
        assert ids(storage, DAY, DAY) == [1, 2, 3, 4, 5, 6]
        assert snapshot(storage, SYMBOL, DAY, DAY)[DAY].tick_hash != before
    for file in list_journals(where):
        file.path.unlink()
    with pytest.raises(in_plan(SnapshotExpiredError), match="make the plan again"):
        plan.collect()


def test_a_day_file_and_journals_are_joined_by_id(storage, where):
    put(storage, 1, 5)
    with journal(where, applied_id=3) as live:
        live.append_trades(DAY, trades(4, 8))
    assert ids(storage, DAY, DAY) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert row(storage)["rows"] == 8
    assert storage.stats(SYMBOL)["rows"] == 8


@pytest.mark.parametrize("state", ["given", "final"])
def test_a_settled_day_is_its_file(storage, where, state):
    if state == "given":
        storage.write_ticks(SYMBOL, trades(1, 5).frame())
    else:
        put(storage, 1, 5, is_tail=False)
    with journal(where) as live:
        live.append_trades(DAY, trades(4, 8))
    assert row(storage)["state"] == state
    assert ids(storage, DAY, DAY) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("last", [6, 8, 10])
def test_what_an_archive_has_moved_over_midnight_is_read_once(storage, where, last):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 8))
        live.append_trades(NEXT, trades(9, 12, NEXT))
    put(storage, 1, last, is_tail=False)
    assert (row(storage, NEXT)["first_id"], row(storage, NEXT)["missing_before"]) == (last + 1, 0)
    days = snapshot(storage, SYMBOL, DAY, NEXT)
    numbers = [n for frame in days.frames(DAY, NEXT) for n in frame["agg_trade_id"]]
    assert numbers == list(range(1, 13))


def test_the_chain_ends_before_the_first_id_that_nobody_has_applied(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
        live.append_trades(DAY, trades(7, 9))
        live.append_trades(NEXT, trades(10, 12, NEXT))
    assert ids(storage, DAY, DAY) == [1, 2, 3, 4]
    assert row(storage, NEXT)["state"] == "missing"
    with pytest.raises(TicksNotCachedError):
        ids(storage)
    write_state(where, {"applied_id": 4})
    assert ids(storage, DAY, DAY) == [1, 2, 3, 4]
    # Its writer had applied more than there is: that is a gap, not an end.
    write_state(where, {"applied_id": 12})
    with pytest.raises(CoverageError, match="ids 5 to 6 are missing"):
        ids(storage)
    assert [gap[1:3] for gap in storage.gaps(SYMBOL, DAY, NEXT)] == [(5, 6)]
    assert storage.fill_gaps(SYMBOL, trades(5, 6).frame()).rows_added == 2
    assert ids(storage) == list(range(1, 13))


def test_what_a_writer_had_applied_is_not_left_out_silently(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
        live.append_trades(DAY, trades(5, 8))
        live.append_trades(DAY, trades(9, 12))
    write_state(where, {"applied_id": 12, "applied_at": f"{DAY}T00:00:01+00:00"})
    assert ids(storage, DAY, DAY) == list(range(1, 13))
    damage(where)
    with pytest.raises(CoverageError, match=r"have lost .* ids that their writer had applied"):
        ids(storage, DAY, DAY)
    with pytest.warns(CoverageWarning, match="incomplete"):
        assert ids(storage, DAY, DAY, on_gap="report") == [1, 2, 3, 4]
    assert storage.verify()["state"].to_list() == ["corrupt"]
    # An earlier day is as it was: it is not the one that was applied last.
    assert storage.coverage(SYMBOL, BEFORE, BEFORE)["state"].to_list() == ["missing"]


def test_a_closed_day_without_trades_is_there(storage, where):
    with journal(where) as live:
        live.append_trades(BEFORE, trades(1, 3, BEFORE))
        live.close_day(DAY)
        live.append_trades(NEXT, trades(4, 6, NEXT))
    assert (row(storage)["state"], row(storage)["rows"]) == ("tail", 0)
    assert ids(storage, BEFORE, NEXT) == [1, 2, 3, 4, 5, 6]


def test_a_tail_over_a_tail_is_a_union(storage):
    put(storage, 1, 6, source_absent=((7, 7),))
    put(storage, 4, 9)
    assert ids(storage, DAY, DAY) == list(range(1, 10))
    put(storage, 1, 3)
    assert row(storage)["last_id"] == 9
    put(storage, 1, 4, is_tail=False)
    assert (row(storage)["state"], row(storage)["last_id"]) == ("final", 4)


def test_users_do_not_write_what_a_process_streams(storage, where, on_next_day):
    storage.write_ticks(SYMBOL, trades(1, 5, BEFORE).frame())
    with WriterLock.take(where), journal(where, applied_id=5) as live:
        write_state(where, {"live_from": DAY.isoformat()})
        live.append_trades(DAY, trades(6, 8))
        who = rf"this process \({os.getpid()}\) streams"
        for day in (DAY, NEXT):
            with pytest.raises(StorageError, match=rf"`write_ticks` cannot change {day} .*{who}"):
                storage.write_ticks(SYMBOL, trades(9, 9, day).frame())
        with pytest.raises(StorageError, match=rf"`delete_ticks` cannot change {DAY} to {NEXT}"):
            storage.delete_ticks(SYMBOL)
        assert storage.delete_ticks(SYMBOL, BEFORE, BEFORE) == [BEFORE]
        assert storage.write_ticks(SYMBOL, trades(1, 5, BEFORE).frame()).rows_added == 5
    assert ids(storage, BEFORE, DAY) == list(range(1, 9))


def test_without_a_writer_users_add_to_journals_and_delete_them(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
    storage.write_ticks(SYMBOL, trades(5, 6).frame())
    assert (row(storage)["state"], ids(storage, DAY, DAY)) == ("tail", [1, 2, 3, 4, 5, 6])
    with journal(where, applied_id=6, day=NEXT) as live:
        live.append_trades(NEXT, trades(7, 8, NEXT))
    assert storage.delete_ticks(SYMBOL, NEXT, NEXT) == [NEXT]
    assert storage.list_days(SYMBOL) == [DAY]
    assert storage.delete_ticks(SYMBOL) == [DAY]
    assert list_journals(where) == []


def test_a_journal_goes_a_week_after_its_day_is_in_a_file(storage, where):
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
        live.append_trades(NEXT, trades(5, 8, NEXT))
    put(storage, 1, 4, is_tail=False)
    put(storage, 5, 6, NEXT)
    week = 8 * 86_400
    for file in list_journals(where):
        os.utime(file.path, (time.time() - week,) * 2)
    assert storage.gc()["file"].to_list() == []
    clock.install(offset_s=-week)
    put(storage, 1, 4, is_tail=False, reason="again")
    clock.install()
    first, second = (str(file.path) for file in list_journals(where))
    assert storage.gc()["file"].to_list() == [first]
    assert storage.gc(dry_run=False)["file"].to_list() == [first]
    # The file of the other day does not have all of its journal.
    assert [str(file.path) for file in list_journals(where)] == [second]
    assert ids(storage) == list(range(1, 9))


def test_a_faulty_day_file_of_a_live_day_is_found(storage, where):
    put(storage, 1, 4)
    with journal(where, applied_id=4) as live:
        live.append_trades(DAY, trades(5, 8))
    plan = storage.scan_ticks(SYMBOL, DAY, DAY)
    (path,) = storage.root.rglob("*.parquet")
    path.write_bytes(b"other")
    with pytest.raises(in_plan(StorageError), match="is not what was written"):
        plan.collect()
    assert row(storage)["state"] == "quarantined"
    with pytest.raises(TicksNotCachedError, match="quarantined"):
        ids(storage, DAY, DAY)


def test_contracts_of_coin_margined_futures_become_coins(tmp_path):
    storage = TickStorage(tmp_path)
    where = storage.symbol_dir("BTCUSD_PERP", "binance", "cm")
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 4))
    found = storage.get_ticks("BTCUSD_PERP", DAY, DAY, market="cm")
    assert found["contracts"].to_list() == [1.5] * 4
    assert found["quantity"].to_list() == [round(150 / (100.0 + n % 5), 8) for n in range(1, 5)]


def test_what_was_read_before_is_continued(where):
    with journal(where) as live:
        for first in range(1, 40, 4):
            live.append_trades(DAY, trades(first, first + 3))
            if first % 3 == 0:
                live.append_missing([absent(100 + first, 101 + first)])
        live.close_day(DAY)
    (file,) = list_journals(where)
    sizes = range(HEADER_BYTES, file.path.stat().st_size + 1)
    lengths = [*sizes[::7], sizes[-1], sizes[len(sizes) // 2], sizes[-1]]
    for length in lengths:
        found = read_pinned(where, PinnedJournal(file, length))
        expected = read_journal(where, file, length)
        assert found.trades.equals(expected.trades)
        assert (found.missing, found.is_closed) == (expected.missing, expected.is_closed)
        assert (found.length, found.is_incomplete) == (expected.length, expected.is_incomplete)
    # A file that was written again is read again.
    damage(where)
    assert read_pinned(where, PinnedJournal(file, sizes[-1])).damage
