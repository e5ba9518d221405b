"""Rows of the table for features: what columns cost on top of the core, and where windows matter.

`features-none` needs an interpreter with a build of this package from before the features in
RANGEBAR_BEFORE_PYTHON. With `--full`, `features-per-row` goes to 100 million rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import data
import polars as pl
from bench import cost, demand_equal, figure
from goals import Case, Goal
from memory import lazy_peak
from peer import Worker
from timing import Comparison, Sample, here

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result

WIDE, TIGHT = 250, 10
FOUR = [250, 500, 750, 1000]
IDS = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}
LONG_WINDOW = 10_000
ROWS_OF_LONG_WINDOWS = 1_000_000
ROWS_OF_A_PUSH = 10
PUSHES = 2_000
RING_ROWS = 20_000
TRIES = 9


def bars(trades: pl.DataFrame, threshold: int | list[int], **options: object) -> pl.DataFrame:
    """Bars by the expression, with all ids bound."""
    return trades.select(rb.bars("price", threshold, **IDS, **options))


def on_top(bench: Bench, threshold: int, **options: object) -> Result:
    """The cost of columns, as a ratio to the core alone."""
    ours = bench.side(lambda: bars(bench.trades, threshold, **options))
    core = bench.side(lambda: bars(bench.trades, threshold))
    return cost(bench.compare(ours, core), bench.rows, "core alone")


def without_any(bench: Bench) -> Result:
    """Bars without features, against a build from before them."""
    rows = bench.rows
    before = Worker("RANGEBAR_BEFORE_PYTHON", "before_worker.py", data.parquet(rows))
    try:
        made = bars(bench.trades, WIDE).unnest("bars")
        demand_equal(made, before.bars(rows, WIDE), before.name)
        ours = bench.side(lambda: bars(bench.trades, WIDE))
        timed = bench.compare(ours, lambda: before.run(bench.repeats(rows), rows, WIDE))
    finally:
        before.close()
    return cost(timed, rows, before.name)


def long_windows(bench: Bench) -> Result:
    """Trades per second with the longest windows at many bars."""
    trades = bench.trades.head(ROWS_OF_LONG_WINDOWS)
    options = {"features": "lookback", "lookback": LONG_WINDOW}
    side = here(lambda: bars(trades, TIGHT, **options))
    side()
    samples = [side() for _ in range(bench.rounds)]
    rates = [
        [trades.height / seconds / 1e6 for seconds in clock] for clock in zip(*samples, strict=True)
    ]
    result = figure(*rates, rows=trades.height, ours=samples)
    result.notes.append(f"{bars(trades, TIGHT).height:,} bars")
    return result


def four_thresholds(bench: Bench) -> Result:
    """Four thresholds against one, both with features."""
    ours = bench.side(lambda: bars(bench.trades, FOUR, features="intrabar"))
    one = bench.side(lambda: bars(bench.trades, WIDE, features="intrabar"))
    return cost(bench.compare(ours, one), bench.rows, "one")


def short_pushes(bench: Bench, **options: object) -> Result:
    """Pushes of a few rows into a builder that holds records, against one without features."""
    before = bench.trades.head(RING_ROWS)
    parts = list(bench.trades.slice(RING_ROWS, ROWS_OF_A_PUSH * PUSHES).iter_slices(ROWS_OF_A_PUSH))

    def side(**given: object) -> Callable[[], Sample]:
        builder = rb.RangeBarBuilder(WIDE, **given)
        builder.push(before)
        state = builder.checkpoint()

        def timed() -> Sample:
            resumed = rb.RangeBarBuilder.from_checkpoint(state)

            def push_all() -> None:
                for part in parts:
                    resumed.push(part)

            return here(push_all)()

        return timed

    rows = sum(part.height for part in parts)
    return cost(bench.compare(side(**options), side()), rows, "without")


def per_row(bench: Bench) -> Result:
    """Cost of a row of a short input, against a row of a long one."""
    few, most = data.parquet(bench.few), data.parquet(bench.most)

    def side(path: object, rows: int) -> Callable[[], Sample]:
        def work() -> pl.DataFrame:
            plan = rb.rangebar(pl.scan_parquet(path)).bars(WIDE, features="all")
            return plan.collect(engine="streaming")

        return bench.side(work, rows)

    timed = bench.compare(side(few, bench.few), side(most, bench.most))
    sides = [
        [Sample(sample.wall / rows, sample.cpu / rows) for sample in samples]
        for samples, rows in ((timed.ours, bench.few), (timed.other, bench.most))
    ]
    result = cost(Comparison(*sides), 1, f"with {bench.most:,} rows")
    result.details["rows"] = (bench.few, bench.most)
    return result


def memory(bench: Bench, *features: str) -> Result:
    """Peak memory of the lazy entry point above that of the core."""
    path = data.parquet(bench.rows)
    # The least of several: a limit of a few megabytes is near to what processes differ by.
    core, ours = lazy_peak(path, TRIES), lazy_peak(path, TRIES, features)
    result = figure([(ours["peak"] - core["peak"]) / 1e6], rows=bench.rows, core=core, ours=ours)
    result.notes.append(f"{core['peak'] / 1e6:,.0f} MB with the core")
    return result


def without_held() -> list[str]:
    """All columns that hold no records of the bar: their names do not depend on its length."""
    held = ("_epoch_density", "_excess_gain", "_cv", "order_size_p50", "order_size_p90")
    named = rb.columns().filter(pl.col("group").is_in(["lookback", "intrabar", "extended"]))
    names = named["name"].to_list()
    return [n for n in names if not n.endswith(held) and not n.startswith("large_order_")]


def case(name: str, work: str, at_most: float, aim: float | None, **options: object) -> Case:
    """A row for columns on top of the core."""
    return Case(name, work, Goal("≤", at_most, aim, "×"), partial(on_top, **options))


LOOKBACK = {"features": "lookback", "lookback": 200}
WIDE_INTRABAR = {"threshold": WIDE, "features": "intrabar"}
TIGHT_INTRABAR = {"threshold": TIGHT, "features": "intrabar"}
FEATURES = (
    Case("features-none", "no features, against before", Goal("≤", 1.02, 1, "×"), without_any),
    case("lookback", "lookback=200 on top", 1.2, 1.1, threshold=WIDE, **LOOKBACK),
    case("lookback-tight", f"lookback=200 at {TIGHT} dbps", 8, 5, threshold=TIGHT, **LOOKBACK),
    case("intrabar", "intrabar on top", 12, 10, **WIDE_INTRABAR),
    case("intrabar-tight", f"intrabar at {TIGHT} dbps", 8, 6, **TIGHT_INTRABAR),
    case("extended", "extended on top", 25, 20, threshold=WIDE, features="extended"),
    case(
        "extended-tight", f"extended at {TIGHT} dbps", 15, 10, threshold=TIGHT, features="extended"
    ),
    case("all", "all groups on top", 36, 30, threshold=WIDE, features="all"),
    case(
        "one-column", "max_silence_us on top", 1.6, 1.2, threshold=WIDE, features="max_silence_us"
    ),
    Case(
        "long-windows",
        f"lookback={LONG_WINDOW:,} at {TIGHT} dbps",
        Goal("≥", 1, 2, " M/s"),
        long_windows,
    ),
    Case(
        "features-thresholds",
        "intrabar, four thresholds against one",
        Goal("≤", 4.2, 3, "×"),
        four_thresholds,
    ),
    Case(
        "push-intrabar",
        "pushes of 10 rows with intrabar",
        Goal("≤", 1.5, None, "×"),
        partial(short_pushes, features="intrabar"),
    ),
    Case(
        "push-lookback",
        "the same with long windows",
        Goal("≤", 1.5, None, "×"),
        partial(short_pushes, features="lookback", lookback=LONG_WINDOW),
    ),
    Case("features-per-row", "all, per row, {few} against {most}", Goal("1 ±", 0.15), per_row),
    Case(
        "features-memory",
        "peak with held records above core",
        Goal("≤", 60, None, " MB"),
        lambda bench: memory(bench, "all"),
    ),
    Case(
        "features-memory-unheld",
        "peak without held records above core",
        Goal("≤", 2, None, " MB"),
        lambda bench: memory(bench, *without_held()),
    ),
)
