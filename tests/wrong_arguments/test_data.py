"""Trades that are none: values, order, data types and missing columns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from rangebar_polars.exceptions import (
    MissingColumnError,
    TickDataError,
    TickOrderError,
    UnboundColumnWarning,
)
from wrong_arguments.table import check, code_of, run, wrong

if TYPE_CHECKING:
    from wrong_arguments.table import Wrong


def _of(frame: str, error: type[Exception], *words: str, fix: str | None = None) -> Wrong:
    """Return a row for a frame; `fix` is the corrected frame, with a placeholder for the hint."""
    retry = None if fix is None else f"({fix}).rangebar.bars(250)"
    return wrong(f"{frame}.rangebar.bars(250)", error, *words, retry=retry)


def _value(column: str, value: str, *words: str, fix: str | None = "{frame}{call}") -> Wrong:
    frame = f"at_row_3({column!r}, {value})"
    whole = None if fix is None else fix.replace("{frame}", frame)
    return _of(frame, TickDataError, f"`{column}`", "at row 3", *words, fix=whole)


def _typed(column: str, expression: str, dtype: str, *words: str, fixed: bool = True) -> Wrong:
    frame = f"df.with_columns({column}={expression})"
    whole = f"{frame}.with_columns({column}={{call}})" if fixed else None
    return _of(frame, TypeError, f"`{column}` must be", f"got {dtype}", *words, fix=whole)


VALUES = [
    _value("price", "None", "is null"),
    _value("price", "float('nan')", "must be finite, got `NaN`"),
    _value("price", "float('inf')", "must be finite, got `inf`"),
    _value("price", "0.0", "must be positive, got `0.0`"),
    _value("price", "-1.0", "must be positive, got `-1.0`"),
    _value("price", "1e300", "must be below 92233720368", "rescale", fix=None),
    _value("price", "1e-12", "must be at least 0.00000001", "rescale", fix=None),
    _value("quantity", "None", "is null"),
    _value("quantity", "float('nan')", "must be finite, got `NaN`"),
    _value("quantity", "-1.0", "zero or positive, got `-1.0`", "if the sales are the negative ones"),
    _value("quantity", "1e300", "must be below", "rescale the quantity", fix=None),
    _value("timestamp", "None", "is null"),
    _value("agg_trade_id", "None", "is null"),
    _of("df.with_columns(agg_trade_id=pl.col('agg_trade_id').cast(pl.UInt64) + 2**63)",
        TickDataError, "must be below 2^63", "leave this column out"),
    _of("df.with_columns(first_trade_id='agg_trade_id', last_trade_id=pl.int_range(pl.len()))",
        TickDataError, "`last_trade_id` is below `first_trade_id`", "`0` < `1`",
        fix="df.with_columns(first_trade_id='agg_trade_id', last_trade_id='agg_trade_id'){call}"),
    _of("make(is_buyer_maker=None, side=['long'] * 6)", TickDataError, "buy, sell or none",
        '"long"', "row 0", "aggressor"),
    _of("make(is_buyer_maker=None, side=[2] * 6)", TickDataError, "1/-1/0", "row 0"),
]  # fmt: skip

ORDER = [
    _of("df.reverse()", TickOrderError, "`timestamp` runs back at row 1", "in row 0",
        'group_by="symbol"', fix="df.reverse(){call}"),
    _of("df.drop('agg_trade_id').reverse()", TickOrderError, "runs back at row 1",
        fix="df.drop('agg_trade_id').reverse(){call}"),
    _of("df[[0, 3, 1, 2, 4, 5]]", TickOrderError, "runs back at row 2", "in row 1",
        fix="df[[0, 3, 1, 2, 4, 5]]{call}"),
    wrong("two.rename({'symbol': 'desk'}).rangebar.bars(250)", TickOrderError, "runs back at row 6",
          'if `desk` tells several symbols apart, pass group_by="desk"',
          retry="two.rename({'symbol': 'desk'}).rangebar.bars(250, {keyword})"),
    _of("df[[0, 1, 2, 2, 3, 4, 5]]", TickOrderError, "`agg_trade_id` does not increase at row 3",
        "`3` after `3` in row 2", fix="df[[0, 1, 2, 2, 3, 4, 5]]{call}"),
    _of("df.with_columns(agg_trade_id=pl.lit(1))", TickOrderError, "`1` after `1` in row 0",
        "leave the id column out"),
]  # fmt: skip

TYPES = [
    *(_typed(column, f"pl.col({column!r}).cast(pl.{dtype})", dtype, "cast it")
      for column in ("price", "quantity") for dtype in ("Float32", "String")),
    _typed("price", "pl.col('price').cast(pl.String).cast(pl.Categorical)", "Categorical"),
    _typed("price", "pl.col('price').cast(pl.String).cast(pl.Binary)", "Binary"),
    _typed("quantity", "pl.lit(None)", "Null", "pl.Float64", fixed=False),
    _typed("price", "pl.lit(True)", "Boolean", "truth values", fixed=False),
    _of("df.with_columns(price=pl.concat_list('price'))", TypeError, "a column of single values",
        "List", fix="df.with_columns(price=pl.concat_list('price')){call}"),
    _of("df.with_columns(price=pl.concat_list('price').list.to_array(1))", TypeError, "Array",
        fix="df.with_columns(price=pl.concat_list('price').list.to_array(1)){call}"),
    _of("df.with_columns(price=pl.struct(price='price')).rename({'price': 'px'})", TypeError,
        "Struct", "make its fields columns", fix="df.with_columns(px=pl.struct(price='price'))"
        ".drop('price'){call}"),
    _of("make(price=[object()] * 6)", TypeError, "`price` holds Python objects", "convert it"),
    _of("df.with_columns(pl.Series('price', [Decimal(100 + i) for i in range(6)], "
        "dtype=pl.Object))", TypeError, "Python objects",
        fix="[{call} for trades in [df.with_columns(pl.Series('price', [Decimal(100 + i) "
        "for i in range(6)], dtype=pl.Object))]][0]"),
    _typed("agg_trade_id", "pl.col('agg_trade_id').cast(pl.String)", "String", "cast it"),
    _typed("agg_trade_id", "pl.col('agg_trade_id').cast(pl.Float64)", "Float64", "cast it"),
    _typed("is_buyer_maker", "pl.lit(1, pl.Int8)", "Int8", "the seller is the aggressor"),
    _typed("is_buyer_maker", "pl.lit('True')", "String", "the seller is the aggressor"),
    _of("make(is_buyer_maker=None, side=[1.0] * 6)", TypeError, "`side` must be String",
        "got Float64",
        fix="make(is_buyer_maker=None, side=[1.0] * 6).with_columns(side={call})"),
    _of("make(is_buyer_maker=None, side=[True] * 6)", TypeError, "got Boolean", "taker's sale",
        fix="make(is_buyer_maker=None, side=[True] * 6){call}"),
]  # fmt: skip

TIMES = [
    *(_typed("timestamp", f"us * {scale} // {share}", "Int64", f'time_unit="{unit}"')
      for unit, scale, share in (("s", 1, 10**6), ("ms", 1, 1000), ("us", 1, 1), ("ns", 1000, 1))),
    *(_typed("timestamp", f"us / {share}", "Float64", "round().cast(pl.Int64)")
      for share in (1e6, 1e3, 1)),
    _typed("timestamp", "us.cast(pl.Decimal(38, 0))", "Decimal", "pl.from_epoch"),
    _typed("timestamp", "pl.col('timestamp').dt.to_string()", "String", "parse it"),
    _typed("timestamp", "pl.col('timestamp').dt.date()", "Date", "midnight"),
    _typed("timestamp", "pl.col('timestamp').dt.time()", "Time", "needs its day", fixed=False),
    _typed("timestamp", "pl.col('timestamp') - pl.col('timestamp').min()", "Duration",
           "counted from"),
    _typed("timestamp", "pl.lit(True)", "Boolean", "this column has no times", fixed=False),
    _typed("timestamp", "pl.lit(None)", "Null", "this column has no times", fixed=False),
    _typed("timestamp", "pl.int_range(pl.len())", "Int64", '"ms" for 13', fixed=False),
    _of("df.with_columns(timestamp=pl.from_epoch(us, time_unit='ms'))", TickDataError,
        "lies in the year", "at row 0", "were read as",
        fix="df.with_columns(timestamp=pl.from_epoch(us, time_unit='ms'))"
        ".with_columns(timestamp={call})"),
    _of("df.with_columns(timestamp=pl.from_epoch(us // 10**6, time_unit='us') "
        "- pl.duration(days=30_000))", TickDataError, "lies before 1970", "row 0",
        fix="df.with_columns(timestamp=pl.from_epoch(us // 10**6, time_unit='us') "
        "- pl.duration(days=30_000)){call}"),
    wrong("lf.with_columns(timestamp=us).rangebar.bars(250).collect()", TypeError, "got Int64",
          retry="lf.with_columns(timestamp=us).with_columns(timestamp={call})"
          ".rangebar.bars(250).collect()"),
]  # fmt: skip

MISSING = [
    _of("df.drop('price')", MissingColumnError, "no column `price`; it has `timestamp`",
        "add a column of prices"),
    _of("df.drop('timestamp')", MissingColumnError, "no column `timestamp`", "column of times"),
    wrong("df.rename({'price': 'last'}).rangebar.bars(250)", MissingColumnError, "`last`",
          retry="df.rename({'price': 'last'}).rangebar.bars(250, {keyword})"),
    wrong("df.rename({'price': 'prize'}).rangebar.bars(250)", MissingColumnError,
          "did you mean `prize`?",
          retry="df.rename({'price': 'prize'}).rangebar.bars(250, {keyword})"),
    wrong("df.rename({'timestamp': 'moment'}).rangebar.bars(250)", MissingColumnError, "`moment`",
          retry="df.rename({'timestamp': 'moment'}).rangebar.bars(250, {keyword})"),
    _of("pl.DataFrame()", MissingColumnError, "it has none"),
    _of("df.select(trade=pl.struct(pl.all()))", MissingColumnError, "it has `trade`",
        fix="df.select(trade=pl.struct(pl.all())){call}"),
    _of("bars", MissingColumnError, "these are bars already", "pass the trades"),
    _of("df.drop('price').with_columns(bid=99.5, ask=100.5)", MissingColumnError, "but quotes",
        "rangebar_polars.exness",
        fix="df.drop('price').with_columns(bid=99.5, ask=100.5){call}"),
    wrong("df.rename({'quantity': 'qty'}).with_columns(volume=1.0).rangebar.bars(250)", ValueError,
          "`qty` and `volume` could each be it",
          retry="df.rename({'quantity': 'qty'}).with_columns(volume=1.0)"
          ".rangebar.bars(250, {keyword})"),
]  # fmt: skip

EXPRESSIONS = [
    ("df.select(rb.bars('prce', 250))", "ColumnNotFoundError", '"prce"'),
    ("df.select(rb.bars('price', 250, quantity='qty'))", "ColumnNotFoundError", '"qty"'),
    ("df.with_columns(timestamp=us).select(rb.bars('price', 250))", "ComputeError", "from_epoch"),
    ("df.with_columns(rb.bars('price', 250))", "ShapeError InvalidOperationError",
     "length 1 doesn't match the DataFrame height of 6"),
    ("df.select('price', rb.bars('price', 250))", "ShapeError InvalidOperationError",
     "length 1 doesn't match the DataFrame height of 6"),
    ("two.select(rb.bars('price', 250).over('symbol'))", "ShapeError InvalidOperationError",
     "the length of the window expression did not match that of the group"),
    ("two.select(rb.bars('price', 250))", "ComputeError", 'group_by="symbol"'),
    ("numbered.select(rb.aggregate('price', pl.col('n').cast(pl.String)))", "ComputeError",
     'pl.col("n").rle_id()'),
]  # fmt: skip

UNBOUND = [
    ("df.rename({'quantity': 'lots'})", "`quantity`", "`lots` could be it"),
    ("df.rename({'is_buyer_maker': 'maker'})", "`is_buyer_maker`", "`maker` could be it"),
    ("make(is_buyer_maker=None, buyer=['b'] * 6)", "`side`", "`buyer` could be it"),
]

ACCEPTED = [
    *("at_row_3('quantity', 0.0)", "at_row_3('is_buyer_maker', None)", "df.head(0)", "df.head(1)"),
    "make(quantity=None)",
    *(f"df.with_columns(pl.col('price').cast({dtype}))"
      for dtype in ("pl.Decimal(18, 8)", "pl.Decimal(38, 12)", "pl.Int64", "pl.UInt8")),
    *(f"df.with_columns(pl.col('agg_trade_id').cast({dtype}))" for dtype in ("pl.UInt64", "pl.Int32")),
    *(f"df.with_columns(pl.col('timestamp').{change})"
      for change in ("dt.replace_time_zone('Asia/Tokyo')", "cast(pl.Datetime('ns'))")),
    *(f"make(is_buyer_maker=None).with_columns(side={side})"
      for side in ("pl.lit('buy')", "pl.lit('SELL').cast(pl.Categorical)", "pl.lit(1)",
                   "pl.lit('b')", "pl.lit('none')", "pl.lit('buy').cast(pl.Enum(['buy']))")),
    *(f"df.rename({{{old!r}: {new!r}}})"
      for old, new in (("price", "Price"), ("price", " price"), ("quantity", "Volume"),
                       ("quantity", "Qty"), ("quantity", "base_qty"), ("agg_trade_id", "id"),
                       ("agg_trade_id", "trade_id"), ("agg_trade_id", "tradeId"))),
    *(f"make(is_buyer_maker=None, {name}=['buy'] * 6)" for name in ("taker_side", "aggressor")),
]  # fmt: skip


@pytest.mark.parametrize("row", VALUES, ids=str)
def test_a_value_that_is_none(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", ORDER, ids=str)
def test_trades_out_of_order(row: Wrong) -> None:
    check(row)


# `explode` is the remedy, of which Polars before 2.0 says that its default will change.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", TYPES, ids=str)
def test_a_data_type_that_is_none(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", TIMES, ids=str)
def test_times_that_are_none(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", MISSING, ids=str)
def test_a_frame_without_a_column(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize(("source", "error", "word"), EXPRESSIONS)
def test_an_expression_raises_inside_polars(source: str, error: str, word: str) -> None:
    from polars import exceptions

    # The class differs between versions of Polars.
    with pytest.raises(tuple(getattr(exceptions, name) for name in error.split())) as caught:
        run(source)
    assert word in str(caught.value)


@pytest.mark.parametrize(("frame", "field", "candidate"), UNBOUND)
def test_a_column_that_nothing_reads_is_warned_of(frame: str, field: str, candidate: str) -> None:
    with pytest.warns(UnboundColumnWarning) as caught:
        run(f"{frame}.rangebar.bars(250)")
    (warning,) = caught
    message = str(warning.message)
    assert field in message
    assert candidate in message
    # Both hints run without a further warning.
    run(f"{frame}.rangebar.bars(250, {code_of(message, 'keyword')})")
    run(f"{frame}.rangebar.bars(250, columns={{{field.replace('`', chr(34))}: None}})")


@pytest.mark.parametrize("frame", ACCEPTED)
def test_trades_that_are_accepted(frame: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(f"{frame}.rangebar.bars(250)").width == 22
