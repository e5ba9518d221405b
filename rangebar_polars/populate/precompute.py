"""Population of one series with progress callbacks, followed by a validation of its bars."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from rangebar_polars._text import count_text
from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.names import REQUIRED, both_names
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.bar_series.identity import BarRules
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.exceptions import (
    ValidationError,
    ValidationWarning,
    unknown_choice,
    with_hint,
)
from rangebar_polars.interop.report_html import facts_html
from rangebar_polars.populate.arguments import (
    build_request,
    requested_days,
    requested_features,
)
from rangebar_polars.populate.populate import populate_requests
from rangebar_polars.populate.state import PopulationOptions
from rangebar_polars.populate.verify import StoredBarsCheck, days_between, month_of
from rangebar_polars.sources import canonical_market
from rangebar_polars.symbol_registry import past_gate, validate_symbol_registered
from rangebar_polars.symbol_registry._minimum import resolve_and_validate_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path
    from typing import Unpack

    from rangebar_polars._typing import Features, Lookback, PrecomputeNames
    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.units import UnitDraft
    from rangebar_polars.populate.plan import Request
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


@dataclass(frozen=True, slots=True)
class PrecomputeProgress:
    """The progress of a population, as its callback receives it."""

    #: "fetching" before the first days are published, "caching" when they complete a month,
    #: "processing" otherwise.
    phase: Phase
    #: The month of the last published day, such as "2024-03".
    current_month: str
    months_completed: int
    months_total: int
    #: Bars and ticks of the days published so far.
    bars_generated: int
    ticks_processed: int
    elapsed_seconds: float


@dataclass(slots=True)
class PrecomputeResult:
    """The stored bars of the requested days, counted and validated."""

    symbol: str
    threshold_decimal_bps: int
    start_date: date
    end_date: date
    #: Number of stored bars of these days, whoever computed them, without those a reset ended.
    total_bars: int
    #: Number of ticks of these days.
    total_ticks: int
    elapsed_seconds: float
    #: The report of the population; `int(report)` is the number of bars written.
    report: PopulateReport
    #: Results of the validation; None if it was skipped.
    continuity: ContinuityReport | None = None
    tier1: Tier1Result | None = None

    @property
    def continuity_valid(self) -> bool | None:
        """Whether no trade is missing between the bars; None if the validation was skipped."""
        return None if self.continuity is None else self.continuity.is_valid

    @property
    def cache_key(self) -> str:
        """Symbol and threshold."""
        return f"{self.symbol}_{self.threshold_decimal_bps}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {str(self).splitlines()[0]}; {self._verdict()}>"

    def _verdict(self) -> str:
        if self.tier1 is None or self.continuity is None:
            return "not validated"
        tier1 = "passed" if self.tier1["tier1_passed"] else "failed"
        breaks = count_text(len(self.continuity.breaks), "break")
        return f"tier 1 {tier1}, {breaks} in the chain of ids"

    def _repr_html_(self) -> str:
        """Return the result as tables, for notebooks."""
        facts: list[tuple[str, object]] = [
            ("threshold", f"{self.threshold_decimal_bps} dbps"),
            ("days", f"{self.start_date} to {self.end_date}"),
            ("bars", self.total_bars),
            ("bars written now", int(self.report)),
            ("ticks", self.total_ticks),
            ("seconds", f"{self.elapsed_seconds:,.1f}"),
            ("validation", self._verdict()),
        ]
        return facts_html(f"Bars of {self.symbol}", facts) + self.report._repr_html_()

    def __str__(self) -> str:
        days = f"{self.start_date} to {self.end_date}"
        counts = f"{count_text(self.total_bars, 'bar')} of {count_text(self.total_ticks, 'tick')}"
        new = f"{int(self.report):,} of them new, in {self.elapsed_seconds:,.1f} s"
        lines = [f"{self.symbol} at {self.threshold_decimal_bps} dbps, {days}: {counts}, {new}"]
        if self.tier1 is not None and self.continuity is not None:
            lines += [str(self.continuity), repr(self.tier1)]
        return "\n".join(lines)


@both_names
def precompute_range_bars(
    symbol: str,
    start_date: When = REQUIRED,
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
    lookback: Lookback | None = None,
    ouroboros: str | None = "year",
    prevent_same_timestamp_close: bool = True,
    notify: bool = True,
    verbose: bool = True,
    source: str = "binance",
    market: str = "spot",
    cache_dir: str | Path | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    **_names: Unpack[PrecomputeNames],
) -> PrecomputeResult:
    """Compute and store bars of one symbol at one threshold, then validate the stored bars.

    This is `populate_cache_resumable` with a progress callback and a validation: no trade may be
    missing between the bars (`validate_continuity`), and their values must be plausible
    (`validate_tier1`). For the validation, the bars are read back from the cache month by month.

    Parameters
    ----------
    symbol, start_date, end_date, threshold_decimal_bps
        As for `populate_cache_resumable`, but one symbol and one threshold.
    progress_callback
        Called with a `PrecomputeProgress` at the start, after each published group of days, and at
        the end. With an executor and a server, it is called at the start and the end only.
    executor
        A `concurrent.futures.Executor`, or a function that makes one; None for this process.
    validate_on_complete
        What to do if the bars fail the validation: "error" or "warn"; "skip" does not validate.
        The bars stay stored in any case. A span without any bar is always a warning.
    force_refresh, refresh_stale, include_microstructure, features, lookback, ouroboros, \
ouroboros_mode, prevent_same_timestamp_close, notify, verbose, source, market, cache_dir, dsn
        As for `populate_cache_resumable`.

    Returns
    -------
    PrecomputeResult
        Counts of the stored bars, and the results `tier1`, `continuity` and `continuity_valid`.

    Raises
    ------
    ValidationError
        The bars failed the validation; `result` is the value that would have been returned.
    ValueError
        `validate_on_complete` is not one of its choices, or as for `populate_cache_resumable`.
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
    started = clock.monotonic()
    _check_choices(validate_on_complete, progress_callback)
    venue = canonical_market(source, market)
    name = validate_symbol_registered(symbol, operation="precompute_range_bars")
    options = PopulationOptions(
        cache_dir, dsn, force_refresh, refresh_stale, notify, verbose, executor
    )
    groups = requested_features(features, lookback, include_microstructure=include_microstructure)
    reset = reset_of(ouroboros, ouroboros_mode)
    rules = BarRules(prevent_same_timestamp_close=prevent_same_timestamp_close)
    with past_gate(name):
        days = requested_days(name, start_date, end_date)
        threshold = resolve_and_validate_threshold(name, threshold_decimal_bps)
        request = build_request(
            name,
            days,
            [threshold],
            venue=venue,
            reset=reset,
            rules=rules,
            features=groups,
            cache_dir=cache_dir,
        )
        progress = _Progress(request, started, progress_callback)
        progress.call("fetching", request.first_day)
        report = populate_requests([request], options, on_published=progress.add)
        check = StoredBarsCheck(report, (request.first_day, request.last_day), cache_dir, dsn)
        check.run(validate=validate_on_complete != "skip")
        progress.end(request.last_day)
    return _validated(_result(request, check, started), validate_on_complete)


def _check_choices(on_complete: str, callback: object) -> None:
    """Refuse an unknown choice, and a callback that cannot be called."""
    if on_complete not in get_args(OnComplete):
        choices = get_args(OnComplete)
        raise ValueError(unknown_choice("validate_on_complete", str(on_complete), choices))
    if callback is not None and not callable(callback):
        sentence = f"`progress_callback` must be a function; it is `{callback!r}`"
        raise TypeError(with_hint(sentence, "it is called with a PrecomputeProgress: print"))


def _result(request: Request, check: StoredBarsCheck, started: float) -> PrecomputeResult:
    return PrecomputeResult(
        request.symbol,
        request.specs[0].threshold,
        *check.days,
        check.bars,
        check.ticks,
        clock.monotonic() - started,
        check.report,
        check.continuity,
        check.tier1,
    )


def _validated(result: PrecomputeResult, on_complete: OnComplete) -> PrecomputeResult:
    """Return the result; raise or warn if the bars failed the validation."""
    tier1, continuity = result.tier1, result.continuity
    if tier1 is None or continuity is None or (tier1["tier1_passed"] and continuity.is_valid):
        return result
    if not result.total_bars:
        # A few quiet days may well have no bar of a large threshold.
        _warn(f"there are no bars of `{result.cache_key}` in {result.total_ticks:,} ticks")
        return result
    faults = [] if continuity.is_valid else [str(continuity).replace("\n ", ";")]
    faults += [] if tier1["tier1_passed"] else [f"tier 1 failed: {tier1['error']}"]
    sentence = f"the stored bars of `{result.cache_key}` failed validation: {'; '.join(faults)}"
    if on_complete == "error":
        hint = "see `result` of this error; force_refresh=True rebuilds the bars"
        raise ValidationError(with_hint(sentence, hint), result=result)
    _warn(with_hint(sentence, "force_refresh=True rebuilds them"))
    return result


def _warn(message: str) -> None:
    warn_caller(message, ValidationWarning)


class _Progress:
    """Counts published days, bars and ticks, and calls the callback."""

    def __init__(
        self,
        request: Request,
        started: float,
        callback: Callable[[PrecomputeProgress], object] | None,
    ) -> None:
        yesterday = clock.utc_now().date() - ONE_DAY
        last_day = min(request.last_day, yesterday)
        self._pending = {
            month: set(days)
            for month, days in groupby(days_between(request.first_day, last_day), month_of)
        }
        self._months = len(self._pending)
        self._started = started
        self._callback = callback
        self._bars = self._ticks = 0

    def add(self, drafts: Sequence[UnitDraft]) -> None:
        """Count a published group of units."""
        done = self._months - len(self._pending)
        for draft in drafts:
            self._bars += int(draft.bars["is_closed"].sum())
            self._ticks += draft.ticks.rows
        newest = {draft.series: draft.day for draft in drafts}
        for series, day in newest.items():
            self._complete_through(series.segment.start, day)
        completes_month = self._months - len(self._pending) > done
        self.call("caching" if completes_month else "processing", drafts[-1].day)

    def end(self, last_day: date) -> None:
        """Mark every month as completed."""
        self._pending.clear()
        self.call("caching", last_day)

    def _complete_through(self, start: date, day: date) -> None:
        """Mark the days of a segment up to a day as stored, now or before."""
        for month in [m for m in self._pending if month_of(start) <= m <= month_of(day)]:
            self._pending[month] -= {d for d in self._pending[month] if start <= d <= day}
            if not self._pending[month]:
                del self._pending[month]

    def call(self, phase: Phase, day: date) -> None:
        """Call the callback, if there is one."""
        if self._callback is None:
            return
        self._callback(
            PrecomputeProgress(
                phase,
                f"{day:%Y-%m}",
                self._months - len(self._pending),
                self._months,
                self._bars,
                self._ticks,
                clock.monotonic() - self._started,
            )
        )
