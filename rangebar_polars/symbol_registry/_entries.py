"""What the registry says about a symbol, and how it is read from a table of a TOML file."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.setting_types import (
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
from rangebar_polars.sources import DEFAULT_MARKET, DEFAULT_SOURCE, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

__all__ = ["KnownGap", "SymbolEntry", "SymbolTransition", "checked_keys", "entry_of"]


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
    """A span of UTC days, both ends included, whose missing data are no fault."""

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


# Markets of all sources, by their names in a file of symbols.
_MARKETS = dict.fromkeys(
    market.registry_name or market.name for source in SOURCES.values() for market in source.markets
)


GAPS = Kind("a list of spans with start_date, end_date and reason", _list_of(_gap))


@dataclass(frozen=True, slots=True)
class SymbolEntry:
    """What the registry says about one symbol.

    Attributes
    ----------
    name
        The symbol in upper case.
    enabled
        False: the gate refuses the symbol.
    asset_class
        crypto, forex or equities; decides the smallest threshold where `min_threshold` is None.
    exchange, market
        Where it is traded.
    listing_date
        First trading day, where known.
    effective_start, reason
        First day to compute from, where the data before are bad or missing, and why.
    first_clean_date
        First day whose data were found good.
    tier
        1 for the most liquid.
    min_threshold
        Smallest threshold in decimal basis points.
    data_anomalies, known_gaps
        Faults of the source that are known, and spans without data that are no fault.
    processing_notes, keywords, reference
        For people.
    """

    name: str = field(metadata={"kind": TEXT})
    asset_class: str = field(metadata={"kind": choice("crypto", "forex", "equities")})
    enabled: bool = field(default=True, metadata={"kind": SWITCH})
    exchange: str = field(default=DEFAULT_SOURCE, metadata={"kind": choice(*SOURCES)})
    market: str = field(default=DEFAULT_MARKET, metadata={"kind": choice(*_MARKETS)})
    listing_date: date | None = field(default=None, metadata={"kind": DATE})
    effective_start: date | None = field(default=None, metadata={"kind": DATE})
    reason: str = field(default="", metadata={"kind": TEXT})
    first_clean_date: date | None = field(default=None, metadata={"kind": DATE})
    tier: int | None = field(default=None, metadata={"kind": COUNT})
    min_threshold: int | None = field(default=None, metadata={"kind": THRESHOLD})
    data_anomalies: tuple[str, ...] = field(default=(), metadata={"kind": TEXTS})
    known_gaps: tuple[KnownGap, ...] = field(default=(), metadata={"kind": GAPS})
    processing_notes: str = field(default="", metadata={"kind": TEXT})
    keywords: tuple[str, ...] = field(default=(), metadata={"kind": TEXTS})
    reference: str = field(default="", metadata={"kind": TEXT})


@dataclass(frozen=True, slots=True)
class SymbolTransition:
    """A symbol that went on under another name, with no trades in the days between."""

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
    """Keys of a table with their values, read; `place` says in an error where the table stands.

    Raises
    ------
    SettingError
        A key that the class does not have, or a value of the wrong kind.
    """
    kinds: dict[str, Kind] = {item.name: item.metadata["kind"] for item in fields(cls)}
    keys = kinds.keys() - {"name"}
    for key in table:
        if key not in keys:
            near = nearest(key, keys)
            sentence = f"`{key}` is no key of {place}"
            hint = f"did you mean `{near}`?" if near else f"its keys are {', '.join(sorted(keys))}"
            raise SettingError(with_hint(sentence, hint))
    return {key: kinds[key].value(value, f"`{key}` of {place}") for key, value in table.items()}


def entry_of(cls: type[Any], values: Mapping[str, object], place: str) -> Any:  # noqa: ANN401
    """Object of a class of values already read.

    Raises
    ------
    SettingError
        A key that has no default is missing.
    """
    for item in fields(cls):
        if item.default is MISSING and item.name not in values:
            kind: Kind = item.metadata["kind"]
            raise SettingError(
                with_hint(f"{place} lacks the key `{item.name}`", f"it is {kind.words}")
            )
    return cls(**values)
