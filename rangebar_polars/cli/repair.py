"""The command `rangebar repair`: find what is wrong with the store and the cache, and repair it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from rangebar_polars.cli._arguments import INCOMPLETE, add_cache_arguments, symbol_of
from rangebar_polars.cli._output import emit, fail

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.kintsugi import KintsugiReport

__all__ = ["add_parser"]

REPAIR_HELP = """\
Find what is missing, stale, damaged or different in the tick store and the bar cache, and repair it.

A line for each task goes to stdout. The exit status is 0 if nothing is left to do, and 1 if a task
is open or something could not be looked at.
"""
REPAIR_EXAMPLES = """\
examples:
  rangebar repair --dry-run             what is wrong, without a change
  rangebar repair BTCUSDT               repair one symbol
  rangebar repair --daemon              again and again, until a signal
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    repair = verbs.add_parser(
        "repair",
        help="find and repair what is wrong with ticks and bars",
        description=REPAIR_HELP,
        epilog=REPAIR_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    repair.add_argument("symbols", nargs="*", metavar="SYMBOL", help="only these (default: all)")
    repair.add_argument("--dry-run", action="store_true", help="only find; write nothing")
    repair.add_argument(
        "--max-p2-jobs",
        type=int,
        default=1,
        metavar="N",
        help="most long holes to fill (default: 1)",
    )
    repair.add_argument(
        "--max-days",
        type=int,
        default=400,
        metavar="N",
        help="tasks that can wait begin while fewer days were computed (default: 400)",
    )
    repair.add_argument(
        "--deadline", type=float, metavar="S", help="seconds after which only urgent tasks begin"
    )
    repair.add_argument("--daemon", action="store_true", help="run again and again, until a signal")
    repair.add_argument("--json", action="store_true", help="write JSON")
    repair.add_argument("--source", metavar="S", help="only this source (default: all)")
    repair.add_argument("--market", metavar="M", help="only this market (default: all)")
    add_cache_arguments(repair)
    repair.set_defaults(run=run_repair)


def run_repair(arguments: argparse.Namespace) -> int:
    """Run `rangebar repair`; return 0 if nothing is left to do."""
    from rangebar_polars.kintsugi import kintsugi_daemon, kintsugi_pass

    symbols = [symbol_of(name) for name in arguments.symbols] or None
    options = {
        "symbol": symbols,
        "max_p2_jobs": arguments.max_p2_jobs,
        "max_days": arguments.max_days,
        "deadline_s": arguments.deadline,
        "source": arguments.source,
        "market": arguments.market,
        "cache_dir": arguments.cache_dir,
        "dsn": arguments.dsn,
    }
    if arguments.daemon and arguments.dry_run:
        return fail("a daemon repairs; write --dry-run without --daemon", status=2)

    def show(report: KintsugiReport) -> None:
        emit(
            (json.dumps(report.to_dict(), ensure_ascii=False) if arguments.json else str(report))
            + "\n"
        )
        if sys.stdout is not None:
            sys.stdout.flush()

    try:
        if arguments.daemon:
            kintsugi_daemon(**options, on_report=show)
            return 0
        report = kintsugi_pass(dry_run=arguments.dry_run, **options)
    except ValueError as error:
        return fail(str(error), status=2)
    show(report)
    return 0 if report.status in ("clean", "healed") else INCOMPLETE
