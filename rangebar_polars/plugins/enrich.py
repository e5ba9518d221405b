"""Addition of the columns of plugins to a frame of bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.bar_checks import keys_of
from rangebar_polars.exceptions import BarDataError, MissingColumnError, with_hint
from rangebar_polars.plugins.call import begin_call, call_of
from rangebar_polars.plugins.provider import clash_of, columns_given, declare
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rangebar_polars.plugins.provider import Declared, FeatureProvider
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["check_series", "enrich_bars"]


@checked_keywords
def enrich_bars(
    bars: pl.DataFrame,
    symbol: str,
    threshold_decimal_bps: ThresholdLike,
    *,
    providers: Iterable[FeatureProvider] | None = None,
) -> pl.DataFrame:
    """Add the columns of feature plugins to the closed bars of one series.

    A plugin that fails gives columns of nulls, a warning and the event `plugin_enrich_failed`. With
    `RANGEBAR_PLUGINS=strict` it raises, and with `off` no column is added.

    Parameters
    ----------
    bars
        Closed bars of one symbol and threshold, in order. Plugins get the columns of the groups
        `core` and `microstructure` that are there, without `bar_id`.
    symbol
        Symbol of the series.
    threshold_decimal_bps
        Threshold of the series.
    providers
        Plugins to use. None uses all that are installed.

    Returns
    -------
    DataFrame
        The bars with the columns of the plugins, Float64. The first `min_bars` rows of a plugin are
        null, and so are its NaN.

    Warns
    -----
    PluginWarning
        A plugin could not be loaded or failed, once for each plugin.

    Raises
    ------
    BarDataError
        The bars are of several series, not closed, or not in order.
    ValueError
        A provider that is passed breaks a rule for names, or has a column of another one.
    PluginError
        A plugin failed, with `RANGEBAR_PLUGINS=strict`.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.plugins import enrich_bars
    >>> class Momentum:
    ...     name, version, columns, min_bars = "momentum", "1.0", ("momentum_2",), 2
    ...
    ...     def enrich(self, bars, symbol, threshold_decimal_bps):
    ...         return bars.with_columns(momentum_2=pl.col("close") / pl.col("close").shift(2) - 1)
    >>> bars = rb.sample_ticks().rangebar.bars(250, features="microstructure")
    >>> enriched = enrich_bars(bars, "ETHUSDT", 250, providers=[Momentum()])
    >>> enriched["momentum_2"].is_null().sum(), enriched.height == bars.height
    (2, True)
    """
    check_series(bars)
    if not isinstance(symbol, str):
        raise TypeError(f"`symbol` must be a text; it is of type `{type(symbol).__name__}`")
    threshold = parse_threshold(threshold_decimal_bps)
    call = begin_call(True, symbol) if providers is None else call_of(_declared(providers))  # noqa: FBT003
    values = call.columns_of(bars, context=0, symbol=symbol, threshold=threshold)
    return bars.with_columns(values.get_columns())


def check_series(bars: object) -> None:
    """Check that a frame holds closed bars of one series, in order.

    Raises
    ------
    TypeError
        The value is not a DataFrame of Polars.
    MissingColumnError
        No column is one of bars.
    BarDataError
        The bars are of several series, not closed, or not in order.
    """
    if not isinstance(bars, pl.DataFrame):
        hint = "collect a plan: bars.collect(); convert a pandas frame: pl.from_pandas(bars)"
        sentence = f"bars must be a DataFrame of Polars; they are of type `{type(bars).__name__}`"
        raise TypeError(with_hint(sentence, hint))
    if not columns_given(bars):
        sentence = "this is not a frame of bars: it has no column of bars"
        raise MissingColumnError(with_hint(sentence, "make bars first: trades.rangebar.bars(250)"))
    times = [name for name in ("open_time", "close_time") if name in bars.columns]
    for key in _keys(bars) if times else []:
        if bars.get_column(key).n_unique() > 1:
            name = shown(key)
            sentence = f"the bars are of several series: `{name}` is not the same in all rows"
            hint = f'call it for each of bars.partition_by("{name}", maintain_order=True)'
            raise BarDataError(with_hint(sentence, hint))
    if "is_closed" in bars.columns and not bars.get_column("is_closed").all():
        sentence = "some of these bars are not closed, and a plugin gets closed bars alone"
        raise BarDataError(with_hint(sentence, 'leave them out: bars.filter("is_closed")'))
    for name in times:
        if not bars.get_column(name).is_sorted():
            sentence = f"the bars are not in order: `{name}` runs back"
            raise BarDataError(with_hint(sentence, f'sort them: bars.sort("{name}")'))


def _keys(bars: pl.DataFrame) -> list[str]:
    """Return the columns that tell series apart, wherever the columns of bars stand."""
    own = columns_given(bars)
    keys = [key for key in keys_of(bars) if key not in own and not bars.schema[key].is_float()]
    return [*keys, *(key for key in ("threshold",) if key in bars.columns and key not in keys)]


def _declared(providers: Iterable[FeatureProvider]) -> list[Declared]:
    """Read what the providers that are passed say of themselves, and check them."""
    declared: list[Declared] = []
    for provider in providers:
        one = declare(provider)
        clash = clash_of(one, declared)
        if clash is not None:
            sentence = f"the provider `{one.name}` cannot be used beside the others: {clash}"
            raise ValueError(with_hint(sentence, "pass one of them"))
        declared.append(one)
    return declared
