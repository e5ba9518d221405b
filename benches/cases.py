"""The rows of the table: what is compared with what, and what it must reach."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import data
import numpy as np
import polars as pl
from bench import TRADES_PER_BAR, cost, demand_equal, figure, speed
from feature_costs import FEATURES
from goals import Case, Goal
from inputs import INPUTS
from pushes import PUSHES
from timing import Comparison, Sample, typical
from yardstick import reader

import rangebar_polars as rb

if TYPE_CHECKING:
    from pathlib import Path

    from bench import Bench, Result

THRESHOLD = 250
TIGHT = 10
FOUR = [250, 500, 750, 1000]
SYMBOLS = 20
IMPORTS = 15
IDS = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}
ENGINE = "streaming"


def bars(trades: pl.DataFrame, threshold: int | list[int], **options: object) -> pl.DataFrame:
    """Bars by the expression, with all core columns and ids."""
    return trades.select(rb.bars("price", threshold, **IDS, **options))


def against_reading(bench: Bench) -> Result:
    read, reductions = reader(bench.trades)
    ours = bench.side(lambda: bars(bench.trades, THRESHOLD))
    result = speed(bench.compare(ours, bench.side(read)), bench.rows, "reading")
    result.notes.append(f"read by {reductions}")
    result.notes.append(f"{bars(bench.trades, THRESHOLD).height:,} bars")
    return result


def against_peer(bench: Bench, threshold: int, *, few: bool = False) -> Result:
    peer, rows = bench.range_bars, bench.few if few else bench.rows
    trades = bench.trades.head(rows)
    made = bars(trades, threshold).unnest("bars")
    demand_equal(made, peer.bars(rows, threshold), peer.name)
    comparison = bench.compare(
        bench.side(lambda: bars(trades, threshold), rows),
        lambda: peer.run(bench.repeats(rows), rows, threshold),
    )
    result = speed(comparison, rows, peer.name)
    result.notes.append(f"{made.height:,} bars, equal")
    if rows == bench.rows:
        of_reading = 0.8 * typical(comparison.other) / bench.reading_seconds
        result.notes.append(f"0.8 of reading would be {of_reading:.1f}×")
    return result


def against_finmlkit(bench: Bench) -> Result:
    peer = bench.finmlkit
    trades = bench.trades.with_columns(id=pl.int_range(pl.len()) // TRADES_PER_BAR)

    def aggregate() -> pl.DataFrame:
        return trades.select(rb.aggregate("price", "id", **IDS))

    made, theirs = aggregate().unnest("bars"), peer.bars()
    buys = trades.group_by("id").agg(ticks_buy=(~pl.col("is_buyer_maker")).sum().cast(pl.Int64))
    made = made.with_columns(buys.sort("id")["ticks_buy"])
    demand_equal(made, theirs, peer.name)
    comparison = bench.compare(bench.side(aggregate), lambda: peer.run(bench.repeats(bench.rows)))
    result = speed(comparison, bench.rows, peer.name)
    result.notes.append(f"{made.height:,} bars, equal")
    return result


def with_microstructure(bench: Bench) -> Result:
    ours = bench.side(lambda: bars(bench.trades, THRESHOLD, features="microstructure"))
    core = bench.side(lambda: bars(bench.trades, THRESHOLD))
    return cost(bench.compare(ours, core), bench.rows, "core alone")


def four_thresholds(bench: Bench) -> Result:
    ours = bench.side(lambda: bars(bench.trades, FOUR))
    one = bench.side(lambda: bars(bench.trades, THRESHOLD))
    return cost(bench.compare(ours, one), bench.rows, "one")


def against_open(bench: Bench) -> Result:
    ours = bench.side(lambda: bars(bench.trades, THRESHOLD, rule="high_low"))
    other = bench.side(lambda: bars(bench.trades, THRESHOLD))
    result = speed(bench.compare(ours, other), bench.rows, "open")
    result.notes.append(f"{bars(bench.trades, THRESHOLD, rule='high_low').height:,} bars")
    return result


def lazy_bars(path: Path) -> pl.DataFrame:
    """Bars of a Parquet file through the lazy entry point."""
    return rb.rangebar(pl.scan_parquet(path)).bars(THRESHOLD).collect(engine=ENGINE)


def column_sums(path: Path) -> pl.DataFrame:
    """The same columns, scanned and summed by Polars."""
    sums = [pl.col(name).to_physical().sum() for name in data.SCHEMA]
    return pl.scan_parquet(path).select(sums).collect(engine=ENGINE)


def against_scanning(bench: Bench) -> Result:
    path = data.parquet(bench.rows)
    ours, sums = bench.side(lambda: lazy_bars(path)), bench.side(lambda: column_sums(path))
    return speed(bench.compare(ours, sums), bench.rows, "scanning and summing")


def peak_memory(bench: Bench) -> Result:
    _, peak = bench.peaks
    result = figure([peak["peak"] / 1e6], rows=bench.many, **peak)
    result.notes.append(f"{peak['imported'] / 1e6:,.0f} MB after the import")
    return result


def memory_growth(bench: Bench) -> Result:
    short, long = bench.peaks
    result = figure([(long["peak"] - short["peak"]) / 1e6], rows=bench.many, short=short, long=long)
    result.notes.append(f"{short['peak'] / 1e6:,.0f} MB at {bench.rows:,} rows")
    return result


def per_row(bench: Bench) -> Result:
    few, most = data.parquet(bench.few), data.parquet(bench.most)
    timed = bench.compare(
        bench.side(lambda: lazy_bars(few), bench.few),
        bench.side(lambda: lazy_bars(most), bench.most),
    )
    rows = bench.few, bench.most
    sides = [
        [Sample(s.wall / n, s.cpu / n) for s in samples]
        for samples, n in zip((timed.ours, timed.other), rows, strict=True)
    ]
    result = cost(Comparison(*sides), 1, f"with {bench.most:,} rows")
    result.details["rows"] = rows
    return result


def many_symbols(bench: Bench, dtype: str, *, plain: bool = False) -> Result:
    names = [f"COIN{i:02}USDT" for i in range(SYMBOLS)]
    codes = np.random.default_rng(data.SEED).integers(0, SYMBOLS, bench.rows)
    symbol = pl.Series("symbol", names)[codes].rechunk()
    if dtype == "Enum":
        symbol = symbol.cast(pl.Enum(names))
    trades = bench.trades.with_columns(symbol)
    single = (
        trades if plain else bench.trades.with_columns(symbol[:1].new_from_index(0, bench.rows))
    )
    options = {"symbol": None} if plain else {"group_by": "symbol"}
    ours = bench.side(lambda: bars(trades, THRESHOLD, group_by="symbol"))
    one = bench.side(lambda: bars(single, THRESHOLD, **options))
    name = "without group_by" if plain else "one symbol"
    result = cost(bench.compare(ours, one), bench.rows, name)
    result.notes.append(f"{bars(trades, THRESHOLD, group_by='symbol').height:,} bars")
    return result


def import_time(bench: Bench) -> Result:
    script = (
        "import time; t = time.perf_counter(); import polars; p = time.perf_counter(); "
        "import rangebar_polars; print(p - t, time.perf_counter() - p)"
    )
    command = [sys.executable, "-P", "-c", script]
    runs = []
    for _ in range(max(IMPORTS, bench.rounds) + 1):
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        runs.append([float(seconds) * 1e3 for seconds in output.split()])
    polars, own = (list(side) for side in zip(*runs[1:], strict=True))
    result = figure(own, polars=polars, own=own)
    result.notes.append(f"Polars itself {figure(polars).value:,.0f} ms")
    return result


CASES = (
    Case("reading", "bars of {rows}, against reading", Goal("≥", 0.6, 0.8), against_reading),
    Case(
        "peer",
        "{rows}, against the existing library",
        Goal("≥", 6, None, "×"),
        partial(against_peer, threshold=THRESHOLD),
    ),
    Case(
        "peer-few",
        "{few}, against the existing library",
        Goal("≥", 8, 15, "×"),
        partial(against_peer, threshold=THRESHOLD, few=True),
    ),
    Case(
        "peer-tight",
        f"{{rows}} at {TIGHT} dbps, against the same",
        Goal("≥", 3.5, 6, "×"),
        partial(against_peer, threshold=TIGHT),
    ),
    Case("finmlkit", "aggregate, against finmlkit", Goal("≥", 3, 5, "×"), against_finmlkit),
    Case("microstructure", "microstructure on top", Goal("≤", 1.1), with_microstructure),
    Case("thresholds", "four thresholds against one", Goal("≤", 2.5, 1.6), four_thresholds),
    Case("high-low", "high_low against open", Goal("≥", 0.5), against_open),
    Case("parquet", "Parquet to bars, against its sums", Goal("≥", 0.6, 0.8), against_scanning),
    Case("memory", "peak memory, {many} from Parquet", Goal("≤", 700, 450, " MB"), peak_memory),
    Case("growth", "that, above {rows} from Parquet", Goal("≤", 200, None, " MB"), memory_growth),
    Case("per-row", "cost per row, {few} against {most}", Goal("1 ±", 0.15), per_row),
    Case(
        "symbols-string",
        f"{SYMBOLS} symbols (String) against one",
        Goal("≤", 3, 2),
        partial(many_symbols, dtype="String"),
    ),
    Case(
        "symbols-enum",
        f"{SYMBOLS} symbols (Enum) against one",
        Goal("≤", 3, 2),
        partial(many_symbols, dtype="Enum"),
    ),
    Case(
        "symbols-plain",
        f"{SYMBOLS} symbols against no group_by",
        Goal("≤", 3, 2),
        partial(many_symbols, dtype="String", plain=True),
    ),
    Case("import", "import, on top of Polars", Goal("≤", 50, None, " ms"), import_time),
    *INPUTS,
    *PUSHES,
    *FEATURES,
)
