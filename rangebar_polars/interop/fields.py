"""Names of the columns that the `process_trades_*` functions read, as in the reference library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.exceptions import MissingColumnError, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["fields_of", "mid_price", "quote_columns", "require"]

REQUIRED = ("timestamp", "price", "quantity")
_SEPARATORS = str.maketrans("", "", " _-.")
OPTIONAL = ("is_buyer_maker", "side", "agg_trade_id", "first_trade_id", "last_trade_id")


def fields_of(present: Collection[str]) -> dict[str, str]:
    """Map the fields of a trade to column names, including required ones that are missing.

    Examples
    --------
    >>> from rangebar_polars.interop.fields import fields_of
    >>> fields_of(["timestamp", "price", "volume", "note"])
    {'timestamp': 'timestamp', 'price': 'price', 'quantity': 'volume'}
    """
    found = {field: field for field in (*REQUIRED, *OPTIONAL) if field in present}
    if "quantity" not in found and "volume" in present:
        found["quantity"] = "volume"
    if "is_buyer_maker" in found:
        found.pop("side", None)
    return {field: field for field in REQUIRED} | found


def quote_columns(present: Collection[str]) -> tuple[str, str] | None:
    """Return the columns of bid and ask prices, if there are both.

    Examples
    --------
    >>> from rangebar_polars.interop.fields import quote_columns
    >>> quote_columns(["time", "Bid", "Ask", "bid_size"])
    ('Bid', 'Ask')
    """
    plain = {name.lower().translate(_SEPARATORS): name for name in present}
    for pattern in ("{}", "{}price", "{}px", "best{}", "best{}price"):
        bid, ask = (plain.get(pattern.format(side)) for side in ("bid", "ask"))
        if bid is not None and ask is not None:
            return bid, ask
    return None


def mid_price(bid: str, ask: str) -> str:
    """Return the code of the mid price, as an argument of `with_columns`.

    Examples
    --------
    >>> from rangebar_polars.interop.fields import mid_price
    >>> mid_price("bid", "ask")
    'price=(pl.col("bid") + pl.col("ask")) / 2'
    """
    return f'price=(pl.col("{bid}") + pl.col("{ask}")) / 2'


def require(present: Collection[str]) -> dict[str, str]:
    """Map the fields of a trade to column names, and check that the required ones are present."""
    fields = fields_of(present)
    for field in REQUIRED:
        if fields[field] not in present:
            listed = ", ".join(f"`{name}`" for name in present) or "none"
            expected = "`quantity` or `volume`" if field == "quantity" else f"`{field}`"
            near = nearest(field, present)
            quotes = quote_columns(present) if field == "price" else None
            which = f"`{near}`" if near else "the one that holds it"
            raise MissingColumnError(
                with_hint(
                    f"the trades have no column {expected}; they have {listed}",
                    f"rename {which} to `{field}`"
                    if quotes is None
                    else f"add the mid price: .with_columns({mid_price(*quotes)}), or in pandas "
                    f'trades["price"] = (trades["{quotes[0]}"] + trades["{quotes[1]}"]) / 2; for the '
                    "files of Exness see rangebar_polars.exness",
                )
            )
    return fields
