"""Choice of the columns and of the target that tier 2 tests, as arrays of NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import shown
from rangebar_polars.catalogue import column_names
from rangebar_polars.exceptions import MissingColumnError, with_hint
from rangebar_polars.validation._frames import catalogue, numeric_column, polars_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from rangebar_polars.validation._ranks import Doubles

__all__ = ["DEFAULT_TARGET", "SeriesToTest", "fault_of_series", "series_to_test", "tested_names"]

DEFAULT_TARGET = "forward_return"
_RETURN_TEXT = f"{DEFAULT_TARGET} (Close[i+1]/Close[i] − 1)"

#: Columns that repeat another one. Those of None repeat a column of the group `core`.
_ORIGINALS = {
    "intra_trade_count": None,
    "intra_duration_us": "duration_us",
    "intra_ofi": "ofi",
    "intra_kyle_lambda": "kyle_lambda_proxy",
}


@dataclass
class SeriesToTest:
    """Columns and their target, all of the same rows, with NaN for a missing value."""

    columns: dict[str, Doubles]
    target: Doubles
    target_text: str
    warnings: list[str] = field(default_factory=list)


def fault_of_series(bars: pl.DataFrame) -> str | None:
    """Return why the bars of the catalogue are not one series in order of time; None if they are."""
    names = bars.columns
    if "threshold" in names and (count := bars["threshold"].drop_nulls().n_unique()) > 1:
        return f"the bars have {count} thresholds; validate each of them by itself"
    is_timed = "close_time" in names and bars.schema["close_time"].is_temporal()
    if is_timed and not bars["close_time"].drop_nulls().is_sorted():
        return "the bars are not in order of `close_time`; sort them"
    return None


def tested_names(bars: Any, features: Sequence[str] | str | None) -> list[str]:  # noqa: ANN401
    """Return the names of the columns to test: those of the catalogue in its order, then others.

    Raises
    ------
    MissingColumnError
        A column that `features` names is absent.
    TypeError
        `features` contains something other than texts.
    """
    if features is None:
        present = polars_bars(bars).columns
        return [name for name in column_names().optional if _is_default(name, present)]
    asked = [features] if isinstance(features, str) else list(features)
    present = [label for label in bars.columns if isinstance(label, str)]
    for name in asked:
        if not isinstance(name, str):
            sentence = f"`features` must contain names of columns; `{shown(name)}` is not a text"
            raise TypeError(with_hint(sentence, 'write features=["ofi"], or features=None for all'))
        if name not in present and name not in polars_bars(bars).columns:
            raise MissingColumnError.of(name, present, used_for="features")
    known = {name: index for index, name in enumerate(catalogue())}
    return sorted(dict.fromkeys(asked), key=lambda name: known.get(name, len(known)))


def _is_default(name: str, present: Sequence[str]) -> bool:
    if name not in present or not catalogue()[name].is_number:
        return False
    return name not in _ORIGINALS or _ORIGINALS[name] not in (None, *present)


def series_to_test(
    bars: Any,  # noqa: ANN401
    names: Sequence[str],
    target_name: str,
    most_rows: int,
) -> SeriesToTest | None:
    """Return the newest rows of the columns and of the target; None if there is no target.

    Without a column of its name, the target is the return of the next bar.
    """
    target, text, warnings = numeric_column(bars, target_name), target_name, []
    if target is None:
        close = numeric_column(bars, "close")
        if close is None:
            return None
        target, text = close.shift(-1) / close - 1, _RETURN_TEXT
        if target_name != DEFAULT_TARGET:
            warnings.append(f"the bars have no column `{shown(target_name)}`: the target is {text}")
    columns: dict[str, Doubles] = {}
    for name in names:
        values = numeric_column(bars, name)
        if values is not None:
            columns[name] = _newest(values, most_rows)
    return SeriesToTest(columns, _newest(target, most_rows), text, warnings)


def _newest(values: pl.Series, rows: int) -> Doubles:
    """Return the last rows, with NaN for infinities."""
    newest = values.tail(rows)
    array: Doubles = newest.set(~newest.is_finite(), None).fill_null(float("nan")).to_numpy()
    return array
