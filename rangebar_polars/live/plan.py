"""What a call of live bars streams: symbols, series and columns, checked before anything connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rangebar_polars._utils.span import parse_instant
from rangebar_polars.bar_series.query import SeriesQuery
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.sources import SOURCES, Venue, canonical_market
from rangebar_polars.symbol_registry import validate_symbol_registered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["LivePlan", "plan_live"]

STREAMED = "binance"
NOW = "now"


@dataclass(frozen=True, slots=True)
class LivePlan:
    """Checked arguments."""

    venue: Venue
    #: By symbol, in the order of the thresholds.
    specs: dict[str, tuple[BarSpec, ...]]
    thresholds: tuple[int, ...]
    anchor: Literal["segment", "now"] | datetime | None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in upper case."""
        return tuple(self.specs)


def plan_live(
    symbols: Sequence[str],
    thresholds: Sequence[ThresholdLike],
    *,
    source: str,
    market: str,
    reset: str | None,
    prevent_same_timestamp_close: bool,
    anchor: Literal["segment", "now"] | When | None,
    since: When | None = None,
    until: When | None = None,
    takes_now: bool = False,
) -> LivePlan:
    """Check the arguments of a call, the gate and the thresholds.

    Raises
    ------
    ValueError
        An argument is not valid, or the source has no stream.
    SymbolNotRegisteredError, ThresholdError
        The gate refuses a symbol, or a threshold is too low.
    """
    venue = Venue(*canonical_market(source, market))
    if venue.source != STREAMED:
        hint = f'source="{STREAMED}" has one; read `{venue.source}` with `get_range_bars`'
        known = ", ".join(f"`{name}`" for name in SOURCES if name == STREAMED)
        raise ValueError(with_hint(f"`{venue.source}` has no stream of trades; {known} has", hint))
    is_now = isinstance(anchor, str) and anchor == NOW
    if is_now and not takes_now:
        hint = "use `rb.live_bars`, which writes nothing then"
        raise ValueError(with_hint('anchor="now" is not possible in a sidecar', hint))
    if is_now and since is not None:
        raise ValueError('`since` asks for earlier bars, and anchor="now" has none')
    found: dict[str, tuple[BarSpec, ...]] = {}
    query = None
    for symbol in symbols:
        validate_symbol_registered(symbol, operation="live_bars")
        specs = []
        for threshold in thresholds:
            query = SeriesQuery.of(
                symbol,
                threshold,
                ouroboros=reset,
                ouroboros_mode=None,
                source=venue.source,
                market=venue.market,
                prevent_same_timestamp_close=prevent_same_timestamp_close,
                anchor=None if is_now else anchor,
            )
            if query.spec not in specs:
                specs.append(query.spec)
        found[specs[0].symbol] = tuple(specs)
    if query is None:
        raise ValueError("at least one symbol and one threshold are needed")
    numbers = tuple(spec.threshold for spec in next(iter(found.values())))
    return LivePlan(
        venue,
        found,
        numbers,
        "now" if is_now else query.anchor,
        None if since is None else parse_instant(since, "since"),
        None if until is None else parse_instant(until, "until"),
    )


def require_platform() -> None:
    """Refuse systems without the locks of the kernel that live bars need.

    Raises
    ------
    RangeBarError
        This is Windows.
    """
    import sys

    if sys.platform == "win32":
        raise RangeBarError("live bars need Linux or macOS: Windows lacks the locks that they use")
