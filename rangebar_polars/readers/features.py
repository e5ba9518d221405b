"""Optional feature groups of a read: whether its stored bars have them, and their window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import describe_days
from rangebar_polars.bar_series.features import (
    stored_features,
)
from rangebar_polars.exceptions import CoverageError, FeatureWarning, with_hint
from rangebar_polars.readers.hints import missing_bars, python_call, with_remedy
from rangebar_polars.readers.request import CUT_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from rangebar_polars._utils.arguments.durations import Window
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.readers.request import ReadRequest

__all__ = ["check_units", "check_windows", "cut_windows", "lacking", "window_of"]

#: Most records of a window, which is cut to them.
_MOST_RECORDS = 10_000


def check_units(request: ReadRequest, units: Sequence[Unit]) -> None:
    """Refuse units without a requested group, and units with another window than the requested one.

    Raises
    ------
    CoverageError
        Its hint is the call that stores the groups.
    """
    missing = lacking(request, units)
    if missing:
        raise _missing_groups(request, units, missing)
    if request.features.has_window:
        windows = {window for window in map(window_of, units) if window is not None}
        wanted = request.features.window
        check_windows(request, windows | ({wanted} if wanted is not None else set()))


def lacking(request: ReadRequest, units: Iterable[Unit]) -> list[Unit]:
    """Return the units that do not have all requested groups in the version of this package."""
    wanted = set(request.features.groups)
    return [
        unit for unit in units if not wanted <= set(stored_features(unit.feature_groups).groups)
    ]


def _missing_groups(
    request: ReadRequest, units: Sequence[Unit], missing: Sequence[Unit]
) -> CoverageError:
    spec, groups = request.spec, set(request.features.groups)
    for unit in missing:
        groups &= set(stored_features(unit.feature_groups).groups)
    names = [group for group in request.features.groups if group not in groups]
    days = sorted({unit.day for unit in missing})
    sentence = (
        f"stored bars of {spec.symbol} at {spec.threshold} dbps have no feature group "
        f"{' and '.join(f'`{name}`' for name in names)} on {count_text(len(days), 'day')} "
        f"({describe_days(days)})"
    )
    remedy = missing_bars(request, days[0], max(unit.day for unit in units))
    hint = f"add it to the stored bars: {python_call(remedy)}"
    error = CoverageError(with_hint(sentence, hint), symbol=spec.symbol, days=days)
    return with_remedy(error, remedy)


def window_of(unit: Unit) -> Window | None:
    """Return the window of the look-back columns of a unit; None without such columns."""
    return stored_features(unit.feature_groups).window


def check_windows(request: ReadRequest, windows: set[Window]) -> None:
    """Refuse windows that differ, of stored bars, of computed ones, or as requested.

    Raises
    ------
    CoverageError
        It names them.
    """
    if len(windows) < 2:  # noqa: PLR2004
        return
    spec = request.spec
    listed = sorted(str(window) for window in windows)
    wanted = request.features.window
    if wanted is None:
        sentence = (
            f"bars of {spec.symbol} at {spec.threshold} dbps have look-back columns of different "
            f"windows: {', '.join(f'`{text}`' for text in listed)}"
        )
    else:
        others = ", ".join(f"`{text}`" for text in listed if text != str(wanted))
        sentence = (
            f"`lookback` is `{wanted}`, but stored bars of {spec.symbol} at {spec.threshold} dbps "
            f"have the window {others}"
        )
    hint = (
        "populate_cache_resumable(..., lookback=..., force_refresh=True) rebuilds bars with another "
        "window; use_cache=False computes any window, for at most 31 days"
    )
    raise CoverageError(with_hint(sentence, hint), symbol=spec.symbol)


def cut_windows(bars: pl.DataFrame, window: Window | None) -> list[FeatureWarning]:
    """Return a warning if look-back windows of bars were cut to the most records.

    `bars` have the columns of `watched`.
    """
    if window is None or window.kind == "records" or CUT_COLUMN not in bars.columns:
        return []
    count = int((bars.get_column(CUT_COLUMN) == _MOST_RECORDS).sum())
    if not count:
        return []
    verb = "window has" if count == 1 else "windows have"
    return [
        FeatureWarning(
            f"{count:,} look-back {verb} {_MOST_RECORDS:,} records, the most that a window of "
            f"`{window}` may have: older records are cut"
        )
    ]
