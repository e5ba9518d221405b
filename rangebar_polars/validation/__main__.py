"""Validation of a file of bars: `python -m rangebar_polars.validation bars.parquet`.

The exit status is 0 if every check passes, 1 if one fails, and 2 if the arguments or the file
cannot be used, a library is not installed, or the results cannot be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._text import printable
from rangebar_polars._utils.terminal import positive_count, write_stderr, write_stdout
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.validation._bar_file import read_bars
from rangebar_polars.validation._counted import check_count, check_count_api
from rangebar_polars.validation.tier1 import validate_tier1
from rangebar_polars.validation.tier2 import validate_tier2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

_FAILED, _USAGE = 1, 2
_EXAMPLES = """\
examples:
  python -m rangebar_polars.validation bars.parquet --tier 1
  python -m rangebar_polars.validation bars.parquet --target my_return --features ofi,duration_us
  python -m rangebar_polars.validation bars.csv --n-bars 10000 --format json
  python -m rangebar_polars.validation --api

exit status: 0 every check passes, 1 a check fails, 2 the checks cannot run
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks, print their results and return the exit status.

    Examples
    --------
    >>> from rangebar_polars.validation.__main__ import main
    >>> main(["--api"])  # doctest: +ELLIPSIS
    api: count check passed
    ...
    passed: api
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        results = dict(_checks(arguments))
    except (RangeBarError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        return _cannot(error)
    failed = [name for name, (has_passed, _) in results.items() if not has_passed]
    if arguments.format == "json":
        findings: dict[str, Any] = {name: result for name, (_, result) in results.items()}
        file = None if arguments.file is None else str(arguments.file)
        text = json.dumps({"file": file, "passed": not failed, **findings}, indent=2)
    else:
        parts = [f"{name}: {result!r}" for name, (_, result) in results.items()]
        verdict = f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(results)}"
        text = "\n\n".join([*parts, verdict])
    try:
        write_stdout(printable(f"{text}\n"))
    except BrokenPipeError:
        pass  # the reader has seen enough
    except OSError as error:
        return _cannot(error)
    return _FAILED if failed else 0


def _cannot(error: Exception) -> int:
    """Write why there is no result to stderr, and return the exit status."""
    write_stderr(printable(f"validation: {error}\n"))
    return _USAGE


def _checks(arguments: argparse.Namespace) -> Iterator[tuple[str, tuple[bool, dict[str, Any]]]]:
    """Yield the name, the verdict and the result of each check."""
    if arguments.file is None and not arguments.api:
        raise ValueError(with_hint("there is nothing to check", "give a FILE, or --api"))
    if arguments.file is not None:
        bars = read_bars(arguments.file)
        if arguments.n_bars is not None:
            counted = check_count(bars, arguments.n_bars)
            yield "count", (counted["passed"], counted)
        first = validate_tier1(bars)
        yield "tier1", (first["tier1_passed"], first)
        if arguments.tier > 1:
            second = validate_tier2(
                bars, arguments.target, features=arguments.features, max_rows=arguments.max_rows
            )
            yield "tier2", (second["tier2_passed"], second)
    if arguments.api:
        counted = check_count_api()
        yield "api", (counted["passed"], counted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rangebar_polars.validation",
        description="Validate a file of bars.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="bars as Parquet or CSV")
    add(
        "--tier",
        type=int,
        choices=(1, 2),
        default=2,
        help="1: values; 2: also statistics (default)",
    )
    add("--target", default="forward_return", metavar="COLUMN", help="what tier 2 predicts")
    add("--features", type=_names, metavar="A,B", help="columns that tier 2 tests (default: all)")
    add(
        "--max-rows",
        type=positive_count,
        default=100_000,
        metavar="N",
        help="newest bars for tier 2",
    )
    add(
        "--n-bars",
        type=positive_count,
        metavar="N",
        help="check that the file holds exactly N bars",
    )
    add("--api", action="store_true", help="check get_n_range_bars on sample ticks")
    add("--format", choices=("text", "json"), default="text", help="how to print the results")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("name at least one column")
    return names


if __name__ == "__main__":
    sys.exit(main())
