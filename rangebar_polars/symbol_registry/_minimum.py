"""The smallest threshold of a symbol, from the user's setting, the registry or its asset class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.symbol_names import upper_name, variable_suffix
from rangebar_polars.config import config_folder, minimum_threshold_setting, settings
from rangebar_polars.events import ThresholdViolation, emit
from rangebar_polars.exceptions import ThresholdError, with_hint
from rangebar_polars.installation.variables import MINIMUM_THRESHOLD
from rangebar_polars.symbol_registry import TIER1_SYMBOLS, get_symbol_entries
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["resolve_and_validate_threshold"]

STABLE_COINS = ("USDT", "BUSD", "USDC", "TUSD", "FDUSD", "USDE", "USDM")
CURRENCIES = ("USD", "EUR", "GBP", "JPY", "AUD", "CAD", "NZD", "CHF", "XAU", "XAG")


@checked_keywords
def resolve_and_validate_threshold(symbol: str | None, threshold: ThresholdLike) -> int:
    """Parse a threshold to decimal basis points and check it against the symbol's minimum.

    The minimum is the variable `RANGEBAR_MIN_THRESHOLD_<SYMBOL>`, else the registry's, else that of
    the symbol's asset class. A threshold below it is also an event. The symbol need not be
    registered.

    Parameters
    ----------
    symbol
        A symbol in any letter case, or None for no minimum.
    threshold
        250, "0.25%", "25bp" or the name of a preset.

    Raises
    ------
    ThresholdError
        The threshold is not valid, or below the minimum. In the second case the error has
        `threshold`, `min_threshold`, `symbol` and `asset_class`.
    SettingError
        A minimum in the settings, or the user's file of symbols, is not valid.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold
    >>> resolve_and_validate_threshold("btcusdt", "medium")
    250
    >>> resolve_and_validate_threshold(None, 10)
    10
    """
    dbps = parse_threshold(threshold)
    if symbol is None:
        return dbps
    if not isinstance(symbol, str):
        raise TypeError(f"`symbol` must be text or None; it is of type `{type(symbol).__name__}`")
    name = upper_name(symbol)
    asset_class = asset_class_of(name)
    minimum = minimum_threshold(name, asset_class)
    if dbps < minimum:
        emit(ThresholdViolation(name, dbps, minimum, asset_class))
        preset = f"`{threshold}`, which is " if isinstance(threshold, str) else ""
        number = dbps if preset else f"`{dbps}`"
        message = with_hint(
            f"a threshold of {preset}{number} ({percent(dbps)}) is below the minimum of {name}, "
            f"which is {minimum} ({percent(minimum)}): {_origin(name, asset_class)}",
            f"take {minimum} or more; or lower the minimum: {_lowered(name, dbps)}",
        )
        raise ThresholdError(
            message,
            threshold=dbps,
            min_threshold=minimum,
            symbol=name,
            asset_class=asset_class,
        )
    return dbps


def minimum_threshold(name: str, asset_class: str) -> int:
    """Return the smallest threshold of a symbol in upper case."""
    setting = minimum_threshold_setting(name)
    if setting is not None:
        return setting
    entry = get_symbol_entries().get(name)
    if entry is not None and entry.min_threshold is not None:
        return entry.min_threshold
    of_class: int = getattr(settings(), f"{asset_class}_min_threshold")
    return of_class


def _origin(name: str, asset_class: str) -> str:
    """Describe where the minimum of a symbol comes from."""
    if minimum_threshold_setting(name) is not None:
        return f"the variable {_variable(name)} sets it"
    entry = get_symbol_entries().get(name)
    if entry is not None and entry.min_threshold is not None:
        return f"the registry sets it, `min_threshold` of [symbols.{name}]"
    return (
        f"the setting `{asset_class}_min_threshold` sets it, for symbols of class {asset_class} "
        "without a minimum of their own"
    )


def _lowered(name: str, dbps: int) -> str:
    """Describe how to lower the minimum of a symbol."""
    variable = _variable(name)
    file = settings().symbols or config_folder() / "symbols.toml"
    in_file = f"min_threshold = {dbps} below [symbols.{name}] in {file}"
    # A shell cannot set a variable with a dash or a slash in its name.
    return f"set {variable}={dbps}, or write {in_file}" if variable.isidentifier() else in_file


def _variable(name: str) -> str:
    return f"{MINIMUM_THRESHOLD}{variable_suffix(name)}"


def asset_class_of(name: str) -> str:
    """Return the asset class of a symbol from the registry, else from the form of its name.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry._minimum import asset_class_of
    >>> [asset_class_of(name) for name in ("XAUUSD", "NEWUSDT", "ETHBTC", "UNITED")]
    ['forex', 'crypto', 'crypto', 'unknown']
    """
    entry = get_symbol_entries().get(name)
    if entry is not None:
        return entry.asset_class
    if name.endswith(STABLE_COINS) and name not in STABLE_COINS:
        return "crypto"
    quotes = (*CURRENCIES, *TIER1_SYMBOLS)
    if any(name == base + quote for base in TIER1_SYMBOLS for quote in quotes):
        return "crypto"
    if any(name == base + quote for base in CURRENCIES for quote in CURRENCIES):
        return "forex"
    return "unknown"


def percent(dbps: int) -> str:
    """Format a threshold as a percentage."""
    return f"{dbps / 1000:g} %"
