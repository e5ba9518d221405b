"""Lines of plain text to trades in one pass, which the library makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._internal import TradeLines
from rangebar_polars.trade_files.values import coins, raw_schema, schema_of
from rangebar_polars.trade_layouts.table import TIME_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rangebar_polars.trade_files.opening import Opened
    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["in_columns", "plain_lines"]

#: The field that a column is filled from, where the names differ.
SOURCES = {
    "trade_id": "id",
    "agg_trade_id": "id",
    "first_trade_id": "first_id",
    "last_trade_id": "last_id",
}


def plain_lines(opened: Opened, places: Mapping[str, int], columns: int) -> TradeLines | None:
    """Return the reader of lines with the fields at these places; None for a form that it cannot read."""
    layout = opened.layout
    is_quote = bool(layout.bid and layout.ask)
    is_known = opened.unit in TIME_UNITS or opened.unit == "iso"
    is_alone = len(set(places.values())) == len(places)
    if not (is_known and is_alone and is_quote != bool(layout.price)):
        return None
    words = [""] * columns
    for field in raw_schema(opened):
        words[places[field]] = word_of(field, opened)
    return TradeLines(opened.separator, words, layout.only[1] if layout.only else "")


def word_of(field: str, opened: Opened) -> str:
    """Return the word for a field."""
    layout = opened.layout
    if field == "time":
        return f"time in {opened.unit}"
    if field == "price" and opened.is_scaled:
        return "scaled price"
    if field == "id" and layout.id_kind == "text":
        return "text id"
    if field == "side":
        # A flag says the same.
        return (
            "" if layout.buyer_maker else "side" if layout.side_of == "taker" else "side of maker"
        )
    return field


def in_columns(frame: pl.DataFrame, layout: TradeLayout) -> pl.DataFrame:
    """Return trades in the canonical columns."""
    if layout.contracts and not layout.quantity:
        frame = frame.with_columns(quantity=coins())
    fields = {name: SOURCES.get(name, name) for name in schema_of(layout)}
    return frame.select(
        pl.col(field if field in frame.columns else "id").alias(name)
        for name, field in fields.items()
    )
