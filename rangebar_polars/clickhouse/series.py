"""What stored bars belong to: a series, and the segment of time between two resets it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._judge import must_be_bool
from rangebar_polars._market import canonical_market, canonical_symbol
from rangebar_polars._span import ONE_DAY, Span, day_start, microseconds
from rangebar_polars.exceptions import unknown_choice, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BAR_SEMANTICS",
    "Configuration",
    "Family",
    "LeaseKey",
    "Segment",
    "Series",
    "instant_of",
    "parts",
    "reset_mode",
    "reset_of",
    "segment_of",
    "segments",
]

#: Raised only when a golden vector changes, never with the version of the package.
BAR_SEMANTICS = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_MICROSECOND = timedelta(microseconds=1)

#: The one segment of a series without resets begins here.
_FIRST_DAY = date(1970, 1, 1)
#: Days that the database's type Date holds, whatever the reset mode.
EARLIEST, LATEST = date(1971, 1, 1), date(2148, 12, 31)

_MODES = {
    None: "none",
    "none": "none",
    "year": "year",
    "1y": "year",
    "month": "month",
    "1mo": "month",
    "week": "week",
    "1w": "1w",
    "day": "day",
    "1d": "day",
}


def reset_mode(reset: str | None, name: str = "reset") -> str:
    """Name of a reset mode as it is stored; "1w" begins on Monday, "week" on Sunday.

    `name` is that of the argument, for the error.

    Raises
    ------
    ValueError
        No reset mode.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.series import reset_mode
    >>> reset_mode("1mo"), reset_mode(None)
    ('month', 'none')
    """
    mode = _MODES.get(reset)
    if mode is None:
        raise ValueError(unknown_choice(name, str(reset), [mode for mode in _MODES if mode]))
    return mode


def reset_of(ouroboros: str | None, ouroboros_mode: str | None) -> str:
    """Name of the reset mode of two arguments that are one; the first is "year" if not given.

    Raises
    ------
    ValueError
        No reset mode, or two that differ.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.series import reset_of
    >>> reset_of("year", None), reset_of("year", "month")
    ('year', 'month')
    """
    first = reset_mode(ouroboros, "ouroboros")
    if ouroboros_mode is None:
        return first
    second = reset_mode(ouroboros_mode, "ouroboros_mode")
    if first not in ("year", second):
        sentence = f"`ouroboros` is `{ouroboros}`, and `ouroboros_mode` is `{ouroboros_mode}`"
        raise ValueError(with_hint(sentence, "they are one argument: leave one of them out"))
    return second


def instant_of(microseconds_since_1970: int) -> datetime:
    """Instant of so many microseconds since 1970."""
    return _EPOCH + microseconds_since_1970 * _ONE_MICROSECOND


@dataclass(frozen=True, slots=True)
class Segment:
    """The UTC days from one reset, included, to the next, excluded."""

    reset: str
    start: date
    #: None where there is no reset to end it.
    end: date | None

    @property
    def name(self) -> str:
        """The year, the month, or the first day; "all" where there are no resets.

        Examples
        --------
        >>> from datetime import date
        >>> from rangebar_polars.clickhouse.series import segment_of
        >>> segment_of(date(2024, 3, 9), "month").name, segment_of(date(2024, 3, 9), None).name
        ('2024-03', 'all')
        """
        lengths = {"none": 0, "year": 4, "month": 7}
        return self.start.isoformat()[: lengths.get(self.reset, 10)] or "all"

    @property
    def start_us(self) -> int:
        """Microseconds from 1970 to its start."""
        return microseconds(day_start(self.start))

    @property
    def end_us(self) -> int | None:
        """Microseconds from 1970 to its end."""
        return None if self.end is None else microseconds(day_start(self.end))

    def __contains__(self, day: date) -> bool:
        return self.start <= day and (self.end is None or day < self.end)

    def cut(self, span: Span) -> Span:
        """The part of a span that lies in the segment; the span must touch it."""
        end = span.end if self.end is None else min(span.end, day_start(self.end))
        return Span(max(span.start, day_start(self.start)), end)


def segment_of(instant: date, reset: str | None) -> Segment:
    """Segment that holds a day, or an instant with a time zone.

    Raises
    ------
    ValueError
        No reset mode, or a day that the cache cannot store.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.clickhouse.series import segment_of
    >>> segment_of(date(2024, 3, 9), "week")
    Segment(reset='week', start=datetime.date(2024, 3, 3), end=datetime.date(2024, 3, 10))
    """
    mode = reset_mode(reset)
    day = instant.astimezone(UTC).date() if isinstance(instant, datetime) else instant
    if not EARLIEST <= day <= LATEST:
        raise ValueError(f"the cache keeps days from `{EARLIEST}` to `{LATEST}`, not `{day}`")
    return Segment(mode, *_bounds(day, mode))


def _bounds(day: date, mode: str) -> tuple[date, date | None]:
    match mode:
        case "none":
            return _FIRST_DAY, None
        case "year":
            return date(day.year, 1, 1), date(day.year + 1, 1, 1)
        case "month":
            following = day.replace(day=28) + timedelta(days=4)
            return day.replace(day=1), following.replace(day=1)
        case "day":
            return day, day + ONE_DAY
    since_first = day.weekday() if mode == "1w" else day.isoweekday() % 7
    start = day - timedelta(days=since_first)
    return start, start + timedelta(days=7)


def segments(span: Span, reset: str | None) -> list[Segment]:
    """Every segment that a span touches, in order.

    Examples
    --------
    >>> from rangebar_polars._span import parse_span
    >>> from rangebar_polars.clickhouse.series import segments
    >>> [s.name for s in segments(parse_span("2023-12-31", "2024-01-01"), "year")]
    ['2023', '2024']
    """
    return list(_walk(span, reset))


def _walk(span: Span, reset: str | None) -> Iterator[Segment]:
    segment = segment_of(span.first_day, reset)
    yield segment
    while segment.end is not None and segment.end <= span.last_day:
        segment = segment_of(segment.end, reset)
        yield segment


def parts(span: Span, reset: str | None) -> list[tuple[Segment, Span]]:
    """Every segment that a span touches, with the part of the span that lies in it."""
    return [(segment, segment.cut(span)) for segment in segments(span, reset)]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What changes bars, beside the threshold and the reset."""

    prevent_same_timestamp_close: bool = True
    max_gap_us: int | None = None
    bar_semantics: int = BAR_SEMANTICS

    def __post_init__(self) -> None:
        gate = self.prevent_same_timestamp_close
        must_be_bool(prevent_same_timestamp_close=gate)
        # One of NumPy is none that Rust takes.
        object.__setattr__(self, "prevent_same_timestamp_close", bool(gate))

    @property
    def id(self) -> int:
        """Number that stands for it in the tables: the same on every machine and version.

        Examples
        --------
        >>> from rangebar_polars.clickhouse.series import Configuration
        >>> f"{Configuration().id:016x}"
        '44675d7ecc1ce63d'
        """
        gap = "none" if self.max_gap_us is None else str(self.max_gap_us)
        gate = "on" if self.prevent_same_timestamp_close else "off"
        text = f"gate={gate};max_gap_us={gap};bar_semantics={self.bar_semantics}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


_DEFAULT = Configuration()


class FamilyKey(NamedTuple):
    """Columns of a family in every table, and their order in every key."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int


class SeriesKey(NamedTuple):
    """Columns of a series in every table, and their order in every key."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int
    segment_start: date
    anchor_us: int


@dataclass(frozen=True, slots=True)
class Family:
    """The series that differ in segment and anchor alone."""

    source: str
    market: str
    symbol: str
    threshold: int
    #: By its stored name, see `reset_mode`.
    reset: str
    configuration: Configuration = _DEFAULT

    @classmethod
    def of(
        cls,
        symbol: str,
        threshold: int,
        *,
        source: str = "binance",
        market: str = "spot",
        reset: str | None = "year",
        configuration: Configuration = _DEFAULT,
    ) -> Family:
        """Family of names in any letter case.

        Examples
        --------
        >>> from rangebar_polars.clickhouse.series import Family
        >>> Family.of("btcusdt", 250, reset="1y").key[:5]
        ('binance', 'spot', 'BTCUSDT', 250, 'year')
        """
        origin, place = canonical_market(source, market)
        name = canonical_symbol(symbol)
        return cls(origin, place, name, threshold, reset_mode(reset), configuration)

    @property
    def key(self) -> FamilyKey:
        """Values of its columns in every table."""
        return FamilyKey(
            self.source, self.market, self.symbol, self.threshold, self.reset, self.configuration.id
        )

    def series(self, anchor: date) -> Series:
        """Series of the family whose computation begins at a day, or an instant with a zone."""
        start = anchor if isinstance(anchor, datetime) else day_start(anchor)
        return Series(self, segment_of(start, self.reset).start, microseconds(start))


@dataclass(frozen=True, slots=True)
class Series:
    """Bars of one computation: they never mix with those of another."""

    family: Family
    segment_start: date
    #: Microseconds from 1970 to the instant at which the computation begins.
    anchor_us: int

    @property
    def key(self) -> SeriesKey:
        """Values of its columns in every table."""
        return SeriesKey(*self.family.key, self.segment_start, self.anchor_us)

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
        return segment_of(self.anchor, self.family.reset)

    @property
    def lease_key(self) -> LeaseKey:
        """What one writer at a time may work on: the series without its anchor."""
        return LeaseKey(*self.family.key, self.segment_start)

    def __str__(self) -> str:
        return f"{self.lease_key}, anchored at {self.anchor:%Y-%m-%d %H:%M:%S}"


class LeaseKey(NamedTuple):
    """A series without its anchor; keys have an order, in which leases are taken."""

    source: str
    market: str
    symbol: str
    threshold: int
    reset: str
    config_id: int
    segment_start: date

    @property
    def family(self) -> FamilyKey:
        """The family of the series."""
        return FamilyKey(*self[:6])

    @property
    def family_file_name(self) -> str:
        """Name for a file, the same for no key of another family."""
        return "-".join(str(part) for part in (*self[:5], f"{self.config_id:016x}"))

    @property
    def file_name(self) -> str:
        """Name for a file, the same for no other key."""
        return f"{self.family_file_name}-{self.segment_start}"

    def __str__(self) -> str:
        segment = segment_of(max(self.segment_start, EARLIEST), self.reset)
        market = f"{self.source}/{self.market}"
        return f"{self.symbol} ({market}) at {self.threshold} dbps, {self.reset} {segment.name}"
