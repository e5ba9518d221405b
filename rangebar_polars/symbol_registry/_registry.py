"""The registry of the package, with the user's file merged over it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars._files.toml import read_toml
from rangebar_polars._utils.symbol_names import toml_key, upper_name
from rangebar_polars.config import config_folder, settings
from rangebar_polars.exceptions import SettingError, nearest, with_hint
from rangebar_polars.sources import canonical_symbol
from rangebar_polars.symbol_registry._entries import (
    SymbolEntry,
    SymbolTransition,
    check_venue,
    checked_keys,
    entry_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "TIER1_SYMBOLS",
    "clear_symbol_registry_cache",
    "get_contract_size",
    "get_effective_start_date",
    "get_registered_symbols",
    "get_symbol_entries",
    "get_transitions",
]

#: Base names of the most liquid symbols.
TIER1_SYMBOLS: tuple[str, ...] = (
    "AAVE",
    "ADA",
    "AVAX",
    "BCH",
    "BNB",
    "BTC",
    "DOGE",
    "ETH",
    "FIL",
    "LINK",
    "LTC",
    "NEAR",
    "SOL",
    "SUI",
    "UNI",
    "WIF",
    "WLD",
    "XRP",
)

# The sections of a registry file, and the class of their entries.
_SECTIONS = {"symbols": SymbolEntry, "transitions": SymbolTransition}
_SHIPPED = "the package's symbols.toml"


@dataclass(frozen=True, slots=True)
class Registry:
    """Symbols and transitions by name, in the order of the files."""

    symbols: Mapping[str, SymbolEntry]
    transitions: Mapping[str, SymbolTransition]


def get_symbol_entries() -> Mapping[str, SymbolEntry]:
    """Return the entries of the registry by name, those of the user's file last.

    Raises
    ------
    SettingError
        The user's file cannot be read, or has an unknown key or a value that is not valid.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_symbol_entries
    >>> entry = get_symbol_entries()["SHIBUSDT"]
    >>> entry.asset_class, entry.min_threshold
    ('crypto', 750)
    """
    return _registry().symbols


def get_transitions() -> tuple[SymbolTransition, ...]:
    """Return the symbols that were renamed.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_transitions
    >>> [(one.old_symbol, one.new_symbol, one.gap_days) for one in get_transitions()]
    [('MATICUSDT', 'POLUSDT', 2)]
    """
    return tuple(_registry().transitions.values())


def get_registered_symbols(
    *,
    asset_class: str | None = None,
    tier: int | None = None,
    enabled_only: bool = True,
) -> tuple[str, ...]:
    """Return the names of registered symbols, sorted.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_registered_symbols
    >>> get_registered_symbols(asset_class="forex")[:3]
    ('AUDUSD', 'EURGBP', 'EURJPY')
    """
    return tuple(
        sorted(
            entry.name
            for entry in get_symbol_entries().values()
            if (entry.enabled or not enabled_only)
            and asset_class in (None, entry.asset_class)
            and tier in (None, entry.tier)
        )
    )


def get_effective_start_date(symbol: str) -> str | None:
    """Return the first day to compute from, if a symbol has bad or missing data before it.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_effective_start_date
    >>> get_effective_start_date("btcusdt"), get_effective_start_date("SOLUSDT")
    ('2018-01-16', None)
    """
    entry = get_symbol_entries().get(upper_name(symbol))
    start = entry.effective_start if entry else None
    return start.isoformat() if start else None


def get_contract_size(symbol: str) -> int:
    """Return the value of a contract of coin-margined futures, in the currency of the price.

    Raises
    ------
    SettingError
        The registry has none for the symbol.

    Examples
    --------
    >>> from rangebar_polars.symbol_registry import get_contract_size
    >>> get_contract_size("BTCUSD_PERP")
    100
    """
    name = upper_name(symbol)
    entry = get_symbol_entries().get(name)
    if entry is not None and entry.contract_size is not None:
        return entry.contract_size
    file = settings().symbols or config_folder() / "symbols.toml"
    size = 100 if name.startswith("BTCUSD") else 10
    lines = [f"[symbols.{toml_key(name)}]", f"contract_size = {size}"]
    if entry is None:
        lines += ['asset_class = "crypto"', 'market = "futures-cm"']
    raise SettingError(
        with_hint(
            f"the registry has no contract_size for `{name}`, whose quantities are in contracts",
            f"a contract of BTC is worth 100 USD on Binance, and of most other coins 10 USD; in {file}, "
            f"write\n" + "\n".join(lines),
        )
    )


def clear_symbol_registry_cache() -> None:
    """Read the registry again at the next use.

    This is rarely needed, because a changed file is noticed by its time and size.
    """
    _merged.cache_clear()
    _shipped.cache_clear()


def _registry() -> Registry:
    path = settings().symbols
    if path is None:
        return _shipped()
    try:
        status = path.stat()
    except OSError as error:
        hint = "RANGEBAR_SYMBOLS names your own file of symbols; unset it, or create the file"
        message = f"`{path}` cannot be read: {error.strerror}"
        raise SettingError(with_hint(message, hint)) from error
    return _merged(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _shipped() -> Registry:
    return _built(_read(tomllib.loads(_internal.symbols_toml()), _SHIPPED), _SHIPPED)


@lru_cache(maxsize=4)
def _merged(path: Path, modified_ns: int, size: int) -> Registry:  # noqa: ARG001
    """Merge the user's file over the registry, cached by the time and size of the file."""
    known = _read(tomllib.loads(_internal.symbols_toml()), _SHIPPED)
    own = _read(read_toml(path), f"`{path}`")
    for section, entries in own.items():
        for name, values in entries.items():
            known[section][name] = known[section].get(name, {}) | values
    return _built(known, f"`{path}`")


def _read(table: Mapping[str, Any], file: str) -> dict[str, dict[str, dict[str, object]]]:
    """Parse the values of every entry of a file, by section and name."""
    for key in table:
        if key not in {"meta", *_SECTIONS}:
            near = nearest(key, _SECTIONS) or "symbols"
            raise SettingError(
                with_hint(f"`{key}` is not a table of {file}", f"did you mean [{near}.NAME]?")
            )
    return {section: _read_section(section, table.get(section, {}), file) for section in _SECTIONS}


def _read_section(section: str, entries: object, file: str) -> dict[str, dict[str, object]]:
    if not isinstance(entries, dict):
        raise SettingError(f"`{section}` of {file} is not a table of tables")
    found: dict[str, dict[str, object]] = {}
    for written, table in entries.items():
        place = f"[{section}.{written}] in {file}"
        try:
            name = canonical_symbol(written)
        except ValueError as error:
            raise SettingError(f"{place}: {error}") from error
        if not isinstance(table, dict):
            raise SettingError(
                f"`{written}` of {file} is not a table: write [{section}.{toml_key(name)}]"
            )
        if name in found:
            raise SettingError(f"{place} appears twice, in different letter cases")
        found[name] = checked_keys(_SECTIONS[section], table, place)
    return found


def _built(known: Mapping[str, Mapping[str, Mapping[str, object]]], file: str) -> Registry:
    for name, values in known["symbols"].items():
        check_venue(values, f"[symbols.{toml_key(name)}] in {file}")
    built = {
        section: MappingProxyType(
            {
                name: entry_of(cls, {"name": name, **values}, f"[{section}.{name}] in {file}")
                for name, values in known[section].items()
            }
        )
        for section, cls in _SECTIONS.items()
    }
    return Registry(symbols=built["symbols"], transitions=built["transitions"])
