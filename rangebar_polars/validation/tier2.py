"""Statistical validation of bars: how much their columns say about what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rangebar_polars._text import count_text, shown
from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.checks import count_of
from rangebar_polars.exceptions import with_hint
from rangebar_polars.validation._columns import (
    DEFAULT_TARGET,
    fault_of_series,
    series_to_test,
    tested_names,
)
from rangebar_polars.validation._frames import polars_bars
from rangebar_polars.validation._libraries import (
    mutual_information,
    quiet_libraries,
    require_libraries,
    spearman_p,
    stationarity,
)
from rangebar_polars.validation.tier1 import validate_tier1

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import polars as pl

    from rangebar_polars.validation._columns import SeriesToTest
    from rangebar_polars.validation._ranks import Codes, Doubles

__all__ = ["Tier2Result", "validate_tier2"]

#: A column is tested on more pairs of a value and a target than this.
_TOO_FEW = 100
_LEAST_RHO = 0.02
_FALSE_DISCOVERIES = 0.05
_LEAST_SIGNIFICANT = 3
_STABLE_BLOCKS = 4
_SAME_INFORMATION = 0.8
_TOO_GOOD = 0.3
_LISTED = 20

_KEYS = (
    "stationarity",
    "predictive_power",
    "mutual_info",
    "high_correlation_pairs",
    "significant_feature_count",
    "stable_feature_count",
    "independent_feature_count",
    "look_ahead_suspected",
    "warnings",
    "skipped",
    "target",
    "seconds",
)


class Tier2Result(dict[str, Any]):
    """The findings by name, as plain values for `json.dumps`; None for what was not computed."""

    def __repr__(self) -> str:
        """Format a readable report."""
        verdict = "passed" if self["tier2_passed"] else "failed"
        lines = [f"tier 2 {verdict}: {self['rows_used']:,} of {self['rows']:,} bars used"]
        if "error" in self:
            lines.append(f"  {self['error']}")
        if self["predictive_power"] is not None:
            lines += self._facts() + self._significant()
        return "\n".join(lines)

    def _facts(self) -> list[str]:
        tested = len(self["predictive_power"])
        facts = {
            "target": self["target"],
            "significant": f"{self['significant_feature_count']} of {tested} columns tested",
            "stable": self["stable_feature_count"],
            "independent": self["independent_feature_count"],
            "correlated pairs": len(self["high_correlation_pairs"]),
            "skipped": _listed([f"{name} ({why})" for name, why in self["skipped"].items()]),
        }
        lines = [f"  {name:<18}{value}" for name, value in facts.items()]
        return lines + [f"  warning: {text}" for text in self["warnings"][:_LISTED]]

    def _significant(self) -> list[str]:
        """Return a table of the significant columns, the strongest first."""
        found = [
            (name, row) for name, row in self["predictive_power"].items() if row["significant"]
        ]
        if not found:
            return []
        found.sort(key=lambda item: -abs(item[1]["spearman_rho"]))
        width = max(len(name) for name, _ in found)
        lines = [f"  {'significant column':<{max(width, 18)}}     rho  q value  blocks  nats"]
        for name, row in found[:_LISTED]:
            nats = self["mutual_info"][name]
            lines.append(
                f"  {name:<{max(width, 18)}}  {row['spearman_rho']:+.3f}  {row['q_value']:7.1e}"
                f"  {row['same_sign_blocks']} of 5  {'–' if isinstance(nats, dict) else f'{nats:.3f}'}"
            )
        more = len(found) - _LISTED
        return lines + ([f"  and {more} more"] if more > 0 else [])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED
    return (", ".join(texts[:_LISTED]) or "none") + (f", and {more} more" if more > 0 else "")


def validate_tier2(
    df: pl.DataFrame | pd.DataFrame,
    target_col: str = DEFAULT_TARGET,
    *,
    features: Sequence[str] | str | None = None,
    max_rows: int = 100_000,
) -> Tier2Result:
    """Test how stationary columns of bars are, and what they say about a target.

    `validate_tier1` runs first, on all bars. A column is significant if its rank correlation with
    the target exceeds 0.02 and its q value is below 0.05. The p value behind it compares the
    correlation with those of the target moved in time, so that the memory of both series does not
    make it too small.

    Parameters
    ----------
    df
        Bars of one series in order of time, in memory, under the names of the catalogue or as Open,
        High, Low, Close and Volume.
    target_col
        The column to predict. If it is absent, the target is the return of the next bar.
    features
        Columns to test. Default: every optional column of `rb.columns()` that the bars have,
        without repetitions of others.
    max_rows
        The newest bars that are used.

    Returns
    -------
    Tier2Result
        A dict with the keys of `validate_tier1`, and:

        - `rows`, `rows_used`: number of bars, and of those that were tested.
        - `stationarity`: by column, `adf_statistic`, `adf_p_value` and `is_stationary` (p below
          0.05), or `error`. For information only.
        - `predictive_power`: by column, `spearman_rho`, `p_value` (for information only),
          `shift_p_value`, `q_value`, `significant`, `rho_by_block` (in five parts of the series)
          and `same_sign_blocks`.
        - `mutual_info`: by column, the mutual information with the target in nats, or `error`.
        - `high_correlation_pairs`: two columns and their rank correlation, if it exceeds 0.8.
        - `significant_feature_count`, `stable_feature_count` (of these, with the same sign in at
          least 4 of 5 blocks), `independent_feature_count` (groups of correlated columns with a
          significant one).
        - `look_ahead_suspected`: columns with a rank correlation above 0.3.
        - `warnings`: sentences. `skipped`: by column, why it was not tested.
        - `target`: what was predicted. `seconds`: the time that it took.
        - `tier2_passed`: whether tier 1 passed and at least 3 columns are significant. If not,
          `error` says why.

    Raises
    ------
    MissingExtraError
        A library of the extra `validation` is not installed.
    MissingColumnError
        `features` names a column that is absent.
    TypeError
        The bars are not a frame in memory, or a column to test is not numeric.
    ValueError
        `max_rows` is below 1.

    Notes
    -----
    Sources: Spearman (1904); Dickey & Fuller (1979); Benjamini & Hochberg (1995); Ross (2014) for
    the mutual information.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.validation.tier2 import validate_tier2
    >>> bars = rb.sample_ticks().rangebar.bars(100, features="microstructure")
    >>> result = validate_tier2(bars, features=["ofi", "duration_us"])
    >>> result["target"], result["tier2_passed"]
    ('forward_return (Close[i+1]/Close[i] − 1)', False)
    >>> result["error"]
    '1 of 2 columns is significant; at least 3 must be'
    """
    started = clock.monotonic()
    require_libraries()
    most = count_of(max_rows, "max_rows", meant=100_000)
    if not isinstance(target_col, str):
        sentence = f"`target_col` must be the name of a column; it is `{shown(target_col)}`"
        raise TypeError(with_hint(sentence, 'write target_col="forward_return"'))
    result = Tier2Result(validate_tier1(df))
    fault = result.pop("error", None)
    result |= {"rows": len(df), "rows_used": min(len(df), most), **dict.fromkeys(_KEYS)}
    found = f"tier 1 failed: {fault}" if fault else _choose(df, target_col, features, most)
    error = found if isinstance(found, str) else _evaluate(result, found)
    if not isinstance(found, str):
        result["seconds"] = clock.monotonic() - started
    result["tier2_passed"] = error is None
    if error is not None:
        result["error"] = error
    return result


def _choose(
    df: pl.DataFrame | pd.DataFrame,
    target_col: str,
    features: Sequence[str] | str | None,
    most_rows: int,
) -> SeriesToTest | str:
    """Return the series to test, or why there are none."""
    names = [name for name in tested_names(df, features) if name != target_col]
    if (used := min(len(df), most_rows)) <= _TOO_FEW:
        return f"{count_text(used, 'bar')} to test; more than {_TOO_FEW} are needed"
    if not names:
        return "there are no columns to test"
    fault = fault_of_series(polars_bars(df))
    if fault is not None:
        return fault
    series = series_to_test(df, names, target_col, most_rows)
    if series is None:
        return f"the bars have neither the target `{shown(target_col)}` nor `close`"
    return series


def _evaluate(result: Tier2Result, series: SeriesToTest) -> str | None:
    """Fill in the findings, and return why the validation fails, or None."""
    from rangebar_polars.validation import _ranks

    with quiet_libraries():
        codes = {name: _ranks.value_codes(values) for name, values in series.columns.items()}
        findings, skipped, nats = _tests(series, codes)
        varying = {name: code for name, code in codes.items() if code.max() > 0}
        pairs = _ranks.correlated_pairs(varying, beyond=_SAME_INFORMATION, least_rows=_TOO_FEW + 1)
        result["stationarity"] = {
            name: stationarity(values[codes[name] != _ranks.MISSING])
            for name, values in series.columns.items()
        }
    significant = [name for name, row in findings.items() if row["significant"]]
    stable = [n for n in significant if findings[n]["same_sign_blocks"] >= _STABLE_BLOCKS]
    suspected = [name for name, row in findings.items() if abs(row["spearman_rho"]) > _TOO_GOOD]
    result |= {
        "predictive_power": findings,
        "mutual_info": nats,
        "high_correlation_pairs": [list(pair) for pair in pairs],
        "significant_feature_count": len(significant),
        "stable_feature_count": len(stable),
        "independent_feature_count": _ranks.group_count(significant, pairs),
        "look_ahead_suspected": suspected,
        "warnings": series.warnings
        + [_warning(name, findings[name]["spearman_rho"]) for name in suspected],
        "skipped": skipped,
        "target": series.target_text,
    }
    if len(significant) >= _LEAST_SIGNIFICANT:
        return None
    verb = "is" if len(significant) == 1 else "are"
    return (
        f"{len(significant)} of {count_text(len(series.columns), 'column')} {verb} significant; "
        f"at least {_LEAST_SIGNIFICANT} must be"
    )


def _warning(name: str, rho: float) -> str:
    return (
        f"`{shown(name)}` has a rank correlation of {rho:.2f} with the target, more than is plausible: "
        "check that it does not contain the future"
    )


def _tests(
    series: SeriesToTest, codes: dict[str, Codes]
) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, Any]]:
    """Test each column against the target: the findings, the columns left out, and nats."""
    from rangebar_polars.validation import _ranks

    target = _ranks.value_codes(series.target)
    findings: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    nats: dict[str, Any] = {}
    for name, code in codes.items():
        pairs = (code != _ranks.MISSING) & (target != _ranks.MISSING)
        x, y = code[pairs], target[pairs]
        reason = _reason_to_skip(code, x, y)
        if reason is not None:
            skipped[name] = reason
            continue
        findings[name] = _finding(x, y, series.columns[name][pairs], series.target[pairs])
        nats[name] = mutual_information(series.columns[name][pairs], series.target[pairs])
    q_values = _ranks.benjamini_hochberg([row["shift_p_value"] for row in findings.values()])
    for row, q_value in zip(findings.values(), q_values, strict=True):
        row["q_value"] = q_value
        row["significant"] = abs(row["spearman_rho"]) > _LEAST_RHO and q_value < _FALSE_DISCOVERIES
    return findings, skipped, nats


def _reason_to_skip(column: Codes, x: Codes, y: Codes) -> str | None:
    highest = int(column.max())
    if highest <= 0:
        return "it is constant" if highest == 0 else "it has no value"
    if x.size <= _TOO_FEW:
        return f"{count_text(x.size, 'row')} with a target; more than {_TOO_FEW} are needed"
    if (x == x[0]).all():
        return "it is constant in the rows that have a target"
    return "the target is constant in its rows" if (y == y[0]).all() else None


def _finding(x: Codes, y: Codes, column: Doubles, target: Doubles) -> dict[str, Any]:
    """Test one column on its pairs; the q value follows from all columns."""
    from rangebar_polars.validation import _ranks

    rho, p_value = _ranks.shift_test(_ranks.scores(x), _ranks.scores(y))
    blocks = _ranks.block_correlations(x, y)
    return {
        "spearman_rho": rho,
        "p_value": spearman_p(column, target),
        "shift_p_value": p_value,
        "q_value": None,
        "significant": False,
        "rho_by_block": blocks,
        "same_sign_blocks": sum(block is not None and block * rho > 0 for block in blocks),
    }
