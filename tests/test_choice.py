"""Which series answers for a span, judged by the words of the contract, spelt out anew."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangebar_polars._utils.span import Span, day_start, parse_span
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.bar_series.selection import (
    best_stored,
    in_segment,
    select_series,
    superseded,
    to_continue,
    walk_back,
)
from rangebar_polars.bar_series.units import Chain, Unit

SPEC = BarSpec.of("BTCUSDT", 250, reset="month")
BEGIN, DAYS = date(2024, 1, 20), 60
ALL = frozenset({"core", "microstructure"})


def day(offset):
    return BEGIN + timedelta(days=offset)


def chain(first, count, groups=ALL, spec=SPEC):
    """So many days from one on, at most to the end of the segment."""
    series = spec.series(first)
    end = series.segment.end or date.max
    count = min(count, (end - series.first_day).days)
    units = tuple(
        Unit(
            series, series.first_day + timedelta(days=n), 0, n + 1, n, 0, None, None, "", 1, 0, 0,
            None, None, groups,
        )
        for n in range(count)
    )  # fmt: skip
    return Chain(series, units)


def by_series(*chains):
    return {one.series: one for one in chains}


groups = st.sampled_from([ALL, ALL | {"lookback@1(records=200)", "intrabar@1"}])
offsets = st.integers(0, DAYS - 1)
chains = st.lists(
    st.builds(
        lambda first, count, has: chain(day(first), count, has), offsets, st.integers(0, 45), groups
    ),
    max_size=6,
    unique_by=lambda one: one.series,
)
spans = st.tuples(offsets, offsets).map(lambda two: parse_span(day(min(two)), day(max(two))))


@given(chains, spans)
def test_a_read_takes_what_covers_the_part_else_what_reaches_furthest_else_ticks(kept, span):
    for choice in select_series(SPEC, span, by_series(*kept)):
        start, last = choice.part.start, choice.part.last_day
        fitting = [
            one
            for one in kept
            if one.units
            and one.series.segment_start == choice.segment.start
            and one.series.anchor <= start
        ]
        held = {one.series: {unit.day for unit in one.units} for one in fitting}
        wanted = set(Span(start, choice.part.end).days())
        whole = [one for one in fitting if wanted <= held[one.series]]
        if whole:
            expected = min(whole, key=lambda one: one.series.anchor).series
            assert choice.from_ticks is None
        else:
            before = start.date() - timedelta(days=1)
            reaching = [
                one
                for one in fitting
                if before in held[one.series] or start.date() in held[one.series]
            ]
            furthest = sorted(
                reaching, key=lambda one: (-max(held[one.series]).toordinal(), one.series.anchor)
            )
            expected = furthest[0].series if furthest else SPEC.series(start)
            begin = max(held[expected]) + timedelta(days=1) if furthest else start.date()
            assert choice.from_ticks == Span(day_start(begin), choice.part.end)
        assert choice.series == expected
        assert last < (choice.segment.end or date.max)


@given(chains, spans)
def test_the_parts_of_a_read_are_the_whole_span_and_each_of_one_segment(kept, span):
    found = select_series(SPEC, span, by_series(*kept))
    assert found[0].part.start == span.start
    assert found[-1].part.end == span.end
    for one, following in itertools.pairwise(found):
        assert one.part.end == following.part.start == day_start(one.segment.end)
        assert one.ends_segment
    assert all(one.series.segment_start == one.segment.start for one in found)


@given(chains, offsets)
def test_a_population_continues_the_earliest_anchor_that_reaches_its_first_day(kept, offset):
    first = day(offset)
    segment = segment_of(first, "month")
    found = to_continue(kept, segment, first)
    fitting = [
        one
        for one in kept
        if one.units
        and one.series.segment_start == segment.start
        and one.series.first_day <= first <= one.units[-1].day + timedelta(days=1)
    ]
    expected = min(fitting, key=lambda one: one.series.anchor, default=None)
    assert (found and found.series) == (expected and expected.series)


@given(chains, st.none() | offsets)
def test_walking_back_joins_whole_segments_one_after_the_other(kept, offset):
    end = None if offset is None else day_start(day(offset))
    found = list(walk_back(kept, "month", end))
    starts = [one.series.segment_start for one in found]
    assert starts == sorted(set(starts), reverse=True)
    usable = [one for one in kept if one.units and (end is None or one.series.anchor < end)]
    if usable:
        assert starts[0] == max(one.series.segment_start for one in usable)
    for newer, older in itertools.pairwise(found):
        assert newer.series.anchor == day_start(newer.series.segment_start)
        assert older.series.segment.end == newer.series.segment_start
    for one in found:
        rivals = in_segment(usable, one.series.segment)
        last = one.series.segment.end - timedelta(days=1)
        if end is not None:
            last = min(last, end.date() - timedelta(days=1))
        reaching = [rival for rival in rivals if rival.units[-1].day >= last]
        furthest = max(rival.frontier for rival in rivals)
        candidates = reaching or [rival for rival in rivals if rival.frontier == furthest]
        assert one.series == min(candidates, key=lambda rival: rival.series.anchor).series
    if found and found[-1].series.anchor == day_start(found[-1].series.segment_start):
        before = starts[-1] - timedelta(days=1)
        assert not in_segment(usable, segment_of(before, "month"))


@given(chains)
def test_what_is_superseded_is_held_by_one_with_an_earlier_anchor(kept):
    gone = superseded(kept)
    for one in kept:
        others = [
            other
            for other in kept
            if other.series.segment_start == one.series.segment_start
            and other.series.anchor < one.series.anchor
            and {unit.day for unit in one.units} <= {unit.day for unit in other.units}
            and (one.units or other.frontier >= one.frontier)
        ]
        assert (one.series in gone) == bool(others)


def test_an_anchor_asks_for_exactly_its_series():
    early, late = chain(date(2024, 2, 1), 20), chain(date(2024, 2, 3), 20)
    span = parse_span("2024-02-05", "2024-02-10")
    found = select_series(
        SPEC, span, by_series(early, late), anchor=datetime(2024, 2, 3, tzinfo=UTC)
    )
    assert [one.series for one in found] == [late.series]
    (segment,) = select_series(SPEC, span, by_series(late), anchor="segment")
    assert segment.series == SPEC.series(date(2024, 2, 1))
    assert segment.from_ticks == parse_span("2024-02-01", "2024-02-10")


def test_an_anchor_counts_in_its_own_segment_and_later_ones_begin_at_their_start():
    anchor = datetime(2024, 1, 25, tzinfo=UTC)
    found = select_series(SPEC, parse_span("2024-01-28", "2024-03-02"), {}, anchor=anchor)
    assert [one.series.first_day for one in found] == [
        date(2024, 1, 25), date(2024, 2, 1), date(2024, 3, 1)
    ]  # fmt: skip


def test_an_anchor_after_the_start_is_refused():
    anchor = datetime(2024, 1, 25, tzinfo=UTC)
    with pytest.raises(ValueError, match="lies after the start"):
        select_series(SPEC, parse_span("2024-01-20", "2024-01-30"), {}, anchor=anchor)


def test_no_segment_begins_before_the_symbol_does():
    (found,) = select_series(
        SPEC,
        parse_span("2024-02-10", "2024-02-11"),
        {},
        anchor="segment",
        first_day=date(2024, 2, 5),
    )
    assert found.series.first_day == date(2024, 2, 5)


def test_best_stored_prefers_what_a_read_takes_and_else_the_earliest_that_holds_a_day():
    inside, later = chain(date(2024, 2, 5), 3), chain(date(2024, 2, 7), 20)
    part = parse_span("2024-02-01", "2024-02-20")
    assert best_stored([inside, later], part) is inside
    before = chain(date(2024, 2, 1), 2)
    assert best_stored([before, inside, later], part) is before
    assert best_stored([], part) is None


def test_without_resets_there_is_one_segment():
    spec = BarSpec.of("BTCUSDT", 250, reset=None)
    kept = chain(date(2024, 1, 1), 40, spec=spec)
    (found,) = select_series(spec, parse_span("2024-01-20", "2024-03-10"), by_series(kept))
    assert found.series == kept.series
    assert not found.ends_segment
    assert list(walk_back([kept], None)) == [kept]
