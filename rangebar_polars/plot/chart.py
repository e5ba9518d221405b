"""Candlestick charts on an axis of bar numbers, where bars neither overlap nor leave gaps."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars._text import printable, shown
from rangebar_polars._utils.arguments.checks import require_bool, whole_number
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.bar_checks import check_bars, check_finite, check_values
from rangebar_polars.exceptions import BarDataError, MissingExtraError, with_hint
from rangebar_polars.plot.candles import (
    bars_per_candle,
    label_expression,
    nice_numbers,
    span_of,
    split,
    thin,
    with_labels,
)

if TYPE_CHECKING:
    from os import PathLike

    import altair as alt
    import pandas as pd
    import polars as pl

    ColourT = TypeVar("ColourT", alt.Color, alt.Stroke)

__all__ = ["plot_bars", "save_png", "save_svg"]

# Blue and vermilion of Okabe and Ito: distinct with any kind of colour vision, and in print.
UP = "#0072B2"
DOWN = "#D55E00"
GRID = "#E9ECEF"
INK = "#343A40"
FAINT = "#868E96"
FONT = "Helvetica, Arial, sans-serif"

FEWEST_POSITIONS = 30  # so that a few candles do not fill the whole width
MOST_PANELS = 8
MOST_CANDLES = 5000  # row limit of Altair
LARGEST_SIDE = 10_000  # of a panel, in pixels
MOST_PIXELS = 100_000_000  # of a file; a pixel takes four bytes during drawing
LONGEST_TITLE = 1000
NEEDED = ("open_time", "close_time", "open", "high", "low", "close")


@checked_keywords
def plot_bars(
    bars: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
    *,
    max_bars: int = 600,
    width: int = 960,
    height: int = 420,
    title: str | None = None,
    volume: bool = True,
) -> alt.VConcatChart:
    """Draw a candlestick chart of a frame of bars; also `bars.rangebar.plot(...)`.

    All bars have the same width, whatever their duration; their times are in the tooltip and below
    the axis. Several thresholds or keys get a panel each.

    Parameters
    ----------
    bars
        Bars as the functions of this package return them; a LazyFrame is collected.
    max_bars
        Largest number of candles. If there are more bars, neighbours are merged into one candle
        with the first open, the last close, the highest high and the lowest low.
    width, height
        Size of a panel of prices in pixels, at most 10,000 each.
    title
        Heading, by default the number of bars. Control characters are shown as escapes.
    volume
        Whether to draw volumes below the prices.

    Returns
    -------
    altair.VConcatChart
        Chart that notebooks display. Write it to a file with `save_png` or its own `save`.

    Raises
    ------
    MissingExtraError
        Altair or vl-convert is not installed.
    BarDataError
        There are no bars; or a price or time is missing, not finite, or outside the years 1 to
        9999; or there are more than eight thresholds and keys. BarDataError is a ValueError.
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> chart = rb.sample_ticks().rangebar.bars(250).rangebar.plot(title="A day")
    >>> chart.title.text
    'A day'
    """
    require_extra()
    import altair as alt

    max_bars, width, height = sizes(max_bars=max_bars, width=width, height=height)
    require_bool(volume=volume)
    bars = check_drawable(bars)
    parts = split(bars)
    if len(parts) > MOST_PANELS:
        raise BarDataError(
            with_hint(
                f"a chart has room for {MOST_PANELS} panels; these bars have {len(parts)} "
                "thresholds and keys",
                "filter the bars to fewer",
            )
        )
    has_volume = volume and "volume" in bars.columns and bars.get_column("volume").count() > 0
    panels = [
        Panel(part, name, max_bars, (width, height), volume=has_volume).chart(f"zoom_{number}")
        for number, (name, part) in enumerate(parts)
    ]
    count = f"{bars.height:,} bar{'s' if bars.height > 1 else ''}"
    heading = alt.Title(shown(title, LONGEST_TITLE) if title else count, subtitle=span_of(bars))
    return style(alt.vconcat(*panels, spacing=24, title=heading))


def save_png(chart: alt.TopLevelMixin, path: str | PathLike[str], *, scale: float = 2) -> None:
    """Write a chart as a PNG file, without a browser or network access.

    Control characters in the chart are shown as escapes.

    Raises
    ------
    MissingExtraError
        Altair or vl-convert is not installed.
    ValueError
        `scale` is not a number above 0, or the image would have more than 100 million pixels.
    """
    require_extra()
    import vl_convert

    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"`scale` must be a number above 0; it is {scale}")
    svg = vl_convert.vegalite_to_svg(drawable(chart.to_dict(validate=False)))
    check_size(svg, scale)
    Path(path).write_bytes(vl_convert.svg_to_png(svg, scale=scale))


def save_svg(chart: alt.TopLevelMixin, path: str | PathLike[str]) -> None:
    """Write a chart as an SVG file, without a browser or network access.

    Raises
    ------
    MissingExtraError
        Altair or vl-convert is not installed.
    """
    require_extra()
    import vl_convert

    svg = vl_convert.vegalite_to_svg(drawable(chart.to_dict(validate=False)))
    Path(path).write_text(svg, encoding="utf-8", newline="\n")


def drawable(part: Any) -> Any:  # noqa: ANN401
    """Replace values that the renderer cannot draw.

    The renderer aborts the process on a control character, and cannot read infinities and NaN.
    """
    if isinstance(part, str):
        return printable(part)
    if isinstance(part, float):
        return part if math.isfinite(part) else None
    if isinstance(part, dict):
        return {printable(str(key)): drawable(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [drawable(item) for item in part]
    return part


def check_size(svg: str, scale: float) -> None:
    """Check that an image fits into memory; the renderer aborts the process if it does not."""
    root = svg[: svg.find(">")]
    width, height = (
        float(found.group(1)) if (found := re.search(rf' {side}="([0-9.]+)"', root)) else 0.0
        for side in ("width", "height")
    )
    pixels = width * height * scale**2
    if pixels > MOST_PIXELS:
        raise ValueError(
            with_hint(
                f"the image would have {pixels:,.0f} pixels; the limit is {MOST_PIXELS:,}",
                "use a smaller `scale`, `width` or `height`",
            )
        )


def require_extra() -> None:
    """Check that the libraries for charts are installed.

    Raises
    ------
    MissingExtraError
        Altair or vl-convert is not installed.
    """
    from importlib.util import find_spec

    for module, library in (("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(module) is None:
            raise MissingExtraError.of(library, "plot")


def sizes(**values: object) -> list[int]:
    """Return sizes as ints, after checking that they are within the limits."""
    limits = {"max_bars": MOST_CANDLES, "width": LARGEST_SIDE, "height": LARGEST_SIDE}
    whole = [whole_number(name, value, meant=600) for name, value in values.items()]
    for name, value in zip(values, whole, strict=True):
        if not 1 <= value <= limits[name]:
            meant = limits[name] if value > limits[name] else 600
            sentence = f"`{name}` must be from 1 to {limits[name]}; it is {shown(value)}"
            raise ValueError(with_hint(sentence, f"write {name}={meant}"))
    return whole


def check_drawable(bars: object) -> pl.DataFrame:
    """Return bars as a Polars frame, after checking that they can be drawn."""
    frame = check_bars(bars, NEEDED, "trades.rangebar.bars(250).rangebar.plot()")
    if frame.is_empty():
        raise BarDataError(
            with_hint("there are no bars to draw", "use a smaller threshold, or more trades")
        )
    check_values(frame, NEEDED)
    if "volume" in frame.columns:
        check_finite(frame, ["volume"])
    return frame


class Panel:
    """Panel of one series of bars: prices, and volumes below them."""

    def __init__(
        self,
        bars: pl.DataFrame,
        name: str,
        max_bars: int,
        size: tuple[int, int],
        *,
        volume: bool,
    ) -> None:
        self.per = bars_per_candle(bars, max_bars)
        self.candles = with_labels(thin(bars, max_bars), self.per)
        self.name = name
        self.width, self.height = size
        self.volume = volume

    def chart(self, zoom_name: str) -> alt.VConcatChart:
        """Draw the panel as one chart, which zooms along the bars."""
        import altair as alt

        zoom = alt.selection_interval(zoom_name, bind="scales", encodings=["x"])
        prices = self.prices().add_params(zoom)
        parts = [prices, self.volumes()] if self.volume else [prices]
        merged = f"{self.per:,} bars in each candle" if self.per > 1 else ""
        heading = " · ".join(text for text in (self.name, merged) if text)
        title = alt.Title(heading, fontSize=12, fontWeight="normal", color=INK, offset=6)
        chart = alt.vconcat(*parts, spacing=4)
        panel: alt.VConcatChart = chart.resolve_scale(x="shared").properties(title=title)
        return panel

    def prices(self) -> alt.LayerChart:
        """Draw candles: a wick from low to high, a body from open to close."""
        import altair as alt

        scale = alt.Scale(zero=False, nice=True, padding=12)
        base = self.base()
        low = alt.Y("low:Q", scale=scale, title="price")
        wick = base.mark_rule(strokeWidth=1).encode(
            self.across("middle", labels=not self.volume), low, alt.Y2("high:Q")
        )
        body = base.mark_bar(strokeWidth=0.7).encode(
            self.across("left", labels=not self.volume),
            alt.X2("right:Q"),
            alt.Y("open:Q", scale=scale),
            alt.Y2("close:Q"),
            stroke=self.colour(alt.Stroke),
        )
        return alt.LayerChart(layer=[wick, body], width=self.width, height=self.height)

    def volumes(self) -> alt.Chart:
        """Draw a column of volume for each candle."""
        import altair as alt

        axis = alt.Axis(format="~s", tickCount=3)
        columns = (
            self.base()
            .mark_bar(opacity=0.75)
            .encode(
                self.across("left", labels=True),
                alt.X2("right:Q"),
                alt.Y("volume:Q", title="volume", axis=axis),
                alt.Y2(datum=0),
            )
        )
        panel: alt.Chart = columns.properties(width=self.width, height=max(48, self.height // 6))
        return panel

    def base(self) -> alt.Chart:
        """Return the data, colour and tooltip that all marks share."""
        import altair as alt

        opacity = alt.condition("datum.whole", alt.value(1), alt.value(0.35))
        return alt.Chart(self.candles.drop("open_time", "close_time")).encode(
            color=self.colour(alt.Color), opacity=opacity, tooltip=self.tooltip()
        )

    def colour(self, channel: type[ColourT]) -> ColourT:
        """Encode the direction as a colour."""
        import altair as alt

        scale = alt.Scale(domain=["up", "down"], range=[UP, DOWN])
        return channel("direction:N", scale=scale, legend=None)

    def across(self, field: str, *, labels: bool) -> alt.X:
        """Return an axis of bar numbers, each with the close time of its bar below."""
        import altair as alt

        first, last = self.candles["first"][0], self.candles["last"][-1]
        end = max(last + self.per, first + FEWEST_POSITIONS)
        scale = alt.Scale(domain=[first - self.per, end], nice=False)
        numbers = nice_numbers(first, last)
        axis = alt.Axis(
            values=numbers,
            labels=labels,
            ticks=labels,
            labelExpr=label_expression(self.candles, numbers),
            domain=labels,
        )
        return alt.X(f"{field}:Q", scale=scale, axis=axis, title="bar" if labels else None)

    def tooltip(self) -> list[alt.Tooltip]:
        """Return a tooltip with the number, times and prices of a candle."""
        import altair as alt

        tip = alt.Tooltip
        amounts = ["open", "high", "low", "close", *(["volume"] if self.volume else [])]
        return [
            tip("number:N", title="bar"),
            tip("opened:N"),
            tip("closed:N"),
            tip("lasted:N"),
            *(tip(f"{name}:Q", format=",~r") for name in amounts),
        ]


def style(chart: alt.VConcatChart) -> alt.VConcatChart:
    """Keep the axes unobtrusive, so that the candles stand out."""
    styled: alt.VConcatChart = (
        chart.configure(font=FONT, background="white", padding=16)
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=GRID,
            domainColor=FAINT,
            tickColor=FAINT,
            labelColor=INK,
            titleColor=FAINT,
            titleFontWeight="normal",
            labelFontSize=11,
            titleFontSize=11,
        )
        .configure_axisX(grid=False)
        .configure_axisY(domain=False, ticks=False, labelPadding=8, minExtent=56)
        .configure_title(
            anchor="start",
            color=INK,
            fontSize=16,
            fontWeight="bold",
            subtitleColor=FAINT,
            subtitleFontSize=12,
            offset=12,
        )
    )
    return styled
