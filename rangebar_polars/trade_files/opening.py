"""The head of a file: how its text is written, and which layout it has."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars import _internal
from rangebar_polars.compute._columns import SYMBOL, bind
from rangebar_polars.exceptions import MissingColumnError, TickDataError, split_hint, with_hint
from rangebar_polars.fetch.binance.csv import BYTE_ORDER_MARK
from rangebar_polars.trade_files.file_symbols import check_symbol
from rangebar_polars.trade_layouts.matching import matching, unit_of_number
from rangebar_polars.trade_layouts.table import (
    LAYOUTS,
    NAMES,
    TIME_UNITS,
    TradeLayout,
    column_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Head", "Opened", "Request", "bound_layout", "head_of", "open_text"]

HEAD_BYTES = 1 << 16
SEPARATORS = ",;\t|"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
SHOWN = 80
# What names of columns contain.
PARTS = {
    "timestamp": ("time", "date", "when", "stamp"),
    "price": ("price", "px", "rate", "last", "close"),
    "quantity": ("qty", "quantity", "size", "volume", "amount", "vol", "sz"),
}


class Request(NamedTuple):
    """What the caller says about all files: it can be pickled."""

    layout: str = "auto"
    symbol: str | None = None
    columns: tuple[tuple[str, str | None], ...] = ()
    time_unit: str | None = None


class Head(NamedTuple):
    """The first lines of a text."""

    source: str
    separator: str
    #: Names as the file spells them; None without a header.
    header: list[str] | None
    row: list[str]
    #: Line of the first trade, and where it begins.
    first_line: int
    start: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose layout, separator and time unit are known."""

    layout: TradeLayout
    source: str
    names: tuple[str, ...]
    separator: str
    #: "s", "ms", "us", "ns", "iso" or a format.
    unit: str
    #: Whether prices are whole numbers of 1e-9.
    is_scaled: bool
    first_line: int
    start: int
    #: What the numbers of trades in messages count: "line", or "row" of a Parquet file, from 0.
    counted: str = "line"

    @property
    def note(self) -> str:
        """The layout, and the unit of times."""
        unit = self.unit if self.unit in TIME_UNITS else "text"
        return f"{self.layout.title}, times: {unit}"


def fields_of(line: str, separator: str) -> list[str]:
    """Return the values of a line, without the blanks around them."""
    try:
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        fields = line.split(separator)
    return [field.strip() for field in fields]


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def head_of(pieces: Iterable[bytes], source: str) -> Head | None:
    """Return the first lines of a text; None if it is empty."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    if head.startswith(UTF16_MARKS):
        raise TickDataError(
            with_hint(f"`{source}` is encoded in UTF-16", "save it as UTF-8 and read it again")
        )
    start = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
    found: list[tuple[int, int, int, str]] = []
    line = 0
    while start < len(head) and len(found) < 2:  # noqa: PLR2004 - a header and a row
        end = head.find(b"\n", start) + 1 or len(head)
        line += 1
        text = head[start:end].decode("utf-8", "replace").strip("\r\n")
        if text.strip():
            found.append((line, start, end, text))
        start = end
    if not found:
        return None
    first = found[0][3]
    separator = max(SEPARATORS, key=first.count)
    values = [fields_of(text, separator) for *_, text in found]
    if any(map(is_number, values[0])):
        return Head(source, separator, None, values[0], found[0][0], found[0][1])
    row = values[1] if len(values) > 1 else []
    return Head(source, separator, values[0], row, found[0][0] + 1, found[0][2])


def open_text(head: Head, request: Request) -> Opened:
    """Decide the layout of a text.

    Raises
    ------
    TickDataError
        The layout is unknown, or not the one that was named; or the trades may be of another symbol.
    """
    layout = choose(head, request)
    names = tuple(head.header or layout.columns)
    time = value_of(layout.time, names, head.row)
    price = value_of(layout.price, names, head.row) if layout.price else ""
    unit = request.time_unit or unit_for(layout, time, head)
    is_scaled = layout.has_scaled_price and price.lstrip("+-").isdigit()
    opened = Opened(
        layout, head.source, names, head.separator, unit, is_scaled, head.first_line, head.start
    )
    check_symbol(opened.source, opened.layout, request.symbol)
    return opened


def value_of(column: str, names: Sequence[str], row: Sequence[str]) -> str:
    """Return the value of a column in a row, or empty text if the row does not have it."""
    keys = [column_key(name) for name in names]
    index = keys.index(column_key(column)) if column_key(column) in keys else len(row)
    return row[index] if index < len(row) else ""


def choose(head: Head, request: Request) -> TradeLayout:
    """Return the layout of a text."""
    columns = dict(request.columns)
    if request.layout == "csv":
        return bound(head, columns)
    known = LAYOUTS
    if request.layout != "auto":
        known = tuple(one for one in LAYOUTS if one.name == request.layout)
    found = matching(head.header, head.row, known)
    if len(found) > 1:
        titles = " or ".join(f"`{layout.title}`" for layout in found)
        raise TickDataError(
            with_hint(
                f"`{head.source}`, line {head.first_line}: the first row could be of {titles}",
                "add a line with the names of the columns",
            )
        )
    if found:
        return with_columns(found[0], columns, head)
    if request.layout == "auto" and head.header is not None:
        try:
            return bound(head, columns)
        except (MissingColumnError, TickDataError):
            if columns:
                raise
    raise unknown(head, request)


def with_columns(layout: TradeLayout, columns: Mapping[str, str | None], head: Head) -> TradeLayout:
    """Return the layout with the columns that the caller names for some fields."""
    if not columns:
        return layout
    names = head.header or list(layout.columns)
    for field, name in columns.items():
        if name is not None and name not in names:
            error = MissingColumnError.of(name, names, used_for=field, renamed_by=field)
            raise in_source(error, head.source)
    text = {field: name or "" for field, name in columns.items()}
    return replace(
        layout,
        time=text.get("timestamp", layout.time),
        price=text.get("price", layout.price),
        quantity=text.get("quantity", layout.quantity),
        side=text.get("side", layout.side),
        buyer_maker=text.get("is_buyer_maker", layout.buyer_maker),
        id=text.get("agg_trade_id", layout.id),
        id_kind=layout.id_kind if text.get("agg_trade_id", layout.id) else "",
        first_id=text.get("first_trade_id", layout.first_id),
        last_id=text.get("last_trade_id", layout.last_id),
        symbol=text.get("symbol", layout.symbol),
    )


def bound(head: Head, columns: Mapping[str, str | None]) -> TradeLayout:
    """Return the layout of a text whose columns have known names, or those that the caller gives."""
    if head.header is None:
        raise TickDataError(
            with_hint(
                f"`{head.source}`, line {head.first_line}: the file has no line of names, so "
                "nothing says which column is which",
                'add one, such as "timestamp,price,quantity,side"',
            )
        )
    layout = bound_layout("csv", head.source, dtypes_of(head.header, head.row), columns)
    if layout.id and not value_of(layout.id, head.header, head.row).lstrip("-").isdigit():
        kind = "text" if head.row else layout.id_kind
        return replace(layout, id_kind=kind)
    return layout


def dtypes_of(names: Sequence[str], row: Sequence[str]) -> dict[str, pl.DataType]:
    """Return the data types that the first row shows; ids are known by their names if they are integers."""
    values = dict(zip(names, row, strict=False))
    return {
        name: pl.Int64() if values.get(name, "0").lstrip("-").isdigit() else pl.String()
        for name in names
    }


def bound_layout(
    name: str, source: str, schema: Mapping[str, pl.DataType], columns: Mapping[str, str | None]
) -> TradeLayout:
    """Return the layout of columns with known names.

    Raises
    ------
    MissingColumnError, TickDataError
        A field has no column, or could be any of several.
    """
    try:
        found = bind(schema, columns)
    except ValueError as error:
        raise in_source(error, source) from None
    roles = dict(zip(found.roles, found.names, strict=True))
    symbols = [name for role, name in zip(found.roles, found.names, strict=True) if role == SYMBOL]
    return TradeLayout(
        name,
        "",
        tuple(schema),
        header="always",
        time=roles["timestamp"],
        time_units=(*TIME_UNITS, "iso"),
        price=roles["price"],
        quantity=roles.get("quantity", ""),
        buyer_maker=roles.get("is_buyer_maker", ""),
        side=roles.get("side", ""),
        id=roles.get("agg_trade_id", ""),
        id_kind="increasing" if "agg_trade_id" in roles else "",
        first_id=roles.get("first_trade_id", ""),
        last_id=roles.get("last_trade_id", ""),
        # Of a pair such as `market` and `symbol`, the more telling name.
        symbol=min(symbols, key=_rank_of_symbol, default=""),
        never_closes=False,
    )


def in_source(error: ValueError, source: str) -> MissingColumnError | TickDataError:
    """Return an error about columns with the name of the file."""
    what, hint = split_hint(error)
    kind = MissingColumnError if isinstance(error, MissingColumnError) else TickDataError
    return kind(with_hint(f"`{source}`: {what}", hint or "name the columns"))


def _rank_of_symbol(name: str) -> int:
    """Return the place of a column in the order of the known names of symbols."""
    known = next(names for field, names, _ in _internal.known_names() if field == SYMBOL)
    keys = [column_key(one) for one in known]
    key = column_key(name)
    return keys.index(key) if key in keys else -1


def unit_for(layout: TradeLayout, time: str, head: Head) -> str:
    """Return the unit of times by the first one, among those of the layout."""
    units = layout.time_units
    unit = unit_of_number(time)
    if layout.name == "csv":
        if not is_number(time):
            return "iso"
        raise TickDataError(
            with_hint(
                f"`{head.source}`, line {head.first_line}: the time `{time[:40]}` is a number, and "
                "nothing says of which unit",
                f'name it: time_unit="{unit or "ms"}"',
            )
        )
    if unit in units:
        return str(unit)
    texts = [one for one in units if one not in TIME_UNITS]
    return texts[0] if texts and not is_number(time) else units[0]


def unknown(head: Head, request: Request) -> TickDataError:
    """Return the error for a file of no known layout, or of another than the one named."""
    other = matching(head.header, head.row) if request.layout != "auto" else []
    if other:
        return TickDataError(
            with_hint(
                f"`{head.source}` is not of the layout `{request.layout}` but of "
                f"`{other[0].title}`",
                f'write layout="{other[0].name}", or leave it out',
            )
        )
    if head.header is None:
        hint = "add a line with the names of the columns, and read it again"
        seen = f"it has no line of names, and the values `{shown(head.row, head)}`"
    else:
        hint = f'say which column is which: layout="csv", columns={guess(head)}'
        hint += ', time_unit="ms"' if any(map(is_number, head.row[:1])) else ""
        seen = f"the names `{shown(head.header, head)}`"
        seen += f" and the first row `{shown(head.row, head)}`" if head.row else " and no row"
    wanted = "a known layout" if request.layout == "auto" else f"the layout `{request.layout}`"
    listed = ", ".join(f"`{name}`" for name in NAMES)
    sentence = f"`{head.source}`, line 1: not of {wanted}: {seen}; known are {listed}"
    return TickDataError(with_hint(sentence, hint))


def shown(values: Sequence[str], head: Head) -> str:
    """Return values as a message shows them."""
    return head.separator.join(values)[:SHOWN]


def guess(head: Head) -> str:
    """Return an argument `columns=` for the names of a file, which the reader may have to correct."""
    names = list(head.header or [])
    fields: dict[str, str] = {}
    for field, words in PARTS.items():
        found = next((n for word in words for n in names if word in column_key(n)), None)
        name = found or next((n for n in names if n not in fields.values()), "")
        fields[field] = name
    listed = ", ".join(f'"{field}": "{name}"' for field, name in fields.items())
    return f"{{{listed}}}"
