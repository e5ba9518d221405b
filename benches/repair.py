"""Passes of repair: a clean store, hashing against `sha256sum`, and one day against `force_refresh`.

    python benches/repair.py                 all rows, on small stores
    python benches/repair.py --long          18 symbols, 3 years, 4 thresholds: takes long to build
    python benches/repair.py --only hashing  some of them

Ticks are those of a source of its own, so that no pass requests anything.
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
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out

THRESHOLDS = (250, 500, 750, 1000)
SYMBOLS = (
    *("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "LINKUSDT"),
    *("LTCUSDT", "AVAXUSDT", "DOTUSDT", "TRXUSDT", "BCHUSDT", "UNIUSDT", "ETCUSDT", "NEARUSDT"),
    *("ATOMUSDT", "FILUSDT"),
)
VENUE = {"source": "bench", "market": "spot"}
#: The store ends long ago, which is nothing to repair.
ANY_AGE = 10.0**6
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024
MEASURED = "--measured"


@dataclass(frozen=True)
class Bench:
    """What the rows of the table share."""

    folder: Path
    symbols: int
    days: int
    rows: int
    hashed_days: int
    hashed_rows: int
    year: int
    year_rows: int
    rounds: int


def stored(folder: Path, symbol: str, days: int, rows: int) -> None:
    """Store so many days of a symbol."""
    from rangebar_polars.day_ticks import DayTicks, Origin
    from rangebar_polars.storage.parquet import TickStorage
    from storage import FIRST, day_of_trades

    storage = TickStorage(folder)
    for start in range(0, days, 30):
        some = [
            DayTicks(
                FIRST + timedelta(days=number),
                day_of_trades(FIRST + timedelta(days=number), rows, 10**9 + number * rows),
                Origin(kind="archive"),
            )
            for number in range(start, min(days, start + 30))
        ]
        storage.put_days(symbol, some, **VENUE)


def populated(folder: Path, symbol: str, first: int, days: int, **options: Any) -> int:
    """Populate days of a symbol; the first one is a number."""
    import rangebar_polars as rb
    from storage import FIRST

    options = {"threshold_decimal_bps": list(THRESHOLDS)} | options
    return int(
        rb.populate_cache_resumable(
            symbol,
            FIRST + timedelta(days=first),
            FIRST + timedelta(days=days - 1),
            cache_dir=folder,
            verbose=False,
            **VENUE,
            **options,
        )
    )


def passed(folder: Path, wanted: str, **options: Any) -> float:
    """Seconds of a pass, which must leave what is wanted."""
    from rangebar_polars.kintsugi import kintsugi_pass

    begun = time.perf_counter()
    report = kintsugi_pass(max_stale_hours=ANY_AGE, cache_dir=folder, **VENUE, **options)
    seconds = time.perf_counter() - begun
    assert report.status == wanted, str(report)
    return seconds


def clean(bench: Bench) -> str:
    """A pass over a clean store whose files were read a short time ago."""
    folder = bench.folder / "clean"
    for symbol in SYMBOLS[: bench.symbols]:
        stored(folder, symbol, bench.days, bench.rows)
        populated(folder, symbol, 0, bench.days)
    first_s = passed(folder, "clean")
    runs = [measured_apart(folder) for _ in range(bench.rounds)]
    seconds = median(run["seconds"] for run in runs)
    peak, started = (max(run[name] for run in runs) for name in ("peak", "started"))
    units = bench.symbols * bench.days * len(THRESHOLDS)
    return (
        f"{seconds:.1f} s for {units:,} units ({seconds / units * 1e6:.0f} µs each), "
        f"{peak / 1e6:.0f} MB ({started / 1e6:.0f} after the engine's start); "
        f"the first pass, which reads all files, {first_s:.1f} s"
    )


def measured_apart(folder: Path) -> dict[str, float]:
    """Seconds and peak of a process with a pass."""
    # A new process begins at the peak of the one that starts it, so a small one stands between.
    start = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = [sys.executable, "-c", start, sys.executable, "-P", __file__, MEASURED, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measured(folder: str) -> None:
    """A pass in this process, once the engine has started."""
    from rangebar_polars.clickhouse.open import open_cache

    with open_cache(cache_dir=folder):
        pass
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    seconds = passed(Path(folder), "clean")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    print(json.dumps({"seconds": seconds, "peak": peak, "started": started}))


def hashing(bench: Bench) -> str:
    """What the check of all files adds to a pass, against `sha256sum` of the same files."""
    folder = bench.folder / "hashed"
    stored(folder, SYMBOLS[0], bench.hashed_days, bench.hashed_rows)
    files = sorted(map(str, folder.rglob("*.parquet")))
    size = sum(Path(file).stat().st_size for file in files)
    passed(folder, "clean")
    checked = folder / "kintsugi" / "checked.json"
    known = checked.read_bytes()
    ours, other = [], []
    for _ in range(bench.rounds + 1):
        checked.unlink(missing_ok=True)
        due_s = passed(folder, "clean")
        checked.write_bytes(known)
        ours.append(due_s - passed(folder, "clean"))
        begun = time.perf_counter()
        subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
        other.append(time.perf_counter() - begun)
    speeds = [theirs / own for own, theirs in zip(ours[1:], other[1:], strict=True)]
    return (
        f"{median(speeds):.2f} of its speed ({min(speeds):.2f} … {max(speeds):.2f}), "
        f"{size / 1e6:.0f} MB in {median(ours[1:]):.2f} s against {median(other[1:]):.2f}"
    )


def one_day(bench: Bench) -> str:
    """Repair of bars after the ticks of one day in the middle changed, against a refresh from it."""
    folder = bench.folder / "year"
    symbol, middle = SYMBOLS[0], bench.year // 2
    stored(folder, symbol, bench.year, bench.year_rows)
    populated(folder, symbol, 0, bench.year, threshold_decimal_bps=250)
    passed(folder, "clean")
    ours, other = [], []
    for number in range(bench.rounds + 1):
        changed(folder, symbol, middle, bench.year_rows, 2.0 + number)
        ours.append(passed(folder, "healed"))
        begun = time.perf_counter()
        again = {"threshold_decimal_bps": 250, "force_refresh": True}
        assert populated(folder, symbol, middle, bench.year, **again)
        other.append(time.perf_counter() - begun)
    costs = [own / theirs for own, theirs in zip(ours[1:], other[1:], strict=True)]
    return (
        f"{median(costs):.2f} × its time ({min(costs):.2f} … {max(costs):.2f}), "
        f"{median(ours[1:]):.2f} s against {median(other[1:]):.2f}"
    )


def changed(folder: Path, symbol: str, number: int, rows: int, factor: float) -> None:
    """Write a day again, with other quantities."""
    from rangebar_polars.day_ticks import DayTicks, Origin
    from rangebar_polars.storage.parquet import TickStorage
    from storage import FIRST, day_of_trades

    day = FIRST + timedelta(days=number)
    ticks = day_of_trades(day, rows, 10**9 + number * rows)
    ticks = ticks.with_columns((pl.col("quantity") * factor).round(5))
    TickStorage(folder).put_days(symbol, [DayTicks(day, ticks, Origin(kind="archive"))], **VENUE)


ROWS: dict[str, tuple[str, str, Callable[[Bench], str]]] = {
    "clean": ("a pass over a clean store", "≤ 30 s, ≤ 300 MB in the long form", clean),
    "hashing": ("the check of all files, against sha256sum", "≥ 0.7", hashing),
    "day": ("repair of a day in the middle, against force_refresh", "≤ 1.5 ×", one_day),
}


def main() -> int:
    """Measures what was asked for."""
    from timing import require_release

    require_release()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--long", action="store_true", help="the sizes of the goals")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of trades")
    given = parser.parse_args()
    symbols, days, year = (18, 3 * 365, 365) if given.long else (3, 90, 60)
    sizes = [max(100, int(given.scale * rows)) for rows in (2_000, 1_000_000, 100_000)]
    root = Path.home() / ".cache"
    root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        where = Path(folder)
        bench = Bench(where, symbols, days, sizes[0], 30, sizes[1], year, sizes[2], given.rounds)
        for name in given.only or ROWS:
            work, goal, measure = ROWS[name]
            print(f"{work}: {measure(bench)}; {goal}", flush=True)
            for left in where.iterdir():
                shutil.rmtree(left, ignore_errors=True)
    return 0


if __name__ == "__main__":
    os.environ["RANGEBAR_SYMBOL_GATE"] = "off"
    if MEASURED in sys.argv:
        measured(sys.argv[2])
    else:
        sys.exit(main())
