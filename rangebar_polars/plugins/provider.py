"""What a feature plugin declares and computes, and the rules for both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.catalogue import column_names
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Declared", "FeatureProvider", "clash_of", "columns_given", "declare", "faults_of"]
__all__ += ["input_columns", "missing_columns", "values_of"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Beginnings of names of the catalogue that are not groups.
_RESERVED = {"intra", "order"}
#: Columns that depend on the call and not on the bars. Plugins do not get them.
_OF_THE_CALL = {"bar_id", "threshold", "is_closed", "ended_by"}


@runtime_checkable
class FeatureProvider(Protocol):
    """A plugin that computes columns of the bars of one series.

    The class needs no base. `isinstance` only tests that the attributes are there;
    `check_provider` tests the rules.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.plugins import FeatureProvider
    >>> class Momentum:
    ...     name = "momentum"
    ...     version = "1.0"
    ...     columns = ("momentum_5",)
    ...     min_bars = 5
    ...
    ...     def enrich(self, bars, symbol, threshold_decimal_bps):
    ...         return bars.with_columns(momentum_5=pl.col("close") / pl.col("close").shift(5) - 1)
    >>> isinstance(Momentum(), FeatureProvider)
    True
    """

    #: Name of the plugin, such as "laguerre": `a-z`, then `a-z`, `0-9` and `_`.
    name: str
    #: Version of the plugin, for warnings and events.
    version: str
    #: Names of its columns. Each begins with the name of the plugin and `_`.
    columns: tuple[str, ...]
    #: Row i of the result depends on the rows i − min_bars … i of the bars, and no others.
    min_bars: int

    def enrich(self, bars: pl.DataFrame, symbol: str, threshold_decimal_bps: int) -> pl.DataFrame:
        """Return a frame of the same height with `columns` as Float64; others are ignored.

        Parameters
        ----------
        bars
            Closed bars of one series, in order: the columns of the groups `core` and
            `microstructure`, without `bar_id`, `threshold`, `is_closed` and `ended_by`.
        symbol
            Symbol of the series.
        threshold_decimal_bps
            Threshold of the series, in decimal basis points.
        """
        ...


class Declared(NamedTuple):
    """A provider, and what it says of itself."""

    provider: FeatureProvider
    name: str
    version: str
    columns: tuple[str, ...]
    min_bars: int


def declare(provider: Any) -> Declared:  # noqa: ANN401
    """Read what a provider says of itself.

    Raises
    ------
    ValueError
        The provider breaks a rule.
    """
    faults = faults_of(provider)
    if faults:
        name = shown(getattr(provider, "name", type(provider).__name__))
        sentence = f"the provider `{name}` is not valid: {'; '.join(faults)}"
        hint = "rangebar_polars.plugins.check_provider(provider, bars) tests all rules"
        raise ValueError(with_hint(sentence, hint))
    columns = tuple(provider.columns)
    return Declared(provider, provider.name, provider.version, columns, int(provider.min_bars))


def faults_of(provider: Any) -> list[str]:  # noqa: ANN401
    """Return the rules that a provider's own attributes break."""
    missing = [
        name
        for name in ("name", "version", "columns", "min_bars", "enrich")
        if not hasattr(provider, name)
    ]
    if missing:
        return [f"it has no attribute `{name}`" for name in missing]
    faults = _faults_of_name(provider.name)
    if not faults:
        faults = _faults_of_columns(provider.name, provider.columns)
    if not isinstance(provider.version, str):
        faults.append(f"`version` must be a text; it is `{shown(provider.version)}`")
    bars = provider.min_bars
    if isinstance(bars, bool) or not isinstance(bars, int) or bars < 0:
        faults.append(f"`min_bars` must be a whole number, 0 or more; it is `{shown(bars)}`")
    if not callable(provider.enrich):
        faults.append("`enrich` is not a method")
    return faults


def _faults_of_name(name: object) -> list[str]:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        return [f"`name` must be of a-z, 0-9 and _, and begin with a letter; it is `{shown(name)}`"]
    if name in _RESERVED | set(column_names().groups):
        return [f"`name` is `{name}`, which names columns of this package"]
    return []


def _faults_of_columns(name: str, columns: object) -> list[str]:
    if isinstance(columns, str) or not isinstance(columns, (tuple, list)) or not columns:
        return [f"`columns` must be a tuple of names; it is `{shown(columns)}`"]
    faults = []
    known = {*column_names().core, *column_names().optional, *_OF_THE_CALL}
    for column in columns:
        if not isinstance(column, str) or _NAME.fullmatch(column) is None:
            faults.append(f"`{shown(column)}` is not a name of a-z, 0-9 and _")
        elif not column.startswith(f"{name}_"):
            faults.append(f"the column `{shown(column)}` does not begin with `{name}_`")
        elif column in known:
            faults.append(f"the column `{column}` is one of this package: see `rb.columns()`")
    if len(set(map(str, columns))) < len(columns):
        faults.append(f"`columns` has a name twice: `{shown(columns)}`")
    return faults


def clash_of(one: Declared, others: Collection[Declared]) -> str | None:
    """Return what a provider has in common with one of the others; None if there is nothing."""
    for other in others:
        if one.name == other.name:
            return f"another provider has the name `{one.name}`"
        shared = sorted(set(one.columns) & set(other.columns))
        if shared:
            return f"the provider `{other.name}` has the column `{shared[0]}` too"
    return None


def columns_given(bars: pl.DataFrame) -> list[str]:
    """Return the columns of bars that plugins get, in the order of the catalogue."""
    return [name for name in input_columns() if name in bars.columns]


def missing_columns(bars: pl.DataFrame) -> list[str]:
    """Return the columns that plugins may expect and that the bars do not have."""
    return [name for name in input_columns() if name not in bars.columns]


def input_columns() -> list[str]:
    """Return the columns that plugins get, in the order of the catalogue."""
    names = column_names()
    known = (*names.core, *names.groups["microstructure"])
    return [name for name in known if name not in _OF_THE_CALL]


def values_of(one: Declared, bars: pl.DataFrame, symbol: str, threshold: int) -> pl.DataFrame:
    """Compute the columns of a provider, with null for NaN and in the first `min_bars` rows.

    The provider gets the frame itself, which should have the columns of plugins alone.

    Raises
    ------
    ValueError, TypeError
        The result breaks a rule.
    Exception
        Whatever the provider raises.
    """
    height = bars.height
    result = one.provider.enrich(bars, symbol, threshold)
    if not isinstance(result, pl.DataFrame):
        raise TypeError(
            f"`enrich` must return a DataFrame of Polars; it returned `{type(result).__name__}`"
        )
    if result.height != height:
        raise ValueError(f"`enrich` returned {result.height} rows for {height} bars")
    for name in one.columns:
        if name not in result.columns:
            raise ValueError(f"the result has no column `{name}`")
        dtype = result.schema[name]
        if dtype != pl.Float64:
            raise TypeError(f"the column `{name}` has data type `{dtype}`; it must be Float64")
    values = result.select(one.columns).rechunk()
    for column in values.iter_columns():
        rows = column.is_infinite().arg_true()
        if not rows.is_empty():
            raise ValueError(f"the column `{column.name}` is infinite in row {rows[0]}")
    is_known = pl.int_range(pl.len()) >= one.min_bars
    return values.select(pl.when(is_known).then(pl.col(one.columns).fill_nan(None)))
