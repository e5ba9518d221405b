"""Which column of a frame is which field of a trade, as a table and as a warning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.io_source import origin_of
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.compute._columns import FIELDS, SYMBOL, find_columns, parse_columns
from rangebar_polars.exceptions import UnboundColumnWarning, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rangebar_polars._typing import ColumnMap
    from rangebar_polars._utils.io_source import Origin
    from rangebar_polars.compute._columns import Binding

__all__ = ["binding", "warn_of_unbound"]

_SCHEMA = ["field", "column", "dtype", "how", "note"]
_NO_QUANTITY = "volume, vwap and turnover of the bars are null"
_NO_SIDE = "buy and sell columns of the bars are null"
# Patterns are compiled at their first use, since the package imports this module.
# Words of a name, in snake or in camel case.
_WORD = r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])"
# Words of names of ids, times and quotes, and endings of such names without a separator.
_NO_AMOUNTS = frozenset(
    {
        *("id", "ids", "uid", "oid", "tid", "seq", "seqno", "sequence", "nonce", "nr"),
        *("index", "idx", "row", "rownum", "date", "day", "datetime", "epoch"),
        *("time", "times", "timestamp", "ts", "ms", "us", "ns", "millis", "micros", "nanos"),
        *("milliseconds", "microseconds", "nanoseconds", "bid", "bids", "ask", "asks"),
    }
)
_NO_AMOUNT = (
    "(best)?(bid|ask)(price|px|size|sz|qty|quantity|volume|vol|amount)?"
    "|.*(trade|order|match|deal|fill|agg|buyer|seller|maker|taker|user|event|update|record|exec)ids?"
    "|.*(time|timestamp|timems|timeus|timens|sequence|number)"
)
# Parts of names by which a column could tell the aggressor.
_SIDE_WORDS = ("side", "maker", "taker", "aggress", "buy", "sell", "direction")


@checked_keywords
def binding(
    trades: pl.DataFrame | pl.LazyFrame, *, columns: ColumnMap | None = None
) -> pl.DataFrame:
    """Show which column of a frame of trades each field is read from.

    Also `trades.rangebar.binding(...)`.

    Parameters
    ----------
    trades
        Frame or plan of trades; no data are read.
    columns
        As for the frame methods: columns by field, where the names do not say it.

    Returns
    -------
    DataFrame
        A row for each field, with the columns `field`, `column`, `dtype`, `how` and `note`
        (String). `how` is `given` (named in `columns`), `name` (recognised by its name) or
        `absent`. A row `symbol` stands for each column that is checked to hold one symbol. A plan
        from `rb.scan_trades` has a row `layout` with the layout of its files (`recognised` or
        `given`), and the notes say which column of a file each field is read from.

    Raises
    ------
    MissingColumnError
        A column that was named, the price or the time is missing.
    ValueError
        Two columns could be the same field.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.LazyFrame(schema={"time": pl.Datetime("us"), "price": pl.Float64, "qty": pl.Float64})
    >>> rb.binding(trades).head(3).select("field", "column", "how").rows()
    [('price', 'price', 'name'), ('timestamp', 'time', 'name'), ('quantity', 'qty', 'name')]
    """
    if not isinstance(trades, (pl.DataFrame, pl.LazyFrame)):
        raise TypeError(
            with_hint(
                f"`binding` takes a Polars frame or plan; it was given a `{type(trades).__name__}`",
                "convert a pandas frame first: pl.from_pandas(frame)",
            )
        )
    schema = trades.collect_schema()
    named = parse_columns(columns)
    found = find_columns(schema, named)
    origin = origin_of(trades) if isinstance(trades, pl.LazyFrame) else None
    notes = {**_read_from(origin, found), **_notes(schema, found, named)}
    rows = [
        (
            field,
            (column := found.columns.get(field)),
            None if column is None else str(schema[column]),
            "absent" if column is None else "given" if field in found.given else "name",
            notes.get(field),
        )
        for field in FIELDS
    ]
    rows += [
        (SYMBOL, name, str(schema[name]), "given" if SYMBOL in named else "name", "one value only")
        for name in found.symbols
    ]
    if origin is not None:
        rows.append(("layout", None, None, origin.how, origin.note))
    return pl.DataFrame(rows, schema=dict.fromkeys(_SCHEMA, pl.String), orient="row")


def _read_from(origin: Origin | None, found: Binding) -> dict[str, str]:
    """Return for a field what its column is read from."""
    sources = {} if origin is None else origin.columns
    return {field: sources[name] for field, name in found.columns.items() if name in sources}


def _notes(schema: Mapping[str, pl.DataType], found: Binding, columns: ColumnMap) -> dict[str, str]:
    """Return for a field what a reader of the table would ask about it."""
    notes = _candidates(schema, found, columns)
    texts = {field: f"unbound; is it `{name}`?" for field, name in notes.items()}
    if "is_buyer_maker" in found.columns and "side" in schema and "side" not in found.columns:
        texts["side"] = "not read: `is_buyer_maker` says the same"
    return texts


def _candidates(
    schema: Mapping[str, pl.DataType],
    found: Binding,
    columns: ColumnMap,
    keys: Collection[str | None] = (),
) -> dict[str, str]:
    """Return unbound columns that could be the quantity or the side, by field."""
    unbound = found.unbound(keys)
    candidates = {}
    if "quantity" not in found.columns and "quantity" not in columns:
        numeric = [name for name in unbound if _may_be_amount(name, schema[name])]
        if numeric:
            candidates["quantity"] = nearest("quantity", numeric) or numeric[0]
    has_side = "side" in found.columns or "is_buyer_maker" in found.columns
    if not has_side and "side" not in columns and "is_buyer_maker" not in columns:
        named = [name for name in unbound if any(word in name.lower() for word in _SIDE_WORDS)]
        named = [name for name in named if not _is_id_time_or_quote(name)]
        could_be = [name for name in named if _may_be_side(schema[name])]
        could_be += [name for name in unbound if schema[name] == pl.Boolean]
        if could_be:
            candidates["is_buyer_maker" if schema[could_be[0]] == pl.Boolean else "side"] = (
                could_be[0]
            )
    return candidates


def _may_be_amount(name: str, dtype: pl.DataType) -> bool:
    """Return whether a column may be the quantity: numbers other than ids, times and quotes.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.compute.binding import _may_be_amount
    >>> names = ["lots", "baseAmount", "tradeId", "seq", "local_timestamp", "bid", "askSize"]
    >>> [name for name in names if _may_be_amount(name, pl.Int64())]
    ['lots', 'baseAmount']
    """
    return dtype.is_numeric() and not _is_id_time_or_quote(name)


def _is_id_time_or_quote(name: str) -> bool:
    words = [word.lower() for word in re.findall(_WORD, name)]
    return bool(_NO_AMOUNTS.intersection(words) or re.fullmatch(_NO_AMOUNT, "".join(words)))


def _may_be_side(dtype: pl.DataType) -> bool:
    return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum, pl.Boolean))


def warn_of_unbound(
    schema: Mapping[str, pl.DataType],
    columns: ColumnMap,
    *,
    keys: Collection[str] = (),
    bar_id: str | None = None,
) -> None:
    """Warn of a quantity or a side that no column is recognised as, though one could be it."""
    found = find_columns(schema, columns, keys=tuple(keys), bar_id=bar_id)
    candidates = _candidates(schema, found, columns, (*keys, bar_id))
    if not candidates:
        return
    effects = {"quantity": _NO_QUANTITY, "side": _NO_SIDE, "is_buyer_maker": _NO_SIDE}
    sentences = [
        f"no column is recognised as `{field}`, so {effects[field]}; `{name}` could be it"
        for field, name in candidates.items()
    ]
    named = ", ".join(f'"{field}": "{name}"' for field, name in candidates.items())
    silent = ", ".join(f'"{field}": None' for field in candidates)
    hint = f"name it: columns={{{named}}}; or declare it absent: columns={{{silent}}}"
    warn_caller(with_hint("; ".join(sentences), hint), UnboundColumnWarning)
