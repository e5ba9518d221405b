"""Data of a chart of bars: candles with their positions and labels."""

from __future__ import annotations

import json
import math

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars._utils.bar_checks import keys_of

__all__ = ["bars_per_candle", "label_expression", "nice_numbers", "span_of", "split", "thin"]
__all__ += ["with_labels"]

BODY = 0.36  # half the width of a candle's body, in candles
LABELS = 10  # approximate number of labels on the axis of bar numbers
LONGEST_KEY = 80
LARGEST_NUMBER = 2**53  # of a bar; numbers are doubles in JavaScript


def split(bars: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Split bars by threshold and key, and name the parts if there are several.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.plot.candles import split
    >>> bars = pl.DataFrame({"symbol": ["A", "B"], "threshold": [250, 250], "bar_id": [0, 0]})
    >>> [name for name, _ in split(bars)]
    ['symbol A, threshold 0.25 %', 'symbol B, threshold 0.25 %']
    """
    keys = keys_of(bars)
    if not keys:
        return [("", bars)]
    ordered = bars.sort(keys, maintain_order=True)
    parts = ordered.partition_by(keys, as_dict=True, maintain_order=True)
    return [(", ".join(map(panel_name, keys, values)), part) for values, part in parts.items()]


def panel_name(key: str, value: object) -> str:
    """Describe a key and its value, a threshold as a percentage."""
    if key == "threshold" and isinstance(value, int):
        return f"threshold {value / 1000:g} %"
    return f"{shown(key, LONGEST_KEY)} {shown(value, LONGEST_KEY)}"


def span_of(bars: pl.DataFrame) -> str:
    """Describe the first and last time of the bars, with their time zone."""
    first, last = bars.get_column("open_time").min(), bars.get_column("close_time").max()
    zone = getattr(bars.schema["open_time"], "time_zone", None) or "UTC"
    texts = pl.Series([first, last]).dt.to_string("%Y-%m-%d %H:%M:%S")
    return f"{texts[0]} – {texts[1]} {zone}"


def thin(bars: pl.DataFrame, max_bars: int) -> pl.DataFrame:
    """Merge neighbouring bars of one series until at most `max_bars` candles remain.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> from rangebar_polars.plot.candles import thin
    >>> bars = pl.DataFrame(
    ...     {
    ...         "open_time": [datetime(2024, 1, day) for day in (1, 2, 3)],
    ...         "close_time": [datetime(2024, 1, day) for day in (2, 3, 4)],
    ...         "open": [1.0, 2.0, 3.0],
    ...         "high": [2.0, 9.0, 4.0],
    ...         "low": [1.0, 0.5, 3.0],
    ...         "close": [2.0, 3.0, 4.0],
    ...     }
    ... )
    >>> thin(bars, 2).select("first", "last", "open", "high", "low", "close").rows()
    [(0, 1, 1.0, 9.0, 0.5, 3.0), (2, 2, 3.0, 4.0, 3.0, 4.0)]
    """
    per = bars_per_candle(bars, max_bars)
    amount = pl.col("volume") if "volume" in bars.columns else pl.lit(None, pl.Float64)
    whole = pl.col("is_closed") if "is_closed" in bars.columns else pl.lit(value=True)
    return (
        bars.select(
            # Differences of nanoseconds overflow after 292 years.
            *(in_microseconds(name, bars.schema[name]) for name in ("open_time", "close_time")),
            pl.col("open", "high", "low", "close").cast(pl.Float64),
            amount.cast(pl.Float64).alias("volume"),
            whole.alias("whole"),
        )
        .with_row_index("first", offset=first_number(bars))
        .group_by((pl.int_range(pl.len()) // per).alias("candle"), maintain_order=True)
        .agg(
            pl.col("first").first().cast(pl.Int64),
            pl.col("first").last().cast(pl.Int64).alias("last"),
            pl.col("open_time").first(),
            pl.col("close_time").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.col("whole").all(),
        )
        .drop("candle")
    )


def in_microseconds(name: str, dtype: pl.DataType) -> pl.Expr:
    """Cast times to microseconds, in their own time zone."""
    return pl.col(name).cast(pl.Datetime("us", getattr(dtype, "time_zone", None)))


def bars_per_candle(bars: pl.DataFrame, max_bars: int) -> int:
    """Return the number of bars in each candle."""
    return math.ceil(bars.height / max_bars)


def first_number(bars: pl.DataFrame) -> int:
    """Return the `bar_id` of the first bar, or 0 if the ids have holes."""
    if "bar_id" not in bars.columns:
        return 0
    ids = bars.get_column("bar_id").cast(pl.Int64, strict=False)
    if ids.null_count() or not ids.is_between(0, LARGEST_NUMBER).all() or not ids.is_sorted():
        return 0
    return int(ids[0]) if ids[-1] - ids[0] == bars.height - 1 else 0


def with_labels(candles: pl.DataFrame, per: int) -> pl.DataFrame:
    """Add the position, the direction and the labels of each candle."""
    first, last = pl.col("first"), pl.col("last")
    middle = (first + last) / 2
    moment = "%Y-%m-%d %H:%M:%S%.3f"
    opened, closed = pl.col("open_time"), pl.col("close_time")
    rises = pl.col("close") >= pl.col("open")
    return candles.with_columns(
        middle.alias("middle"),
        (middle - BODY * per).alias("left"),
        (middle + BODY * per).alias("right"),
        pl.when(rises).then(pl.lit("up")).otherwise(pl.lit("down")).alias("direction"),
        pl.when(first == last)
        .then(pl.format("{}", first))
        .otherwise(pl.format("{} – {}", first, last))
        .alias("number"),
        opened.dt.to_string(moment).alias("opened"),
        closed.dt.to_string(moment).alias("closed"),
        # As integers, because only one of the two may have a time zone.
        (closed.to_physical() - opened.to_physical())
        .cast(pl.Duration("us"))
        .cast(pl.Duration("ms"))
        .dt.to_string("polars")
        .alias("lasted"),
    )


def nice_numbers(first: int, last: int) -> list[int]:
    """Return round bar numbers for the axis, about `LABELS` of them.

    Examples
    --------
    >>> from rangebar_polars.plot.candles import nice_numbers
    >>> nice_numbers(0, 243)
    [0, 25, 50, 75, 100, 125, 150, 175, 200, 225]
    """
    rough = max(1.0, (last - first) / LABELS)
    magnitude = 10 ** math.floor(math.log10(rough))
    steps = (1, 2, 2.5, 5, 10) if magnitude > 1 else (1, 2, 5, 10)
    step = int(next(size * magnitude for size in steps if size * magnitude >= rough))
    return list(range(math.ceil(first / step) * step, last + 1, step))


def label_expression(candles: pl.DataFrame, numbers: list[int]) -> str:
    """Return a Vega expression that labels a bar with its number, close time and, if new, day."""
    labels: dict[int, list[str]] = {}
    day_before = ""
    closed = pl.col("close_time")
    texts = candles.select(
        "last",
        closed.dt.to_string("%d %b %Y").alias("day"),
        closed.dt.to_string("%H:%M").alias("clock"),
    )
    for number in numbers:
        _, day, clock = texts.row(int(texts.get_column("last").search_sorted(number)))
        labels[number] = [f"{number:,}", clock, "" if day == day_before else day]
        day_before = day
    return f"{json.dumps(labels)}[datum.value]"
