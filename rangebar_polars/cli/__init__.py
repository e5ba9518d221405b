"""The command `rangebar`: data to stdout or a file, words to stderr.

It ends with 2 for a wrong call, with 1 for data that are wrong or missing.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import __version__
from rangebar_polars.cli import bars, symbols, ticks
from rangebar_polars.cli._words import UsageError, fail, said_warnings
from rangebar_polars.exceptions import RangeBarError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = 2
WRONG_DATA = 1
INTERRUPTED = 130  # as shells report an end by SIGINT
PIPE_CLOSED = 141  # and by SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Examples
    --------
    >>> from rangebar_polars.cli import main
    >>> main(["bars", "missing.csv"])
    1
    """
    arguments = parser().parse_args(argv)
    try:
        with said_warnings():
            status: int = arguments.run(arguments) or 0
    except UsageError as error:
        return fail(str(error), USAGE)
    except BrokenPipeError:
        return fail("", PIPE_CLOSED)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except (RangeBarError, pl.exceptions.PolarsError, OSError, TypeError, ValueError) as error:
        return fail(str(error), WRONG_DATA)
    return status


def parser() -> argparse.ArgumentParser:
    """Parser of the whole command."""
    command = argparse.ArgumentParser(prog="rangebar", description="Exact range bars.")
    command.add_argument("--version", action="version", version=f"rangebar-polars {__version__}")
    verbs = command.add_subparsers(required=True, metavar="COMMAND")
    for group in (bars, ticks, symbols):
        group.add_parser(verbs)
    return command
