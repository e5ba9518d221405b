"""Compaction of closed days, and their comparison with the archive."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from exchange import Tape
from live.market import SYMBOL
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.storage.days.day_file import read_day
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.live.compact import compact_day, compare_day, set_streamed_aside
from rangebar_polars.storage.live.journal import LiveJournal
from rangebar_polars.storage.live.live_days import live_view
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.parquet import TickStorage

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)
ID, TIME = "agg_trade_id", "timestamp"
TAPE = Tape.generate(SYMBOL, DAY, days=2, per_day=300, absent=0, archive_lacks=0)
TICKS = TAPE.day(DAY)
FIRST, LAST = TAPE.id_span(DAY)


def columns(ticks: pl.DataFrame) -> TradeColumns:
    rows = ticks.select(
        pl.col(TIME).dt.epoch("us"),
        "price",
        "quantity",
        ID,
        "first_trade_id",
        "last_trade_id",
        "is_buyer_maker",
    )
    return TradeColumns(Trade(*row) for row in rows.rows())


def between(first, last, ticks=TICKS):
    return ticks.filter(pl.col(ID).is_between(first, last))


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


@pytest.fixture
def folder(storage):
    return storage.symbol_dir(SYMBOL, "binance", "spot")


def stream(folder, ticks=TICKS, day=DAY, *, missing=(), late=None):
    with LiveJournal(folder, day=day, applied_id=int(ticks[ID][0]) - 1) as journal:
        for part in ticks.iter_slices(100):
            journal.append_trades(day, columns(part))
        spans = [MissingIds(first, last, MissingReason.ABSENT) for first, last in missing]
        if spans:
            journal.append_missing(spans)
        if late is not None:
            journal.append_late(columns(late))
        journal.close_day(day)


def put(storage, ticks, day=DAY, *, is_tail=True):
    storage.put_days(SYMBOL, [DayTicks(day, ticks, Origin("rest"), is_tail=is_tail)])


def stored(storage, day=DAY):
    return storage.get_ticks(SYMBOL, day, day, on_gap="report")


def entry(folder, day=DAY):
    return read_manifest(folder, month_of(day)).days[day]


def test_journals_become_the_day_file(storage, folder):
    stream(folder)
    assert compact_day(folder, DAY)
    assert stored(storage).equals(TICKS)
    assert (entry(folder).state, entry(folder).origin.kind) == ("tail", "stream")
    assert not compact_day(folder, DAY)
    assert not compact_day(folder, NEXT)


def test_it_is_the_union_by_id_and_journals_win(storage, folder):
    middle = FIRST + 150
    other = TICKS.with_columns(quantity=pl.col("quantity") + 1)
    put(storage, pl.concat([between(FIRST, middle + 20, other), between(LAST, LAST, other)]))
    stream(folder, between(middle, LAST - 10))
    before = next(live_view(folder, DAY, DAY).days()).trades
    assert compact_day(folder, DAY)
    expected = pl.concat(
        [
            between(FIRST, middle - 1, other),
            between(middle, LAST - 10),
            between(LAST, LAST, other),
        ]
    )
    assert read_day(folder, DAY, entry(folder)).equals(expected)
    # A read ends where ids are missing of a day that is not final.
    assert stored(storage).equals(expected.head(-1))
    assert before.equals(expected)
    assert next(live_view(folder, DAY, DAY).days()).trades.equals(expected)


def test_missing_ids_are_recorded_and_late_trades_stay_out(storage, folder):
    gone = between(FIRST + 50, FIRST + 52)
    rest = TICKS.join(gone, on=ID, how="anti")
    stream(folder, rest, missing=[(FIRST + 50, FIRST + 52)], late=gone[1:2])
    assert compact_day(folder, DAY)
    assert stored(storage).equals(rest)
    assert storage.gaps(SYMBOL, DAY, DAY) == []
    found = entry(folder)
    assert found.source_absent == ((FIRST + 50, FIRST + 52),)
    assert found.late_ids == (FIRST + 51,)


def test_a_day_that_does_not_grow_stays(storage, folder):
    put(storage, TICKS, is_tail=False)
    stream(folder, TICKS.with_columns(quantity=pl.col("quantity") + 1))
    before = entry(folder)
    assert not compact_day(folder, DAY)
    assert entry(folder) == before


def test_a_tail_over_a_tail_is_the_union(storage, folder):
    stream(folder, between(FIRST + 100, LAST))
    compact_day(folder, DAY)
    put(storage, between(FIRST, LAST - 50))
    assert stored(storage).equals(TICKS)
    assert (entry(folder).last_id, entry(folder).origin.kind) == (LAST, "stream")
    # The archive replaces it as a whole.
    put(storage, between(FIRST, LAST - 1), is_tail=False)
    assert stored(storage).equals(between(FIRST, LAST - 1))


def test_a_damaged_journal_is_read_up_to_the_damage(storage, folder):
    stream(folder)
    path = next(folder.live.glob("*.journal"))
    data = bytearray(path.read_bytes())
    data[-600] ^= 1
    path.write_bytes(data)
    assert compact_day(folder, DAY)
    found = stored(storage)
    assert found.equals(TICKS.head(found.height))
    assert found.height == 200


def test_an_unreadable_day_file_stops_it(storage, folder, monkeypatch):
    put(storage, between(FIRST, FIRST + 9))
    stream(folder, between(FIRST + 5, LAST))
    path = folder.day_file(DAY, entry(folder).file)
    path.write_bytes(b"nothing")
    with pytest.raises(StorageError):
        compact_day(folder, DAY)


# The comparison


def test_equal_days_do_not_differ(storage, folder):
    stream(folder, between(FIRST + 20, LAST))
    put(storage, TICKS, is_tail=False)
    assert compare_day(folder, DAY) is None


def test_a_day_without_stream_does_not_differ(storage, folder):
    put(storage, TICKS, is_tail=False)
    assert compare_day(folder, DAY) is None


def test_it_names_what_the_archive_changes_adds_and_removes(storage, folder):
    start = FIRST + 20
    archived = TICKS.filter(~pl.col(ID).is_in([FIRST + 60, FIRST + 61])).with_columns(
        quantity=pl.when(pl.col(ID).is_in([FIRST + 30, FIRST + 5]))
        .then(pl.col("quantity") + 1)
        .otherwise("quantity")
    )
    streamed = TICKS.filter(pl.col(ID) >= start, pl.col(ID) != FIRST + 90)
    stream(folder, streamed, missing=[(FIRST + 90, FIRST + 90)])
    put(storage, archived, is_tail=False)
    found = compare_day(folder, DAY)
    assert found.ids == (FIRST + 30, FIRST + 60, FIRST + 61, FIRST + 90)
    assert (found.changed, found.added, found.removed) == (1, 1, 2)
    assert found.gone[ID].to_list() == [FIRST + 30, FIRST + 60, FIRST + 61]
    assert found.final.equals(archived)
    expected = pl.concat([archived.filter(pl.col(ID) < start), streamed])
    assert found.applied.equals(expected)
    set_streamed_aside(folder, found)
    set_streamed_aside(folder, found)
    (path,) = folder.quarantine.iterdir()
    assert pl.read_parquet(path).sort(ID)["quantity"].to_list() == found.gone["quantity"].to_list()


def test_a_trade_that_the_archive_moved_over_midnight_is_no_difference_of_ids(storage, folder):
    late = between(LAST, LAST)
    stream(folder, TICKS)
    stream(folder, TAPE.day(NEXT), NEXT)
    put(storage, between(FIRST, LAST - 1), is_tail=False)
    put(storage, pl.concat([late, TAPE.day(NEXT)]), NEXT, is_tail=False)
    assert compare_day(folder, DAY) is None
    assert compare_day(folder, NEXT) is None


# Kills

SCRIPT = """
import os, sys
from datetime import date
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.storage.live.compact import compact_day
from rangebar_polars.storage.parquet import TickStorage

folder, step = sys.argv[1:]
def end(reached):
    if reached.name == step:
        os._exit(7)
with on_failpoint(end):
    compact_day(TickStorage(folder).symbol_dir("BTCUSDT", "binance", "spot"), date(2026, 11, 2))
"""


@pytest.mark.parametrize("step", ["TEMP_WRITTEN", "LINKED", "MANIFEST_COMMITTED", "DAY_COMPACTED"])
def test_a_kill_leaves_the_old_or_the_new_day(storage, folder, tmp_path, step):
    put(storage, between(FIRST, FIRST + 9))
    stream(folder, between(FIRST + 5, LAST))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), step], check=False)
    assert done.returncode == 7
    assert next(live_view(folder, DAY, DAY).days()).trades.equals(TICKS)
    is_done = step in ("MANIFEST_COMMITTED", "DAY_COMPACTED")
    assert compact_day(folder, DAY) != is_done
    assert stored(storage).equals(TICKS)


def test_the_time_of_the_tape_is_utc():
    assert TICKS[TIME][0] >= datetime(2026, 11, 2, tzinfo=UTC)
