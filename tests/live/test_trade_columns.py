"""Columns of trades and spans of missing ids against lists and sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.world import World
from rangebar_polars.live.protocol.buffer import without_repeats
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason, MissingSpans
from rangebar_polars.live.protocol.trades import TradeColumns, runs_of

WORLD = World()
IDS = st.sets(st.integers(1, 60), max_size=40)


def columns(ids):
    return TradeColumns(WORLD.trade(number) for number in ids)


@given(held=IDS, new=IDS)
def test_inserted_trades_are_in_order(held, new):
    new -= held
    trades = columns(sorted(held))
    trades.insert(columns(sorted(new)))
    assert list(trades) == [WORLD.trade(number) for number in sorted(held | new)]


@given(ids=st.lists(st.integers(1, 20), max_size=30))
def test_trades_in_order_keep_the_first_of_each_id(ids):
    marked = [WORLD.trade(n)._replace(price=float(at + 1)) for at, n in enumerate(ids)]
    kept, repeated, conflicts = without_repeats(TradeColumns(marked).in_order())
    firsts = {trade.id: trade for trade in reversed(marked)}
    assert list(kept) == [firsts[number] for number in sorted(firsts)]
    assert len(repeated) == len(conflicts) == len(ids) - len(firsts)
    assert all(one.first == firsts[one.other.id] for one in conflicts)


@given(ids=IDS)
def test_runs_are_the_ids_without_holes(ids):
    runs = list(runs_of(sorted(ids)))
    assert {n for first, last in runs for n in range(first, last + 1)} == ids
    assert all(before[1] + 1 < after[0] for before, after in pairwise(runs))


@given(
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5), st.booleans()), max_size=12),
    removed=st.lists(st.integers(0, 55), max_size=12),
    upto=st.integers(0, 60),
)
def test_spans_are_a_set_of_ids_with_reasons(spans, removed, upto):
    found, expected = MissingSpans(), {}
    for first, length, is_absent in spans:
        reason = MissingReason.ABSENT if is_absent else MissingReason.SENTINEL
        ids = range(first, first + length + 1)
        if not expected.keys() & set(ids):
            found.add(MissingIds(first, ids[-1], reason))
            expected |= dict.fromkeys(ids, reason)
    for number in removed:
        assert found.remove(number) == (expected.pop(number, None) is not None)
    assert {n: found.reason(n) for n in range(60) if n in found} == expected
    taken = found.take_upto(upto)
    taken_ids = {n: one.reason for one in taken for n in range(one.first, one.last + 1)}
    assert taken_ids == {n: reason for n, reason in expected.items() if n <= upto}
    left = {n: one.reason for one in found for n in range(one.first, one.last + 1)}
    assert left == {n: reason for n, reason in expected.items() if n > upto}


def test_a_span_that_overlaps_another_is_refused():
    spans = MissingSpans([MissingIds(5, 9, MissingReason.ABSENT)])
    with pytest.raises(ValueError, match="overlaps"):
        spans.add(MissingIds(9, 12, MissingReason.ABSENT))
    with pytest.raises(ValueError, match="overlaps"):
        spans.add(MissingIds(3, 5, MissingReason.ABSENT))


def test_the_lowest_spans_are_forgotten_beyond_the_limit():
    spans = MissingSpans(most=2)
    for first in (1, 3, 5):
        spans.add(MissingIds(first, first, MissingReason.ABSENT))
    assert [span.first for span in spans] == [3, 5]
