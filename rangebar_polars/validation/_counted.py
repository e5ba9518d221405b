"""Checks of what the count-bounded functions promise: exactly the newest n bars of a series."""

from __future__ import annotations

import math
import warnings
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars.exceptions import CoverageError, CoverageWarning
from rangebar_polars.interop.pandas_frames import import_pandas
from rangebar_polars.validation._columns import fault_of_series

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CountResult", "check_count", "check_count_api"]

_PRICES = ("open", "high", "low", "close")
_SYMBOL, _DAY = "ETHUSDT", "2024-08-08"


class CountResult(dict[str, Any]):
    """The findings by name, as plain values; None for a check that did not run."""

    @classmethod
    def of(cls, findings: dict[str, Any], *, error: str | None = None) -> CountResult:
        """Make the result: it fails with the first finding that is False."""
        failed = [name for name, value in findings.items() if value is False]
        result = cls(findings, passed=not failed)
        if failed:
            result["error"] = error or f"failed: {', '.join(failed)}"
        return result

    def __repr__(self) -> str:
        """Format a readable report."""
        lines = [f"count check {'passed' if self['passed'] else 'failed'}"]
        if "error" in self:
            lines.append(f"  {self['error']}")
        words: dict[object, str] = {True: "yes", False: "no", None: "not checked"}
        for name, value in self.items():
            if name not in ("passed", "error"):
                is_word = value is None or isinstance(value, bool)
                lines.append(f"  {name:<28}{words[value] if is_word else value}")
        return "\n".join(lines)


def check_count(bars: pl.DataFrame, n_bars: int) -> CountResult:
    """Check bars as `rb.get_n_range_bars` returns them: n closed bars of one series, in order.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.validation._counted import check_count
    >>> bars = rb.sample_ticks().rangebar.bars(250).tail(20)
    >>> check_count(bars, 20)["passed"], check_count(bars, 21)["error"]
    (True, '20 bars instead of 21')
    """
    fault = fault_of_series(bars)
    is_exact = bars.height == n_bars
    findings = {
        "rows": bars.height,
        "rows_expected": n_bars,
        "is_exact": is_exact,
        "is_one_series_in_order": fault is None,
        "are_closed": _every(bars, ["is_closed"], pl.col("is_closed").fill_null(value=False)),
        "prices_are_valid": _every(
            bars,
            _PRICES,
            pl.all_horizontal(
                *(pl.col(name).is_between(0, math.inf, closed="none") for name in _PRICES),
                pl.col("low") <= pl.min_horizontal("open", "close"),
                pl.col("high") >= pl.max_horizontal("open", "close"),
            ).fill_null(value=False),
        ),
        "do_not_overlap": _every(
            bars,
            ("open_time", "close_time"),
            (pl.col("open_time") >= pl.col("close_time").shift(1)).fill_null(value=True),
        ),
    }
    count = None if is_exact else f"{count_text(bars.height, 'bar')} instead of {n_bars:,}"
    return CountResult.of(findings, error=count or fault)


def _every(bars: pl.DataFrame, names: tuple[str, ...] | list[str], holds: pl.Expr) -> bool | None:
    """Return whether a condition holds in every bar; None without its columns."""
    if not set(names) <= set(bars.columns):
        return None
    return bool(bars.select(holds.all()).item())


def check_count_api() -> CountResult:
    """Check `rb.get_n_range_bars` of this installation on the sample ticks, in a temporary folder.

    Nothing is fetched, and no bar cache is used.

    Raises
    ------
    MissingExtraError
        pandas is not installed.

    Examples
    --------
    >>> from rangebar_polars.validation._counted import check_count_api
    >>> check_count_api()["passed"]
    True
    """
    import rangebar_polars as rb

    import_pandas()
    with TemporaryDirectory(prefix="rangebar-") as folder, warnings.catch_warnings():
        warnings.simplefilter("error", CoverageWarning)
        rb.TickStorage(folder).write_ticks(_SYMBOL, rb.sample_ticks())
        options: dict[str, Any] = {
            "use_cache": False,
            "fetch_if_missing": False,
            "anchor": _DAY,
            "cache_dir": folder,
        }
        whole = rb.get_range_bars(_SYMBOL, _DAY, _DAY, **options)

        def newest(n_bars: int, *, allow_fewer: bool = False) -> pd.DataFrame:
            return rb.get_n_range_bars(
                _SYMBOL, n_bars, end_date=_DAY, allow_fewer=allow_fewer, **options
            )

        def refuses(n_bars: int, kind: type[Exception]) -> bool:
            try:
                newest(n_bars)
            except kind:
                return True
            return False

        total = len(whole)
        counts = sorted({1, total // 2, total})
        findings: dict[str, Any] = {
            "bars_of_the_sample": total,
            "counts_are_exact": all(len(newest(n)) == n for n in counts),
            "bars_are_the_newest": all(newest(n).equals(whole.tail(n)) for n in counts),
            "refuses_no_bars": refuses(0, ValueError),
            "refuses_too_many_bars": refuses(total + 1, CoverageError),
        }
        warnings.simplefilter("ignore", CoverageWarning)
        fewer = newest(total + 1, allow_fewer=True)
        findings["returns_fewer_if_allowed"] = len(fewer) == total
    return CountResult.of(findings)
