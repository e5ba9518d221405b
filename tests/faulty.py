"""Doors that take a frame as it is, for tests of what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

import rangebar_polars as rb
from properties.entry_points import ENGINES, collect

if TYPE_CHECKING:
    from collections.abc import Callable

# Polars before 2 wraps what a plan raises in its own ComputeError, with the same text.
WRAPS = int(pl.__version__.split(".")[0]) < 2
OPTIONAL = ("quantity", "is_buyer_maker", "side", "agg_trade_id", "first_trade_id", "last_trade_id")


def in_plan(error: type[Exception]) -> type[Exception]:
    """Return the class in which an error of this package leaves `collect`."""
    return pl.exceptions.ComputeError if WRAPS else error


def keeps_class(door: str) -> bool:
    """Say whether a door raises the classes of this package."""
    return door in OWN and not (WRAPS and door.startswith("lazy"))


def bound(frame: pl.DataFrame) -> dict[str, str | None]:
    return {name: name if name in frame.columns else None for name in OPTIONAL}


def key(frame: pl.DataFrame) -> str | None:
    return "symbol" if "symbol" in frame.columns else None


def bars(frame: pl.DataFrame) -> pl.Expr:
    return rb.bars("price", 250, **bound(frame), group_by=key(frame))


def fold(frame: pl.DataFrame) -> pl.Expr:
    return rb.aggregate("price", pl.lit(1), **bound(frame))


def lazy(engine: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda f: collect(f.lazy().rangebar.bars(250, group_by=key(f)), engine)


def lazy_expression(engine: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda f: collect(f.lazy().select(bars(f)), engine)


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(bar=pl.lit(1, pl.Int64))


def push(frame: pl.DataFrame) -> pl.DataFrame:
    return rb.RangeBarBuilder(250, group_by=key(frame)).push(frame)


def iterate(frame: pl.DataFrame) -> list[pl.DataFrame]:
    return list(rb.iter_bars(frame.lazy(), 250, group_by=key(frame)))


def several(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rangebar.bars([250, 100_000], group_by=key(frame))


# They raise the errors of this package.
FRAME_DOORS: dict[str, Callable[[pl.DataFrame], object]] = {
    "frame": lambda f: f.rangebar.bars(250, group_by=key(f)),
    "frame, several thresholds": several,
    **{f"lazy frame, {engine}": lazy(engine) for engine in ENGINES},
    "builder": push,
    "iter_bars": iterate,
}
FOLD_DOORS: dict[str, Callable[[pl.DataFrame], object]] = {
    "frame aggregate": lambda f: numbered(f).rangebar.aggregate("bar"),
    "lazy aggregate": lambda f: numbered(f).lazy().rangebar.aggregate("bar").collect(),
}
# They raise the ComputeError of Polars with the same text.
EXPRESSION_DOORS: dict[str, Callable[[pl.DataFrame], object]] = {
    "expression": lambda f: f.select(bars(f)),
    **{f"expression, {engine}": lazy_expression(engine) for engine in ENGINES},
    "expression aggregate": lambda f: f.select(fold(f)),
}
ID_DOORS: dict[str, Callable[[pl.DataFrame], object]] = {
    "bar_id": lambda f: f.select(rb.bar_id("price", 250, group_by=key(f))),
    "lazy bar_id": lambda f: f.lazy().select(rb.bar_id("price", 250, group_by=key(f))).collect(),
}
OWN = FRAME_DOORS | FOLD_DOORS
EVERY = OWN | EXPRESSION_DOORS
