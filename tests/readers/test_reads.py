"""A read equals the slice of one series of bars, wherever its bars come from."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rangebar_polars._utils.span import Span, day_start
from rangebar_polars.bar_series.segments import parts
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.readers.bars import get_range_bars, scan_range_bars
from readers.shared import (
    END,
    FIRST,
    KEPT,
    SYMBOL,
    TICKS,
    bars,
    january,
    quiet,
    ticks_between,
)
from repetitions import repeated

pytestmark = pytest.mark.usefixtures("shared_cache")

RESETS = list(KEPT)
HOURS = (END - january(1)) // timedelta(hours=1)


@st.composite
def spans(draw):
    """Two instants of the tape, often at midnight."""
    grid = st.one_of(st.integers(0, HOURS // 24).map(lambda days: 24 * days), st.integers(0, HOURS))
    first, last = sorted(draw(st.tuples(grid, grid).filter(lambda pair: pair[0] != pair[1])))
    return january(1) + timedelta(hours=first), january(1) + timedelta(hours=last)


def series_for(part, segment, kept):
    """Anchor and frontier of the series that answers, by the words of the contract."""
    begun = [
        (anchor, frontier)
        for anchor, frontier in sorted(kept)
        if anchor <= part.start and anchor.date() in segment
    ]
    for anchor, frontier in begun:
        if frontier > part.last_day:
            return anchor, frontier
    reaching = [one for one in begun if one[1] >= part.first_day]
    furthest = max((frontier for _, frontier in reaching), default=None)
    for one in reaching:
        if one[1] == furthest:
            return one
    return part.start, None


def expected(kept, reset, start, end, *, anchor=None, orphans=False, incomplete=False):
    """Bars of the span, and the number of days that have to be computed."""
    found, days = [], 0
    split = parts(Span(start, end), reset)
    for place, (segment, part) in enumerate(split):
        begin, frontier = series_for(part, segment, kept)
        if anchor is not None:
            begin = max(anchor, day_start(segment.start))
            frontier = dict(kept).get(begin)
        is_last = place == len(split) - 1
        ends = segment.end is not None and part.end == day_start(segment.end)
        if incomplete and is_last and not ends and frontier is not None:
            frontier = min(frontier, part.end.date())
            frontier = frontier if frontier > begin.date() else None
        first = begin if frontier is None else max(begin, day_start(frontier))
        days += len(Span(first, part.end).days()) if first < part.end else 0
        made = bars(ticks_between(begin, part.end))
        if ends and orphans:
            shown = made.with_columns(pl.col("ended_by").fill_null("reset"))
        elif incomplete and is_last and not ends:
            shown = made
        else:
            shown = made.filter("is_closed")
        found.append(shown.filter(pl.col("close_time") >= part.start))
    return pl.concat(found), days


@given(
    span=spans(),
    reset=st.sampled_from(RESETS),
    orphans=st.booleans(),
    incomplete=st.booleans(),
    use_cache=st.booleans(),
)
def test_a_read_is_the_slice_of_one_series_in_each_segment(
    shared, span, reset, orphans, incomplete, use_cache
):
    kept = shared.kept[reset] if use_cache else []
    wanted, days = expected(kept, reset, *span, orphans=orphans, incomplete=incomplete)
    options = {
        "ouroboros": reset,
        "features": "microstructure",
        "include_orphaned_bars": orphans,
        "include_incomplete": incomplete,
        "use_cache": use_cache,
        "cache_dir": shared.folder,
        "fetch_if_missing": False,
    }
    event("too long" if days > 31 else "cache" if not days else "ticks")
    if days > 31:
        with pytest.raises(CoverageError, match=f"for {days} days"):
            scan_range_bars(SYMBOL, *span, **options)
        return
    if not (orphans or incomplete):
        wanted = wanted.drop("is_closed", "ended_by")
    found = quiet(scan_range_bars, SYMBOL, *span, **options).collect()
    assert_frame_equal(found, wanted)


@settings(max_examples=repeated(24, 40))
@given(span=spans(), reset=st.sampled_from(RESETS), use_cache=st.booleans())
def test_from_an_anchor_on_a_read_is_the_slice_of_the_whole_tape(shared, span, reset, use_cache):
    whole = bars(TICKS, reset={"none": None}.get(reset, reset))
    whole = whole.filter(pl.col("close_time").is_between(*span, closed="left"))
    kept = shared.kept[reset] if use_cache else []
    _, days = expected(kept, reset, *span, anchor=january(1))
    options = {
        "ouroboros": reset,
        "anchor": FIRST,
        "features": "microstructure",
        "include_orphaned_bars": True,
        "use_cache": use_cache,
        "cache_dir": shared.folder,
        "fetch_if_missing": False,
    }
    if days > 31:
        with pytest.raises(CoverageError, match=f"for {days} days"):
            scan_range_bars(SYMBOL, *span, **options)
        return
    found = quiet(scan_range_bars, SYMBOL, *span, **options).collect()
    # The tape ends where a segment may not, with a bar that is forming still.
    ended = pl.col("ended_by").is_not_null()
    segment, part = parts(Span(*span), reset)[-1]
    if segment.end is None or part.end < day_start(segment.end):
        # At the end of the read, this bar is forming still, too.
        ended &= pl.col("is_closed") | (pl.col("close_time") < day_start(segment.start))
    assert_frame_equal(found, whole.filter(ended))


@settings(max_examples=repeated(10, 15))
@given(span=spans(), reset=st.sampled_from(RESETS))
def test_pandas_and_polars_have_the_same_bars(shared, span, reset):
    _, days = expected(shared.kept[reset], reset, *span, orphans=True, incomplete=True)
    if days > 31:
        return
    flags = {"include_orphaned_bars": True, "include_incomplete": True, "ouroboros": reset}
    frame = get_range_bars(SYMBOL, *span, include_microstructure=True, **flags, **shared.place)
    polars = scan_range_bars(
        SYMBOL,
        *span,
        features="microstructure",
        **flags,
        fetch_if_missing=False,
        cache_dir=shared.folder,
    ).collect()
    times = polars["close_time"].dt.replace_time_zone(None)
    assert frame.index.to_list() == [pd.Timestamp(time) for time in times]
    for name in ("open", "high", "low", "close", "volume"):
        assert frame[name.title()].to_list() == polars[name].to_list()
    ofi = pl.Series("ofi", frame["ofi"].to_numpy(), nan_to_null=True)
    assert_frame_equal(ofi.to_frame(), polars.select("ofi"))
    assert frame["is_closed"].to_list() == polars["is_closed"].to_list()
    orphans = (polars["ended_by"] == "reset").fill_null(value=False)
    assert frame["is_orphan"].to_list() == orphans.to_list()
