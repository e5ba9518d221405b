"""Tests of a feature plugin, for its author."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._text import count_text, shown
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars.plugins.discovery import attempt
from rangebar_polars.plugins.enrich import check_series
from rangebar_polars.plugins.provider import columns_given, declare, faults_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars.plugins.provider import Declared

__all__ = ["ProviderReport", "check_provider"]

#: Differences that rounding may make: of a value, and of the largest value of its column.
_RELATIVE = 1e-9
_OF_LARGEST = 1e-12
_SYMBOL = "BTCUSDT"
_THRESHOLD = 250


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """What `check_provider` has found. It is true if the provider passed."""

    provider: str
    #: The rules that are broken, a sentence each.
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        """Format a readable report."""
        verdict = "passed" if self.passed else f"{count_text(len(self.problems), 'rule')} broken"
        return "\n".join([f"{self.provider}: {verdict}", *(f"- {one}" for one in self.problems)])


@checked_keywords
def check_provider(provider: Any, bars: pl.DataFrame) -> ProviderReport:  # noqa: ANN401
    """Test the rules for feature plugins on these bars.

    It tests the names and the shape of the result, that two calls agree, that the input is unchanged,
    that no row depends on later bars (each prefix gives the same rows), and that none depends on bars
    more than `min_bars` before it (each suffix does). Values may differ by rounding, 1e-9 of the
    value. The provider is called twice for each bar, so some hundred bars are enough.

    Parameters
    ----------
    provider
        The provider to test.
    bars
        Closed bars of one series, in order, more than `min_bars` + 1. With the columns `symbol` and
        `threshold`, these are passed to the provider; otherwise "BTCUSDT" and 250.

    Returns
    -------
    ProviderReport
        `passed`, and `problems`: a sentence for each rule that is broken.

    Raises
    ------
    BarDataError
        The bars are of several series, not closed, or not in order.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.plugins import check_provider
    >>> class Ahead:
    ...     name, version, columns, min_bars = "ahead", "1.0", ("ahead_close",), 0
    ...
    ...     def enrich(self, bars, symbol, threshold_decimal_bps):
    ...         return bars.select(ahead_close=pl.col("close").shift(-1))
    >>> bars = rb.sample_ticks().rangebar.bars(250, features="microstructure").head(9)
    >>> print(check_provider(Ahead(), bars))
    ahead: 1 rule broken
    - look-ahead: `ahead_close` of row 0 changes if the bars from row 1 on are left out
    """
    check_series(bars)
    name = shown(getattr(provider, "name", type(provider).__name__))
    faults = attempt(lambda: faults_of(provider))
    if isinstance(faults, Exception):
        faults = [f"its attributes cannot be read: {_text(faults)}"]
    problems = faults or list(_Checker(declare(provider), bars).problems())
    return ProviderReport(name, tuple(problems))


class _Checker:
    """Calls of a provider on parts of the bars."""

    def __init__(self, one: Declared, bars: pl.DataFrame) -> None:
        self._one = one
        self._bars = bars
        self._symbol = str(_first(bars, "symbol", _SYMBOL))
        threshold = _first(bars, "threshold", _THRESHOLD)
        # Absolute distances are floats.
        self._threshold = threshold if isinstance(threshold, int) else _THRESHOLD

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each rule that is broken."""
        least = self._one.min_bars + 2
        if self._bars.height < least:
            yield f"{self._bars.height} bars are too few to test it: pass {least} or more"
            return
        given = self._given()
        before, columns = given.hash_rows(), given.schema
        whole = self._values(given)
        if isinstance(whole, Exception):
            yield f"`enrich` failed on all bars: {_text(whole)}"
            return
        if given.schema != columns or not given.hash_rows().equals(before):
            yield "`enrich` changed the bars that it was given"
            return
        again = self._values(self._given())
        if isinstance(again, Exception) or not again.equals(whole):
            yield "`enrich` gave another result when it was called again"
            return
        if whole.slice(self._one.min_bars).null_count().sum_horizontal().item() == (
            whole.width * (whole.height - self._one.min_bars)
        ):
            yield "every value is null, so that nothing could be tested"
        yield from self._look_ahead(given, whole)
        yield from self._memory(given, whole)

    def _look_ahead(self, given: pl.DataFrame, whole: pl.DataFrame) -> Iterator[str]:
        for height in range(1, given.height):
            part = self._values(given.head(height))
            if isinstance(part, Exception):
                yield f"`enrich` failed on the first {height} bars: {_text(part)}"
                return
            found = _difference(whole.head(height), part, whole)
            if found is not None:
                name, row = found
                yield (
                    f"look-ahead: `{name}` of row {row} changes if the bars from row {height} on "
                    "are left out"
                )
                return

    def _memory(self, given: pl.DataFrame, whole: pl.DataFrame) -> Iterator[str]:
        least = self._one.min_bars
        for start in range(1, given.height - least):
            part = self._values(given.slice(start))
            if isinstance(part, Exception):
                yield f"`enrich` failed on the bars from row {start} on: {_text(part)}"
                return
            found = _difference(whole.slice(start + least), part.slice(least), whole)
            if found is not None:
                name, row = found
                yield (
                    f"long memory: `{name}` of row {start + least + row} changes if the bars before "
                    f"row {start} are left out, although `min_bars` is {least}"
                )
                return

    def _given(self) -> pl.DataFrame:
        return self._bars.select(columns_given(self._bars))

    def _values(self, bars: pl.DataFrame) -> pl.DataFrame | Exception:
        one, symbol, threshold = self._one, self._symbol, self._threshold
        return attempt(lambda: values_of(one, bars, symbol, threshold))


def _first(bars: pl.DataFrame, name: str, otherwise: object) -> Any:  # noqa: ANN401
    return bars.get_column(name)[0] if name in bars.columns and bars.height else otherwise


def _text(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}")


def _difference(
    expected: pl.DataFrame, found: pl.DataFrame, whole: pl.DataFrame
) -> tuple[str, int] | None:
    """Return the first column and row that differ by more than rounding."""
    for name in expected.columns:
        one, other = expected.get_column(name), found.get_column(name)
        largest = whole.get_column(name).abs().max() or 0.0
        both = pl.DataFrame({"one": one, "other": other})
        size = pl.max_horizontal(pl.col("one").abs(), pl.col("other").abs())
        allowed = _RELATIVE * size + _OF_LARGEST * float(largest)  # type: ignore[arg-type]
        is_near = (pl.col("one") - pl.col("other")).abs() <= allowed
        are_null = pl.col("one").is_null() & pl.col("other").is_null()
        rows = both.select((are_null | is_near.fill_null(value=False)).not_()).to_series()
        if rows.any():
            return name, int(rows.arg_true()[0])
    return None
