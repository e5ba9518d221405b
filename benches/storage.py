"""The tick store against Polars alone: every figure is a ratio of medians, or a peak, of one run.

    python benches/storage.py                    all rows
    python benches/storage.py --only write       some of them

Polars does the same work with the same parameters (zstd 3, row groups of 131,072 rows), without
any of the protocol: no hash, no fsync, no manifest, no check of a row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SYMBOL = "BTCUSDT"
FIRST = date(2024, 1, 1)
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024
MEASURED = "--measured"


def day_of_trades(day: date, rows: int, first_id: int) -> pl.DataFrame:
    """Trades of a day that look like those of a busy symbol."""
    random = np.random.default_rng(day.toordinal())
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**6
    steps = random.normal(0, 0.5, rows).round(2)
    count = random.integers(1, 4, rows)
    last = np.cumsum(count) + 4 * first_id
    times = np.sort(random.integers(0, 86_400 * 10**6, rows)) + midnight
    return pl.DataFrame(
        {
            "timestamp": times,
            "price": (40_000 + np.cumsum(steps) % 5_000).round(2),
            "quantity": (random.exponential(0.05, rows) + 1e-5).round(5),
            "agg_trade_id": np.arange(first_id, first_id + rows),
            "first_trade_id": last - count + 1,
            "last_trade_id": last,
            "is_buyer_maker": random.random(rows) < 0.5,
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))


def day_ticks(day: date, rows: int, first_id: int):
    """The same as a source gives them."""
    from rangebar_polars.day_ticks import DayTicks, Origin

    return DayTicks(day, day_of_trades(day, rows, first_id), Origin(kind="archive"))


@dataclass(frozen=True)
class Bench:
    """What the rows of the table share."""

    folder: Path
    rows: int
    rounds: int

    def ratio(self, ours: Callable[[int], object], other: Callable[[int], object]) -> str:
        """Medians of both sides, taken in turn, and the ratio."""
        from timing import here, interleave, typical

        calls = iter(range(10**6))
        result = interleave(
            here(lambda: ours(next(calls))), here(lambda: other(next(calls))), self.rounds
        )
        cost, cpu = median(result.costs()), median(result.costs("cpu"))
        seconds = f"{typical(result.ours) * 1000:.0f} ms against {typical(result.other) * 1000:.0f}"
        return f"{cost:.2f} × ({min(result.costs()):.2f} … {max(result.costs()):.2f}), by CPU {cpu:.2f} ×, {seconds}"


def write(bench: Bench) -> str:
    """A day into the store, each time a new one."""
    from rangebar_polars.storage.files.codec import ENCODING
    from rangebar_polars.storage.parquet import TickStorage

    storage = TickStorage(bench.folder / "written")
    item = day_ticks(FIRST, bench.rows, 10**9)

    def ours(_: int) -> None:
        shutil.rmtree(storage.root, ignore_errors=True)
        storage.put_days(SYMBOL, [item])

    def other(_: int) -> None:
        path = bench.folder / "alone.parquet"
        path.unlink(missing_ok=True)
        item.ticks.write_parquet(path, **ENCODING)

    return bench.ratio(ours, other)


def read(bench: Bench, days: int = 1) -> str:
    """Days from the store, against the same files by path."""
    from rangebar_polars.storage.parquet import TickStorage

    storage = TickStorage(bench.folder / f"read{days}")
    dates = [FIRST + timedelta(days=i) for i in range(days)]
    for i, day in enumerate(dates):
        storage.put_days(SYMBOL, [day_ticks(day, bench.rows, 10**9 + i * bench.rows)])
    files = sorted(storage.root.rglob("*.parquet"))

    def ours(_: int) -> None:
        storage.get_ticks(SYMBOL, dates[0], dates[-1])

    def other(_: int) -> None:
        pl.concat([pl.read_parquet(path) for path in files])

    return bench.ratio(ours, other)


def memory(bench: Bench) -> str:
    """Peak of a process that makes bars of 40 million stored ticks."""
    from rangebar_polars.storage.parquet import TickStorage

    storage = TickStorage(bench.folder / "many")
    days = [FIRST + timedelta(days=i) for i in range(20)]
    for i, day in enumerate(days):
        storage.put_days(SYMBOL, [day_ticks(day, 2_000_000, 10**9 + i * 2_000_000)])
    # A new process begins at the peak of the one that starts it, so a small one stands between.
    start = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = [sys.executable, "-c", start, sys.executable, "-P", __file__, MEASURED]
    command += [str(bench.folder / "many"), str(days[-1])]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    best = min(runs, key=lambda run: run["peak"])
    return f"{best['peak'] / 1e6:.0f} MB ({best['imported'] / 1e6:.0f} after import), {best['bars']:,} bars"


def bars(folder: str, last: str) -> None:
    """Makes the bars in this process."""
    import rangebar_polars as rb  # noqa: F401
    from rangebar_polars.storage.parquet import TickStorage

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    ticks = TickStorage(folder).scan_ticks(SYMBOL, FIRST, date.fromisoformat(last))
    height = ticks.rangebar.bars(250).collect().height
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    print(json.dumps({"peak": peak, "imported": imported, "bars": height}))


ROWS = {
    "write": ("write a 2 M-row day, against Polars writing it", "≤ 1.8 ×, aim 1.4", write),
    "read": ("verified read of a 2 M-row day, against Polars", "≤ 1.5 ×, aim 1.2", read),
    "read-days": ("the same of five days", "≤ 1.5 ×, aim 1.2", lambda bench: read(bench, 5)),
    "memory": ("bars over 40 M stored ticks, peak", "≤ 800 MB", memory),
}


def main() -> int:
    """Measures what was asked for."""
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
    from timing import require_release

    require_release()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    os.environ["RANGEBAR_SYMBOL_GATE"] = "off"
    with tempfile.TemporaryDirectory(dir=Path.home() / ".cache") as folder:
        for name in given.only or ROWS:
            work, goal, measure = ROWS[name]
            print(
                f"{work}: {measure(Bench(Path(folder), given.rows, given.rounds))}; {goal}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    if MEASURED in sys.argv:
        bars(*sys.argv[2:])
    else:
        sys.exit(main())
