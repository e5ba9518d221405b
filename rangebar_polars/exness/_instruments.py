"""Instruments of Exness, and checks of their quotes."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.exness.csv import is_quote

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ExnessInstrument", "ValidationStrictness", "check_quotes"]

# Decimals of a price, and a generous range of plausible prices.
FACTS = {
    "EURUSD": (5, 0.5, 2.5),
    "GBPUSD": (5, 0.5, 3.0),
    "USDJPY": (3, 40.0, 400.0),
    "AUDUSD": (5, 0.2, 2.0),
    "USDCAD": (5, 0.5, 2.5),
    "NZDUSD": (5, 0.2, 2.0),
    "EURGBP": (5, 0.3, 2.0),
    "EURJPY": (3, 50.0, 500.0),
    "GBPJPY": (3, 70.0, 600.0),
    "XAUUSD": (3, 100.0, 50_000.0),
}


class ExnessInstrument(StrEnum):
    """The ten Exness instruments of the symbol registry, by their symbols in any letter case.

    Examples
    --------
    >>> from rangebar_polars.exness import ExnessInstrument
    >>> euro = ExnessInstrument("eurusd")
    >>> euro.decimals, euro.pip_size, euro.quote_currency, euro.is_dollar, euro.is_jpy
    (5, 0.0001, 'USD', True, False)
    """

    EURUSD = "EURUSD"
    GBPUSD = "GBPUSD"
    USDJPY = "USDJPY"
    AUDUSD = "AUDUSD"
    USDCAD = "USDCAD"
    NZDUSD = "NZDUSD"
    EURGBP = "EURGBP"
    EURJPY = "EURJPY"
    GBPJPY = "GBPJPY"
    XAUUSD = "XAUUSD"

    @classmethod
    def _missing_(cls, value: object) -> ExnessInstrument | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    @property
    def decimals(self) -> int:
        """Decimals of a quoted price."""
        return FACTS[self][0]

    @property
    def pip_size(self) -> float:
        """Size of a pip, which is the second to last decimal."""
        return 0.01 if self.decimals == FACTS["USDJPY"][0] else 0.0001

    @property
    def price_range(self) -> tuple[float, float]:
        """Smallest and largest plausible price."""
        return FACTS[self][1:]

    @property
    def base_currency(self) -> str:
        """The currency or metal that is traded."""
        return self[:3]

    @property
    def quote_currency(self) -> str:
        """The currency of the price."""
        return self[3:]

    @property
    def is_dollar(self) -> bool:
        """Whether one side of the pair is the US dollar."""
        return "USD" in self

    @property
    def is_jpy(self) -> bool:
        """Whether prices are in yen."""
        return self.quote_currency == "JPY"


class ValidationStrictness(StrEnum):
    """How strictly quotes are checked. Each level rejects crossed, missing and non-positive quotes.

    Strict and Paranoid also reject prices outside the instrument's range, and spreads above 10 % and
    1 % of the mid.

    Examples
    --------
    >>> from rangebar_polars.exness import ValidationStrictness
    >>> ValidationStrictness("paranoid").spread_limit_percent
    1
    """

    Permissive = "permissive"
    Strict = "strict"
    Paranoid = "paranoid"

    @classmethod
    def _missing_(cls, value: object) -> ValidationStrictness | None:
        return cls.__members__.get(value.capitalize()) if isinstance(value, str) else None

    @property
    def spread_limit_percent(self) -> int | None:
        """Largest spread in percent of the mid."""
        return {"strict": 10, "paranoid": 1}.get(self)


def check_quotes(
    quotes: pl.DataFrame,
    bid: pl.Series,
    ask: pl.Series,
    symbol: str,
    strictness: ValidationStrictness,
) -> None:
    """Raise for the first quote that is not valid at this strictness.

    `bid` and `ask` are the prices of the quotes in units of 1e-8.
    """
    limit = strictness.spread_limit_percent
    rejected = [(~quotes.select(is_quote().fill_null(value=False)).to_series(), "")]
    if limit is not None:
        # Relative to the mid, in integers, so that a spread of exactly the limit passes.
        wide = (ask - bid) * 200 > (bid + ask) * limit
        rejected.append((wide, f"a spread above {limit} % of the mid"))
    if limit is not None and symbol in FACTS:
        low, high = ExnessInstrument(symbol).price_range
        inside = quotes["bid"].is_between(low, high) & quotes["ask"].is_between(low, high)
        rejected.append((~inside, f"prices of {symbol} are between {low:g} and {high:g}"))
    for rows, why in rejected:
        if rows.any():
            row = int(rows.arg_true()[0])
            raise TickDataError(describe_quote(row, quotes["bid"][row], quotes["ask"][row], why))


def describe_quote(row: int, bid: float | None, ask: float | None, why: str) -> str:
    """Describe what is wrong with a quote, with a hint."""
    if why:
        hint = "ValidationStrictness.Permissive accepts any spread and any price"
        return with_hint(f"row {row}: bid `{bid}`, ask `{ask}`: {why}", hint)
    hint = "drop such rows"
    if bid is not None and ask is not None and bid > ask > 0:
        return with_hint(f"row {row}: the quote is crossed, bid `{bid}` is above ask `{ask}`", hint)
    return with_hint(f"row {row}: bid `{bid}` and ask `{ask}` are not valid prices", hint)
