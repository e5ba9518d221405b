"""The identity of stored bars: their rules, their spec, and the series within a segment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars._utils.span import day_start, microseconds
from rangebar_polars._utils.symbol_names import file_name_part, shortened
from rangebar_polars.bar_series.segments import EARLIEST, reset_mode, segment_of
from rangebar_polars.sources import Venue, canonical_market, canonical_symbol

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.bar_series.segments import Segment

__all__ = [
    "BAR_SEMANTICS",
    "BarRules",
    "BarSeries",
    "BarSpec",
    "BarSpecKey",
    "LeaseKey",
    "SeriesKey",
    "instant_of",
    "is_other_semantics",
]


#: Version of the bar rule. It changes only with a golden vector, not with the package version.
BAR_SEMANTICS = 1


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_ONE_MICROSECOND = timedelta(microseconds=1)


def instant_of(microseconds_since_1970: int) -> datetime:
    """Convert microseconds since 1970 to a UTC datetime."""
    return _EPOCH + microseconds_since_1970 * _ONE_MICROSECOND


@dataclass(frozen=True, slots=True)
class BarRules:
    """Options that change bars, besides the threshold and the reset."""

    prevent_same_timestamp_close: bool = True
    max_gap_us: int | None = None
    bar_semantics: int = BAR_SEMANTICS

    def __post_init__(self) -> None:
        gate = self.prevent_same_timestamp_close
        require_bool(prevent_same_timestamp_close=gate)
        # Rust does not accept a NumPy scalar.
        object.__setattr__(self, "prevent_same_timestamp_close", bool(gate))

    @property
    def id(self) -> int:
        """The identifier in the tables, the same on every machine and in every version.

        Examples
        --------
        >>> from rangebar_polars.bar_series.identity import BarRules
        >>> f"{BarRules().id:016x}"
        '44675d7ecc1ce63d'
        """
        gap = "none" if self.max_gap_us is None else str(self.max_gap_us)
        gate = "on" if self.prevent_same_timestamp_close else "off"
        text = f"gate={gate};max_gap_us={gap};bar_semantics={self.bar_semantics}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


_DEFAULT = BarRules()


class BarSpecKey(NamedTuple):
    """Columns of a spec in every table, in the order of every key."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int


#: Longest name of a file of a spec, to which others append a segment, an anchor and an ending.
LONGEST_FILE_NAME = 160


class SeriesKey(NamedTuple):
    """Columns of a series in every table, in the order of every key."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int
    segment_start: date
    anchor_us: int


@dataclass(frozen=True, slots=True)
class BarSpec:
    """The common part of series that differ only in segment and anchor."""

    source: str
    market: str
    symbol: str
    threshold: int
    #: Stored name of the reset mode, see `reset_mode`.
    reset: str
    rules: BarRules = _DEFAULT

    @classmethod
    def of(
        cls,
        symbol: str,
        threshold: int,
        *,
        source: str = "binance",
        market: str = "spot",
        reset: str | None = "year",
        rules: BarRules = _DEFAULT,
    ) -> BarSpec:
        """Return a spec of names in any letter case.

        Examples
        --------
        >>> from rangebar_polars.bar_series.identity import BarSpec
        >>> BarSpec.of("btcusdt", 250, reset="1y").key[:5]
        ('binance', 'spot', 'BTCUSDT', 250, 'year')
        """
        source, market = canonical_market(source, market)
        name = canonical_symbol(symbol)
        return cls(source, market, name, threshold, reset_mode(reset), rules)

    @property
    def key(self) -> BarSpecKey:
        """The values of the key columns."""
        return BarSpecKey(
            self.source, self.market, self.symbol, self.threshold, self.reset, self.rules.id
        )

    @property
    def venue(self) -> Venue:
        """The venue that the symbol is traded at."""
        return Venue(self.source, self.market)

    def series(self, anchor: date) -> BarSeries:
        """Return the series that begins at a day, or at an instant with a zone."""
        start = anchor if isinstance(anchor, datetime) else day_start(anchor)
        return BarSeries(self, segment_of(start, self.reset).start, microseconds(start))


@dataclass(frozen=True, slots=True)
class BarSeries:
    """Bars of one computation, which never mix with those of another."""

    spec: BarSpec
    segment_start: date
    #: Start of the computation in microseconds since 1970.
    anchor_us: int

    @property
    def key(self) -> SeriesKey:
        """The values of the key columns."""
        return SeriesKey(*self.spec.key, self.segment_start, self.anchor_us)

    @property
    def anchor(self) -> datetime:
        """The instant at which the computation begins."""
        return instant_of(self.anchor_us)

    @property
    def first_day(self) -> date:
        """The UTC day of its first unit."""
        return self.anchor.date()

    @property
    def segment(self) -> Segment:
        """The segment it lies in."""
        return segment_of(self.anchor, self.spec.reset)

    @property
    def lease_key(self) -> LeaseKey:
        """The key without the anchor, on which only one writer at a time holds a lease."""
        return LeaseKey(*self.spec.key, self.segment_start)

    def __str__(self) -> str:
        return f"{self.lease_key}, anchored at {self.anchor:%Y-%m-%d %H:%M:%S}"


class LeaseKey(NamedTuple):
    """A series without its anchor. Leases are taken in the order of these keys."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int
    segment_start: date

    @property
    def spec(self) -> BarSpecKey:
        """The spec of the series."""
        return BarSpecKey(*self[:6])

    @property
    def spec_file_name(self) -> str:
        """A file name that is unique to the spec."""
        names = (file_name_part(name) for name in (self.source, self.market, self.symbol))
        name = "-".join((*names, str(self.threshold), self.reset, f"{self.config_id:016x}"))
        return shortened(name, LONGEST_FILE_NAME)

    @property
    def file_name(self) -> str:
        """A file name that is unique to the key."""
        return f"{self.spec_file_name}-{self.segment_start}"

    def __str__(self) -> str:
        segment = segment_of(max(self.segment_start, EARLIEST), self.reset)
        market = f"{self.source}/{self.market}"
        return f"{self.symbol} ({market}) at {self.threshold} dbps, {self.reset} {segment.name}"


def is_other_semantics(spec: BarSpec) -> bool:
    """Return whether the bars follow another version of the bar rule, which is never read."""
    return spec.rules.bar_semantics != BAR_SEMANTICS
