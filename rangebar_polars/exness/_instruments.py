"""What is known of the instruments of Exness, and how strictly their quotes are judged."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.exness.csv import is_quote

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ExnessInstrument", "ValidationStrictness", "judge"]

# Decimals of a price, and between which prices the instrument has ever been thought of.
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
    """The ten instruments that the registry has for Exness, by their symbols in any letter case.

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
        """Size of a pip: the last decimal but one."""
        return 0.01 if self.decimals == FACTS["USDJPY"][0] else 0.0001

    @property
    def price_range(self) -> tuple[float, float]:
        """Smallest and largest price that can be meant; others are another instrument's."""
        return FACTS[self][1:]

    @property
    def base_currency(self) -> str:
        """What is bought and sold."""
        return self[:3]

    @property
    def quote_currency(self) -> str:
        """What it is paid with."""
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
    """How quotes are judged. Crossed, missing and non-positive ones are refused by all.

    Strict and Paranoid also refuse prices outside the instrument's range, and spreads above 10 %
    and 1 % of the mid.

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


def judge(
    quotes: pl.DataFrame,
    bid: pl.Series,
    ask: pl.Series,
    symbol: str,
    strictness: ValidationStrictness,
) -> None:
    """Refuse the first quote that is none, or that the strictness does not let pass.

    `bid` and `ask` are the prices of the quotes in whole numbers of 1e-8.
    """
    limit = strictness.spread_limit_percent
    refused = [(~quotes.select(is_quote().fill_null(value=False)).to_series(), "")]
    if limit is not None:
        # Of the mid, which is half of the sum; in whole numbers, so that the limit itself passes.
        wide = (ask - bid) * 200 > (bid + ask) * limit
        refused.append((wide, f"a spread above {limit} % of the mid"))
    if limit is not None and symbol in FACTS:
        low, high = ExnessInstrument(symbol).price_range
        inside = quotes["bid"].is_between(low, high) & quotes["ask"].is_between(low, high)
        refused.append((~inside, f"prices of {symbol} are between {low:g} and {high:g}"))
    for rows, why in refused:
        if rows.any():
            row = int(rows.arg_true()[0])
            raise TickDataError(words(row, quotes["bid"][row], quotes["ask"][row], why))


def words(row: int, bid: float | None, ask: float | None, why: str) -> str:
    """What is wrong with a quote, and the remedy."""
    if why:
        hint = "ValidationStrictness.Permissive lets any spread and any price pass"
        return with_hint(f"row {row}: bid `{bid}`, ask `{ask}`: {why}", hint)
    hint = "take such rows out"
    if bid is not None and ask is not None and bid > ask > 0:
        return with_hint(f"row {row}: the quote is crossed, bid `{bid}` is above ask `{ask}`", hint)
    return with_hint(f"row {row}: bid `{bid}` and ask `{ask}` are no prices", hint)
