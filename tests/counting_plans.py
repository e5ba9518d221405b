"""Plans that count or number rows without asking for a column of the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import polars as pl
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = ("in-memory", "streaming")
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def crossed(frame: Frame) -> Frame:
    """Return the rows of another frame for each row of this one, sorted."""
    other = pl.DataFrame({"z": [1, 2]})
    if isinstance(frame, pl.LazyFrame):
        return frame.join(other.lazy(), how="cross").select(pl.col("z").sort())
    return frame.join(other, how="cross").select(pl.col("z").sort())


INDEX = pl.col("index")
COUNTS: dict[str, Callable] = {
    "len": lambda f: f.select(pl.len()),
    "row index": lambda f: f.with_row_index().select("index"),
    "row index from 5": lambda f: f.with_row_index(offset=5).select("index"),
    "row index, filter": lambda f: f.with_row_index().filter(INDEX % 3 == 1).select("index"),
    "row index, filter, len": lambda f: f.with_row_index().filter(INDEX >= 2).select(pl.len()),
    "row index, head": lambda f: f.with_row_index().head(4).select("index"),
    "row index, tail": lambda f: f.with_row_index().tail(4).select("index"),
    "row index, slice": lambda f: f.with_row_index().slice(2, 5).select("index"),
    "row index, sort": lambda f: f.with_row_index().select("index").sort("index", descending=True),
    "int_range(len)": lambda f: f.select(pl.int_range(pl.len())),
    "constant for each row": lambda f: f.with_columns(x=pl.lit(7)).select("x"),
    "constant, sum": lambda f: f.with_columns(x=pl.lit(7)).select(pl.col("x").sum()),
    "cross join": crossed,
    "filter of all": lambda f: f.filter(pl.lit(True)).with_row_index().select("index"),
    "filter of none": lambda f: f.filter(pl.lit(False)).with_row_index().select("index"),
}

rows = st.integers(0, 300)
STEPS = st.one_of(
    st.just(lambda f: f),
    rows.map(lambda n: lambda f: f.head(n)),
    rows.map(lambda n: lambda f: f.tail(n)),
    st.tuples(st.integers(-300, 300), rows).map(lambda cut: lambda f: f.slice(*cut)),
    st.integers(1, 4).map(lambda n: lambda f: f.gather_every(n)),
)


def filters(name: str, value: object) -> st.SearchStrategy[Callable]:
    """Return steps that filter on a column, which the plan does not ask for afterwards."""
    predicates = [pl.col(name) > value, pl.col(name) <= value, pl.col(name).is_not_null()]
    return st.sampled_from(predicates).map(lambda predicate: lambda f: f.filter(predicate))


def plans(name: str, value: object) -> st.SearchStrategy[list[Callable]]:
    """Return steps of a plan whose last one counts rows."""
    steps = st.lists(st.one_of(STEPS, filters(name, value)), max_size=2)
    return st.tuples(steps, st.sampled_from(list(COUNTS.values()))).map(
        lambda parts: [*parts[0], parts[1]]
    )


def assert_counts_equal(lazy: pl.LazyFrame, eager: pl.DataFrame, steps: list[Callable]) -> None:
    """Compare a plan in both engines with the same steps on the collected frame."""
    expected = eager
    for step in steps:
        lazy, expected = step(lazy), step(expected)
    for engine in ENGINES:
        got = lazy.collect(engine=engine)  # type: ignore[call-overload]
        assert_frame_equal(got, expected)
