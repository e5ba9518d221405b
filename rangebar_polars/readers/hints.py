"""What a read misses, as data, and the messages that name the Python call that helps.

The command line writes the same data as a command of the shell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import describe_days
from rangebar_polars.bar_series.features import NO_FEATURES
from rangebar_polars.bar_series.identity import BAR_SEMANTICS
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import CoverageError, RangeBarError, with_hint
from rangebar_polars.readers.request import MAX_COMPUTED_DAYS
from rangebar_polars.sources import is_user_source
from rangebar_polars.storage.coverage import CoverageWarning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from rangebar_polars.bar_series.features import FeatureSet
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.readers.request import ReadRequest

__all__ = [
    "MissingBars",
    "MissingTicks",
    "Remedied",
    "StaleBars",
    "missing_bars",
    "missing_days_warning",
    "python_call",
    "stale_warning",
    "too_many_days",
    "too_many_days_of_several",
    "with_remedy",
]

#: Series that a message names.
_MOST_NAMED = 5

_Message = TypeVar("_Message", RangeBarError, CoverageError, CoverageWarning)


@dataclass(frozen=True, slots=True)
class MissingBars:
    """Days of bars that are not in the cache: a population stores them."""

    spec: BarSpec
    first_day: date
    last_day: date
    cache_dir: str | None = None
    #: Address of the cache, without user and password.
    address: str | None = None
    #: Requested optional feature groups; the window is None if it is left to the stored series.
    features: FeatureSet = NO_FEATURES


@dataclass(frozen=True, slots=True)
class MissingTicks:
    """Days of ticks that are not in the store, or not whole: a download adds them."""

    symbol: str
    source: str
    market: str
    first_day: date
    last_day: date
    cache_dir: str | None = None


@dataclass(frozen=True, slots=True)
class StaleBars:
    """Stored bars whose ticks have changed: a population builds them again."""

    symbol: str


Remedied: TypeAlias = MissingBars | MissingTicks | StaleBars


def with_remedy(message: _Message, missing: Remedied) -> _Message:
    """Return an error or a warning that carries what its remedy is made from."""
    message.remedy = missing
    return message


def python_call(missing: Remedied) -> str:
    """Return the Python call that provides what a read misses.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.readers.hints import MissingBars, MissingTicks, python_call
    >>> spec = BarSpec.of("BTCUSDT", 500, reset="month")
    >>> print(python_call(MissingBars(spec, date(2024, 1, 1), date(2024, 6, 30))))
    rb.populate_cache_resumable("BTCUSDT", "2024-01-01", "2024-06-30", \
threshold_decimal_bps=500, ouroboros="month")
    >>> days = date(2024, 1, 1), date(2024, 1, 2)
    >>> print(python_call(MissingTicks("BTCUSDT", "binance", "um", *days)))
    rb.fetch_ticks("BTCUSDT", "2024-01-01", "2024-01-02", market="um")
    """
    match missing:
        case MissingBars():
            return _populate_call([missing])
        case MissingTicks(symbol, source, market, first_day, last_day, cache_dir):
            options = {
                "source": (source, "binance"),
                "market": (market, "spot"),
                "cache_dir": (cache_dir, None),
            }
            if is_user_source(source):
                del options["cache_dir"]
                folder = "" if cache_dir is None else _literal(cache_dir)
                return _call(f"TickStorage({folder}).write_ticks", (symbol,), options, "ticks")
            return _call("fetch_ticks", (symbol, str(first_day), str(last_day)), options)
    return "populate_cache_resumable(..., refresh_stale=True)"


def _populate_call(missing: Sequence[MissingBars]) -> str:
    """Return the call that stores bars of series that differ in symbol and threshold only."""
    spec, window = missing[0].spec, missing[0].features.window
    symbols = list(dict.fromkeys(one.spec.symbol for one in missing))
    thresholds = list(dict.fromkeys(one.spec.threshold for one in missing))
    options = {
        "threshold_decimal_bps": (thresholds if len(thresholds) > 1 else thresholds[0], 250),
        "ouroboros": (spec.reset, "year"),
        "prevent_same_timestamp_close": (spec.rules.prevent_same_timestamp_close, True),
        "source": (spec.source, "binance"),
        "market": (spec.market, "spot"),
        "cache_dir": (missing[0].cache_dir, None),
        "dsn": (missing[0].address, None),
        "features": (_one_or_list(missing[0].features.groups), None),
        "lookback": (window if window is None else str(window), None),
    }
    first_day, last_day = (
        min(one.first_day for one in missing),
        max(one.last_day for one in missing),
    )
    of_symbols = symbols if len(symbols) > 1 else symbols[0]
    days = (str(first_day), str(last_day))
    return _call("populate_cache_resumable", (of_symbols, *days), options)


def _one_or_list(values: Sequence[str]) -> object:
    """Return a value alone, several as a list, and None for none."""
    return list(values) if len(values) > 1 else next(iter(values), None)


def _call(
    function: str,
    arguments: Sequence[object],
    options: Mapping[str, tuple[object, object]],
    *variables: str,
) -> str:
    """Return a call with its arguments, leaving out options that have their default."""
    listed = [*map(_literal, arguments), *variables]
    listed += [
        f"{name}={_literal(value)}"
        for name, (value, default) in options.items()
        if value != default
    ]
    return f"rb.{function}({', '.join(listed)})"


def _literal(value: object) -> str:
    if isinstance(value, (str, list)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def missing_bars(request: ReadRequest, first_day: date, last_day: date) -> MissingBars:
    """Return days of bars that a request misses in the cache that it reads."""
    return MissingBars(
        request.spec,
        first_day,
        last_day,
        None if request.cache_dir is None else str(request.cache_dir),
        None if request.dsn is None else resolve(request.dsn).address,
        request.features,
    )


def too_many_days(
    request: ReadRequest, days: Sequence[date], other_semantics: Mapping[date, int]
) -> CoverageError:
    """Return the error of a read that would compute more days than it may.

    `other_semantics` maps days that are stored under another version of the bar rule to it.
    """
    spec = request.spec
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps are not cached for {len(days):,} days "
        f"({describe_days(days)}), and a read computes at most {MAX_COMPUTED_DAYS} days"
    )
    missing = missing_bars(request, days[0], days[-1])
    hint = f"populate the cache first: {python_call(missing)}"
    if not request.use_cache:
        hint += ", and read them with use_cache=True"
    if other_semantics:
        numbers = ", ".join(map(str, sorted(set(other_semantics.values()))))
        hint += (
            f"; under another bar_semantics ({numbers}, this version has {BAR_SEMANTICS}), bars of "
            f"{describe_days(other_semantics)} are stored: rangebar cache upgrade"
        )
    error = CoverageError(with_hint(sentence, hint), symbol=spec.symbol, days=days)
    return with_remedy(error, missing)


def too_many_days_of_several(
    refused: Sequence[CoverageError], *, uses_cache: bool
) -> CoverageError:
    """Return one error for several series that a read would compute too many days of.

    The remedy of each of the errors is a `MissingBars`; they differ in symbol and threshold.
    """
    missing: list[MissingBars] = [error.remedy for error in refused]
    named = [
        f"{one.spec.symbol} at {one.spec.threshold} dbps ({describe_days(error.days)})"
        for one, error in zip(missing, refused, strict=True)
    ]
    more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    sentence = (
        f"bars are not cached for `{len(named):,}` series, and a read computes at most "
        f"{MAX_COMPUTED_DAYS} days of each: {', '.join(named[:_MOST_NAMED])}{more}"
    )
    days = sorted({day for error in refused for day in error.days})
    hint = f"populate the cache first: {_populate_call(missing)}"
    if not uses_cache:
        hint += ", and read them with use_cache=True"
    return CoverageError(with_hint(sentence, hint), symbol=missing[0].spec.symbol, days=days)


def missing_days_warning(request: ReadRequest, days: Sequence[date]) -> CoverageWarning:
    """Return the warning for days without stored bars; the days are in order."""
    spec = request.spec
    verb = "is" if len(days) == 1 else "are"
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps: {count_text(len(days), 'day')} {verb} not "
        f"cached: {describe_days(days)}"
    )
    missing = missing_bars(request, days[0], days[-1])
    return with_remedy(CoverageWarning(with_hint(sentence, python_call(missing))), missing)


def stale_warning(spec: BarSpec, days: Collection[date]) -> CoverageWarning:
    """Return the warning for stored bars whose ticks have changed."""
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps: the store now has other ticks for "
        f"{count_text(len(days), 'day')}: {describe_days(days)}"
    )
    stale = StaleBars(spec.symbol)
    hint = f"{python_call(stale)} builds them again"
    return with_remedy(CoverageWarning(with_hint(sentence, hint)), stale)
