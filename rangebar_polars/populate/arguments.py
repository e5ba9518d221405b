"""Validation of the arguments that `populate_cache_resumable` and `precompute_range_bars` share."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars._utils.span import ONE_DAY, Span, day_start, parse_span
from rangebar_polars.bar_series.columns import all_columns
from rangebar_polars.bar_series.features import FeatureSet
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.compute._options import parse_options
from rangebar_polars.exceptions import with_hint
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.populate.plan import Request
from rangebar_polars.symbol_registry import validate_and_clamp_start_date

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rangebar_polars._typing import Features, Lookback
    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.identity import BarRules
    from rangebar_polars.sources import Venue

__all__ = ["build_request", "requested_days", "requested_features"]

_LATEST = date(2148, 12, 31)


def requested_features(
    features: Features, lookback: Lookback | None, *, include_microstructure: bool
) -> FeatureSet:
    """Return the requested optional groups. Core and microstructure are stored in any case.

    The name of a column stands for its group.

    Raises
    ------
    ValueError
        A name is unknown, the window is outside of its limits, or nothing uses it.
    """
    require_bool(include_microstructure=include_microstructure)
    options = parse_options(250, features=features, lookback=lookback)
    groups = {column.group for column in all_columns() if column.bar_name in options.features}
    return FeatureSet.of(groups, options.lookback)


def requested_days(symbol: str, start: When, end: When | None) -> tuple[date, date | None]:
    """Return the requested first and last day, clamped to the symbol's effective start.

    Raises
    ------
    ValueError
        The span is not valid, is not made of whole days, or ends before the effective start.
    """
    span = parse_span(start, _LATEST if end is None else end)
    if span != Span(day_start(span.first_day), day_start(span.last_day + ONE_DAY)):
        requested = f"`{start}`" if end is None else f"`{start}` to `{end}`"
        hint = 'pass dates: "2024-03-01" means that whole UTC day'
        raise ValueError(with_hint(f"bars are stored for whole UTC days, not {requested}", hint))
    first_day = validate_and_clamp_start_date(symbol, span.first_day)
    last_day = None if end is None else span.last_day
    if last_day is not None and last_day < first_day:
        sentence = f"`end_date` ({end}) lies before the first day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"it starts on {first_day}"))
    return first_day, last_day


def build_request(
    symbol: str,
    days: tuple[date, date | None],
    thresholds: Sequence[int],
    *,
    venue: Venue,
    reset: str,
    rules: BarRules,
    features: FeatureSet,
    cache_dir: Path | str | None,
) -> Request:
    """Build a request from validated arguments; it ends at the newest whole day at the latest.

    Raises
    ------
    ValueError
        The first day lies after the newest whole day.
    """
    first_day, last_day = days
    clamp = newest_day(symbol, last_day, first_day=first_day, venue=venue, cache_dir=cache_dir)
    if clamp.day < first_day:
        sentence = f"`start_date` ({first_day}) lies after the newest whole day of `{symbol}`"
        raise ValueError(with_hint(sentence, f"that day is {clamp.day} ({clamp.why})"))
    specs = (
        BarSpec(venue.source, venue.market, symbol, threshold, reset, rules)
        for threshold in thresholds
    )
    return Request(tuple(specs), first_day, clamp, features)
