"""The methods of frames: columns found by name, the kind of frame that was given, helpful refusals."""

from __future__ import annotations

import polars as pl
import pytest

import rangebar_polars as rb
from properties.comparing import assert_same_bars

ALIASES = [
    ("quantity", "volume"),
    ("quantity", "qty"),
    ("quantity", "size"),
    ("quantity", "amount"),
    ("timestamp", "transact_time"),
    ("timestamp", "time"),
    ("timestamp", "Trade Time"),
    ("quantity", "baseQty"),
    ("quantity", "size(base)"),
    ("quantity", "homeNotional"),
    ("agg_trade_id", "trade_id"),
    ("agg_trade_id", "aggTradeId"),
    ("first_trade_id", "firstTradeId"),
    ("last_trade_id", "last-id"),
    ("is_buyer_maker", "isBuyerMaker"),
]


@pytest.mark.parametrize(("field", "alias"), ALIASES)
def test_known_names_are_bound(field: str, alias: str, day: pl.DataFrame) -> None:
    bars = day.rangebar.bars(250, features="microstructure")
    renamed = day.rename({field: alias})
    assert_same_bars(renamed.rangebar.bars(250, features="microstructure"), bars)
    lazy = renamed.lazy().rangebar.bars(250, features="microstructure")
    assert_same_bars(lazy.collect(), bars)
    assert_same_bars(rb.RangeBarBuilder(250, features="microstructure").push(renamed), bars)


@pytest.mark.parametrize(("field", "alias"), ALIASES)
def test_the_canonical_name_comes_first(field: str, alias: str, day: pl.DataFrame) -> None:
    both = day.with_columns(pl.col(field).reverse().alias(alias))
    assert_same_bars(both.rangebar.bars(250), day.rangebar.bars(250))


def test_two_aliases_are_refused_by_both_names(day: pl.DataFrame) -> None:
    twice = day.select(pl.all().exclude("quantity"), volume="quantity", qty="quantity")
    both = r"(?s)volume.*qty|qty.*volume"
    for door in (twice.rangebar.bars, twice.lazy().rangebar.bars):
        with pytest.raises(ValueError, match=both):
            door(250)
    with pytest.raises(ValueError, match=both):
        rb.RangeBarBuilder(250).push(twice)
    bars = twice.rangebar.bars(250, columns={"quantity": "qty"})
    assert_same_bars(bars, day.rangebar.bars(250))


def test_columns_override_names(day: pl.DataFrame) -> None:
    renamed = day.rename({"price": "px", "timestamp": "when", "quantity": "lots"})
    columns = {"price": "px", "timestamp": "when", "quantity": "lots"}
    bars = day.rangebar.bars(250)
    assert_same_bars(renamed.rangebar.bars(250, columns=columns), bars)
    assert_same_bars(renamed.lazy().rangebar.bars(250, columns=columns).collect(), bars)
    assert_same_bars(rb.RangeBarBuilder(250, columns=columns).push(renamed), bars)
    assert_same_bars(pl.concat(rb.iter_bars(renamed.lazy(), 250, columns=columns)), bars)


def test_columns_leave_out_what_is_none(day: pl.DataFrame) -> None:
    columns = {"agg_trade_id": None, "is_buyer_maker": None}
    bars = day.rangebar.bars(250, columns=columns)
    assert_same_bars(bars, day.drop(columns).rangebar.bars(250))
    assert_same_bars(day.lazy().rangebar.bars(250, columns=columns).collect(), bars)


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"prise": "price"}, (ValueError, TypeError), "price"),
        ({"price": None}, (ValueError, TypeError), "price"),
        ({"timestamp": None}, (ValueError, TypeError), "timestamp"),
        ({"price": "nowhere"}, (ValueError, pl.exceptions.ColumnNotFoundError), "nowhere"),
        ({"price": 3}, (ValueError, TypeError), "price"),
        (["price"], (ValueError, TypeError), "columns"),
        ("price", (ValueError, TypeError), "columns"),
    ],
)
def test_a_wrong_columns_is_refused(
    columns: object, error: type[Exception], said: str, day: pl.DataFrame
) -> None:
    for door in (day.rangebar.bars, day.lazy().rangebar.bars):
        with pytest.raises(error, match=said):
            door(250, columns=columns)
    with pytest.raises(error, match=said):
        rb.RangeBarBuilder(250, columns=columns).push(day)


def test_a_group_by_that_is_not_there_is_refused(day: pl.DataFrame) -> None:
    absent = (ValueError, pl.exceptions.ColumnNotFoundError)
    for door in (day.rangebar.bars, day.lazy().rangebar.bars):
        with pytest.raises(absent, match="symbol"):
            door(250, group_by="symbol")
    with pytest.raises(absent, match="symbol"):
        rb.RangeBarBuilder(250, group_by="symbol").push(day)


def test_a_frame_gives_a_frame_and_a_lazy_frame_a_lazy_frame(day: pl.DataFrame) -> None:
    marked = day.with_columns(mine=pl.lit(1))
    assert isinstance(day.rangebar.bars(250), pl.DataFrame)
    assert isinstance(day.lazy().rangebar.bars(250), pl.LazyFrame)
    assert isinstance(marked.rangebar.aggregate("mine"), pl.DataFrame)
    assert isinstance(marked.lazy().rangebar.aggregate("mine"), pl.LazyFrame)


def test_a_lazy_door_reads_nothing_when_called() -> None:
    def never(frame: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError(frame)

    schema = {"timestamp": pl.Datetime("us"), "price": pl.Float64}
    source = pl.LazyFrame(schema=schema).map_batches(never, schema=schema)
    bars = source.rangebar.bars(250)
    assert bars.collect_schema()["close"] == pl.Float64


def test_the_input_frame_stays_as_it_was(day: pl.DataFrame) -> None:
    before = day.clone()
    day.rangebar.bars(250)
    assert_same_bars(day, before)


def test_columns_that_are_not_bound_may_hold_anything(day: pl.DataFrame) -> None:
    noise = day.with_columns(
        pl.lit(None).alias("note"),
        pl.lit([[1]]).alias("list"),
        pl.Series("o", [object()] * day.height, pl.Object),
    )
    assert_same_bars(noise.rangebar.bars(250), day.rangebar.bars(250))
    plain = noise.drop("o")
    assert_same_bars(plain.lazy().rangebar.bars(250).collect(), day.rangebar.bars(250))


def test_close_time_is_flagged_as_sorted_where_it_is(day: pl.DataFrame) -> None:
    for bars in (day.rangebar.bars(250), day.lazy().rangebar.bars(250).collect()):
        assert bars["close_time"].flags["SORTED_ASC"]
    keyed = day.with_columns(symbol=pl.Series(list("ABABABAB")))
    late = keyed.with_columns(pl.col("timestamp") - pl.duration(days=(pl.col("symbol") == "B") * 3))
    bars = late.rangebar.bars(1, group_by="symbol", incomplete="keep")
    assert not bars["close_time"].is_sorted()
    assert not bars["close_time"].flags["SORTED_ASC"]


def test_gated_bars_of_a_key_close_at_strictly_later_times(day: pl.DataFrame) -> None:
    burst = pl.concat([day] * 3).with_columns(
        timestamp=pl.col("timestamp").dt.truncate("20us").sort(),
        agg_trade_id=pl.int_range(pl.len()),
    )
    gated = burst.rangebar.bars(10)
    assert gated["close_time"].diff().drop_nulls().min().total_seconds() > 0
    free = burst.rangebar.bars(10, prevent_same_timestamp_close=False)
    assert free["close_time"].is_sorted()
    assert free.height > gated.height


def test_methods_are_listed_and_documented(day: pl.DataFrame) -> None:
    for target in (pl.col("price"), day, day.lazy()):
        namespace = target.rangebar
        assert {"bars", "aggregate"} <= set(dir(namespace))
        for name in ("bars", "aggregate"):
            assert getattr(namespace, name).__doc__
    assert {"plot", "to_backtesting"} <= set(dir(day.rangebar))
    assert "bar_id" in dir(pl.col("price").rangebar)


def test_completion_of_a_namespace_offers_its_methods_alone(day: pl.DataFrame) -> None:
    frame = {"bars", "aggregate", "plot", "to_backtesting", "binding"}
    for target, methods in (
        (pl.col("price"), {"bars", "bar_id", "aggregate"}),
        (day, frame),
        (day.lazy(), frame),
        (day["price"], set()),
    ):
        offered = {name for name in dir(target.rangebar) if not name.startswith("_")}
        assert offered == methods


def test_public_names_are_there() -> None:
    names = [
        "bars", "bar_id", "aggregate", "iter_bars", "RangeBarBuilder", "to_backtesting", "columns",
        "process_trades_polars", "process_trades_to_dataframe", "process_trades_chunked", "scan_agg_trades",
        "sample_ticks", "exceptions", "MICROSTRUCTURE_COLUMNS", "THRESHOLD_PRESETS",
    ]  # fmt: skip
    assert [n for n in names if not hasattr(rb, n)] == []
    assert set(dir(rb)) >= set(rb.__all__)
