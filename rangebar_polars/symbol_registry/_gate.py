"""The gate that checks symbols before anything else is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, cast

from rangebar_polars._text import LONGEST_NAME, shown
from rangebar_polars._utils.span import day_start, parse_day
from rangebar_polars._utils.symbol_names import (
    SYMBOL_HINT,
    has_symbol_characters,
    toml_key,
    upper_name,
)
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.config import config_folder, settings
from rangebar_polars.events import SymbolNotRegistered, emit
from rangebar_polars.exceptions import (
    StartDateClampedWarning,
    SymbolNotRegisteredError,
    SymbolNotRegisteredWarning,
    nearest,
    with_hint,
)
from rangebar_polars.symbol_registry._registry import (
    TIER1_SYMBOLS,
    get_registered_symbols,
    get_symbol_entries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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

# Symbols that the gate has accepted for the current call in this thread.
_PAST_GATE: ContextVar[frozenset[str]] = ContextVar("past_gate", default=frozenset())

WhenT = TypeVar("WhenT", bound="When")


def validate_symbol_registered(symbol: str, *, operation: str = "") -> str:
    """Check that a symbol is registered and enabled, and return it in upper case.

    The setting `symbol_gate` decides about other symbols: `strict` raises, `warn` warns and `off`
    accepts them. An error or a warning is also an event.

    Parameters
    ----------
    symbol
        A symbol in any letter case.
    operation
        Name of the calling operation, for messages and events.

    Raises
    ------
    SymbolNotRegisteredError
        The gate is strict, and the symbol is not registered or not enabled.
    SettingError
        A setting, or the user's file of symbols, is not valid.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import validate_symbol_registered
    >>> validate_symbol_registered("btcusdt")
    'BTCUSDT'
    """
    return validate_symbols_registered((symbol,), operation=operation)[0]


def validate_symbols_registered(symbols: Iterable[str], *, operation: str = "") -> tuple[str, ...]:
    """Check that all symbols are registered and enabled, and return them in upper case.

    One error names all symbols that are not.

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
    rejected = [name for name in dict.fromkeys(names) if not (_is_enabled(name) or _is_past(name))]
    if not rejected:
        return names
    message = _describe_rejection(rejected, operation, gate)
    for name in rejected:
        emit(SymbolNotRegistered(name, operation, len(get_registered_symbols())))
    if gate == "strict":
        raise SymbolNotRegisteredError(message, symbol=rejected[0], operation=operation)
    warn_caller(message, SymbolNotRegisteredWarning)
    return names


def validate_and_clamp_start_date(symbol: str, start: WhenT) -> WhenT:
    """Return the start, or the symbol's effective start with a warning if that is later.

    A strict gate rejects a symbol that is not registered. With another gate, such a symbol has no
    effective start.

    Parameters
    ----------
    symbol
        A symbol in any letter case.
    start
        A date, its text, or a datetime; without a zone it is UTC.

    Returns
    -------
    str, date or datetime
        A value of the same kind as `start`. A datetime is 00:00 UTC of the effective start, in the
        zone of `start`.

    Raises
    ------
    SymbolNotRegisteredError
        The gate is strict, and the symbol is not registered or not enabled.
    ValueError
        The start is not a date.

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
    warn_caller(with_hint(message, hint), StartDateClampedWarning)
    return _in_kind_of(start, entry.effective_start)


def _in_kind_of(start: WhenT, day: date) -> WhenT:
    """Return a day as a value of the kind of `start`."""
    if isinstance(start, datetime):
        zone = start.tzinfo or UTC
        return cast("WhenT", day_start(day).astimezone(zone).replace(tzinfo=start.tzinfo))
    return cast("WhenT", day.isoformat() if isinstance(start, str) else day)


@contextmanager
def past_gate(symbol: str) -> Iterator[None]:
    """Accept a symbol within the block, so that inner calls do not repeat an error or a warning."""
    before = _PAST_GATE.set(_PAST_GATE.get() | {symbol})
    try:
        yield
    finally:
        _PAST_GATE.reset(before)


def _is_past(name: str) -> bool:
    return name in _PAST_GATE.get()


def _upper(symbol: str) -> str:
    if isinstance(symbol, str):
        return upper_name(symbol)
    hint = 'write "BTCUSDT"'
    if isinstance(symbol, Iterable):
        hint = (
            "pass one symbol at a time; rb.scan_ticks, rb.scan_range_bars and "
            "rb.populate_cache_resumable take a list of symbols"
        )
    raise TypeError(
        with_hint(f"`symbol` must be text; it is of type `{type(symbol).__name__}`", hint)
    )


def _is_enabled(name: str) -> bool:
    entry = get_symbol_entries().get(name)
    return entry is not None and entry.enabled


def _describe_rejection(rejected: Sequence[str], operation: str, gate: str) -> str:
    """Describe why symbols are rejected, with a hint."""
    entries = get_symbol_entries()
    listed = ", ".join(f"`{shown(name)}`" for name in rejected)
    where = f" ({operation})" if operation else ""
    disabled = all(name in entries for name in rejected)
    state = "not enabled" if disabled else "not registered"
    sentence = f"{listed} {'is' if len(rejected) == 1 else 'are'} {state}{where}"
    name = rejected[0]
    file = settings().symbols or config_folder() / "symbols.toml"
    near = None if disabled else nearest(name, get_registered_symbols())
    question = f"did you mean `{near}`? " if near else ""
    if len(name) > LONGEST_NAME or not has_symbol_characters(name):
        return with_hint(sentence, f"{question}{SYMBOL_HINT}")
    if len(rejected) > 1 and set(rejected) <= set(TIER1_SYMBOLS):
        hint = 'these are coins; rb.tier1_pairs("USDT") returns their symbols'
        return with_hint(sentence, hint)
    line = "enabled = true" if disabled else 'asset_class = "crypto"'
    task = "enable" if disabled else "register"
    softer = "off" if gate == "warn" else "warn"
    remedy = (
        f"{'To' if near else 'to'} {task} `{name}`, add to {file}:\n[symbols.{toml_key(name)}]\n{line}\n"
        f"or set RANGEBAR_SYMBOL_GATE={softer}"
    )
    return with_hint(sentence, f"{question}{remedy}")
