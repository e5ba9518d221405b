"""The gate that every function with a symbol asks first."""

from __future__ import annotations

import inspect
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from rangebar_polars._utils.span import day_start, parse_day
from rangebar_polars.config import config_folder, settings
from rangebar_polars.events import SymbolNotRegistered, emit
from rangebar_polars.exceptions import SymbolNotRegisteredError, nearest, with_hint
from rangebar_polars.symbol_registry._registry import get_registered_symbols, get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from rangebar_polars._utils.span import When

__all__ = [
    "StartDateClampedWarning",
    "SymbolNotRegisteredWarning",
    "past_gate",
    "validate_and_clamp_start_date",
    "validate_symbol_registered",
    "validate_symbols_registered",
]

# Symbols that the call at work, in this thread, has been let through with.
_PAST_GATE: ContextVar[frozenset[str]] = ContextVar("past_gate", default=frozenset())

WhenT = TypeVar("WhenT", bound="When")


class SymbolNotRegisteredWarning(UserWarning):
    """A symbol that is not registered was let through, since the gate only warns."""


class StartDateClampedWarning(UserWarning):
    """A start before the symbol's effective start was moved to it."""


def validate_symbol_registered(symbol: str, *, operation: str = "") -> str:
    """The symbol in upper case, if the gate lets it through.

    The setting `symbol_gate` says what happens to a symbol that the registry does not know, or that
    is not enabled there: `strict` raises, `warn` warns, `off` lets it through. A refusal and a
    warning are events too.

    Parameters
    ----------
    symbol
        In any letter case.
    operation
        What is to be done with the symbol, for messages and events.

    Raises
    ------
    SymbolNotRegisteredError
        The gate is strict, and the symbol is not registered or not enabled.
    SettingError
        A setting, or the user's file of symbols, is wrong.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import validate_symbol_registered
    >>> validate_symbol_registered("btcusdt")
    'BTCUSDT'
    """
    return validate_symbols_registered((symbol,), operation=operation)[0]


def validate_symbols_registered(symbols: Iterable[str], *, operation: str = "") -> tuple[str, ...]:
    """The symbols in upper case, if the gate lets all of them through.

    All are judged before any is worked on, and one error names all that are refused.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import validate_symbols_registered
    >>> validate_symbols_registered(["btcusdt", "ETHUSDT"])
    ('BTCUSDT', 'ETHUSDT')
    """
    if isinstance(symbols, str):
        raise TypeError(with_hint("`symbols` must be a list of texts", f'write ["{symbols}"]'))
    names = tuple(_upper(symbol) for symbol in symbols)
    gate = settings().symbol_gate
    if gate == "off":
        return names
    refused = [name for name in dict.fromkeys(names) if not (_is_enabled(name) or _is_past(name))]
    if not refused:
        return names
    message = _refusal(refused, operation)
    for name in refused:
        emit(SymbolNotRegistered(name, operation, len(get_registered_symbols())))
    if gate == "strict":
        raise SymbolNotRegisteredError(message, symbol=refused[0], operation=operation)
    _warn_caller(message, SymbolNotRegisteredWarning)
    return names


def validate_and_clamp_start_date(symbol: str, start: WhenT) -> WhenT:
    """The start, or the symbol's effective start if that is later; then the caller is warned.

    A strict gate refuses a symbol that is not registered. Others have no effective start.

    Parameters
    ----------
    symbol
        In any letter case.
    start
        A date, its text, or a datetime with a zone.

    Returns
    -------
    str, date or datetime
        The kind that was given; a datetime is 00:00 UTC of the effective start, in its own zone.

    Raises
    ------
    SymbolNotRegisteredError
        The gate is strict, and the symbol is not registered or not enabled.
    ValueError
        The start is no date.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import validate_and_clamp_start_date
    >>> validate_and_clamp_start_date("BTCUSDT", "2024-03-01")
    '2024-03-01'
    """
    name = _upper(symbol)
    if settings().symbol_gate == "strict":
        validate_symbol_registered(name, operation="validate_and_clamp_start_date")
    first_day = parse_day(start, "start")
    entry = get_symbol_entries().get(name)
    if entry is None or entry.effective_start is None or first_day >= entry.effective_start:
        return start
    sentence = f"{name} starts on `{entry.effective_start}`, not on `{first_day}`"
    message = f"{sentence}: {entry.reason}" if entry.reason else sentence
    hint = f"start on {entry.effective_start} or later"
    _warn_caller(with_hint(message, hint), StartDateClampedWarning)
    return _as_given(start, entry.effective_start)


def _as_given(given: WhenT, day: date) -> WhenT:
    """The day in the kind of the value given."""
    if isinstance(given, datetime):
        return cast("WhenT", day_start(day).astimezone(given.tzinfo))
    return cast("WhenT", day.isoformat() if isinstance(given, str) else day)


@contextmanager
def past_gate(symbol: str) -> Iterator[None]:
    """Calls within are parts of one that the gate has let through: it says nothing a second time."""
    before = _PAST_GATE.set(_PAST_GATE.get() | {symbol})
    try:
        yield
    finally:
        _PAST_GATE.reset(before)


def _is_past(name: str) -> bool:
    return name in _PAST_GATE.get()


def _upper(symbol: str) -> str:
    if not isinstance(symbol, str):
        raise TypeError(f"`symbol` must be text; it is of type `{type(symbol).__name__}`")
    return symbol.strip().upper()


def _is_enabled(name: str) -> bool:
    entry = get_symbol_entries().get(name)
    return entry is not None and entry.enabled


def _refusal(refused: Sequence[str], operation: str) -> str:
    """What is wrong with the symbols, and the remedy."""
    entries = get_symbol_entries()
    listed = ", ".join(f"`{name}`" for name in refused)
    where = f" ({operation})" if operation else ""
    disabled = all(name in entries for name in refused)
    state = "not enabled" if disabled else "not registered"
    sentence = f"{listed} {'is' if len(refused) == 1 else 'are'} {state}{where}"
    name = refused[0]
    file = settings().symbols or config_folder() / "symbols.toml"
    near = None if disabled else nearest(name, get_registered_symbols())
    question = f"did you mean `{near}`? else " if near else ""
    if not name.replace("_", "").isalnum():
        return with_hint(sentence, f"{question}a symbol has letters, digits and `_`: BTCUSDT")
    line = "enabled = true" if disabled else 'asset_class = "crypto"'
    remedy = f"write [symbols.{name}] and below it {line} in {file}"
    return with_hint(sentence, f"{question}{remedy}, or set RANGEBAR_SYMBOL_GATE=warn")


def _warn_caller(message: str, category: type[Warning]) -> None:
    """Warn as of the line outside this package that the call came from."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "rangebar_polars"
