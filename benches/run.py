"""Benchmarks through the entry points of the package: every figure is a ratio taken in one run.

    python benches/run.py                                    all rows
    python benches/run.py --only reading --only parquet      some of them
    python benches/run.py --full                             with 100 million rows from Parquet

Two sides of a ratio are timed in turn, so that both meet the same moments of the machine. Ratios
are by the clock; the same by processor time stands beside them. Other libraries take part where
their interpreter is named: RANGEBAR_PEER_PYTHON (rangebar 12.39.0, or opendeviationbar 13.75.1) and
RANGEBAR_FINMLKIT_PYTHON (finmlkit 0.1.11). RANGEBAR_BEFORE_PYTHON has a build of this package from
before the features. Timing never decides the exit code; a debug build does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = 10_000_000
FEWEST_ROWS = 10_000
WIDTHS = (37, 8, 15, 8, 9, 9, 21)
HEAD = ("work", "figure", "range", "by CPU", "at least", "aim", "")


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows in memory (%(default)s)")
    parser.add_argument("--only", action="append", metavar="NAME", help="a row of the table")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of samples (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all samples there")
    parser.add_argument("--full", action="store_true", help="ten times the rows, from Parquet")
    parser.add_argument("--list", action="store_true", help="names of the rows")
    given = parser.parse_args()
    if given.rows < FEWEST_ROWS or given.rounds < 1:
        parser.error(f"at least {FEWEST_ROWS:,} rows and one round")
    return given


def processor() -> str:
    """The model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def machine() -> dict[str, object]:
    """What the figures depend on."""
    import polars as pl

    import rangebar_polars as rb
    from rangebar_polars import _internal

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": _internal.instruction_set(),
        "threads": pl.thread_pool_size(),
        "polars": pl.__version__,
        "rangebar-polars": rb.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def line(*cells: str) -> str:
    """A line of the table."""
    first, *others = (cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False))
    return "  ".join([first, *others, *cells[len(WIDTHS) :]]).rstrip()


def number(value: float | None, unit: str = "") -> str:
    """A number with three digits that matter, or a few more."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit}"


def show(work: str, goal, result) -> None:
    """Prints the line of a result."""
    spread = f"{number(result.low)} … {number(result.high)}" if result.low < result.high else ""
    bounds = [f"{goal.sign} {bound:g}" if bound else "" for bound in (goal.least, goal.aim)]
    print(
        line(
            *(work, number(result.value, goal.unit), spread, number(result.by_cpu)),
            *(*bounds, goal.reached(result.value), "; ".join(result.notes)),
        ),
        flush=True,
    )


def measure(cases, bench) -> list[dict[str, object]]:
    """Measures and prints row by row; returns all of it."""
    from peer import SkippedError

    rows = []
    for case in cases:
        work = case.work.format_map(bench.sizes)
        try:
            result = case.measure(bench)
        except SkippedError as reason:
            print(line(work, "skipped", f"{reason}"), flush=True)
            rows.append({"name": case.name, "skipped": str(reason)})
            continue
        show(work, case.goal, result)
        reached = case.goal.reached(result.value)
        rows.append({"name": case.name, "work": work, **asdict(result), "reached": reached})
    return rows


def main() -> int:
    """Runs what was asked for."""
    given = arguments()
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
    from bench import Bench
    from cases import CASES
    from timing import require_release

    require_release()

    names = [case.name for case in CASES]
    unknown = set(given.only or ()) - set(names)
    if given.list:
        print(*names, sep="\n")
        return 0
    if unknown:
        print(f"no row {', '.join(unknown)}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    about = machine()
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    print(f"{given.rows:,} rows, {given.rounds} rounds\n")
    print(line(*HEAD), flush=True)
    bench = Bench(given.rows, given.rounds, given.full)
    try:
        rows = measure([c for c in CASES if not given.only or c.name in given.only], bench)
    finally:
        bench.close()
    if given.json:
        report = {"machine": about, "rows": given.rows, "rounds": given.rounds, "figures": rows}
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
