"""Rows of the table for trades that come in pieces: what a row costs, against a plain frame.

The plain frame is one with a single chunk. Both sides are taken for each row of trades, so a case
may use as few rows as its time allows.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import data
import polars as pl
from bench import cost
from goals import Case, Goal
from peer import SkippedError
from timing import Comparison, Sample, here, typical

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result

THRESHOLD = 250
PLAIN_ROWS = 1_000_000
SCANNED_ROWS = 1_000_000
ROW_GROUP = 1_000
KEYED_PUSH = 100
PUSHES_OF_A_SAMPLE = 200


def plain(bench: Bench) -> Callable[[], Sample]:
    """Bars of a frame in memory, in one piece."""
    trades = bench.trades.head(PLAIN_ROWS)
    return here(lambda: trades.rangebar.bars(THRESHOLD), repeats=5)


def for_each_row(bench: Bench, work: Callable[[], object], rows: int) -> Result:
    """Cost of `work` per row, against the plain frame."""
    plain_rows = min(PLAIN_ROWS, bench.rows)
    timed = bench.compare(here(work), plain(bench))
    sides = [
        [Sample(sample.wall / count, sample.cpu / count) for sample in samples]
        for samples, count in ((timed.ours, rows), (timed.other, plain_rows))
    ]
    result = cost(Comparison(*sides), 1, "plain")
    ours, other = (1e9 * typical(side) for side in sides)
    result.notes[:] = [f"{ours:,.1f} ns a row; plain {other:,.1f}"]
    return result


def pushes(bench: Bench, rows: int) -> Result:
    """Time consecutive pushes of `rows` rows."""
    parts = list(bench.trades.head(rows * PUSHES_OF_A_SAMPLE).iter_slices(rows))

    def push_all() -> None:
        builder = rb.RangeBarBuilder(THRESHOLD)
        for part in parts:
            builder.push(part)

    return for_each_row(bench, push_all, sum(part.height for part in parts))


def iterated(bench: Bench, rows: int) -> Result:
    """The same through `iter_bars`."""
    parts = list(bench.trades.head(rows * PUSHES_OF_A_SAMPLE).iter_slices(rows))

    def iterate() -> None:
        for _ in rb.iter_bars(parts, THRESHOLD):
            pass

    return for_each_row(bench, iterate, sum(part.height for part in parts))


def with_known_keys(bench: Bench, keys: int) -> Result:
    """Time pushes of 100 rows when many keys are known."""
    rows = KEYED_PUSH * PUSHES_OF_A_SAMPLE
    trades = bench.trades.head(keys + rows * (bench.rounds + 1))
    if trades.height < keys + rows * (bench.rounds + 1):
        raise SkippedError(f"{keys:,} keys take more than {bench.rows:,} rows")
    keyed = trades.with_columns(key=pl.int_range(pl.len(), dtype=pl.Int64) * 7919 % keys)
    builder = rb.RangeBarBuilder(THRESHOLD, group_by="key")
    builder.push(keyed.head(keys))
    parts = keyed.slice(keys).iter_slices(KEYED_PUSH)

    def push_next() -> None:
        for part in islice(parts, PUSHES_OF_A_SAMPLE):
            builder.push(part)

    return for_each_row(bench, push_next, rows)


def chunks(bench: Bench, rows: int) -> Result:
    """Time a frame in short chunks."""
    count = min(PLAIN_ROWS, rows * 200_000, bench.rows)
    trades = pl.concat(bench.trades.head(count).iter_slices(rows), rechunk=False)
    return for_each_row(bench, lambda: trades.rangebar.bars(THRESHOLD), count)


def short_row_groups(bench: Bench) -> Result:
    """A lazy plan over a Parquet file of short row groups, against the scan of its columns."""
    rows = min(SCANNED_ROWS, bench.rows)
    path = data.folder() / f"trades-{rows}-by-{ROW_GROUP}.parquet"
    if not path.exists():
        bench.trades.head(rows).write_parquet(path, row_group_size=ROW_GROUP)
    sums = [pl.col(name).to_physical().sum() for name in data.SCHEMA]

    def scan() -> pl.DataFrame:
        return pl.scan_parquet(path).select(sums).collect(engine="streaming")

    def bars() -> pl.DataFrame:
        return pl.scan_parquet(path).rangebar.bars(THRESHOLD).collect(engine="streaming")

    return cost(bench.compare(here(bars), here(scan)), rows, "scanning and summing")


def case(name: str, work: str, at_most: float, measure: Callable[[Bench], Result]) -> Case:
    """A row whose figure is a cost."""
    return Case(name, work, Goal("≤", at_most, None, "×"), measure)


PUSHES = (
    case("push-1", "pushes of 1 row, against plain", 11_000, partial(pushes, rows=1)),
    case("push-100", "pushes of 100 rows", 122, partial(pushes, rows=100)),
    case("push-1000", "pushes of 1,000 rows", 16, partial(pushes, rows=1_000)),
    case("iter-1", "iter_bars, frames of 1 row", 11_000, partial(iterated, rows=1)),
    case("iter-100", "iter_bars, frames of 100 rows", 122, partial(iterated, rows=100)),
    case("iter-1000", "iter_bars, frames of 1,000 rows", 16, partial(iterated, rows=1_000)),
    case(
        "keys-100k", "pushes of 100 among 100 k keys", 540, partial(with_known_keys, keys=100_000)
    ),
    case(
        "keys-500k", "pushes of 100 among 500 k keys", 540, partial(with_known_keys, keys=500_000)
    ),
    case("chunks-1000", "chunks of 1,000 rows", 2.2, partial(chunks, rows=1_000)),
    case("chunks-10", "chunks of 10 rows", 16, partial(chunks, rows=10)),
    case("chunks-1", "chunks of 1 row", 68, partial(chunks, rows=1)),
    case("row-groups", "row groups of 1,000, against the scan", 1.5, short_row_groups),
)
