"""Estimators over the bars of one series, as Polars expressions.

Each function returns an expression that is as long as the frame and has the name of the function. Row
i depends on no later row. For a frame of several series, add `.over("symbol")` or the like.

A window is the n bars that end at the row. The value is null until n rows exist, if an input in the
window is null, and where the formula is not defined. An input that cannot be, such as NaN, an
infinity, a price of 0 or a negative volume, counts as null; NaN and infinity never result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

import polars as pl

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.estimator_inputs import (
    BARS,
    column_of,
    half_life_of,
    is_complete,
    named,
    number_of,
    price_of,
    valid_number,
    volume_of,
    whole_of,
    window_of,
    window_or_weights,
    window_sum,
)
from rangebar_polars.distance import Distance
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    from rangebar_polars._typing import IntoColumn
    from rangebar_polars.threshold import LimitLike

__all__ = ["amihud", "duration_variance", "kyle_regression", "missing_fills", "missing_records"]
__all__ += ["opposite_wick", "overshoot", "tick_rule", "vpin"]

_NS_PER_S = 1e9
_DBPS_PER_UNIT = 100_000.0


@checked_keywords
def vpin(
    n: SupportsIndex = BARS,
    *,
    buy_volume: IntoColumn = "buy_volume",
    sell_volume: IntoColumn = "sell_volume",
) -> pl.Expr:
    """Estimate the share of one-sided volume, VPIN: Σ|B − S| / Σ(B + S) over n bars.

    B and S are the volumes bought and sold by aggressors. Bars that close by range replace the volume
    buckets of the source: Easley, López de Prado & O'Hara (2012), "Flow Toxicity and Liquidity in a
    High-frequency World".

    Parameters
    ----------
    n
        Bars in a window, 2 or more.
    buy_volume, sell_volume
        Columns of volumes, 0 or more.

    Returns
    -------
    Expr
        Float64, a ratio in [0, 1]. Null where no volume was traded in the window.

    Raises
    ------
    ValueError
        `n` is not a whole number, or is below 2.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame({"buy_volume": [1.0, 5.0, 2.0], "sell_volume": [2.0, 0.0, 9.0]})
    >>> bars.select(rb.estimators.vpin(3) * 19)["vpin"].to_list()
    [None, None, 13.0]
    """
    n = window_of(n)
    bought, sold = volume_of("buy_volume", buy_volume), volume_of("sell_volume", sell_volume)
    whole = window_sum(bought + sold, n)
    value = (window_sum((bought - sold).abs(), n) / whole).clip(upper_bound=1.0)
    return named("vpin", value, is_complete(n, bought, sold) & (whole > 0))


@checked_keywords
def amihud(
    n: SupportsIndex = BARS, *, close: IntoColumn = "close", turnover: IntoColumn = "turnover"
) -> pl.Expr:
    """Estimate illiquidity: the mean of |ln(c / c₋₁)| / turnover over pairs of bars.

    The pairs are the n − 1 consecutive pairs in the window whose later bar has a turnover above 0.
    Source: Amihud (2002), "Illiquidity and stock returns".

    Parameters
    ----------
    n
        Bars in a window, 2 or more.
    close
        Column of closing prices, above 0.
    turnover
        Column of turnovers, in quote currency.

    Returns
    -------
    Expr
        Float64, 0 or more, per unit of quote currency. Null where no pair has a turnover.

    Raises
    ------
    ValueError
        `n` is not a whole number, or is below 2.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame({"close": [100.0, 101.0, 101.0], "turnover": [1.0, 50.0, 0.0]})
    >>> bars.select(rb.estimators.amihud(2).round(9))["amihud"].to_list()
    [None, 0.000199007, None]
    """
    n = window_of(n)
    price, traded = price_of("close", close), number_of("turnover", turnover)
    is_traded = traded > 0
    move = (price / price.shift(1)).log().abs() / traded
    pairs = window_sum(is_traded.cast(pl.Float64), n - 1)
    value = window_sum(pl.when(is_traded).then(move), n - 1) / pairs
    return named("amihud", value, is_complete(n, price, traded) & (pairs > 0))


@checked_keywords
def kyle_regression(
    n: SupportsIndex = BARS,
    *,
    close: IntoColumn = "close",
    buy_volume: IntoColumn = "buy_volume",
    sell_volume: IntoColumn = "sell_volume",
) -> pl.Expr:
    """Estimate price impact: the slope of price changes on net volume, through the origin.

    It is Σ(c − c₋₁)(B − S) / Σ(B − S)² over the n − 1 consecutive pairs of bars in the window, with B
    and S of the later bar. Source of the model: Kyle (1985), "Continuous Auctions and Insider Trading".
    `kyle_lambda_proxy` of a bar is a ratio, and has other units.

    Parameters
    ----------
    n
        Bars in a window, 2 or more.
    close
        Column of closing prices, above 0.
    buy_volume, sell_volume
        Columns of volumes, 0 or more.

    Returns
    -------
    Expr
        Float64, any sign, in quote currency per unit of volume. Null where the net volume of each
        later bar is 0.

    Raises
    ------
    ValueError
        `n` is not a whole number, or is below 2.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame(
    ...     {"close": [100.0, 101, 103], "buy_volume": [9.0, 2, 3], "sell_volume": [0.0, 1, 0]}
    ... )
    >>> bars.select(rb.estimators.kyle_regression(3))["kyle_regression"].to_list()
    [None, None, 0.7]
    """
    n = window_of(n)
    price, bought, sold = (
        price_of("close", close),
        volume_of("buy_volume", buy_volume),
        volume_of("sell_volume", sell_volume),
    )
    net = bought - sold
    squares = window_sum(net * net, n - 1)
    value = window_sum((price - price.shift(1)) * net, n - 1) / squares
    return named("kyle_regression", value, is_complete(n, price, bought, sold) & (squares > 0))


@checked_keywords
def duration_variance(
    n: SupportsIndex | None = None,
    *,
    half_life: float | None = None,
    open: IntoColumn = "open",  # noqa: A002  (the name of the column)
    close: IntoColumn = "close",
    open_time: IntoColumn = "open_time",
    close_time: IntoColumn = "close_time",
) -> pl.Expr:
    """Estimate the variance per second from how long bars take: Σ ln²(c/o) / Σ seconds.

    For a walk without drift it is unbiased although each bar stops at a barrier (Wald's second
    identity: Wald 1944, "On Cumulative Sums of Random Variables"). Engle & Russell (1998) model the
    durations themselves.

    Parameters
    ----------
    n
        Bars in a window, 2 or more. 50 if `half_life` is None too.
    half_life
        Weigh a bar by 2^(−age/half_life) in both sums, which begin at the first row, in place of a
        window. The age is in bars. A null makes all later rows null, since every sum contains it.
    open, close
        Columns of opening and closing prices, above 0.
    open_time, close_time
        Columns of dtype Datetime.

    Returns
    -------
    Expr
        Float64, 0 or more, in 1/s. Null where the sum of seconds is 0.

    Raises
    ------
    ValueError
        `n` is not a whole number, or is below 2; `half_life` is not a number above 0; both are given.

    Examples
    --------
    >>> from datetime import datetime, timedelta
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> start = datetime(2024, 1, 1)
    >>> bars = pl.DataFrame(
    ...     {
    ...         "open": [100.0, 100.0],
    ...         "close": [101.0, 99.0],
    ...         "open_time": [start, start],
    ...         "close_time": [start + timedelta(seconds=50), start + timedelta(seconds=30)],
    ...     }
    ... )
    >>> bars.select(rb.estimators.duration_variance(2).round(9))["duration_variance"].to_list()
    [None, 2.5e-06]
    """
    bars = window_or_weights(n, half_life)
    first, last = price_of("open", open), price_of("close", close)
    span = column_of("close_time", close_time) - column_of("open_time", open_time)
    seconds = valid_number(span.dt.total_nanoseconds() / _NS_PER_S, at_least=0.0)
    square = (last / first).log() ** 2
    if bars is None:
        life = half_life_of(half_life)
        # Both means have the same weights, so that their ratio is that of the sums.
        moves, time = (
            one.fill_null(0.0).ewm_mean(half_life=life, adjust=True) for one in (square, seconds)
        )
        missing = pl.any_horizontal(first.is_null(), last.is_null(), seconds.is_null())
        is_known = missing.cast(pl.Int64).cum_sum() == 0
    else:
        moves, time = window_sum(square, bars), window_sum(seconds, bars)
        is_known = is_complete(bars, first, last, seconds)
    return named("duration_variance", moves / time, is_known & (time > 0))


@checked_keywords
def tick_rule(price: IntoColumn) -> pl.Expr:
    """Classify trades by the last change of the price: True where it was down.

    A price below the one before means that the seller was the aggressor, and an equal price takes the
    side of the last change. Source: Lee & Ready (1991), "Inferring Trade Direction from Intraday
    Data". Pass it as `is_buyer_maker=` if the trades have no side.

    Parameters
    ----------
    price
        Column of the prices of trades, in order.

    Returns
    -------
    Expr
        Boolean. Null before the first change, and where the price is null or not finite; such a
        price is passed over by the rows after it.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame({"price": [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]})
    >>> trades.select(rb.estimators.tick_rule("price"))["tick_rule"].to_list()
    [None, None, False, False, True, True]
    """
    given = column_of("price", price)
    known = pl.when((given * 1.0).is_finite()).then(given)
    before = known.forward_fill().shift(1)
    is_lower = pl.when(known != before).then(known < before)
    return pl.when(known.is_not_null()).then(is_lower.forward_fill()).alias("tick_rule")


@checked_keywords
def overshoot(
    threshold: LimitLike | pl.Expr,
    *,
    open: IntoColumn = "open",  # noqa: A002  (the name of the column)
    close: IntoColumn = "close",
) -> pl.Expr:
    """Measure how far a bar closed beyond its threshold: |c − o| · 100000 / (o · threshold) − 1.

    With an absolute distance, it is |c − o| / distance − 1. Glattfelder, Dupuis & Olsen (2011) study
    this quantity for bars that close by reversals.

    Parameters
    ----------
    threshold
        The threshold of the bars, as in `rb.bars`; or an expression of decimal basis points, such as
        `pl.col("threshold")` for a frame of several thresholds.
    open, close
        Columns of opening and closing prices, above 0.

    Returns
    -------
    Expr
        Float64, a ratio: 0 where the bar closed at the threshold, negative where it did not reach
        it, as an orphan, a forming bar or one of `rule="high_low"` may.

    Raises
    ------
    ThresholdError
        The threshold is not valid. It is a ValueError.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame({"open": [100.0], "close": [100.3]})
    >>> bars.select(rb.estimators.overshoot(250).round(9))["overshoot"].to_list()
    [0.2]
    """
    first, last = price_of("open", open), price_of("close", close)
    move = (last - first).abs()
    if isinstance(threshold, Distance):
        value = move / float(str(threshold))
    elif isinstance(threshold, pl.Expr):
        limit = valid_number(threshold * 1.0, above=0.0)
        value = move * _DBPS_PER_UNIT / (first * limit)
    else:
        value = move * _DBPS_PER_UNIT / (first * float(parse_threshold(threshold)))
    return named("overshoot", value - 1.0)


@checked_keywords
def opposite_wick(
    *,
    open: IntoColumn = "open",  # noqa: A002  (the name of the column)
    high: IntoColumn = "high",
    low: IntoColumn = "low",
    close: IntoColumn = "close",
) -> pl.Expr:
    """Measure how far the price first went against a bar, as a share of the bar's range.

    It is (o − l)/(h − l) for a bar that closed above its open, and (h − o)/(h − l) for one that
    closed below. It is the shadow opposite to the close of a candlestick (Nison 1991).

    Parameters
    ----------
    open, high, low, close
        Columns of prices, above 0.

    Returns
    -------
    Expr
        Float64, a ratio in [0, 1]. Null where the close is the open.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame({"open": [8.0], "high": [12.0], "low": [7.0], "close": [12.0]})
    >>> bars.select(rb.estimators.opposite_wick())["opposite_wick"].to_list()
    [0.2]
    """
    first, top, bottom, last = (
        price_of("open", open),
        price_of("high", high),
        price_of("low", low),
        price_of("close", close),
    )
    wick = pl.when(last > first).then(first - bottom).when(last < first).then(top - first)
    is_bar = (bottom <= first) & (bottom <= last) & (top >= first) & (top >= last)
    return named("opposite_wick", wick / (top - bottom), is_bar)


@checked_keywords
def missing_records(
    *,
    first_agg_trade_id: IntoColumn = "first_agg_trade_id",
    last_agg_trade_id: IntoColumn = "last_agg_trade_id",
    agg_record_count: IntoColumn = "agg_record_count",
) -> pl.Expr:
    """Count the ids of records that are absent inside a bar: last − first + 1 − count.

    Ids that are absent between two bars are in neither. The ids of Binance have no holes (Binance,
    "Compressed/Aggregate Trades List").

    Parameters
    ----------
    first_agg_trade_id, last_agg_trade_id, agg_record_count
        Columns of whole numbers.

    Returns
    -------
    Expr
        Int64, in records. Null where a bar has no ids.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> bars = rb.sample_ticks().rangebar.bars(250)
    >>> bars.select(rb.estimators.missing_records())["missing_records"].sum()
    0
    """
    first = whole_of("first_agg_trade_id", first_agg_trade_id)
    last = whole_of("last_agg_trade_id", last_agg_trade_id)
    count = whole_of("agg_record_count", agg_record_count)
    return _missing("missing_records", first, last, count)


@checked_keywords
def missing_fills(
    *,
    first_trade_id: IntoColumn = "first_trade_id",
    last_trade_id: IntoColumn = "last_trade_id",
    individual_trade_count: IntoColumn = "individual_trade_count",
) -> pl.Expr:
    """Count the ids of fills that are absent inside a bar: last − first + 1 − count.

    Fills that are absent between two bars are in neither.

    Parameters
    ----------
    first_trade_id, last_trade_id, individual_trade_count
        Columns of whole numbers.

    Returns
    -------
    Expr
        Int64, in fills; negative if records overlap. Null where a bar has no ids.

    Examples
    --------
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> bars = pl.DataFrame(
    ...     {"first_trade_id": [1], "last_trade_id": [9], "individual_trade_count": [5]}
    ... )
    >>> bars.select(rb.estimators.missing_fills())["missing_fills"].to_list()
    [4]
    """
    first = whole_of("first_trade_id", first_trade_id)
    last = whole_of("last_trade_id", last_trade_id)
    count = whole_of("individual_trade_count", individual_trade_count)
    return _missing("missing_fills", first, last, count)


def _missing(name: str, first: pl.Expr, last: pl.Expr, count: pl.Expr) -> pl.Expr:
    # In this order, the largest ids do not overflow.
    return (last - first - count + 1).alias(name)
