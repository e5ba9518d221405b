"""A reader that follows journals sees each record once, whenever it looks."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.test_journal import absent, journal, symbol_dir, trades
from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.live.journal_file import list_journals
from rangebar_polars.storage.live.journal_tail import JournalTail

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)


def ids(contents):
    return [n for one in contents for n in one.trades["agg_trade_id"]]


@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_records_are_seen_once_however_the_bytes_arrive(tmp_path_factory, cuts):
    written = symbol_dir(tmp_path_factory.mktemp("written"))
    with journal(written) as live:
        for number in range(1, 9):
            live.append_trades(DAY, trades(10 * number, 10 * number + number))
        live.append_missing([absent(1, 2)])
    (file,) = list_journals(written)
    data = file.path.read_bytes()
    seen = symbol_dir(tmp_path_factory.mktemp("seen"))
    seen.live.mkdir(parents=True)
    copy = seen.live / file.path.name
    tail, found = JournalTail(seen, DAY), []
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        copy.write_bytes(data[:cut])
        found += tail.poll()
        assert tail.poll() == []
    copy.write_bytes(data)
    found += tail.poll()
    assert ids(found) == [n for k in range(1, 9) for n in range(10 * k, 11 * k + 1)]
    assert [span for one in found for span in one.missing] == [(1, 2, "absent")]
    assert found[-1].length == len(data)


def test_new_files_are_followed_and_removed_ones_forgotten(tmp_path):
    where = symbol_dir(tmp_path)
    tail = JournalTail(where, DAY)
    assert tail.poll() == []
    live = journal(where, day=DAY - timedelta(days=1))
    live.append_trades(DAY - timedelta(days=1), trades(1, 2))
    assert tail.poll() == []
    live.append_trades(DAY, trades(3, 4))
    assert ids(tail.poll()) == [3, 4]
    live.append_trades(DAY, trades(5, 5))
    live.append_trades(NEXT, trades(6, 6))
    contents = tail.poll()
    assert [(one.day, ids([one])) for one in contents] == [(DAY, [5]), (NEXT, [6])]
    assert [one.follows_id for one in contents] == [None, 5]
    live.close_day(NEXT)
    (content,) = tail.poll()
    assert (content.is_closed, ids([content])) == (True, [])
    live.close()
    for file in list_journals(where):
        file.path.unlink()
    assert tail.poll() == []


def test_a_damaged_file_is_reported_once_and_the_next_one_followed(tmp_path):
    where = symbol_dir(tmp_path)
    tail = JournalTail(where, DAY)
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 2))
        live.append_trades(DAY, trades(3, 4))
    (file,) = list_journals(where)
    data = bytearray(file.path.read_bytes())
    data[-1] ^= 2
    file.path.write_bytes(bytes(data))
    (content,) = tail.poll()
    assert (ids([content]), bool(content.damage)) == ([1, 2], True)
    with journal(where, applied_id=4) as live:
        live.append_trades(DAY, trades(5, 6))
    (content,) = tail.poll()
    assert (content.number, ids([content]), content.damage) == (2, [5, 6], "")
    assert tail.poll() == []


def test_an_unreadable_file_is_named(tmp_path):
    where = symbol_dir(tmp_path)
    (where.live / "2026-11-02.0001.journal").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"2026-11-02\.0001\.journal"):
        JournalTail(where, DAY).poll()
