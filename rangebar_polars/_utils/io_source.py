"""All uses of unstable Polars interfaces: reading a plan in batches, and serving as a source."""

from __future__ import annotations

import atexit
import inspect
import time
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

import polars as pl
from polars.io.plugins import register_io_source

from rangebar_polars._utils.fork import after_fork_in_child, raise_if_forked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    Frames = Callable[[list[str] | None], Iterator[pl.DataFrame]]

__all__ = ["Origin", "batches", "lazy_frame", "origin_of", "with_inner_plan"]

_LONGEST_WAIT_SECONDS = 30
_BATCH_ROWS = 1 << 16
#: Attribute of a plan that was made here.
_ORIGIN = "_rangebar_origin"
#: Origins that plans made from a plan can be looked up in.
_MOST_ORIGINS = 1_000
#: Lines of an inner plan that a description shows.
_MOST_LINES = 30


class Origin:
    """What the rows of a plan were made from, in words."""

    # A named tuple would take longer to make, at each import of the package.
    __slots__ = ("columns", "how", "note")

    def __init__(self, how: str, note: str, columns: dict[str, str]) -> None:
        #: "given" or "recognised".
        self.how = how
        #: The layout first.
        self.note = note
        #: What each column is read from.
        self.columns = columns


def batches(plan: pl.LazyFrame, names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Read these columns in order, a batch of rows at a time. Nothing is read before the first.

    The engine collects a batch from however short frames of the source, since a call into Python
    costs as much as some thousand rows.
    """
    raise_if_forked("reading a plan")
    columns = [pl.col(name).alias(str(i)) for i, name in enumerate(names)]
    return iter(
        plan.select(columns).collect_batches(
            chunk_size=_BATCH_ROWS, maintain_order=True, lazy=True, engine="streaming"
        )
    )


def lazy_frame(
    frames: Frames,
    *,
    schema: Mapping[str, pl.DataType],
    name: str,
    detail: str,
    pruned: Callable[[pl.Expr], Frames] | None = None,
    origin: Origin | None = None,
) -> pl.LazyFrame:
    """Make a lazy frame whose rows come from `frames`, called with the names of the columns.

    The columns include those of a pushed predicate. A plan may need no column and still count the
    rows, as `select(pl.int_range(pl.len()))` does. `frames` is then called with one column, which is
    dropped here, so that the height never depends on the columns. A pushed row limit is applied
    first: cut, filter, project, and stop when the limit is reached. `pruned` returns frames that may
    omit rows which a predicate does not pass. It is not used with a row limit.
    """
    raise_if_forked("a lazy plan")
    counted = next(iter(schema))

    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
    ) -> Generator[pl.DataFrame]:
        made = frames
        if pruned is not None and predicate is not None and n_rows is None:
            made = pruned(predicate)
        names = [counted] if with_columns == [] else with_columns
        for frame in _first_rows(made(names), n_rows):
            passed = frame if predicate is None else frame.filter(predicate)
            yield passed if with_columns is None else _project(passed, with_columns)

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - the number of rows follows from the trades
    ) -> Iterator[pl.DataFrame]:
        running = rows(with_columns, predicate, n_rows)
        _awaited_at_exit().add(running)
        return running

    explain = {"explain_name": name, "explain_detail": detail} if _explains() else {}
    plan = register_io_source(source, schema=schema, validate_schema=True, is_pure=True, **explain)
    if origin is not None:
        _note_origin(plan, detail, origin)
    return plan


#: Origins by the detail that `explain` shows; None if two plans share it.
_ORIGINS: dict[str, Origin | None] = {}


def _note_origin(plan: pl.LazyFrame, detail: str, origin: Origin) -> None:
    setattr(plan, _ORIGIN, origin)
    known = _ORIGINS.pop(detail, origin)
    is_same = known is not None and (known.note, known.columns) == (origin.note, origin.columns)
    _ORIGINS[detail] = origin if is_same else None
    while len(_ORIGINS) > _MOST_ORIGINS:
        del _ORIGINS[next(iter(_ORIGINS))]


def origin_of(plan: pl.LazyFrame) -> Origin | None:
    """Return what a plan, or the only source of its kind within it, says that it is made from.

    A plan that was made from another one has no attributes of it, so that its source is found by the
    text of `explain`, where Polars shows it.
    """
    own: Origin | None = getattr(plan, _ORIGIN, None)
    if own is not None or not _ORIGINS:
        return own
    lines = (line.strip() for line in plan.explain(optimized=False).splitlines())
    details = [line.removeprefix("INFO: ") for line in lines if line.startswith("INFO: ")]
    found = [_ORIGINS[detail] for detail in details if detail in _ORIGINS]
    return found[0] if len(found) == 1 else None


def with_inner_plan(detail: str, plan: pl.LazyFrame, names: Sequence[str]) -> str:
    """Add the optimised plan of what a source reads to its detail, for `explain`.

    It shows the columns and filters that are pushed down to the files when all columns of the source
    are wanted.
    """
    if not _explains():
        return detail
    try:
        lines = plan.select(list(dict.fromkeys(names))).explain().splitlines()
    except pl.exceptions.PolarsError:  # collecting the plan says what is wrong with it
        return detail
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"... and {len(lines) - _MOST_LINES:,} more lines"]
    return "\n  | ".join([f"{detail}, from", *lines])


def _project(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Select columns and keep the height, which `select([])` loses."""
    return frame.select(names) if names else pl.DataFrame(height=frame.height)


def _first_rows(frames: Iterator[pl.DataFrame], n_rows: int | None) -> Iterator[pl.DataFrame]:
    if n_rows is None:
        yield from frames
        return
    left = n_rows
    for frame in frames:
        yield frame.head(left)
        left -= frame.height
        if left <= 0:
            return


@cache
def _explains() -> bool:
    return "explain_name" in inspect.signature(register_io_source).parameters


@cache
def _awaited_at_exit() -> WeakSet[Generator[pl.DataFrame]]:
    """Return the set of running sources, for which the interpreter waits before it ends.

    An abandoned query continues in a thread of Polars until its source has made the current frame.
    If that thread returned to an interpreter that is ending, the process would abort.
    """
    sources: WeakSet[Generator[pl.DataFrame]] = WeakSet()

    def wait() -> None:
        end = time.monotonic() + _LONGEST_WAIT_SECONDS
        while any(map(_is_at_work, sources)) and time.monotonic() < end:
            time.sleep(0.001)

    atexit.register(wait)
    after_fork_in_child(sources.clear)  # their threads belong to the parent
    return sources


def _is_at_work(source: Generator[pl.DataFrame]) -> bool:
    return inspect.getgeneratorstate(source) == inspect.GEN_RUNNING
