"""The row that an error names, records that belong to no bar, and the limit of keys and thresholds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import StateLimitError, TickDataError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Two products of it fit 128 bits, three do not.
HUGE = 9e10
ROWS = 300


def trades(huge: set[int], keys: list[int], *, is_sell: bool = False) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "timestamp": pl.Series(range(ROWS)).cast(pl.Datetime("us")),
            "price": [HUGE] * ROWS,
            "quantity": [HUGE if row in huge else 0.0 for row in range(ROWS)],
            "is_buyer_maker": [is_sell] * ROWS,
            "key": [keys[row % len(keys)] for row in range(ROWS)],
        }
    )


def row_at_fault(run: Callable[[], Any]) -> int | None:
    """The row of the error, -1 if it has none."""
    try:
        run()
    except pl.exceptions.ComputeError as error:
        found = re.search(r"exceeds 128 bits at row (\d+)", str(error))
        return int(found[1]) if found else -1
    return None


@given(
    st.sets(st.integers(0, ROWS - 1), max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    st.sets(st.integers(1, ROWS - 1), max_size=4),
    st.booleans(),
)
def test_the_first_row_beyond_128_bits_is_named(
    huge: set[int], keys: list[int], cuts: set[int], is_sell: bool
) -> None:
    frame = trades(huge, keys, is_sell=is_sell)
    ends = [0, *sorted(cuts), ROWS]
    chunked = pl.concat([frame[start:end] for start, end in pairwise(ends)], rechunk=False)
    for key in (None, "key"):
        counts: dict[int, int] = {}
        expected = None
        for row in sorted(huge):
            own = 0 if key is None else keys[row % len(keys)]
            counts[own] = counts.get(own, 0) + 1
            if counts[own] == 3 and expected is None:
                expected = row
        for threshold in (100_000, [100_000, 250, 50_000]):
            bars = partial(rb.RangeBarBuilder, threshold, group_by=key)
            runs = (
                partial(frame.rangebar.bars, threshold, group_by=key),
                partial(chunked.rangebar.bars, threshold, group_by=key),
                partial(chunked.select, rb.bars("price", threshold, group_by=key)),
                lambda make=bars: make().push(chunked),
                lambda t=threshold, k=key: list(
                    rb.iter_bars(chunked.iter_slices(64), t, group_by=k)
                ),
            )
            assert [row_at_fault(run) for run in runs] == [expected] * len(runs)
    marked = chunked.with_columns(bar_id=pl.lit(5))
    third = sorted(huge)[2] if len(huge) > 2 else None
    assert row_at_fault(lambda: marked.rangebar.aggregate("bar_id")) == third


def test_a_value_before_the_overflow_is_named_first() -> None:
    frame = trades({10, 20, 30, 11, 21, 31}, [0, 1])
    bad = frame.with_columns(
        price=pl.when(pl.int_range(pl.len()) == 30).then(-1.0).otherwise("price")
    )
    with pytest.raises(TickDataError, match=r"`price` must be positive.* row 30\b"):
        bad.rangebar.bars(100_000, group_by="key")
    with pytest.raises(TickDataError, match=r"exceeds 128 bits at row 30\b"):
        frame.rangebar.bars(100_000, group_by="key")


def test_records_of_no_bar_are_in_no_sum() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "timestamp": [start + timedelta(hours=2 * hour) for hour in range(60)],
            "price": [HUGE] * 60,
            "quantity": [HUGE] * 60,
        }
    )
    rules = {"max_gap": "1h"}
    marked = frame.with_columns(rb.bar_id("price", 250, **rules))
    assert marked["bar_id"].null_count() == 60
    cut = pl.concat([marked[:7], marked[7:]], rechunk=False)
    plans = (frame.lazy(), cut.lazy())
    expected = frame.rangebar.bars(250, **rules)
    assert expected.is_empty()
    for folded in (
        marked.rangebar.aggregate("bar_id"),
        cut.rangebar.aggregate("bar_id"),
        plans[1].rangebar.aggregate("bar_id").collect(),
        cut.select(rb.aggregate("price", "bar_id", is_buyer_maker=None)).unnest("bars"),
    ):
        assert_same_bars(folded, expected)
    bad = cut.with_columns(
        price=pl.when(pl.int_range(pl.len()) == 41).then(-1.0).otherwise("price")
    )
    with pytest.raises(TickDataError, match=r"\brow 41\b"):
        bad.rangebar.aggregate("bar_id")


def test_too_many_keys_for_the_thresholds_are_refused() -> None:
    thresholds = list(range(1, 1_001))
    keyed = pl.DataFrame(
        {
            "timestamp": [datetime(2024, 1, 1, tzinfo=UTC)] * 5_000,
            "price": [1.0] * 5_000,
            "key": list(range(5_000)),
        }
    )
    builder = rb.RangeBarBuilder(thresholds, group_by="key")
    before = builder.checkpoint()
    with pytest.raises(
        StateLimitError, match=r"4195 keys times 1000 thresholds.*\brow 4194\b"
    ) as got:
        builder.push(keyed)
    assert isinstance(got.value, (ValueError, pl.exceptions.ComputeError))
    assert "at most 999 thresholds" in str(got.value)
    assert builder.checkpoint() == before
    with pytest.raises(pl.exceptions.ComputeError, match="4195 keys times 1000 thresholds"):
        keyed.select(
            rb.bars("price", thresholds, quantity=None, is_buyer_maker=None, group_by="key")
        )
    # As many keys are no trouble to fewer thresholds.
    builder = rb.RangeBarBuilder(thresholds[:20], group_by="key")
    builder.push(keyed)
    assert builder.partial().height == 20 * 5_000


@pytest.mark.parametrize("name", rb.columns()["name"].to_list())
def test_a_key_has_no_name_that_a_bar_may_have(name: str, day: pl.DataFrame) -> None:
    keyed = day.with_columns(pl.lit("A").alias(name))
    for call in (
        lambda: rb.RangeBarBuilder(250, group_by=name),
        lambda: rb.RangeBarBuilder(250, group_by=["symbol", name]),
        lambda: rb.iter_bars(keyed, 250, group_by=name),
        lambda: keyed.rangebar.bars(250, group_by=name),
        lambda: keyed.lazy().rangebar.bars(250, group_by=name),
        lambda: rb.bars("price", 250, group_by=name),
        lambda: pl.col("price").rangebar.bars(250, group_by=pl.lit("A").alias(name)),
    ):
        with pytest.raises(ValueError, match=f"`group_by` names `{name}`"):
            call()
