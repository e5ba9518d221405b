"""What a plan of trade files tells about itself: their layout, and what each column is read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars._utils.io_source import Origin
from rangebar_polars.trade_files.values import schema_of
from rangebar_polars.trade_layouts.table import TIME_UNITS, column_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars.trade_files.inputs import Input
    from rangebar_polars.trade_files.opening import Opened

__all__ = ["origin_of_files"]

TEXT_TIMES = "as text"


def origin_of_files(files: Sequence[Input], opened: Opened, *, is_given: bool) -> Origin:
    """Return the layout of files, of which the first is opened, and the source of each column."""
    note = f"{opened.note}; {count_text(len(files), 'file')} from {files[0].source}"
    return Origin("given" if is_given else "recognised", note, dict(_sources(opened)))


def _sources(opened: Opened) -> Iterator[tuple[str, str]]:
    """Yield each column of the plan with the words for where it comes from."""
    layout = opened.layout
    spelled = {column_key(name): name for name in opened.names}

    def named(column: str) -> str:
        name, slash, translation = spelled.get(column_key(column), column).partition("/")
        return f"`{name}`" if not translation.isascii() else f"`{name}{slash}{translation}`"

    unit = f"in {opened.unit}" if opened.unit in TIME_UNITS else TEXT_TIMES
    words = {
        "timestamp": f"{named(layout.time)} of the file, {unit}",
        "is_buyer_maker": f"{named(layout.buyer_maker or layout.side)} of the file",
    }
    if layout.side and not layout.buyer_maker:
        words["is_buyer_maker"] += f", the side of the {layout.side_of}"
    columns = {
        "price": layout.price,
        "quantity": layout.quantity,
        "bid": layout.bid,
        "ask": layout.ask,
        "contracts": layout.contracts,
        "trade_id": layout.id,
        "agg_trade_id": layout.id,
        "first_trade_id": layout.first_id or layout.id,
        "last_trade_id": layout.last_id or layout.id,
    }
    words |= {field: f"{named(name)} of the file" for field, name in columns.items() if name}
    if not layout.price:
        words["price"] = f"the mid of {named(layout.bid)} and {named(layout.ask)} of the file"
    if layout.contracts and not layout.quantity:
        words["quantity"] = f"{named(layout.contracts)} / {named(layout.price)} of the file"
    for column in schema_of(layout):
        yield column, words[column]
