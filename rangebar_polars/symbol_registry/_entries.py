"""Entries of the symbol registry, and their parsing from tables of a TOML file."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import either
from rangebar_polars._utils.settings.types import (
    COUNT,
    DATE,
    SWITCH,
    TEXT,
    THRESHOLD,
    Kind,
    choice,
    whole_number,
)
from rangebar_polars.exceptions import SettingError, nearest, with_hint
from rangebar_polars.sources import (
    DEFAULT_MARKET,
    DEFAULT_SOURCE,
    SOURCES,
    canonical_market,
    source_named,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

__all__ = ["KnownGap", "SymbolEntry", "SymbolTransition", "check_venue", "checked_keys"]
__all__ += ["entry_of"]


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


def _list_of(read: Callable[[Any], object]) -> Callable[[object], tuple[object, ...]]:
    def read_all(value: object) -> tuple[object, ...]:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        return tuple(read(item) for item in value)

    return read_all


TEXTS = Kind("a list of texts", _texts)


@dataclass(frozen=True, slots=True)
class KnownGap:
    """A span of UTC days, both ends included, that are known to have no data."""

    start_date: date = field(metadata={"kind": DATE})
    end_date: date = field(metadata={"kind": DATE})
    reason: str = field(metadata={"kind": TEXT})
    source: str = field(default="", metadata={"kind": TEXT})


def _gap(value: object) -> KnownGap:
    if isinstance(value, KnownGap):
        return value
    if not isinstance(value, dict):
        raise TypeError
    gap: KnownGap = entry_of(KnownGap, checked_keys(KnownGap, value, "a known gap"), "a known gap")
    if gap.end_date < gap.start_date:
        raise ValueError
    return gap


# Markets of all sources, as a file of symbols writes them.
_MARKETS = dict.fromkeys(
    market.registry_name or market.name for source in SOURCES.values() for market in source.markets
)


def _source(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return source_named(value.strip()).name


def _market(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip().lower()


def _archive_name(value: object) -> str:
    # A part of an address.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError
    return value


EXCHANGE = Kind(
    f"{either(SOURCES)}, or a source of your own: 2 to 32 characters a-z, 0-9, `_` and `-`",
    _source,
    tuple(SOURCES),
)
# Which names a market has depends on the exchange, see `check_venue`.
MARKET = Kind("a text", _market)
MARKET_OF_TABLE = choice(*_MARKETS)
ARCHIVE_NAME = Kind("a name of letters, digits, `_`, `-` and `.`", _archive_name)
GAPS = Kind("a list of spans with start_date, end_date and reason", _list_of(_gap))


@dataclass(frozen=True, slots=True)
class SymbolEntry:
    """The entry of one symbol in the registry.

    Attributes
    ----------
    name
        The symbol in upper case.
    enabled
        Whether the gate accepts the symbol.
    asset_class
        crypto, forex or equities. It decides the smallest threshold if `min_threshold` is None.
    exchange, market
        Where the symbol is traded. An `exchange` other than those of the table of sources is a
        source of your own, whose `market` has any name.
    listing_date
        First trading day, if known.
    effective_start, reason
        First day to compute from if earlier data are bad or missing, and why.
    first_clean_date
        First day whose data were checked and found good.
    tier
        1 for the most liquid.
    min_threshold
        Smallest threshold in decimal basis points.
    data_anomalies, known_gaps
        Known faults of the source, and spans that are known to have no data.
    archive_name
        The symbol in the archive of Exness with its type of account, such as EURUSDm, where that is
        not Raw_Spread.
    contract_size
        Value of a contract in the currency of the price, for coin-margined futures.
    processing_notes, keywords, reference
        Notes for people; the package does not read them.
    """

    name: str = field(metadata={"kind": TEXT})
    asset_class: str = field(metadata={"kind": choice("crypto", "forex", "equities")})
    enabled: bool = field(default=True, metadata={"kind": SWITCH})
    exchange: str = field(default=DEFAULT_SOURCE, metadata={"kind": EXCHANGE})
    market: str = field(default=DEFAULT_MARKET, metadata={"kind": MARKET})
    listing_date: date | None = field(default=None, metadata={"kind": DATE})
    effective_start: date | None = field(default=None, metadata={"kind": DATE})
    reason: str = field(default="", metadata={"kind": TEXT})
    first_clean_date: date | None = field(default=None, metadata={"kind": DATE})
    tier: int | None = field(default=None, metadata={"kind": COUNT})
    min_threshold: int | None = field(default=None, metadata={"kind": THRESHOLD})
    data_anomalies: tuple[str, ...] = field(default=(), metadata={"kind": TEXTS})
    known_gaps: tuple[KnownGap, ...] = field(default=(), metadata={"kind": GAPS})
    archive_name: str = field(default="", metadata={"kind": ARCHIVE_NAME})
    contract_size: int | None = field(default=None, metadata={"kind": COUNT})
    processing_notes: str = field(default="", metadata={"kind": TEXT})
    keywords: tuple[str, ...] = field(default=(), metadata={"kind": TEXTS})
    reference: str = field(default="", metadata={"kind": TEXT})


@dataclass(frozen=True, slots=True)
class SymbolTransition:
    """A symbol that was renamed, with no trades in the days between."""

    name: str = field(metadata={"kind": TEXT})
    old_symbol: str = field(metadata={"kind": TEXT})
    new_symbol: str = field(metadata={"kind": TEXT})
    last_old_date: date = field(metadata={"kind": DATE})
    first_new_date: date = field(metadata={"kind": DATE})
    gap_days: int = field(metadata={"kind": whole_number(0)})
    reason: str = field(default="", metadata={"kind": TEXT})
    keywords: tuple[str, ...] = field(default=(), metadata={"kind": TEXTS})
    reference: str = field(default="", metadata={"kind": TEXT})
    status: str = field(default="placeholder", metadata={"kind": TEXT})


def checked_keys(cls: type[Any], table: Mapping[str, object], place: str) -> dict[str, object]:
    """Parse the values of a table. `place` names the table in an error.

    Raises
    ------
    SettingError
        A key is unknown, or a value is of the wrong kind.
    """
    kinds: dict[str, Kind] = {item.name: item.metadata["kind"] for item in fields(cls)}
    keys = kinds.keys() - {"name"}
    for key in table:
        if key not in keys:
            near = nearest(key, keys)
            sentence = f"`{key}` is not a key of {place}"
            hint = f"did you mean `{near}`?" if near else f"its keys are {', '.join(sorted(keys))}"
            raise SettingError(with_hint(sentence, hint))
    return {key: kinds[key].value(value, f"`{key}` of {place}") for key, value in table.items()}


def check_venue(values: Mapping[str, object], place: str) -> None:
    """Check the market of an entry against its exchange.

    Raises
    ------
    SettingError
        The exchange has no such market.
    """
    market = values.get("market")
    if market is None:
        return
    source = str(values.get("exchange", DEFAULT_SOURCE))
    if not source_named(source).is_user:
        MARKET_OF_TABLE.value(market, f"`market` of {place}")
        return
    try:
        canonical_market(source, str(market))
    except ValueError as error:
        raise SettingError(f"{place}: {error}") from error


def entry_of(cls: type[Any], values: Mapping[str, object], place: str) -> Any:  # noqa: ANN401
    """Make an object of a class from parsed values.

    Raises
    ------
    SettingError
        A key without a default is missing.
    """
    for item in fields(cls):
        if item.default is MISSING and item.name not in values:
            kind: Kind = item.metadata["kind"]
            raise SettingError(
                with_hint(f"{place} has no key `{item.name}`", f"it is {kind.description}")
            )
    return cls(**values)
