"""The command `rangebar doctor`."""

from __future__ import annotations

import argparse
import json
import math
import warnings
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text, either
from rangebar_polars.cli._arguments import INCOMPLETE, add_cache_arguments, cache_arguments
from rangebar_polars.cli._output import emit, fail
from rangebar_polars.exceptions import UnknownVariableWarning, nearest
from rangebar_polars.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.maintenance.doctor import Finding

__all__ = ["add_doctor"]

DOCTOR_HELP = """\
Check versions, extras, settings, folders, tick store, bar cache and the addresses of the sources.

Nothing is changed. Every check has a time limit, even without a network. The exit status is 1 if
there is a problem; notes do not count.
"""
DOCTOR_EXAMPLES = """\
examples:
  rangebar doctor
  rangebar doctor --offline                        without the addresses of the sources
  rangebar doctor --quiet --source binance         for cron: prints problems only
  rangebar doctor --format json
"""
LONGEST_TIMEOUT_S = 600.0


def add_doctor(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    doctor = verbs.add_parser(
        "doctor",
        help="check the installation, the folders, the caches and the network",
        description=DOCTOR_HELP,
        epilog=DOCTOR_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("--offline", action="store_true", help="do not check the addresses")
    doctor.add_argument(
        "--source",
        dest="checked_sources",
        action="extend",
        type=_sources,
        metavar="NAME",
        help=f"check the addresses of {either(SOURCES)} only; may be repeated (default: all)",
    )
    doctor.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="how many seconds to wait for an address (default: 5)",
    )
    doctor.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to write it (default: text)"
    )
    doctor.add_argument("--quiet", action="store_true", help="print only problems")
    add_cache_arguments(doctor)
    doctor.set_defaults(run=run_doctor)


def _sources(text: str) -> list[str]:
    """Parse names of sources separated by commas."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in SOURCES:
            near = nearest(name, SOURCES)
            meant = f"; did you mean `{near}`?" if near else ""
            raise argparse.ArgumentTypeError(f"`{name}` is not {either(SOURCES)}{meant}")
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds above 0, at most {LONGEST_TIMEOUT_S:g}; it is `{text}`"
        )
    return seconds


def run_doctor(arguments: argparse.Namespace) -> int:
    """Run `rangebar doctor`; return 1 if there is a problem."""
    from rangebar_polars.maintenance.doctor import examine

    # The list has them.
    warnings.simplefilter("ignore", UnknownVariableWarning)
    found = examine(
        sources=arguments.checked_sources,
        offline=arguments.offline,
        timeout_s=arguments.timeout,
        **cache_arguments(arguments),
    )
    problems = [one for one in found if one.state == "problem"]
    shown = problems if arguments.quiet else found
    if arguments.format == "json" and (problems or not arguments.quiet):
        emit(_json(shown, len(problems)))
    elif shown:
        emit("\n".join(_lines(shown)) + "\n")
    if not problems:
        return 0
    return fail(count_text(len(problems), "problem"), INCOMPLETE)


def _json(found: Sequence[Finding], problems: int) -> str:
    rows = [asdict(one) for one in found]
    return json.dumps({"problems": problems, "findings": rows}, indent=2, ensure_ascii=False) + "\n"


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each finding, below the heading of its area."""
    width = max(len(one.name) for one in found)
    for area, group in groupby(found, key=lambda one: one.area):
        yield area
        for one in group:
            yield f"  {one.state:<7}  {one.name:<{width}}  {one.text}"
            if one.hint:
                yield f"  {'':<7}  {'':<{width}}  hint: {one.hint}"
