"""Names of the columns that the `process_trades_*` functions read, as in the reference library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.exceptions import MissingColumnError, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["fields_of", "require"]

REQUIRED = ("timestamp", "price", "quantity")
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


def require(present: Collection[str]) -> dict[str, str]:
    """Map the fields of a trade to column names, and check that the required ones are present."""
    fields = fields_of(present)
    for field in REQUIRED:
        if fields[field] not in present:
            listed = ", ".join(f"`{name}`" for name in present) or "none"
            expected = "`quantity` or `volume`" if field == "quantity" else f"`{field}`"
            near = nearest(field, present)
            which = f"`{near}`" if near else "the one that holds it"
            raise MissingColumnError(
                with_hint(
                    f"the trades have no column {expected}; they have {listed}",
                    f"rename {which} to `{field}`",
                )
            )
    return fields
