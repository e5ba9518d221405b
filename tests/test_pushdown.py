"""What the optimiser pushes into the lazy door gives what the same steps give after collecting."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from properties.model import Case
from rangebar_polars import _internal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TALL = pl.col("high") - pl.col("low") > 40
STEPS: dict[str, Callable] = {
    "nothing": lambda f: f,
    "head": lambda f: f.head(5),
    "limit of none": lambda f: f.limit(0),
    "head of more than there is": lambda f: f.head(10**6),
    "slice": lambda f: f.slice(3, 7),
    "slice from the end": lambda f: f.slice(-4, 2),
    "tail": lambda f: f.tail(3),
    "filter": lambda f: f.filter(TALL),
    "filter of nothing": lambda f: f.filter(pl.col("open") < 0),
    "filter, then head": lambda f: f.filter(TALL).head(6),
    "head, then filter": lambda f: f.head(15).filter(TALL),
    "head, filter, head": lambda f: f.head(40).filter(TALL).head(5),
    "head, filter, project": lambda f: f.head(15).filter(TALL).select("close", "bar_id"),
    "two filters": lambda f: f.filter(TALL).filter(pl.col("volume") > 100),
    "project": lambda f: f.select("close"),
    "project in another order": lambda f: f.select("ofi", "open_time", "bar_id"),
    "project, then filter": lambda f: f.select("close", "volume").filter(pl.col("volume") > 100),
    "filter on what is not selected": lambda f: f.filter(pl.col("ofi") > 0).select("low"),
    "only a feature": lambda f: f.select("kyle_lambda_proxy"),
    "status": lambda f: f.select("ended_by", "is_closed").filter(pl.col("is_closed")),
    "rename": lambda f: f.rename({"close": "c"}).select("c").head(4),
    "derive": lambda f: f.with_columns(span=pl.col("high") - pl.col("low")).filter(
        pl.col("span") > 40
    ),
    "drop": lambda f: f.drop("open", "ofi").head(9),
    "length": lambda f: f.select(pl.len()),
    "length after a cut": lambda f: f.head(7).select(pl.len()),
    "sum": lambda f: f.select(pl.col("agg_record_count").sum()),
    "group": lambda f: f.group_by("ended_by", maintain_order=True).agg(pl.col("volume").count()),
    "sort": lambda f: f.sort("volume", "bar_id", descending=True).head(3),
    "unique": lambda f: f.select("ended_by").unique(maintain_order=True),
    "row index": lambda f: f.with_row_index().filter(TALL).head(4),
    "row index of a cut": lambda f: f.head(20).with_row_index().filter(TALL),
}
CASES = {
    "one threshold": Case(
        long_frame(seed=21, rows=4_000), 50, None, "microstructure", incomplete="keep"
    ),
    "two thresholds": Case(
        long_frame(seed=22, rows=4_000), [50, 90], None, "microstructure", incomplete="keep"
    ),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_a_step_before_collect_equals_the_step_after(name: str, step: str, engine: str) -> None:
    case = CASES[name]
    with pl.Config() as config:
        config.set_streaming_chunk_size(300)
        lazy = case.frame.lazy().rangebar.bars(**entry_points.frame_arguments(case))
        before = entry_points.collect(STEPS[step](lazy), engine)
        after = STEPS[step](entry_points.eager(case))
    assert_same_bars(before, after)


def test_a_lazy_frame_of_bars_is_collected_twice_with_the_same_result(engine: str) -> None:
    case = CASES["one threshold"]
    lazy = case.frame.lazy().rangebar.bars(50)
    assert_same_bars(entry_points.collect(lazy, engine), entry_points.collect(lazy, engine))
    assert lazy.collect_schema() == entry_points.collect(lazy, engine).schema


def test_filters_before_the_door_decide_what_is_a_trade(engine: str) -> None:
    frame = CASES["one threshold"].frame
    some = pl.col("quantity") > 1
    lazy = frame.lazy().filter(some).rangebar.bars(50)
    assert_same_bars(entry_points.collect(lazy, engine), frame.filter(some).rangebar.bars(50))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "trades.parquet"
    CASES["one threshold"].frame.write_parquet(path, row_group_size=150)
    return path


def test_a_scan_of_many_row_groups_gives_the_bars_of_the_frame(parquet: Path, engine: str) -> None:
    case = CASES["one threshold"]
    bars = entry_points.eager(case)
    lazy = pl.scan_parquet(parquet).rangebar.bars(**entry_points.frame_arguments(case))
    assert_same_bars(entry_points.collect(lazy, engine), bars)
    expression = pl.scan_parquet(parquet).select(entry_points.expression(case)).unnest("bars")
    assert_same_bars(entry_points.collect(expression, engine), bars)


def test_filters_after_bar_id_do_not_change_it(parquet: Path, engine: str) -> None:
    case = CASES["one threshold"]
    ids = case.frame.with_columns(entry_points.bar_id(case))
    for some in (pl.col("price") > 50_000, pl.col("bar_id") > 3, pl.col("is_buyer_maker")):
        for source in (case.frame.lazy(), pl.scan_parquet(parquet)):
            plan = source.with_columns(entry_points.bar_id(case)).filter(some)
            assert_same_bars(entry_points.collect(plan, engine), ids.filter(some))
            assert_same_bars(
                entry_points.collect(plan.select("bar_id"), engine),
                ids.filter(some).select("bar_id"),
            )


def test_bar_id_sees_rows_in_order_whatever_follows(parquet: Path, engine: str) -> None:
    case = CASES["one threshold"]
    ids = case.frame.select(entry_points.bar_id(case))
    plan = pl.scan_parquet(parquet).select(entry_points.bar_id(case))
    assert entry_points.collect(plan.max(), engine).item() == ids["bar_id"].max()
    assert_same_bars(entry_points.collect(plan.head(500), engine), ids.head(500))
    assert_same_bars(entry_points.collect(plan.tail(500), engine), ids.tail(500))


def calls(run: Callable[[], object]) -> int:
    before = _internal.plugin_calls()
    run()
    return _internal.plugin_calls() - before


def test_the_documented_way_calls_the_plugin_once(parquet: Path, engine: str) -> None:
    case = CASES["two thresholds"]
    plan = pl.scan_parquet(parquet).select(entry_points.expression(case)).unnest("bars")
    assert calls(lambda: entry_points.collect(plan, engine)) == 1
    assert calls(lambda: entry_points.collect(plan.select("close", "ofi").head(3), engine)) == 1
    assert calls(lambda: entry_points.eager_expression(case)) == 1
    ids = case.frame.lazy().with_columns(entry_points.bar_id(case))
    assert calls(lambda: entry_points.collect(ids, engine)) == 1


KEYED = long_frame(seed=23, rows=3_000).with_columns(
    symbol=(pl.int_range(pl.len()) * 7919 % 5).cast(pl.String)
)


def test_bar_id_over_a_key_equals_bar_id_by_the_key(engine: str) -> None:
    inside = KEYED.select(rb.bar_id("price", 50, group_by="symbol"))
    over = KEYED.lazy().select(rb.bar_id("price", 50).over("symbol"))
    assert_same_bars(entry_points.collect(over, engine), inside)


def test_bars_by_group_are_exploded_to_bars_by_key(engine: str) -> None:
    inside = KEYED.rangebar.bars(50, group_by="symbol").sort("symbol", "bar_id")
    bars = rb.bars(
        "price",
        50,
        agg_trade_id="agg_trade_id",
        first_trade_id="first_trade_id",
        last_trade_id="last_trade_id",
    )
    plan = (
        KEYED.lazy()
        .group_by("symbol")
        .agg(bars)
        .explode("bars", empty_as_null=False)
        .unnest("bars")
    )
    assert_same_bars(entry_points.collect(plan, engine).sort("symbol", "bar_id"), inside)


def run_apart(code: str, threads: str) -> str:
    """Run code in a process of its own, which is killed if it hangs."""
    prelude = """
    import polars as pl, rangebar_polars as rb, sys
    time = pl.int_range(20_000, eager=True).cast(pl.Datetime("us"))
    price = 100 + (pl.int_range(20_000, eager=True) * 7919 % 997) / 1000
    frame = pl.DataFrame({"timestamp": time, "price": price})
    pl.Config.set_streaming_chunk_size(500)
    plans = [frame.lazy().rangebar.bars(t) for t in range(100, 900, 100)]
    eager = [frame.rangebar.bars(t) for t in range(100, 900, 100)]
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(code)
    environment = {"POLARS_MAX_THREADS": threads, "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=1200, check=False, env=environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.mark.parametrize("threads", ["1", "2"])
def test_plans_of_several_lazy_doors_do_not_hang(threads: str) -> None:
    code = """
    for engine in ("in-memory", "streaming"):
        whole = pl.concat(plans).collect(engine=engine)
        assert whole.equals(pl.concat(eager)), engine
        for got, bars in zip(pl.collect_all(plans, engine=engine), eager):
            assert got.equals(bars), engine
        a, b, c = (p.select("bar_id", "close") for p in plans[:3])
        joined = a.join(b, on="bar_id").join(c, on="bar_id", suffix="_c").sort("bar_id")
        got = joined.collect(engine=engine)
        a, b, c = (e.select("bar_id", "close") for e in eager[:3])
        assert got.equals(a.join(b, on="bar_id").join(c, on="bar_id", suffix="_c").sort("bar_id"))
    print("done")
    """
    assert run_apart(code, threads) == "done\n"


def test_a_cut_ends_the_reading_of_a_source_without_an_end() -> None:
    code = """
    import itertools
    from polars.io.plugins import register_io_source

    def frames():
        for n in itertools.count():
            start = n * 1000
            time = pl.int_range(start, start + 1000, eager=True).cast(pl.Datetime("us"))
            row = pl.int_range(1000, eager=True)
            yield pl.DataFrame({"timestamp": time, "price": 100 + (row * 7919 % 997) / 500})

    def source(with_columns, predicate, n_rows, batch_size):
        for frame in frames():
            frame = frame if with_columns is None else frame.select(with_columns)
            yield frame if predicate is None else frame.filter(predicate)

    schema = {"timestamp": pl.Datetime("us"), "price": pl.Float64}
    lazy = register_io_source(source, schema=schema).rangebar.bars(250)
    batches = rb.iter_bars(frames(), 250)
    first = next(batches)
    assert first.height > 0
    assert lazy.head(3).collect(engine="streaming").equals(first.head(3))
    print("done", flush=True)
    import os; os._exit(0)
    """
    assert run_apart(code, "2") == "done\n"
