"""Quick validation of bar values: that they are finite, within bounds and plausible."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars.catalogue import column_names
from rangebar_polars.validation._defined import defined, has_sample, rounding, witnesses
from rangebar_polars.validation._frames import catalogue, polars_bars
from rangebar_polars.validation._sums import Correlation, Median

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pandas as pd

__all__ = ["FEATURE_COLUMNS", "Tier1Check", "Tier1Result", "validate_tier1"]

#: The optional columns of the catalogue, of which at least one must be present.
FEATURE_COLUMNS: tuple[str, ...] = column_names().optional

_BOUNDED = {
    "duration_positive": "duration_us",
    "ofi_bounded": "ofi",
    "turnover_imbalance_bounded": "turnover_imbalance",
    "volume_non_negative": "volume",
    "buy_volume_non_negative": "buy_volume",
    "sell_volume_non_negative": "sell_volume",
}
# Findings about several columns.
_OF_COLUMNS = ("no_nan", "no_inf")
# Limits of what is plausible. Possible values may lie beyond them.
_LEAST_ROWS = 50
_SANE_CORRELATION = (0.05, 0.8)
_LARGEST_MEAN_OFI = 0.3
_LARGEST_MEDIAN_RATIO = 10.0
_LISTED = 10


class Tier1Result(dict[str, Any]):
    """The findings by name, as plain values for `json.dumps`; None for a check that did not run.

    Attributes
    ----------
    rows
        Number of bars.
    rows_failed
        By finding, the number of bars that fail it and the indices of the first ten.
    """

    rows: int
    rows_failed: dict[str, tuple[int, list[int]]]

    def __repr__(self) -> str:
        """Format a readable report."""
        verdict = "passed" if self["tier1_passed"] else "failed"
        lines = [f"tier 1 {verdict}: {count_text(self.rows, 'bar')}"]
        if "error" in self:
            lines.append(f"  {self['error']}")
        for name, value in self.items():
            if name not in ("tier1_passed", "error", "features_found"):
                lines.append(f"  {name:<28}{_value_text(value)}")
        for name, (count, first) in self.rows_failed.items():
            more = ", …" if count > len(first) else ""
            lines.append(
                f"  {name}: {count_text(count, 'bar')}: {', '.join(map(str, first))}{more}"
            )
        return "\n".join(lines)


def _value_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return {True: "yes", False: "no", None: "not checked"}.get(value, str(value))  # type: ignore[call-overload, no-any-return]


def validate_tier1(df: pl.DataFrame | pd.DataFrame) -> Tier1Result:
    """Check the values of bars for NaN, infinities, bounds and plausible correlations.

    The bounds are those of `rb.columns()`. `no_nan` fails for a NaN, and for a null where the value
    is defined. A ratio is undefined where its denominator is 0, and a whole column is where the
    ticks do not have its input, such as the side. Other columns of the bar tell which is the case;
    without them, a null passes. In pandas, a NaN counts as a null.

    Parameters
    ----------
    df
        Bars with at least one optional column, such as those of `features="microstructure"`, under
        the names of the catalogue or as Open, High, Low, Close and Volume.

    Returns
    -------
    Tier1Result
        A dict. `tier1_passed` is whether every critical check passes. Critical are
        `features_present`, `no_nan`, `no_inf`, `duration_positive`, `ofi_bounded`,
        `turnover_imbalance_bounded`, `volume_non_negative`, `buy_volume_non_negative`,
        `sell_volume_non_negative`, and the bounds of all other columns. Not critical are
        `features_empty`, `ofi_return_corr`, `ofi_corr_sane`, `ofi_mean_near_zero` and
        `aggression_ratio_reasonable`. `features_found` lists the optional columns, and
        `features_empty` those of them that are null in every bar, although at least 50 bars have
        the inputs and the smallest sample that `rb.columns()` names. If the validation fails,
        `error` names the columns, and the attribute `rows_failed` lists the bars.

    Raises
    ------
    TypeError
        The argument is not a frame in memory, or a numeric column holds something else.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.validation.tier1 import validate_tier1
    >>> bars = rb.sample_ticks().rangebar.bars(250, features="microstructure")
    >>> result = validate_tier1(bars)
    >>> result["tier1_passed"], len(result["features_found"])
    (True, 10)
    >>> lost = bars.with_columns(ofi=pl.when(pl.col("bar_id") != 3).then("ofi"))
    >>> validate_tier1(lost)["error"]
    'no_nan fails in 1 bar (ofi)'
    >>> validate_tier1(bars.clear())["error"]
    'there are no bars'
    """
    check = Tier1Check()
    check.add(df)
    return check.result()


@dataclass(slots=True)
class _Failures:
    """Bars that fail one check."""

    count: int = 0
    first: list[int] = field(default_factory=list)
    #: The columns that failed, in order.
    columns: dict[str, None] = field(default_factory=dict)


class Tier1Check:
    """The same check for bars in batches, in order, such as a month at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._seen: dict[str, None] = {}
        # Columns with a value so far. A column without input never has one.
        self._with_values: set[str] = set()
        # By optional column, the bars that have its inputs and its sample.
        self._sampled: Counter[str] = Counter()
        self._failed: dict[str, _Failures] = {}
        self._last_close: float | None = None
        self._returns = Correlation()
        self._ofi_sum, self._ofi_count = 0.0, 0
        self._ratios = Median(_LARGEST_MEDIAN_RATIO)

    def add(self, bars: pl.DataFrame | pd.DataFrame) -> None:
        """Check the next bars."""
        frame = polars_bars(bars)
        height = len(bars)
        if frame.height:  # no rows, or no column of the catalogue
            self._seen |= dict.fromkeys(frame.columns)
            self._check_rows(frame)
            self._count_samples(frame)
            self._observe(frame)
        self.rows += height

    def result(self) -> Tier1Result:
        """Return the result for all bars so far."""
        found = [name for name in FEATURE_COLUMNS if name in self._seen]
        values: dict[str, Any] = {
            "features_present": bool(found),
            "features_found": found,
            "features_empty": [name for name in found if self._is_empty(name)],
            "no_nan": not self._has_failed("no_nan"),
            "no_inf": not self._has_failed("no_inf"),
        }
        for name, column in _BOUNDED.items():
            values[name] = None if column not in self._seen else not self._has_failed(name)
        values |= self._plausible()
        if not self.rows or not found:
            values |= dict.fromkeys(values.keys() - {"features_present", "features_found"})
        error = self._error(found)
        values["tier1_passed"] = error is None
        if error is not None:
            values["error"] = error
        result = Tier1Result(values)
        result.rows = self.rows
        result.rows_failed = {name: (one.count, one.first) for name, one in self._failed.items()}
        return result

    def _is_empty(self, name: str) -> bool:
        """Return whether a column is null in every bar, although many bars have its sample."""
        return name not in self._with_values and self._sampled[name] >= _LEAST_ROWS

    def _has_failed(self, name: str) -> bool:
        return name in self._failed

    def _error(self, found: list[str]) -> str | None:
        """Describe why the validation fails."""
        if not self.rows:
            return "there are no bars"
        if not found:
            return 'there are no feature columns; compute bars with features="microstructure"'
        parts = []
        for name, failures in self._failed.items():
            where = f" ({', '.join(failures.columns)})" if name in _OF_COLUMNS else ""
            parts.append(f"{name} fails in {count_text(failures.count, 'bar')}{where}")
        return "; ".join(parts) or None

    def _check_rows(self, frame: pl.DataFrame) -> None:
        """Count the bars that fail, and record the indices of the first."""
        self._with_values |= {column.name for column in frame if column.null_count() < frame.height}
        tests = list(_tests(frame, self._with_values))
        counts = frame.select(
            test.fails.sum().alias(str(index)) for index, test in enumerate(tests)
        ).row(0)
        together: dict[str, list[_Test]] = {}
        for test, count in zip(tests, counts, strict=True):
            if count:
                together.setdefault(test.finding, []).append(test)
        for name, failing in together.items():
            fails = pl.any_horizontal(test.fails for test in failing)
            rows = frame.select(fails.fill_null(value=False).arg_true())
            failures = self._failed.setdefault(name, _Failures())
            failures.columns |= dict.fromkeys(test.column for test in failing)
            failures.count += rows.height
            room = _LISTED - len(failures.first)
            failures.first += (rows.to_series().head(room) + self.rows).to_list()

    def _observe(self, frame: pl.DataFrame) -> None:
        """Update the sums for the plausibility checks."""
        names = frame.columns
        ofi = _finite(frame["ofi"]) if "ofi" in names else None
        if ofi is not None:
            self._ofi_sum += float(ofi.sum())
            self._ofi_count += ofi.count()
        if "aggression_ratio" in names:
            self._ratios.add(_finite(frame["aggression_ratio"]).drop_nulls())
        if "close" in names:
            close = frame["close"].cast(pl.Float64)
            before = close.shift(1, fill_value=self._last_close)
            if ofi is not None:
                self._returns.add(ofi, _finite(close / before - 1))
            self._last_close = close[-1]

    def _count_samples(self, frame: pl.DataFrame) -> None:
        """Count the bars that have the inputs and the sample of each optional column."""
        present = witnesses(frame.schema)
        conditions = {
            name: condition
            for name in FEATURE_COLUMNS
            if name in frame.columns
            and name not in self._with_values
            and (condition := has_sample(catalogue()[name], present)) is not None
        }
        counts = frame.select(condition.sum().alias(name) for name, condition in conditions.items())
        self._sampled.update(counts.row(0, named=True) if conditions else {})

    def _plausible(self) -> dict[str, Any]:
        correlation = mean = None
        if "close" in self._seen and self.rows > _LEAST_ROWS:
            correlation = self._returns.value
        if self._ofi_count:
            mean = self._ofi_sum / self._ofi_count
        low, high = _SANE_CORRELATION
        is_sane = None if correlation is None else low < abs(correlation) < high
        return {
            "ofi_return_corr": correlation,
            "ofi_corr_sane": is_sane,
            "ofi_mean_near_zero": None if mean is None else abs(mean) < _LARGEST_MEAN_OFI,
            "aggression_ratio_reasonable": self._ratios.is_below,
        }


def _finite(values: pl.Series) -> pl.Series:
    """Convert values to doubles, with null for NaN and infinities."""
    doubles = values.cast(pl.Float64)
    return doubles.set(~doubles.is_finite().fill_null(value=False), None)


class _Test(NamedTuple):
    """A condition that fails a bar, and the finding that it belongs to."""

    finding: str
    column: str
    fails: pl.Expr


def _tests(frame: pl.DataFrame, with_values: Collection[str]) -> Iterator[_Test]:
    by_column = {column: name for name, column in _BOUNDED.items()}
    present = witnesses(frame.schema)
    for name, dtype in frame.schema.items():
        column, value = catalogue()[name].of(dtype), pl.col(name)
        is_defined = defined(name, present, with_values) if column.nullable else pl.lit(value=True)
        if is_defined is not None:
            yield _Test("no_nan", name, value.is_null() & is_defined)
        if dtype.is_float():
            yield _Test("no_nan", name, value.is_nan())
            yield _Test("no_inf", name, value.is_infinite())
            value = value.fill_nan(None)
        slack = rounding(name, present)
        outside = []
        if column.lower is not None:
            outside.append((value if slack is None else value + slack) < column.lower)
        if column.upper is not None:
            outside.append((value if slack is None else value - slack) > column.upper)
        if outside:
            finding = by_column.get(name, f"{name} ({column.bounds})")
            yield _Test(finding, name, pl.any_horizontal(outside))
