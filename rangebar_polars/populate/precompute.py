"""A population that is watched month by month, and whose bars are looked at when it is done."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from rangebar_polars._utils.checks import require_bool
from rangebar_polars._utils.span import ONE_DAY, day_start, parse_span
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.exceptions import ValidationError, unknown_choice, with_hint
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.populate.listeners import watched
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.populate.verify import StoredBarsCheck, days_between, month_of
from rangebar_polars.populate.workers.executors import judge_executor
from rangebar_polars.sources import canonical_market
from rangebar_polars.symbol_registry import (
    past_gate,
    validate_and_clamp_start_date,
    validate_symbol_registered,
)
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path

    from rangebar_polars._typing import Features
    from rangebar_polars._utils.span import When
    from rangebar_polars.clickhouse.commit.publish import UnitDraft
    from rangebar_polars.populate.report import PopulateReport
    from rangebar_polars.threshold import ThresholdLike
    from rangebar_polars.validation.continuity import ContinuityReport
    from rangebar_polars.validation.tier1 import Tier1Result

__all__ = [
    "PrecomputeProgress",
    "PrecomputeResult",
    "ValidationWarning",
    "precompute_range_bars",
]

Phase: TypeAlias = Literal["fetching", "processing", "caching"]
OnComplete: TypeAlias = Literal["error", "warn", "skip"]


class ValidationWarning(UserWarning):
    """Bars that are kept and are not what they should be."""


@dataclass(frozen=True, slots=True)
class PrecomputeProgress:
    """How far a population is."""

    #: "fetching" before the first days are published, "caching" with a month that is done with
    #: them, "processing" with others.
    phase: Phase
    #: Such as "2024-03".
    current_month: str
    months_completed: int
    months_total: int
    #: Bars and ticks of the days that were published so far.
    bars_generated: int
    ticks_processed: int
    elapsed_seconds: float


@dataclass(slots=True)
class PrecomputeResult:
    """What is kept of the days that were asked for, and what was found in it."""

    symbol: str
    threshold_decimal_bps: int
    start_date: date
    end_date: date
    #: Bars that are kept of these days, whoever computed them, without those that a reset ended.
    total_bars: int
    #: Ticks of these days.
    total_ticks: int
    elapsed_seconds: float
    #: What was done to get there; `int(report)` is the number of bars written.
    report: PopulateReport
    #: What was found; None where nothing was looked at.
    continuity: ContinuityReport | None = None
    tier1: Tier1Result | None = None

    @property
    def continuity_valid(self) -> bool | None:
        """Whether no trade is missing between the bars; None if that was not looked at."""
        return None if self.continuity is None else self.continuity.is_valid

    @property
    def cache_key(self) -> str:
        """Symbol and threshold."""
        return f"{self.symbol}_{self.threshold_decimal_bps}"

    def __str__(self) -> str:
        """Lines for a person."""
        days = f"{self.start_date} to {self.end_date}"
        counts = f"{self.total_bars:,} bars of {self.total_ticks:,} ticks"
        new = f"{int(self.report):,} of them new, in {self.elapsed_seconds:,.1f} s"
        lines = [f"{self.symbol} at {self.threshold_decimal_bps} dbps, {days}: {counts}, {new}"]
        if self.tier1 is not None and self.continuity is not None:
            lines += [str(self.continuity), repr(self.tier1)]
        return "\n".join(lines)


def precompute_range_bars(
    symbol: str,
    start_date: When,
    end_date: When | None = None,
    threshold_decimal_bps: ThresholdLike = 250,
    *,
    progress_callback: Callable[[PrecomputeProgress], object] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    validate_on_complete: OnComplete = "error",
    force_refresh: bool = False,
    refresh_stale: bool = False,
    include_microstructure: bool = False,
    features: Features = "microstructure",
    ouroboros: str | None = "year",
    prevent_same_timestamp_close: bool = True,
    notify: bool = True,
    verbose: bool = True,
    source: str = "binance",
    market: str = "spot",
    cache_dir: str | Path | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
) -> PrecomputeResult:
    """Populate the cache with one symbol at one threshold, and look at what is kept then.

    It is `populate_cache_resumable` with a callback and a validation: that no trade is missing
    between the bars (`validate_continuity`), and that their values are sound (`validate_tier1`).
    Bars are read back from the cache for it, a month at a time.

    Parameters
    ----------
    symbol, start_date, end_date, threshold_decimal_bps
        As for `populate_cache_resumable`, but one symbol and one threshold.
    progress_callback
        Called with a `PrecomputeProgress` at the start, with every group of days that is
        published, and at the end. With an executor and a server, at the start and the end.
    executor
        A `concurrent.futures.Executor`, or a function that makes one; None for this process.
    validate_on_complete
        What unsound bars lead to: "error", or "warn"; "skip" does not look. They are kept anyway.
        That there are no bars at all is a warning.
    force_refresh, refresh_stale, include_microstructure, features, ouroboros, \
ouroboros_mode, prevent_same_timestamp_close, notify, verbose, source, market, cache_dir, dsn
        As for `populate_cache_resumable`.

    Returns
    -------
    PrecomputeResult
        Counts of what is kept, and the findings: `tier1`, `continuity`, `continuity_valid`.

    Raises
    ------
    ValidationError
        The bars are not what they should be; `result` is what would have been returned.
    ValueError
        No choice of `validate_on_complete`.
    PopulationError, LeaseError, CacheUnavailableError, CacheWriteError, ...
        As for `populate_cache_resumable`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.populate.precompute import precompute_range_bars
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> written = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> result = precompute_range_bars("ETHUSDT", "2024-08-08", "2024-08-08", cache_dir=folder)
    >>> result.cache_key, result.total_ticks, result.continuity_valid
    ('ETHUSDT_250', 49505, True)
    >>> result.tier1["tier1_passed"]
    True
    """
    started = time.monotonic()
    _judge(validate_on_complete, progress_callback, executor)
    require_bool(include_microstructure=include_microstructure, notify=notify, verbose=verbose)
    require_bool(force_refresh=force_refresh, refresh_stale=refresh_stale)
    require_bool(prevent_same_timestamp_close=prevent_same_timestamp_close)
    reset = reset_of(ouroboros, ouroboros_mode)
    name = validate_symbol_registered(symbol, operation="precompute_range_bars")
    origin, place = canonical_market(source, market)
    with past_gate(name):
        asked = _asked_days(name, start_date, end_date)
        threshold = resolve_and_validate_threshold(name, threshold_decimal_bps)
        days = _days(name, asked, (origin, place), cache_dir)
        progress = _Progress(*days, started, progress_callback)
        progress.tell("fetching", days[0])
        with watched(progress.note):
            report = populate_cache_resumable(
                name,
                *days,
                threshold_decimal_bps=threshold,
                force_refresh=force_refresh,
                refresh_stale=refresh_stale,
                include_microstructure=include_microstructure,
                features=features,
                ouroboros=reset,
                prevent_same_timestamp_close=prevent_same_timestamp_close,
                notify=notify,
                verbose=verbose,
                executor=executor,
                source=origin,
                market=place,
                cache_dir=cache_dir,
                dsn=dsn,
            )
        look = StoredBarsCheck(report, _reached(report, days), cache_dir, dsn)
        look.run(is_deep=validate_on_complete != "skip")
        progress.end(look.days[1])
    return _judged(_result(name, threshold, look, started), validate_on_complete)


def _judge(on_complete: str, callback: object, executor: object) -> None:
    """Refuse a choice, a callback or an executor that is none."""
    if on_complete not in get_args(OnComplete):
        choices = get_args(OnComplete)
        raise ValueError(unknown_choice("validate_on_complete", str(on_complete), choices))
    if callback is not None and not callable(callback):
        sentence = f"`progress_callback` must be a function; it is `{callback!r}`"
        raise TypeError(with_hint(sentence, "it is called with a PrecomputeProgress: print"))
    judge_executor(executor)


def _result(name: str, threshold: int, look: StoredBarsCheck, started: float) -> PrecomputeResult:
    return PrecomputeResult(
        name,
        threshold,
        *look.days,
        look.bars,
        look.ticks,
        time.monotonic() - started,
        look.report,
        look.continuity,
        look.tier1,
    )


def _asked_days(name: str, start: When, end: When | None) -> tuple[date, date | None]:
    """First and last day that are asked for; None for the newest whole one."""
    given = parse_span(start, datetime.now(UTC).date() if end is None else end)
    whole = given.start == day_start(given.first_day)
    if not whole or (end is not None and given.end != day_start(given.last_day + ONE_DAY)):
        hint = 'give dates ("2024-03-01" means that whole UTC day)'
        raise ValueError(with_hint(f"whole days are kept, and `{start}` to `{end}` cuts one", hint))
    first_day = validate_and_clamp_start_date(name, given.first_day)
    return first_day, None if end is None else given.last_day


def _days(
    name: str,
    asked: tuple[date, date | None],
    where: tuple[str, str],
    cache_dir: str | Path | None,
) -> tuple[date, date]:
    """First and last day; without an end, the newest whole one."""
    first_day, last_day = asked
    if last_day is not None:
        return first_day, last_day
    source, market = where
    newest = newest_day(name, None, source=source, market=market, cache_dir=cache_dir)
    return first_day, newest.day


def _reached(report: PopulateReport, days: tuple[date, date]) -> tuple[date, date]:
    """First and last day, up to the newest one that was to be had."""
    return days[0], report.clamped_to or days[1]


def _judged(result: PrecomputeResult, on_complete: OnComplete) -> PrecomputeResult:
    """The result, or what its findings lead to."""
    tier1, continuity = result.tier1, result.continuity
    if tier1 is None or continuity is None or (tier1["tier1_passed"] and continuity.is_valid):
        return result
    if not result.total_bars:
        # A few quiet days may well have no bar of a large threshold.
        _warn(f"there are no bars of `{result.cache_key}` in {result.total_ticks:,} ticks")
        return result
    faults = [] if continuity.is_valid else [str(continuity).replace("\n ", ";")]
    faults += [] if tier1["tier1_passed"] else [f"tier 1 failed: {tier1['error']}"]
    sentence = f"the bars of `{result.cache_key}` that are kept are not sound: {'; '.join(faults)}"
    if on_complete == "error":
        hint = "the error has them as `result`; force_refresh=True builds the bars anew"
        raise ValidationError(with_hint(sentence, hint), result=result)
    _warn(with_hint(sentence, "force_refresh=True builds them anew"))
    return result


def _warn(message: str) -> None:
    warnings.warn(message, ValidationWarning, stacklevel=4)


class _Progress:
    """Counts what is published, and tells the callback."""

    def __init__(
        self,
        first_day: date,
        last_day: date,
        started: float,
        callback: Callable[[PrecomputeProgress], object] | None,
    ) -> None:
        yesterday = datetime.now(UTC).date() - ONE_DAY
        self._left = {
            month: set(days)
            for month, days in groupby(days_between(first_day, min(last_day, yesterday)), month_of)
        }
        self._months = len(self._left)
        self._started = started
        self._callback = callback
        self._bars = self._ticks = 0

    def note(self, drafts: Sequence[UnitDraft]) -> None:
        """A group of days is published."""
        done = self._months - len(self._left)
        for draft in drafts:
            self._bars += int(draft.bars["is_closed"].sum())
            self._ticks += draft.ticks.rows
        newest = {draft.series: draft.day for draft in drafts}
        for series, day in newest.items():
            self._reach(series.segment.start, day)
        is_month = self._months - len(self._left) > done
        self.tell("caching" if is_month else "processing", drafts[-1].day)

    def end(self, last_day: date) -> None:
        """Everything is done."""
        self._left.clear()
        self.tell("caching", last_day)

    def _reach(self, start: date, day: date) -> None:
        """Days of a segment up to this one are there: what was not published now was before."""
        for month in [m for m in self._left if month_of(start) <= m <= month_of(day)]:
            self._left[month] -= {one for one in self._left[month] if start <= one <= day}
            if not self._left[month]:
                del self._left[month]

    def tell(self, phase: Phase, day: date) -> None:
        """Call the callback, if there is one."""
        if self._callback is None:
            return
        self._callback(
            PrecomputeProgress(
                phase,
                f"{day:%Y-%m}",
                self._months - len(self._left),
                self._months,
                self._bars,
                self._ticks,
                time.monotonic() - self._started,
            )
        )
