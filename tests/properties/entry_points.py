"""Every way from a frame of trades to a flat frame of bars, each as a function of a case."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl

import rangebar_polars as rb
from properties.model import Case

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ENGINES = ("in-memory", "streaming")
EntryPoint = Callable[[Case], pl.DataFrame]


def collect(plan: pl.LazyFrame, engine: str) -> pl.DataFrame:
    frame = plan.collect(engine=engine)  # type: ignore[call-overload]
    assert isinstance(frame, pl.DataFrame)
    return frame


def expression(case: Case) -> pl.Expr:
    return rb.bars("price", case.threshold, **case.bound, **case.arguments)


def bar_id(case: Case) -> pl.Expr:
    arguments = {k: v for k, v in case.arguments.items() if k != "features"}
    return rb.bar_id("price", case.threshold, timestamp="timestamp", **arguments)


def frame_arguments(case: Case) -> dict[str, Any]:
    return {"threshold": case.threshold, **case.arguments}


def eager_expression(case: Case) -> pl.DataFrame:
    return case.frame.select(expression(case)).unnest("bars")


def namespace_expression(case: Case) -> pl.DataFrame:
    bars = pl.col("price").rangebar.bars(case.threshold, **case.bound, **case.arguments)  # type: ignore[attr-defined]
    return case.frame.select(bars).unnest("bars")


def lazy_expression(engine: str) -> EntryPoint:
    return lambda case: collect(case.frame.lazy().select(expression(case)).unnest("bars"), engine)


def eager(case: Case) -> pl.DataFrame:
    bars = case.frame.rangebar.bars(**frame_arguments(case))  # type: ignore[attr-defined]
    assert isinstance(bars, pl.DataFrame)
    return bars


def lazy(engine: str) -> EntryPoint:
    def entry_point(case: Case) -> pl.DataFrame:
        return collect(case.frame.lazy().rangebar.bars(**frame_arguments(case)), engine)  # type: ignore[attr-defined]

    return entry_point


def builder_of(case: Case) -> rb.RangeBarBuilder:
    return rb.RangeBarBuilder(**frame_arguments(case))


def concat(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(list(frames), how="vertical")


def pushes(
    case: Case, pieces: Sequence[pl.DataFrame], *, resume: bool = False
) -> Iterator[pl.DataFrame]:
    """Push the pieces one after another, and add the unfinished bars if they are kept."""
    builder = builder_of(case)
    for piece in pieces:
        yield builder.push(piece)
        if resume:
            builder = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    if case.incomplete == "keep":
        yield builder.partial()


def pushed(case: Case) -> pl.DataFrame:
    return concat(pushes(case, [case.frame]))


def resumed_each_row(case: Case) -> pl.DataFrame:
    pieces = [case.frame.clear(), *(case.frame.slice(i, 1) for i in range(case.frame.height))]
    return concat(pushes(case, pieces, resume=True))


def iterated(
    case: Case, pieces: Iterable[pl.DataFrame] | pl.LazyFrame | None = None
) -> pl.DataFrame:
    source = case.frame.lazy() if pieces is None else pieces
    arguments = frame_arguments(case)
    batches = list(rb.iter_bars(source, arguments.pop("threshold"), **arguments))
    return concat([*batches, case.frame.clear().rangebar.bars(**frame_arguments(case))])  # type: ignore[attr-defined]


ALL: dict[str, EntryPoint] = {
    "expression, eager": eager_expression,
    "expression namespace": namespace_expression,
    **{f"expression, {engine}": lazy_expression(engine) for engine in ENGINES},
    "frame": eager,
    **{f"lazy frame, {engine}": lazy(engine) for engine in ENGINES},
    "builder": pushed,
    "builder, resumed at each row": resumed_each_row,
    "iter_bars": iterated,
    "iter_bars of frames": lambda case: iterated(case, [case.frame]),
}
FAST = {
    name: entry_point for name, entry_point in ALL.items() if name != "builder, resumed at each row"
}
