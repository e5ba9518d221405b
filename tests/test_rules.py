"""The rule `high_low`, absolute distances, and the bars of charting platforms."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars import _internal
from rangebar_polars.exceptions import ThresholdError

if TYPE_CHECKING:
    from pathlib import Path

CENTS = [100.00, 100.10, 99.90, 100.15, 100.16, 100.00, 99.80, 100.10]


def trades_of(prices: list[float], times: list[int] | None = None) -> pl.DataFrame:
    times = times or list(range(len(prices)))
    stamps = pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"timestamp": stamps, "price": prices})


def test_high_low_closes_where_the_height_of_the_bar_reaches_the_threshold():
    bars = trades_of(CENTS).rangebar.bars(250, rule="high_low")
    # 0.25 % of the open 100.00 is 0.25: 100.15 less 99.90 reaches it, no price is 0.25 from the open.
    assert bars["open"].to_list() == [100.0, 100.16]
    assert bars["high"].to_list() == [100.15, 100.16]
    assert bars["low"].to_list() == [99.9, 99.8]
    assert bars["close"].to_list() == [100.15, 99.8]
    assert trades_of(CENTS).rangebar.bars(250)["close"].to_list() == []


def test_a_distance_is_the_same_at_every_level():
    prices = [100.0, 101.4, 101.5, 10.0, 9.0, 8.5]
    bars = trades_of(prices).rangebar.bars(rb.Distance("1.50"))
    assert bars.select("open", "close").rows() == [(100.0, 101.5), (10.0, 8.5)]


def test_a_height_reached_at_the_opening_time_closes_the_bar_at_the_next_time():
    trades = trades_of([100.0, 101.0, 99.0, 100.0, 100.0], [0, 0, 0, 1, 2])
    gated = trades.rangebar.bars(250, rule="high_low")
    assert gated.select("high", "low", "close", "agg_record_count").rows() == [
        (101.0, 99.0, 100.0, 4)
    ]
    ungated = trades.rangebar.bars(250, rule="high_low", prevent_same_timestamp_close=False)
    assert ungated["agg_record_count"].to_list()[0] == 2


def test_several_distances_are_told_apart_by_their_threshold():
    trades = rb.sample_ticks()
    wide = trades.rangebar.bars([rb.Distance(10), rb.Distance("30.5")])
    assert wide.columns[:2] == ["threshold", "bar_id"]
    assert wide.schema["threshold"] == pl.Float64
    for distance in ("10", "30.5"):
        alone = trades.rangebar.bars(rb.Distance(distance))
        assert wide.filter(pl.col("threshold") == float(distance)).drop("threshold").equals(alone)
    ids = trades.select(rb.bar_id("price", [rb.Distance(10), rb.Distance("30.5")])).unnest("bar_id")
    assert ids.columns == ["bar_id_10", "bar_id_30.5"]


@pytest.mark.parametrize(
    ("given_value", "written"),
    [
        ("1.50", "1.5"),
        (" 2. ", "2"),
        (".25", "0.25"),
        ("1.500000000000", "1.5"),
        (3, "3"),
        (Decimal("0.00000001"), "0.00000001"),
        (Decimal("1E+2"), "100"),
        (1.5, "1.5"),
        ("92233720368.54775807", "92233720368.54775807"),
    ],
)
def test_what_a_distance_may_be(given_value, written):
    distance = rb.Distance(given_value)
    assert str(distance) == written
    assert distance == rb.Distance(written)
    assert pickle.loads(pickle.dumps(distance)) == distance
    assert eval(repr(distance), {"Distance": rb.Distance}) == distance


@pytest.mark.parametrize(
    ("given_value", "error", "words"),
    [
        (0.1, ThresholdError, 'rb.Distance("0.1")'),
        ("0", ThresholdError, "above 0"),
        (-1, ThresholdError, "above 0"),
        ("-1.5", ThresholdError, "plain number"),
        ("1e5", ThresholdError, "plain number"),
        ("9" * 100_000, ThresholdError, "plain number"),
        ("0.000000001", ThresholdError, "finer than 1e-8"),
        (Decimal("1e-999999"), ThresholdError, "finer than 1e-8"),
        (Decimal("1e999999"), ThresholdError, "below 92,233,720,368"),
        ("92233720368.54775808", ThresholdError, "below 92,233,720,368"),
        (Decimal("1" + "0" * 5_000), ThresholdError, "below 92,233,720,368"),
        pytest.param(10**5_000, ThresholdError, "below 92,233,720,368", id="huge"),
        (Decimal("1." + "0" * 4_000 + "1"), ThresholdError, "finer than 1e-8"),
        (float("nan"), ThresholdError, "finite"),
        (Decimal("Infinity"), ThresholdError, "finite"),
        (True, TypeError, "bool"),
        (None, TypeError, "NoneType"),
        ([1], TypeError, "list"),
    ],
)
def test_what_a_distance_may_not_be(given_value, error, words):
    with pytest.raises(error, match=r".") as caught:
        rb.Distance(given_value)
    assert words in str(caught.value)


@given(st.integers(1, 2**63 - 1))
def test_every_grid_value_is_a_distance(grid):
    distance = rb.Distance(Decimal(grid).scaleb(-8))
    assert distance.grid == grid
    assert rb.Distance(str(distance)).grid == grid


@pytest.mark.parametrize(
    "call",
    [
        lambda t, limit, rule: t.rangebar.bars(limit, rule=rule),
        lambda t, limit, rule: t.lazy().rangebar.bars(limit, rule=rule),
        lambda t, limit, rule: rb.iter_bars(t, limit, rule=rule),
        lambda _, limit, rule: rb.RangeBarBuilder(limit, rule=rule),
        lambda _, limit, rule: rb.bars("price", limit, rule=rule),
        lambda _, limit, rule: rb.bar_id("price", limit, rule=rule),
    ],
)
def test_wrong_rules_and_lists_are_refused_at_the_call(day, call):
    with pytest.raises(ValueError, match="did you mean `high_low`"):
        call(day, 250, "hi_low")
    with pytest.raises(TypeError, match="`rule` must be one of"):
        call(day, 250, None)
    with pytest.raises(ThresholdError, match="do not mix"):
        call(day, [250, rb.Distance(1)], "open")
    with pytest.raises(ThresholdError, match=r"`1\.5` is given twice"):
        call(day, [rb.Distance("1.5"), rb.Distance("1.50")], "open")


def test_symbols_and_the_cache_take_percentages_only(tmp_path: Path):
    for call in (
        lambda: rb.resolve_and_validate_threshold("BTCUSDT", rb.Distance(1)),
        lambda: rb.get_range_bars(
            "BTCUSDT", "2024-01-01", "2024-01-02", rb.Distance(1), cache_dir=tmp_path
        ),
    ):
        with pytest.raises(ThresholdError, match="take percentages only"):
            call()


def test_a_checkpoint_keeps_the_rule_and_the_distance():
    builder = rb.RangeBarBuilder([rb.Distance(10), rb.Distance(20)], rule="high_low")
    trades = rb.sample_ticks()
    whole = trades.rangebar.bars([rb.Distance(10), rb.Distance(20)], rule="high_low")
    parts = []
    for part in trades.iter_slices(9_999):
        parts.append(builder.push(part))
        saved = builder.checkpoint()
        builder = rb.RangeBarBuilder.from_checkpoint(saved)
        assert builder.checkpoint() == saved
    assert pl.concat(parts).equals(whole)
    assert repr(builder) == (
        'RangeBarBuilder(rule=\'high_low\', threshold=[Distance("10"), Distance("20")])'
    )


def test_a_checkpoint_of_the_default_rule_reads_as_before():
    header = _internal.read_checkpoint(rb.RangeBarBuilder(250).checkpoint())
    assert '"rule"' not in header


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("limit", [250, 10, rb.Distance("12.5")])
def test_every_instruction_set_gives_the_same_bars(name, limit):
    trades = rb.sample_ticks()
    expected = trades.rangebar.bars(limit, rule="high_low")
    integers = trades.with_columns(pl.col("price").cast(pl.Decimal(20, 8)))
    try:
        _internal.force_instruction_set(name)
    except ValueError:
        pytest.skip("this processor does not have it")
    try:
        assert trades.rangebar.bars(limit, rule="high_low").equals(expected)
        assert integers.rangebar.bars(limit, rule="high_low").equals(expected)
    finally:
        _internal.force_instruction_set(None)


# A charting platform's own fixed-range bars over the same ticks: the file, and its range in ticks.
PLATFORM = [
    ("EURGBP_T1_cT", "EURGBP_Range3_cT", 5, 30, 1025),
    ("US30_T1_cT", "US30_Range150_cT", 1, 150, 1202),
]


@pytest.mark.parametrize(("ticks", "bars", "digits", "size", "compared"), PLATFORM)
def test_a_platform_ends_its_bars_at_the_tick_that_exceeds_the_range(
    shared: Path, ticks: str, bars: str, digits: int, size: int, compared: int
):
    """From its opening tick on, each bar is ours up to the close, which the platform clips.

    The platform counts the tick that exceeds the range in the bar, at the price of the bound, and
    opens the next bar with it at its real price; here that tick is the last of the bar alone.
    """
    folder = shared / "data" / "fx"
    trades = pl.read_parquet(folder / f"{ticks}.parquet").select(
        timestamp="datetime", price=pl.col("bid").round(digits)
    )
    theirs = pl.read_parquet(folder / f"{bars}.parquet").with_row_index("bar")
    opening = (
        theirs.join(
            trades.with_row_index("row"),
            left_on=["datetime", "open"],
            right_on=["timestamp", "price"],
        )
        .group_by("bar", maintain_order=True)
        .agg(pl.first("row", "open", "high", "low", "volume"))
        .filter(pl.col("bar") < theirs.height - 1)
    )
    assert opening.height == compared
    exceeds = rb.Distance(Decimal(size + 1).scaleb(-digits))
    width = size / 10**digits
    same = 0
    for bar in opening.iter_rows(named=True):
        window = trades.slice(bar["row"], bar["volume"] + 1)
        made = window.rangebar.bars(exceeds, rule="high_low", prevent_same_timestamp_close=False)
        ours = made.row(0, named=True)
        rises = ours["close"] == ours["high"]
        low = ours["low"] if rises else ours["high"] - width
        high = ours["low"] + width if rises else ours["high"]
        got = (ours["open"], round(low, digits), round(high, digits), ours["agg_record_count"])
        same += got == (bar["open"], bar["low"], bar["high"], bar["volume"])
    assert same == compared
