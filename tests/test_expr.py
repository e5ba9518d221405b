"""The expressions: what they are called, what they take, and where Polars lets them stand."""

from __future__ import annotations

import pickle

import polars as pl
import pytest

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_same_bars
from properties.model import CORE, STATUS, TEN
from rangebar_polars.exceptions import ThresholdError

BOUND = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}


def fields(frame: pl.DataFrame) -> list[str]:
    dtype = frame.schema["bars"]
    assert isinstance(dtype, pl.Struct)
    return [field.name for field in dtype.fields]


def test_bars_is_one_struct_column(day: pl.DataFrame) -> None:
    bars = day.select(rb.bars("price", 250))
    assert bars.columns == ["bars"]
    assert fields(bars) == CORE
    assert fields(day.select(rb.bars("price", 250, incomplete="keep"))) == [*CORE, *STATUS]
    assert fields(day.select(rb.bars("price", 250, features="microstructure"))) == [*CORE, *TEN]
    kept = rb.bars("price", [250, 500], features=["ofi", "duration_us"], incomplete="keep")
    assert fields(day.select(kept)) == ["threshold", *CORE, *STATUS, "duration_us", "ofi"]
    keyed = day.with_columns(venue=pl.lit(1), symbol=pl.lit("A"))
    by_two = rb.bars("price", 250, group_by=["symbol", "venue"])
    assert fields(keyed.select(by_two)) == ["symbol", "venue", *CORE]


def test_bar_id_is_a_column_of_the_same_length(day: pl.DataFrame) -> None:
    ids = day.select(rb.bar_id("price", 250))
    assert ids.schema == {"bar_id": pl.UInt32}
    assert ids["bar_id"].to_list() == [0, 0, 0, 0, 1, 1, 1, None]
    kept = day.select(rb.bar_id("price", 250, incomplete="keep"))
    assert kept["bar_id"].to_list() == [0, 0, 0, 0, 1, 1, 1, 2]
    several = day.select(rb.bar_id("price", [500, 250]))
    assert several.schema == {
        "bar_id": pl.Struct({"bar_id_500": pl.UInt32, "bar_id_250": pl.UInt32})
    }


def test_a_planned_schema_is_the_schema_of_the_result(day: pl.DataFrame) -> None:
    keyed = day.with_columns(symbol=pl.lit("A"))
    for threshold in (250, [250, 500]):
        for incomplete in ("drop", "keep"):
            bars = rb.bars(
                "price",
                threshold,
                group_by="symbol",
                incomplete=incomplete,
                features="microstructure",
            )
            ids = rb.bar_id("price", threshold, incomplete=incomplete)
            for expression in (bars, ids):
                plan = keyed.lazy().select(expression)
                assert plan.collect_schema() == plan.collect().schema
                assert plan.collect_schema() == keyed.clear().select(expression).schema


def test_the_threshold_may_be_given_by_place_or_by_name(day: pl.DataFrame) -> None:
    bars = day.select(rb.bars("price", 250))
    same = [
        rb.bars("price", threshold=250),
        pl.col("price").rangebar.bars(250),
        pl.col("price").rangebar.bars(threshold=250),
        rb.bars(pl.col("price"), "medium"),
        rb.bars("price", "0.25%", timestamp=pl.col("timestamp")),
    ]
    for expression in same:
        assert day.select(expression).equals(bars)


def test_the_namespace_delegates_to_the_functions(day: pl.DataFrame) -> None:
    price = pl.col("price").rangebar
    options = {
        "reset": "day",
        "max_gap": "1h",
        "incomplete": "keep",
        "prevent_same_timestamp_close": False,
    }
    assert day.select(price.bars(20, **BOUND, **options, features="ofi")).equals(
        day.select(rb.bars("price", 20, **BOUND, **options, features="ofi"))
    )
    assert day.select(price.bar_id(20, **options)).equals(
        day.select(rb.bar_id("price", 20, **options))
    )
    marked = day.with_columns(mine=pl.int_range(pl.len()) // 3)
    assert marked.select(price.aggregate("mine", **BOUND)).equals(
        marked.select(rb.aggregate("price", "mine", **BOUND))
    )


def test_fields_that_are_left_out_are_null(day: pl.DataFrame) -> None:
    ids = dict.fromkeys(("agg_trade_id", "first_trade_id", "last_trade_id"))
    aggressor = dict.fromkeys(("is_buyer_maker", "side"))
    bars = day.select(
        rb.bars("price", 250, quantity=None, **aggressor, **ids, features="microstructure")
    )
    flat = bars.unnest("bars")
    null = [c for c in flat.columns if flat[c].null_count() == flat.height]
    assert set(null) == {
        "volume", "vwap", "turnover", "buy_volume", "sell_volume", "buy_turnover", "sell_turnover",
        "buy_trade_count", "sell_trade_count", "first_trade_id", "last_trade_id", "first_agg_trade_id",
        "last_agg_trade_id", "ofi", "vwap_close_deviation", "price_impact", "kyle_lambda_proxy",
        "volume_per_trade", "aggression_ratio", "aggregation_density", "turnover_imbalance",
    }  # fmt: skip
    assert flat["individual_trade_count"].to_list() == flat["agg_record_count"].to_list() == [4, 3]


def test_bars_beside_a_column_of_another_length_is_a_shape_error(day: pl.DataFrame) -> None:
    bars = rb.bars("price", 250)
    for attempt in (
        lambda: day.with_columns(bars),
        lambda: day.select("price", bars),
        lambda: day.lazy().with_columns(bars).collect(engine="in-memory"),
        lambda: day.with_columns(symbol=pl.lit("A")).select(bars.over("symbol")),
    ):
        with pytest.raises(pl.exceptions.ShapeError):
            attempt()


def test_bars_of_groups_are_lists_that_explode(day: pl.DataFrame) -> None:
    marked = day.with_columns(half=pl.int_range(pl.len()) // 4)
    groups = marked.group_by("half", maintain_order=True).agg(rb.bars("price", 250, **BOUND))
    exploded = groups.explode("bars", empty_as_null=False).unnest("bars")
    apart = [
        p.drop("half").rangebar.bars(250) for p in marked.partition_by("half", maintain_order=True)
    ]
    assert_same_bars(exploded.drop("half"), pl.concat(apart))


def test_bars_of_no_rows_is_an_empty_struct_column(day: pl.DataFrame) -> None:
    for engine in entry_points.ENGINES:
        for expression in (
            rb.bars("price", 250),
            rb.bars("price", [250, 9], features="ofi", incomplete="keep"),
        ):
            none = day.clear().lazy().select(expression).collect(engine=engine)
            some = day.lazy().select(expression).collect(engine=engine)
            assert none.height == 0
            assert none.schema == some.schema
        assert day.clear().lazy().select(rb.bar_id("price", 250)).collect(engine=engine).height == 0


def test_columns_of_different_lengths_are_refused(day: pl.DataFrame) -> None:
    short = pl.col("quantity").head(3)
    with pytest.raises(pl.exceptions.PolarsError, match=r"(?i)length|shape|quantity"):
        day.select(rb.bars("price", 250, quantity=short))


def test_a_plan_with_the_expression_can_be_sent_to_another_process(day: pl.DataFrame) -> None:
    plan = day.lazy().select(rb.bars("price", 250, **BOUND))
    assert pickle.loads(pickle.dumps(plan)).collect().equals(plan.collect())


def test_keys_may_be_expressions(day: pl.DataFrame) -> None:
    marked = day.with_columns(half=pl.int_range(pl.len()) // 4)
    by_name = marked.select(rb.bars("price", 250, group_by="half"))
    by_expression = day.select(
        rb.bars("price", 250, group_by=(pl.int_range(pl.len()) // 4).alias("half"))
    )
    assert by_expression.equals(by_name)


def test_bars_take_a_filter_that_stands_before(day: pl.DataFrame) -> None:
    some = pl.col("is_buyer_maker")
    for engine in entry_points.ENGINES:
        plan = day.lazy().filter(some).select(rb.bars("price", 20, **BOUND)).unnest("bars")
        assert_same_bars(plan.collect(engine=engine), day.filter(some).rangebar.bars(20))


def test_several_expressions_stand_in_one_context(day: pl.DataFrame) -> None:
    for engine in entry_points.ENGINES:
        ids = day.lazy().with_columns(
            rb.bar_id("price", 250).alias("wide"), rb.bar_id("price", 10).alias("tight")
        )
        got = ids.collect(engine=engine)
        assert got["wide"].equals(day.select(rb.bar_id("price", 250))["bar_id"])
        assert got["tight"].equals(day.select(rb.bar_id("price", 10))["bar_id"])


WRONG = [
    ({"threshold": 0.25}, ThresholdError, "250"),
    ({"threshold": 0}, ThresholdError, "100000"),
    ({"threshold": True}, TypeError, "bool"),
    ({"reset": "hour"}, ValueError, "month"),
    ({"reset": "Month"}, ValueError, "month"),
    ({"reset": 1}, TypeError, "month"),
    ({"max_gap": "1mo"}, ValueError, "1mo"),
    ({"max_gap": "1y"}, ValueError, "1y"),
    ({"max_gap": "1q"}, ValueError, "1q"),
    ({"max_gap": "1d"}, ValueError, "1d"),
    ({"max_gap": "1w"}, ValueError, "1w"),
    ({"max_gap": "1d12h"}, ValueError, "1d12h"),
    ({"max_gap": "soon"}, ValueError, "soon"),
    ({"max_gap": ""}, ValueError, "max_gap"),
    ({"max_gap": "-1h"}, ValueError, "-1h"),
    ({"max_gap": 3600}, TypeError, "timedelta"),
    ({"incomplete": "kept"}, ValueError, "keep"),
    ({"incomplete": None}, TypeError, "keep"),
    ({"features": "microstructures"}, ValueError, "microstructure"),
    ({"features": ["ofi", "ofy"]}, ValueError, "ofi"),
    ({"features": 3}, TypeError, "features"),
    ({"features": [3]}, TypeError, "features"),
    ({"prevent_same_timestamp_close": "yes"}, TypeError, "bool"),
]


@pytest.mark.parametrize(("wrong", "error", "said"), WRONG)
def test_a_wrong_argument_is_refused_when_the_door_is_called(
    wrong: dict, error: type[Exception], said: str, day: pl.DataFrame
) -> None:
    arguments = {"threshold": 250, **wrong}
    for door in (
        day.rangebar.bars,
        day.lazy().rangebar.bars,
        pl.col("price").rangebar.bars,
        rb.RangeBarBuilder,
        lambda **k: rb.bars("price", **k),
        lambda **k: rb.iter_bars([day], **k),
    ):
        with pytest.raises(error, match=said):
            door(**arguments)


def test_an_argument_that_does_not_exist_is_refused(day: pl.DataFrame) -> None:
    for door in (
        day.rangebar.bars,
        day.lazy().rangebar.bars,
        pl.col("price").rangebar.bars,
        rb.RangeBarBuilder,
    ):
        with pytest.raises(TypeError, match="by"):
            door(250, by="symbol")


@pytest.mark.parametrize(
    "features",
    ["core", "microstructure", "ofi", ["ofi"], ["core", "ofi"], ("ofi", "duration_us"), []],
)
def test_features_come_after_the_core_in_catalogue_order(
    features: object, day: pl.DataFrame
) -> None:
    bars = day.rangebar.bars(250, features=features)
    asked = {features} if isinstance(features, str) else set(features)
    extra = TEN if "microstructure" in asked else [f for f in TEN if f in asked]
    assert bars.columns == [*CORE, *extra]
