"""Choice of the plugins of a call, and computation of their columns for each series."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.config import settings
from rangebar_polars.events import PluginEnrichCompleted, emit
from rangebar_polars.exceptions import unknown_choice, with_hint
from rangebar_polars.plugins.discovery import Failure, attempt, discovered, report_failure
from rangebar_polars.plugins.provider import columns_given, missing_columns, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rangebar_polars.plugins.provider import Declared

__all__ = ["PluginCall", "begin_call", "call_of"]

_MAKE = 'make the bars with features="microstructure": a plugin may need the column `{}`'


def begin_call(include: object, symbol: str = "") -> PluginCall:
    """Choose the plugins of a call of a reader, and report those that cannot be loaded.

    Parameters
    ----------
    include
        The argument `include_plugin_features`: True for all plugins, False for none, or a list of
        names. With `RANGEBAR_PLUGINS=off` there are none, whatever is asked for.
    symbol
        Symbol of the events about plugins that cannot be loaded.

    Raises
    ------
    ValueError
        No plugin has that name.
    TypeError
        The argument is neither a bool nor a list of names.
    PluginError
        A plugin cannot be loaded, and `RANGEBAR_PLUGINS` is `strict`.

    Examples
    --------
    >>> from rangebar_polars.plugins.call import begin_call
    >>> begin_call(False).columns
    ()
    """
    names = _names_of(include)
    mode = settings().plugins
    if mode == "off" or names == ():
        return PluginCall(())
    found = discovered()
    known = [one.name for one in found.providers]
    failed = {one.provider for one in found.failures}
    unknown = [name for name in names or () if name not in known and name not in failed]
    for failure in found.failures:
        # A plugin that did not load is known by its entry point, so it may have an unknown name.
        if names is None or unknown or failure.provider in names:
            report_failure(failure, symbol=symbol, is_strict=mode == "strict")
    if unknown:
        raise ValueError(_unknown(unknown[0], known))
    chosen = [one for one in found.providers if names is None or one.name in names]
    return PluginCall(tuple(chosen), is_strict=mode == "strict")


def _unknown(name: str, known: list[str]) -> str:
    """Return the message for a name that no loaded plugin has."""
    if known:
        return unknown_choice("include_plugin_features", name, known)
    sentence = f"`include_plugin_features`: unknown value `{shown(name)}`; no plugin is loaded"
    return with_hint(sentence, "install the distribution of the plugin")


def _names_of(include: object) -> tuple[str, ...] | None:
    """Return the names that are asked for; None for all."""
    if isinstance(include, bool):
        return None if include else ()
    if isinstance(include, (list, tuple)) and all(isinstance(name, str) for name in include):
        return tuple(include)
    sentence = (
        "`include_plugin_features` must be a bool or a list of names of plugins; it is "
        f"`{shown(include)}`, of type `{type(include).__name__}`"
    )
    raise TypeError(with_hint(sentence, "write include_plugin_features=True"))


@dataclass
class PluginCall:
    """The plugins of one call, which may read several series.

    A plugin that fails in one series is not asked for the others. There is one warning and one event
    for it, and `settle` makes its columns null in all series.
    """

    providers: tuple[Declared, ...]
    is_strict: bool = False
    #: Names of the plugins that have failed.
    failed: set[str] = field(default_factory=set)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all plugins, in the order of a result."""
        return tuple(name for one in self.providers for name in one.columns)

    @property
    def min_bars(self) -> int:
        """How many bars before the first requested one `columns_of` can use."""
        return max((one.min_bars for one in self.providers), default=0)

    def begin_again(self) -> PluginCall:
        """Return a call with the same plugins, none of which has failed."""
        return replace(self, failed=set())

    def giving(self, names: Collection[str]) -> PluginCall:
        """Return the part of this call that gives some columns; both know what has failed."""
        wanted = [one for one in self.providers if not set(one.columns).isdisjoint(names)]
        return replace(self, providers=tuple(wanted))

    def columns_of(
        self, bars: pl.DataFrame, *, context: int, symbol: str, threshold: int
    ) -> pl.DataFrame:
        """Compute the columns of the bars of one symbol, threshold and segment.

        A row that has fewer than `min_bars` closed bars before it in `bars` gets null from the
        plugin, so that a reader passes fewer than `min_bars` rows of context only where the series
        begins. Each plugin gets its own `min_bars` rows of context, whatever others need.

        Parameters
        ----------
        bars
            The bars in order, with the columns of the groups `core` and `microstructure`. Bars that
            are not closed get null, and plugins do not get them.
        context
            Number of first rows that are context alone.
        symbol, threshold
            Symbol and threshold of the series.

        Returns
        -------
        DataFrame
            Float64 columns, with a row for each row of `bars` after the context.

        Raises
        ------
        PluginError
            A plugin fails, and `RANGEBAR_PLUGINS` is `strict`.
        """
        if "is_closed" in bars.columns:
            is_closed = bars.get_column("is_closed").fill_null(value=False)
        else:
            is_closed = pl.Series([True]).new_from_index(0, bars.height)
        closed = bars.filter(is_closed)
        before = int(is_closed.head(context).sum())
        rows = pl.DataFrame({"row": pl.int_range(context, bars.height, eager=True)})
        for one in self.providers:
            values = self._values(one, closed, before, symbol, threshold)
            placed = values.with_columns(row=is_closed.arg_true().tail(values.height))
            placed = placed.with_columns(pl.col("row").cast(pl.Int64))
            rows = rows.join(placed, on="row", how="left", maintain_order="left")
        return rows.drop("row")

    def settle(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Make the columns of plugins that have failed null in the frame of all series."""
        names = [name for one in self.providers if one.name in self.failed for name in one.columns]
        return bars.with_columns(pl.lit(None, pl.Float64).alias(name) for name in names)

    def _values(
        self, one: Declared, closed: pl.DataFrame, before: int, symbol: str, threshold: int
    ) -> pl.DataFrame:
        """Return the values of a plugin for the rows after the context; nulls if it has failed."""
        wanted = closed.height - before
        nulls = pl.DataFrame(
            {name: pl.repeat(None, wanted, dtype=pl.Float64, eager=True) for name in one.columns}
        )
        if wanted == 0 or one.name in self.failed:
            return nulls
        # A frame of its own, so that columns which a plugin adds or replaces are in no other one.
        given = closed.slice(max(0, before - one.min_bars)).select(columns_given(closed))
        values = attempt(lambda: values_of(one, given, symbol, threshold))
        if isinstance(values, Exception):
            self.failed.add(one.name)
            failure = Failure(
                one.name,
                one.version,
                f"{one.version} failed on `{shown(symbol)}`",
                values,
                "its columns are null",
            )
            missing = missing_columns(closed)
            if missing:
                failure = failure._replace(hint=_MAKE.format(missing[0]))
            report_failure(failure, symbol=symbol, is_strict=self.is_strict)
            return nulls
        emit(PluginEnrichCompleted(symbol, one.name, one.version, threshold, wanted))
        return values.tail(wanted)


def call_of(providers: Sequence[Declared]) -> PluginCall:
    """Begin a call with these plugins, or with none if plugins are off."""
    mode = settings().plugins
    return PluginCall(() if mode == "off" else tuple(providers), is_strict=mode == "strict")
