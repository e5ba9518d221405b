"""A folder with ticks and series of bars, plugins whose values tell rows apart, and their values."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from plugins.distributions import install
from rangebar_polars._utils.span import day_start
from rangebar_polars.bar_series.segments import segment_of
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import END, SYMBOL, TICKS, make_shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OTHER = "ETHUSDT"
#: `min_bars` of each plugin.
MEMORY = {"none": 0, "short": 3, "long": 29}
COLUMNS = [f"{name}_x" for name in sorted(MEMORY)]
#: Each value depends on all rows of its window, on their order, and on the series. There is no running
#: sum, so that equal windows give equal bits.
SOURCE = """
import polars as pl

calls = []


class Windowed:
    version = "1"

    def __init__(self, name, min_bars):
        self.name, self.min_bars, self.columns = name, min_bars, (name + "_x",)

    def enrich(self, bars, symbol, threshold_decimal_bps):
        calls.append((self.name, symbol, threshold_decimal_bps, bars.height))
        row = pl.col("close") + pl.col("buy_volume") * 0.5 + pl.col("individual_trade_count")
        value = pl.lit(float(threshold_decimal_bps + len(set(symbol))))
        for age in range(self.min_bars + 1):
            value = value * 0.75 + row.shift(age)
        return bars.select(value.alias(self.columns[0]))
"""
NAMES = "".join(f'{name} = Windowed("{name}", {memory})\n' for name, memory in MEMORY.items())


def install_windowed(site: Path) -> None:
    """Install the plugins of `MEMORY`."""
    points = {name: f"dist_windowed:{name}" for name in MEMORY}
    install(site, "dist_windowed", points, SOURCE + NAMES)


def windowed(bars: pl.DataFrame, symbol: str, threshold: int) -> pl.DataFrame:
    """Return what the plugins give for a whole series of closed bars, by plain loops."""
    rows = [
        close + volume * 0.5 + count
        for close, volume, count in bars.select(
            "close", "buy_volume", "individual_trade_count"
        ).iter_rows()
    ]
    columns = {}
    for name in sorted(MEMORY):
        memory = MEMORY[name]
        values: list[float | None] = [None] * min(memory, len(rows))
        for row in range(memory, len(rows)):
            value = float(threshold + len(set(symbol)))
            for age in range(memory + 1):
                value = value * 0.75 + rows[row - age]
            values.append(value)
        columns[f"{name}_x"] = pl.Series(values, dtype=pl.Float64)
    return pl.DataFrame(columns)


@dataclass(frozen=True)
class Place:
    """A folder, and what reads of it take."""

    folder: Path

    @property
    def here(self) -> dict[str, Any]:
        return {"cache_dir": self.folder, "fetch_if_missing": False}


@contextmanager
def place_with_two_symbols() -> Iterator[Place]:
    """Make the folder of the tests of readers, with the ticks of another symbol."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as name:
        folder = Path(name) / "read"
        make_shared_folder(folder)
        TickStorage(folder).write_ticks(OTHER, TICKS.with_columns(pl.col("price") / 16))
        yield Place(folder)


_WHOLE: dict[tuple[object, ...], pl.DataFrame] = {}


def whole_series(
    anchor: datetime, reset: str | None, symbol: str = SYMBOL, threshold: int = 250
) -> pl.DataFrame:
    """Return the closed bars of a series up to its end or that of the ticks, with all values."""
    key = (anchor, reset, symbol, threshold)
    if key not in _WHOLE:
        end = segment_of(anchor, reset).end
        stop = END if end is None else min(END, day_start(end))
        between = pl.col("timestamp").is_between(anchor, stop, closed="left")
        ticks = TICKS.filter(between)
        if symbol == OTHER:
            ticks = ticks.with_columns(pl.col("price") / 16)
        bars = ticks.rangebar.bars(threshold, features="microstructure").drop("bar_id")
        _WHOLE[key] = bars.hstack(windowed(bars, symbol, threshold))
    return _WHOLE[key]


def expected(
    anchors: Iterable[datetime],
    reset: str | None,
    start: datetime,
    end: datetime,
    *,
    symbol: str = SYMBOL,
    threshold: int = 250,
) -> pl.DataFrame:
    """Return the closed bars of series between two instants."""
    found = [whole_series(anchor, reset, symbol, threshold) for anchor in anchors]
    return pl.concat(found).filter(pl.col("close_time").is_between(start, end, closed="left"))


def anchors_of(entries: Iterable[dict[str, Any]]) -> list[datetime]:
    """Return the anchors in `attrs["rangebar"]`."""
    return [datetime.fromisoformat(one["anchor"]).astimezone(UTC) for one in entries]
