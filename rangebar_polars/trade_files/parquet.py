"""Parquet files of trades: any with known names, or with the columns of a known dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.io_source import batches
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.trade_files.file_symbols import check_symbol
from rangebar_polars.trade_files.opening import Head, Opened, bound_layout, with_columns
from rangebar_polars.trade_files.values import (
    LINE,
    Symbols,
    checked,
    is_trade,
    on_grid_rules,
    raw_schema,
    taker_side,
)
from rangebar_polars.trade_layouts.matching import matching, unit_of_number
from rangebar_polars.trade_layouts.table import LAYOUTS, TIME_UNITS, column_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars.trade_files.opening import Request
    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["ParquetFile"]

HINT = "correct the file, or filter it with `pl.scan_parquet`"


class ParquetFile:
    """A Parquet file."""

    def __init__(self, source: str, request: Request) -> None:
        self.source = source
        self.request = request

    def plan(self) -> pl.LazyFrame:
        """Return the plan of the file, whose name may contain the signs of a pattern."""
        return pl.scan_parquet(self.source, glob=False)

    def opened_or_empty(self) -> Opened | None:
        """Decide the layout; a Parquet file without rows has one, too."""
        return self.opened()

    def opened(self) -> Opened:
        """Decide the layout.

        Raises
        ------
        TickDataError
            The file is damaged, or its columns have no known names, or one is of another type.
        """
        try:
            plan = self.plan()
            schema = plan.collect_schema()
            row = [str(value) for value in (plan.head(1).collect().rows() or [()])[0]]
        except (pl.exceptions.PolarsError, OSError) as error:
            what = str(error).partition("\n")[0][:200]
            raise TickDataError(
                with_hint(f"`{self.source}` cannot be read: {what}", self.remedy())
            ) from error
        head = Head(self.source, ",", list(schema.names()), row, 1, 0)
        layout = self.layout_of(head, schema)
        unit = self.unit_of(layout, schema, row)
        names = tuple(schema.names())
        opened = Opened(layout, self.source, names, ",", unit, False, 0, 0, "row")  # noqa: FBT003
        check_symbol(self.source, layout, self.request.symbol)
        for name, dtype in raw_schema(opened).values():
            column = self.name_of(name, schema)
            if not holds(schema[column], dtype) and name != layout.time:
                raise self.wrong_type(column, schema[column], f"`{dtype}`")
        return opened

    def remedy(self) -> str:
        """Return what to do about a file that cannot be read."""
        return "fetch the file again"

    def layout_of(self, head: Head, schema: pl.Schema) -> TradeLayout:
        """Return the layout by the names of the columns and the first row."""
        request, columns = self.request, dict(self.request.columns)
        names = head.header or []
        if request.layout != "parquet":
            known = tuple(one for one in LAYOUTS if request.layout in ("auto", one.name))
            found = matching(names, head.row, known)
            if len(found) == 1:
                return with_columns(found[0], columns, head)
        return bound_layout("parquet", self.source, schema, columns)

    def unit_of(self, layout: TradeLayout, schema: pl.Schema, row: list[str]) -> str:
        """Return the unit of times; "us" for times that Parquet knows as such."""
        column = self.name_of(layout.time, schema)
        dtype = schema[column]
        if isinstance(dtype, pl.Datetime):
            return "us"
        if dtype == pl.String:
            return "iso"
        if not dtype.is_numeric():
            raise self.wrong_type(column, dtype, "`Datetime` or a whole number")
        if self.request.time_unit:
            return self.request.time_unit
        value = row[schema.names().index(column)] if row else ""
        unit = unit_of_number(value)
        if unit is not None and layout.name != "parquet" and unit in layout.time_units:
            return unit
        raise TickDataError(
            with_hint(
                f"`{self.source}`: the time column `{layout.time}` is of type `{dtype}`, and nothing "
                "says of which unit",
                f'name it: time_unit="{unit or "ms"}"',
            )
        )

    def wrong_type(self, column: str, dtype: pl.DataType, wanted: str) -> TickDataError:
        """Return the error for a column of a type that does not hold its field."""
        return TickDataError(
            with_hint(
                f"`{self.source}`: the column `{column}` is of type `{dtype}`, not {wanted}",
                "cast it and write the file again, or name another column with `columns=`",
            )
        )

    def name_of(self, column: str, schema: pl.Schema) -> str:
        """Return the name of a column as the file spells it."""
        return next(name for name in schema.names() if column_key(name) == column_key(column))

    def blocks(self, opened: Opened) -> Iterator[pl.DataFrame]:
        """Yield the trades, as they stand in the file."""
        fields = raw_schema(opened)
        plan = self.plan()
        schema = plan.collect_schema()
        names = [self.name_of(name, schema) for name, _ in fields.values()]
        row, symbols = 0, Symbols(opened, self.request.symbol)
        for batch in batches(plan, names):
            raw = batch.rename(dict(zip(batch.columns, fields, strict=True)))
            raw = raw.with_columns(pl.int_range(row, row + pl.len()).alias(LINE))
            self.check_flags(raw, opened)
            typed = raw.with_columns(
                typed_field(field, raw.schema[field], dtype) for field, (_, dtype) in fields.items()
            )
            own, found = symbols.own(typed)
            symbols.follow(found, row)
            row += batch.height
            trades, is_sound = checked(own, opened)
            if not is_sound:
                raise TickDataError(with_hint(fault_of(own, opened), HINT))
            yield trades
        symbols.check()

    def check_flags(self, raw: pl.DataFrame, opened: Opened) -> None:
        """Check that flags which are whole numbers are 0 or 1."""
        if "buyer_maker" not in raw.columns or not raw["buyer_maker"].dtype.is_integer():
            return
        wrong = raw.filter(~pl.col("buyer_maker").is_in([0, 1])).select(LINE, "buyer_maker")
        if wrong.height:
            row, value = wrong.row(0)
            column = opened.layout.buyer_maker
            sentence = f"`{self.source}`, row {row}: `{column}` is `{value}`; a flag is 0 or 1"
            raise TickDataError(with_hint(sentence, HINT))


def holds(dtype: pl.DataType, wanted: pl.DataType) -> bool:
    """Return whether values of a type can be read as another; text is read as numbers.

    Polars also casts dates and lists to numbers, which would not be those of the field.
    """
    if wanted == pl.String():
        return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object))
    if wanted == pl.Boolean():
        return dtype.is_integer() or dtype in (pl.Boolean, pl.Null)
    return dtype.is_numeric() or dtype in (pl.String, pl.Null)


def typed_field(field: str, is_now: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """Return a field in the type in which it is checked."""
    value = pl.col(field)
    if field == "time" and isinstance(is_now, pl.Datetime):
        utc = value if is_now.time_zone is None else value.dt.convert_time_zone("UTC")
        return utc.dt.epoch("us")
    return value.cast(dtype, strict=False)


def fault_of(frame: pl.DataFrame, opened: Opened) -> str:
    """Return the first row that is not a valid trade."""
    _, is_known = taker_side(frame, opened.layout)
    if not is_known:
        return (
            f"`{opened.source}`: `{opened.layout.side}` has values that are not the side of a trade"
        )
    rules = is_trade(opened.layout, opened.unit) + on_grid_rules(opened.layout)
    sound = pl.all_horizontal(rules).fill_null(value=False)
    bad = frame.filter(~sound)
    row = bad.row(0, named=True) if bad.height else {}
    shown = ", ".join(f"{name}={value}" for name, value in row.items() if name != LINE)
    unit = f" (times in `{opened.unit}`)" if opened.unit in TIME_UNITS else ""
    return f"`{opened.source}`, row {row.get(LINE, 0)}: not a trade{unit}: {shown[:200]}"
