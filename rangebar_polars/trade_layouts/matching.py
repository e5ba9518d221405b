"""Which layout a trade file has, by the names of its columns and the values of its first row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rangebar_polars.trade_layouts.table import (
    BUY,
    EARLIEST_S,
    LATEST_S,
    LAYOUTS,
    NO_SIDE,
    SELL,
    TIME_UNITS,
    TRUTH,
    column_key,
)

if TYPE_CHECKING:
    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["matching", "unit_of_number", "unit_of_time"]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INVERSE = re.compile(r".*USD([A-Z][0-9]{2})?")
_NEAR = 0.01


def unit_of_number(text: str) -> str | None:
    """Return the unit in which a number is a time of this century; None if it is in none.

    Examples
    --------
    >>> from rangebar_polars.trade_layouts.matching import unit_of_number
    >>> unit_of_number("1585180700.0647"), unit_of_number("1735689600015523"), unit_of_number("7")
    ('s', 'us', None)
    """
    # In a spreadsheet, `1.72E+12` has lost its end.
    if not _NUMBER.fullmatch(text) or "e" in text.lower() or len(text) > 40:  # noqa: PLR2004
        return None
    return unit_of_time(float(text))


def unit_of_time(value: float) -> str | None:
    """Return the unit in which a number is a time of this century; None if it is in none.

    Examples
    --------
    >>> from rangebar_polars.trade_layouts.matching import unit_of_time
    >>> unit_of_time(1_723_161_255_342), unit_of_time(1_723_161_255.25), unit_of_time(7)
    ('ms', 's', None)
    """
    units = (unit for unit, of_s in TIME_UNITS.items() if EARLIEST_S <= value / of_s < LATEST_S)
    return next(units, None)


def matching(
    header: list[str] | None, row: list[str], layouts: tuple[TradeLayout, ...] = LAYOUTS
) -> list[TradeLayout]:
    """Return the layouts that a file may have: one, or several that cannot be told apart.

    Parameters
    ----------
    header
        Names of the columns, if the file has them.
    row
        Values of the first trade; empty for a file without trades.
    layouts
        Those to choose from.

    Examples
    --------
    >>> from rangebar_polars.trade_layouts.matching import matching
    >>> [layout.title for layout in matching(None, ["1381095255", "123.61", "0.1"])]
    ['kraken']
    """
    if header is None:
        return [layout for layout in layouts if _fits_position(layout, row)]
    keys = [column_key(name) for name in header]
    found = []
    for layout in layouts:
        named = layout.header != "never" and set(layout.needed) <= set(keys)
        if not named or (layout.is_closed and len(keys) != len(layout.needed)):
            continue
        if not row or _fits(layout, dict(zip(keys, row, strict=False))):
            found.append(layout)
    most = max((len(layout.needed) for layout in found), default=0)
    return [layout for layout in found if len(layout.needed) == most]


def _fits_position(layout: TradeLayout, row: list[str]) -> bool:
    """Return whether a row can be one of a file of this layout without a header."""
    if layout.header == "always" or len(row) != len(layout.columns):
        return False
    keys = map(column_key, layout.columns)
    values = dict(zip(keys, row, strict=True))
    return _fits(layout, values) and _fits_amounts(layout, values)


def _fits(layout: TradeLayout, values: dict[str, str]) -> bool:
    """Return whether values can be those of a trade of this layout."""

    def value(column: str) -> str:
        return values.get(column_key(column), "").strip().strip('"')

    time = value(layout.time)
    unit = unit_of_number(time)
    is_time = unit in layout.time_units if unit else any(len(one) > 2 for one in layout.time_units)  # noqa: PLR2004
    amounts = (layout.price, layout.quantity, layout.contracts, layout.bid, layout.ask)
    ids = (layout.id if layout.id_kind != "text" else "", layout.first_id, layout.last_id)
    side = value(layout.side).lower()
    return (
        is_time
        and not (unit is None and _NUMBER.fullmatch(time))
        and all(_NUMBER.fullmatch(value(column)) for column in amounts if column)
        and all(re.fullmatch("-?[0-9]+", value(column)) for column in ids if column)
        and (not layout.side or side in BUY | SELL | NO_SIDE)
        and (not layout.buyer_maker or value(layout.buyer_maker).lower() in TRUTH)
        and (layout.form not in ("linear", "inverse") or _is_form(layout, value(layout.symbol)))
    )


def _is_form(layout: TradeLayout, symbol: str) -> bool:
    """Return whether an instrument is margined as the form says: inverse ones are quoted in USD alone."""
    return (layout.form == "inverse") == bool(_INVERSE.fullmatch(symbol.upper()))


def _fits_amounts(layout: TradeLayout, values: dict[str, str]) -> bool:
    """Return whether the third amount of a row is the turnover, or the coins, that the layout says."""
    if not layout.turnover and not (layout.contracts and layout.quantity):
        return True
    price = float(values[column_key(layout.price)])
    if layout.turnover:
        traded = price * float(values[column_key(layout.quantity)])
        return abs(float(values[column_key(layout.turnover)]) - traded) <= _NEAR * traded
    contracts, coins = (float(values[column_key(n)]) for n in (layout.contracts, layout.quantity))
    sizes = [size * contracts / price for size in (10, 100)]
    return any(abs(coins - expected) <= _NEAR * expected for expected in sizes)
