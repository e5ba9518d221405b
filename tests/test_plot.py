"""The picture of bars: candlesticks by number, thinned so that any number of bars draws."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from properties.frames import long_frame
from rangebar_polars.exceptions import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return long_frame(seed=71, rows=6_000).rangebar.bars(30)


def specification(chart: object) -> dict:
    import altair as alt

    assert isinstance(chart, alt.TopLevelMixin)
    return json.loads(chart.to_json())


def drawn_rows(chart: object) -> int:
    data = specification(chart).get("datasets", {})
    return max((len(rows) for rows in data.values()), default=0)


def test_a_plot_is_an_altair_chart_of_each_bar(bars: pl.DataFrame) -> None:
    chart = bars.rangebar.plot()
    assert drawn_rows(chart) == bars.height
    text = json.dumps(specification(chart))
    for name in ("open", "high", "low", "close", "tooltip"):
        assert name in text
    assert f"{bars['close_time'][0]:%Y-%m-%d %H:%M:%S}" in text


def test_a_plot_becomes_a_picture(bars: pl.DataFrame, tmp_path: Path) -> None:
    chart = bars.rangebar.plot()
    buffer = io.BytesIO()
    chart.save(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    path = tmp_path / "bars.png"
    chart.save(str(path))
    assert path.stat().st_size > 1_000


def test_a_hundred_thousand_bars_still_draw() -> None:
    row = pl.int_range(100_000, eager=True)
    price = 100 + (row * 7919 % 997) / 100
    bars = pl.DataFrame(
        {
            "bar_id": row.cast(pl.UInt32),
            "open_time": row.cast(pl.Datetime("us", "UTC")),
            "close_time": (row + 1).cast(pl.Datetime("us", "UTC")),
            "open": price, "high": price + 2, "low": price - 2, "close": price + 1, "volume": price,
        }
    )  # fmt: skip
    chart = bars.rangebar.plot()
    assert 0 < drawn_rows(chart) <= 10_000
    buffer = io.BytesIO()
    chart.save(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_thinning_keeps_the_extremes() -> None:
    row = pl.int_range(50_000, eager=True)
    flat = pl.Series([100.0] * 50_000)
    bars = pl.DataFrame(
        {
            "bar_id": row.cast(pl.UInt32),
            "open_time": row.cast(pl.Datetime("us")),
            "close_time": (row + 1).cast(pl.Datetime("us")),
            "open": flat, "high": flat + (row == 31_337) * 50.0, "low": flat - (row == 4_242) * 50.0,
            "close": flat, "volume": flat,
        }
    )  # fmt: skip
    (rows,) = specification(bars.rangebar.plot())["datasets"].values()
    assert max(r["high"] for r in rows) == 150.0
    assert min(r["low"] for r in rows) == 50.0


def test_no_bars_are_refused_with_a_reason(bars: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="no bar"):
        bars.clear().rangebar.plot()


def test_what_are_no_bars_is_refused(bars: pl.DataFrame) -> None:
    with pytest.raises((ValueError, pl.exceptions.ColumnNotFoundError), match="close"):
        bars.drop("close").rangebar.plot()


def test_kept_bars_of_several_keys_are_drawn_or_refused_with_a_reason(bars: pl.DataFrame) -> None:
    kept = long_frame(seed=71, rows=2_000).rangebar.bars([30, 60], incomplete="keep")
    try:
        chart = kept.rangebar.plot()
    except ValueError as error:
        assert "threshold" in str(error)  # noqa: PT017 - either answer is right
    else:
        assert drawn_rows(chart)
    assert bars.height


def test_without_the_library_the_pip_line_is_named(
    bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*rangebar-polars\[plot\]"):
        bars.rangebar.plot()


def test_one_bar_and_the_last_bars_draw(bars: pl.DataFrame) -> None:
    for some in (bars.head(1), bars.tail(5), bars.filter(pl.col("bar_id") % 3 == 0)):
        chart = some.rangebar.plot()
        assert drawn_rows(chart) == some.height
        buffer = io.BytesIO()
        chart.save(buffer, format="png")
        assert buffer.getvalue().startswith(b"\x89PNG")
