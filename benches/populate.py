"""Populations against the same bars from a scan: figures are ratios of one run, or peaks of memory.

    python benches/populate.py                      all rows
    python benches/populate.py --only workers       some of them
    python benches/populate.py --rows 100000        quicker, and less true

Polars has one thread here, so that one worker is one processor and two are two.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from datetime import date

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out

THRESHOLDS = (250, 500, 750, 1000)
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024
MEASURED = "--measured"


@dataclass(frozen=True)
class Bench:
    """What the rows of the table share."""

    folder: Path
    days: int
    rows: int
    rounds: int
    long_days: int
    held: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def ticks(self) -> Path:
        """A store of the days."""
        return stored(self.folder / "ticks", self.days, self.rows)

    @property
    def last(self) -> date:
        """The last day."""
        return first() + timedelta(days=self.days - 1)

    def cache(self) -> str:
        """Address of an embedded cache in which nothing is kept."""
        shutil.rmtree(self.folder / "kept", ignore_errors=True)
        (self.folder / "kept").mkdir()
        return f"chdb://{self.folder}/kept/clickhouse"

    @cached_property
    def pools(self) -> list[Executor]:
        """One process and two, which have imported what they need."""
        spawn = multiprocessing.get_context("spawn")
        pools = [self.held.enter_context(ProcessPoolExecutor(n, spawn)) for n in (1, 2)]
        for count, pool in enumerate(pools, 1):
            stage(self, pool, days=4 * count)
        return pools

    def speed(self, ours: Callable[[], object], other: Callable[[], object]) -> str:
        """Our speed over the other's, the two taken in turn."""
        from timing import here, interleave, typical

        result = interleave(here(ours), here(other), self.rounds)
        speeds = result.speeds()
        return (
            f"{median(speeds):.2f} of its speed ({min(speeds):.2f} … {max(speeds):.2f}), "
            f"by CPU {median(result.speeds('cpu')):.2f}, "
            f"{typical(result.ours):.2f} s against {typical(result.other):.2f}"
        )


def first() -> date:
    """The first day of every store."""
    from storage import FIRST

    return FIRST


def stored(folder: Path, days: int, rows: int) -> Path:
    """A store of so many days."""
    from rangebar_polars.storage.parquet import TickStorage
    from storage import FIRST, SYMBOL, day_ticks

    storage = TickStorage(folder)
    for number in range(days):
        day = FIRST + timedelta(days=number)
        storage.put_days(SYMBOL, [day_ticks(day, rows, 10**9 + number * rows)])
    return folder


def populated(bench: Bench, thresholds: tuple[int, ...]) -> int:
    """Bars of a population of this process, into an empty cache."""
    from rangebar_polars.populate.populate import populate_cache_resumable
    from storage import SYMBOL

    report = populate_cache_resumable(
        SYMBOL,
        first(),
        bench.last,
        threshold_decimal_bps=list(thresholds),
        cache_dir=bench.ticks,
        dsn=bench.cache(),
        verbose=False,
    )
    assert int(report)
    return int(report)


def scanned(bench: Bench, thresholds: tuple[int, ...]) -> None:
    """The same bars from scans, kept nowhere."""
    from rangebar_polars.storage.parquet import TickStorage
    from storage import SYMBOL

    for threshold in thresholds:
        ticks = TickStorage(bench.ticks).scan_ticks(SYMBOL, first(), bench.last)
        options = {"features": "microstructure", "incomplete": "keep"}
        ticks.rangebar.bars(threshold, **options).collect()


def speed(bench: Bench, thresholds: tuple[int, ...] = (250,)) -> str:
    """A population into the embedded cache against a scan."""
    return bench.speed(lambda: populated(bench, thresholds), lambda: scanned(bench, thresholds))


def stage(bench: Bench, executor: Executor, *, days: int | None = None, reset: str = "day") -> None:
    """Have all days computed and staged in an executor; the driver throws the bars away."""
    from rangebar_polars._utils.span import parse_span
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.segments import parts
    from rangebar_polars.populate.plan import Job, SeriesJob
    from rangebar_polars.populate.workers.executors import run_jobs
    from storage import SYMBOL

    spec = BarSpec.of(SYMBOL, 250, reset=reset)
    last = bench.last if days is None else first() + timedelta(days=days - 1)
    address = bench.cache()
    jobs = [
        Job(
            SYMBOL, "binance", "spot", reset, segment.start, span.first_day, span.last_day,
            (SeriesJob(spec.series(span.start), span.first_day, 0, None, 0, 0),),
            str(bench.ticks), address, 0,
        )
        for segment, span in parts(parse_span(first(), last), reset)
    ]  # fmt: skip
    for one in run_jobs(jobs, executor, lambda _: None):
        if one.error is not None:
            raise one.error


def staging(bench: Bench) -> str:
    """A worker that stages, against a scan."""
    with ThreadPoolExecutor(1) as executor:
        return bench.speed(
            lambda: stage(bench, executor, reset="year"), lambda: scanned(bench, (250,))
        )


def workers(bench: Bench) -> str:
    """Two workers against one, a segment a day."""
    one, two = bench.pools
    clock = bench.speed(lambda: stage(bench, two), lambda: stage(bench, one))
    costs = []
    for pool, count in ((one, 1), (two, 2)):
        before = used(pool, count)
        stage(bench, pool)
        after = used(pool, count)
        costs.append(max(after[process] - before[process] for process in after))
    return f"{clock}; the busier of two: {costs[1] / costs[0]:.2f} of the one's CPU"


def used(pool: Executor, count: int) -> dict[int, float]:
    """CPU seconds of each process of a pool; all of them answer, as none answers at once."""
    answers: dict[int, float] = {}
    while len(answers) < count:
        asked = [pool.submit(cpu) for _ in range(2 * count)]
        answers |= dict(one.result() for one in asked)
    return answers


def cpu() -> tuple[int, float]:
    """This process and its CPU seconds."""
    time.sleep(0.1)
    return os.getpid(), time.process_time()


def memory(bench: Bench) -> str:
    """Peak of a process that populates a quarter of many days, and all of them."""
    folder = stored(bench.folder / "many", bench.long_days, 2_000_000)
    quarter, whole = (peak(folder, days) for days in (bench.long_days // 4, bench.long_days))
    ticks = 2 * bench.long_days
    return (
        f"{whole['peak'] / 1e6:.0f} MB over {ticks} M ticks, {quarter['peak'] / 1e6:.0f} over "
        f"{ticks // 4} M ({whole['imported'] / 1e6:.0f} after the engine's start), "
        f"{whole['bars']:,} bars"
    )


def peak(folder: Path, days: int) -> dict[str, int]:
    """The least peak of some processes."""
    # A new process begins at the peak of the one that starts it, so a small one stands between.
    start = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = [sys.executable, "-c", start, sys.executable, "-P", __file__, MEASURED]
    runs = [
        json.loads(
            subprocess.run(
                [*command, str(folder), str(days)], check=True, stdout=subprocess.PIPE
            ).stdout
        )
        for _ in range(2)
    ]
    return min(runs, key=lambda run: run["peak"])


def measured(folder: str, days: str) -> None:
    """Populates in this process."""
    import rangebar_polars as rb  # noqa: F401
    from rangebar_polars.clickhouse.open import open_cache

    bench = Bench(Path(folder), int(days), 0, 0, 0)
    bench.__dict__["ticks"] = Path(folder)
    with open_cache(bench.cache(), write=True):
        pass
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    bars = populated(bench, THRESHOLDS)
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS
    print(json.dumps({"peak": now, "imported": imported, "bars": bars}))


ROWS = {
    "speed": ("populate, against bars of a scan", "≥ 0.7", speed),
    "thresholds": (
        "the same at four thresholds, against four scans",
        "≥ 0.7",
        lambda bench: speed(bench, THRESHOLDS),
    ),
    "staging": ("a worker that stages, against bars of a scan", "≥ 0.7", staging),
    "workers": ("two workers that stage, against one", "≥ 1.7", workers),
    "memory": ("a population at four thresholds, peak", "≤ 1 GB, flat", memory),
}


def main() -> int:
    """Measures what was asked for."""
    from timing import require_release

    require_release()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of a day")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-days", type=int, default=20, help="of 2 M rows, for the memory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.home() / ".cache") as folder, ExitStack() as held:
        bench = Bench(Path(folder), given.days, given.rows, given.rounds, given.long_days, held)
        for name in given.only or ROWS:
            work, goal, measure = ROWS[name]
            print(f"{work}: {measure(bench)}; {goal}", flush=True)
    return 0


if __name__ == "__main__":
    if os.environ.get("POLARS_MAX_THREADS") != "1":
        # Polars reads it when it is imported.
        os.environ |= {"POLARS_MAX_THREADS": "1", "RANGEBAR_SYMBOL_GATE": "off"}
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if MEASURED in sys.argv:
        measured(*sys.argv[2:])
    else:
        sys.exit(main())
