"""Tier 1 names the columns that are null in every bar although they should have values."""

from __future__ import annotations

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.interop.pandas_frames import bars_to_pandas
from rangebar_polars.validation.tier1 import Tier1Check, validate_tier1

BARS = rb.sample_ticks().rangebar.bars(100, features="all")
OPTIONAL = rb.columns().filter(pl.col("group") != "core")["name"].to_list()
FIFTH = pl.int_range(BARS.height, eager=True) == 5
NULL = pl.lit(None, pl.Float64)


def empty_in(bars: pl.DataFrame) -> list[str]:
    result = validate_tier1(bars)
    assert result["tier1_passed"] is True, result
    return result["features_empty"]


def test_all_optional_columns_are_features() -> None:
    result = validate_tier1(BARS)
    assert (result["features_present"], result["features_found"]) == (True, OPTIONAL)
    assert len(OPTIONAL) == 85
    assert result["features_empty"] == []
    for name in OPTIONAL:
        assert validate_tier1(BARS.select("close", name))["features_found"] == [name]


def test_each_bound_of_an_optional_column_is_judged() -> None:
    rows = rb.columns().filter(pl.col("group") != "core").iter_rows(named=True)
    for row in rows:
        name, values = row["name"], BARS[row["name"]]
        for bound, step in ((row["lower"], -1), (row["upper"], 1)):
            if bound is not None:
                beyond = values.set(FIFTH, pl.Series([bound + step]).cast(values.dtype)[0])
                result = validate_tier1(BARS.with_columns(beyond.alias(name)))
                assert result["tier1_passed"] is False, name
                assert [rows for _, rows in result.rows_failed.values()] == [[5]], name


def test_an_empty_column_is_named_and_passes() -> None:
    for name, count in (
        ("intra_hurst", "agg_record_count"),
        ("lookback_hurst", "lookback_trade_count"),
        ("variance_ratio", "order_count"),
    ):
        least = rb.columns().filter(pl.col("name") == name)["min_sample"].item()
        bars = BARS.with_columns(NULL.alias(name))
        assert (bars[count] >= least).sum() >= 50
        assert empty_in(bars) == [name]
        assert empty_in(bars.drop(count)) == []  # nothing says how large the samples were
        small = pl.when(pl.col(count) >= least).then(least - 1).otherwise(count)
        assert empty_in(bars.with_columns(small.alias(count))) == []
        rows = pl.col(count).ge(least).cum_sum()
        assert empty_in(bars.filter(rows <= 49)) == []
        assert empty_in(bars.filter(rows <= 50)) == [name]
        first = pl.when(pl.int_range(pl.len()) == 0).then(0.5)
        assert empty_in(bars.with_columns(first.alias(name))) == []


def test_a_column_without_its_inputs_is_not_named() -> None:
    ticks = rb.sample_ticks()
    for absent in ("is_buyer_maker", "quantity"):
        bars = ticks.drop(absent).rangebar.bars(100, features="all")
        assert bars["order_size_p50" if absent == "quantity" else "run_length_max"].is_null().all()
        assert empty_in(bars) == []


def test_pieces_and_pandas_give_what_the_whole_gives() -> None:
    pytest.importorskip("pandas")
    bars = BARS.with_columns(NULL.alias("intra_hurst"), NULL.alias("sign_entropy"))
    check = Tier1Check()
    for piece in bars.iter_slices(100):
        check.add(piece)
    expected = validate_tier1(bars)["features_empty"]
    assert expected[0] == "intra_hurst"
    assert check.result()["features_empty"] == expected
    inputs = ["buy_volume", "agg_record_count"]
    assert validate_tier1(bars_to_pandas(bars, [*OPTIONAL, *inputs]))["features_empty"] == expected


def test_a_report_names_the_empty_columns() -> None:
    text = repr(validate_tier1(BARS.with_columns(NULL.alias("intra_hurst"))))
    assert "  features_empty              intra_hurst\n" in text
