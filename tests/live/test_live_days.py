"""The union of day files and journals, against sets; and which days are live."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.test_journal import absent, journal, symbol_dir, trades
from live.world import MIDNIGHT_US
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import CoverageError, TickOrderError
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.live.journal_file import JournalContent, MissingSpan
from rangebar_polars.storage.live.live_days import (
    chain_end,
    given_day_after,
    holes,
    live_from,
    live_view,
    union,
)
from rangebar_polars.storage.live.state_file import write_state
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.parquet import TickStorage

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)
IDS = st.sets(st.integers(1, 40), max_size=25)
SPANS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=4)
NOTHING = TRADES_SCHEMA.to_frame()


def frame(numbers, price):
    """Return trades whose price says where they come from."""
    found = TradeColumns()
    for n in numbers:
        found.append(*Trade(MIDNIGHT_US + n, price, 1.0, n, n, n, True))
    return found.frame()


def content(numbers, missing, price, number=1):
    spans = tuple(MissingSpan(first, first + more, "absent") for first, more in missing)
    return JournalContent(
        DAY, number, 0, frame(numbers, price), NOTHING, spans, (), is_closed=False, length=64
    )


@given(stored=IDS, journals=st.lists(st.tuples(IDS, SPANS), max_size=3), before=SPANS, gone=SPANS)
def test_journals_decide_about_the_ids_that_they_contain(stored, journals, before, gone):
    contents = [
        content(sorted(ids), missing, 10.0 + at, at + 1)
        for at, (ids, missing) in enumerate(journals)
    ]
    entry = DayEntry("tail", source_absent=tuple((f, f + more) for f, more in gone))
    earlier = [MissingSpan(first, first + more, "absent") for first, more in before]
    day = union(DAY, entry, frame(sorted(stored), 1.0), contents, earlier)
    prices = dict.fromkeys(stored, 1.0)
    missing = {n for _, spans in journals for f, more in spans for n in range(f, f + more + 1)}
    for n in missing | {n for f, more in before for n in range(f, f + more + 1)}:
        prices.pop(n, None)
    for at, (ids, _) in enumerate(journals):
        prices.update(dict.fromkeys(ids, 10.0 + at))
    expected = sorted(prices.items())
    assert list(zip(day.trades["agg_trade_id"], day.trades["price"], strict=True)) == expected
    assert {n for s in day.missing for n in range(s.first, s.last + 1)} == missing - {
        n for ids, _ in journals for n in ids
    }
    absent_ids = {n for first, last in day.absent for n in range(first, last + 1)}
    known = absent_ids | {*prices}
    for after in (0, 7, 50):
        end = after
        while end + 1 in known:
            end += 1
        assert day.chain_end(after) == end
        top = max([n for n in known if n > after], default=after)
        found = holes(after, day.trades["agg_trade_id"], day.absent)
        left = {n for first, last in found for n in range(first, last + 1)}
        assert left == {n for n in range(after + 1, top + 1) if n not in known}
        assert chain_end(after, day.trades["agg_trade_id"], day.absent) == end


def test_times_are_raised_in_the_order_of_ids_and_not_by_more_than_a_second():
    stored = frame([1, 3], 1.0).with_columns(pl.col("timestamp") + pl.duration(milliseconds=400))
    day = union(DAY, None, stored, [content([2, 4], [], 2.0)])
    assert day.trades["timestamp"].is_sorted()
    assert day.trades["agg_trade_id"].to_list() == [1, 2, 3, 4]
    late = stored.with_columns(pl.col("timestamp") + pl.duration(seconds=5))
    with pytest.raises(TickOrderError):
        union(DAY, None, late, [content([2, 4], [], 2.0)])


def test_days_are_read_with_their_journals_as_they_were(tmp_path):
    storage = TickStorage(tmp_path)
    where = storage.symbol_dir("BTCUSDT", "binance", "spot")
    storage.write_ticks("BTCUSDT", trades(1, 5).frame())
    entry = live_view(where, DAY, NEXT).entries[DAY]
    assert entry.state == "given"
    with journal(where, applied_id=5) as live:
        live.append_trades(DAY, trades(3, 4))
        live.append_missing([absent(6, 7)])
        live.append_trades(NEXT, trades(8, 9, NEXT))
        view = live_view(where, DAY, NEXT)
        live.append_trades(NEXT, trades(10, 11, NEXT))
    first, second = view.days()
    assert first.trades["agg_trade_id"].to_list() == [1, 2, 3, 4, 5], "a given day is its file"
    assert (first.missing, first.has_journal) == ((), False)
    assert second.trades.equals(trades(8, 9, NEXT).frame()), "the view does not grow"
    assert second.has_journal
    assert [day.day for day in live_view(where, DAY, NEXT + timedelta(days=9)).days()] == [
        DAY,
        NEXT,
    ]
    again = list(live_view(where, DAY, NEXT).days())
    assert again[1].trades["agg_trade_id"].to_list() == [8, 9, 10, 11]


def test_a_day_file_that_may_grow_is_joined_with_the_journals(tmp_path):
    storage = TickStorage(tmp_path)
    where = storage.symbol_dir("BTCUSDT", "binance", "spot")
    ticks = pl.concat([trades(1, 3).frame(), trades(6, 8).frame()])
    item = DayTicks(DAY, ticks, Origin(kind="rest"), ((4, 5),), is_tail=True)
    storage.put_days("BTCUSDT", [item])
    assert live_from(where, DAY, NEXT) == DAY
    (day,) = live_view(where, DAY, DAY).days()
    assert (day.trades["agg_trade_id"].to_list(), day.has_journal) == ([1, 2, 3, 6, 7, 8], False)
    assert (day.chain_end(0), day.source_absent) == (8, ((4, 5),))
    with journal(where, applied_id=5) as live:
        live.append_trades(DAY, trades(6, 6))
        live.append_missing([absent(7, 7)])
        live.append_trades(DAY, trades(9, 12))
        live.close_day(DAY)
    (day,) = live_view(where, DAY, DAY).days()
    assert day.trades["agg_trade_id"].to_list() == [1, 2, 3, 6, 8, 9, 10, 11, 12]
    assert day.trades.schema == TRADES_SCHEMA
    assert day.missing == (MissingSpan(7, 7, "absent"),)
    assert day.is_closed
    assert day.chain_end(0) == 12
    storage.put_days("BTCUSDT", [DayTicks(DAY, trades(1, 12).frame(), Origin(kind="archive"))])
    (day,) = live_view(where, DAY, DAY).days()
    assert day.trades["agg_trade_id"].to_list() == list(range(1, 13))
    assert (day.missing, day.has_journal, live_from(where, DAY, NEXT)) == ((), False, NEXT)


def test_a_view_that_ends_below_the_applied_id_is_incomplete(tmp_path):
    where = symbol_dir(tmp_path)
    with journal(where, applied_id=0) as live:
        live.append_trades(DAY, trades(1, 5))
    live_view(where, DAY, DAY).require_applied(0)
    write_state(where, {"applied_id": 5})
    view = live_view(where, DAY, DAY)
    view.require_applied(5)
    with pytest.raises(CoverageError, match="end at id 4, below id 5"):
        view.require_applied(4)


def test_live_days_begin_after_those_that_are_settled(tmp_path):
    storage = TickStorage(tmp_path)
    where = storage.symbol_dir("BTCUSDT", "binance", "spot")
    today = DAY + timedelta(days=3)
    assert live_from(where, DAY, today) == DAY
    storage.write_ticks("BTCUSDT", trades(1, 5).frame())
    storage.write_ticks("BTCUSDT", trades(6, 9, NEXT).frame())
    assert live_from(where, DAY, today) == DAY + timedelta(days=2)
    assert live_from(where, DAY, DAY) == DAY
    assert live_from(where, DAY, NEXT) == NEXT
    assert given_day_after(where, NEXT, today) == NEXT
    assert given_day_after(where, NEXT + timedelta(days=1), today) is None
    assert given_day_after(where, today, DAY) is None
