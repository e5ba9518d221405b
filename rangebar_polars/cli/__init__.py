"""The command `rangebar`: data to stdout or a file, words to stderr.

It ends with 2 for a wrong call, with 1 for data that are wrong or missing.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import __version__
from rangebar_polars.cli import bars, cache, populate, symbols, ticks
from rangebar_polars.cli._words import UsageError, fail, said_warnings, words_of
from rangebar_polars.events import flush_hooks
from rangebar_polars.exceptions import (
    RangeBarError,
    SettingError,
    SymbolNotRegisteredError,
    ThresholdError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = 2
WRONG_DATA = 1
INTERRUPTED = 130  # as shells report an end by SIGINT
PIPE_CLOSED = 141  # and by SIGPIPE
LAST_EVENTS_SECONDS = 1.0

EXAMPLES = """\
examples:
  rangebar bars BTCUSDT 2024-01-01 2024-01-31 --out bars.parquet
  rangebar populate BTCUSDT --start 2023-01-01     a long history, kept; goes on where it was stopped
  rangebar cache update                            what is kept goes on to the newest day
  rangebar bars 'BTCUSDT-aggTrades-*.zip' --threshold 250
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Examples
    --------
    >>> from rangebar_polars.cli import main
    >>> main(["bars", "missing.csv"])
    1
    """
    arguments = parser().parse_args(argv)
    let_interrupts_end_waits()
    try:
        with said_warnings():
            status: int = arguments.run(arguments) or 0
    except (UsageError, SettingError, SymbolNotRegisteredError, ThresholdError) as error:
        return fail(words_of(error), USAGE)
    except BrokenPipeError:
        return fail("", PIPE_CLOSED)
    except KeyboardInterrupt:
        return interrupted(is_command=argv is None)
    except (RangeBarError, pl.exceptions.PolarsError, OSError, TypeError, ValueError) as error:
        return fail(words_of(error), WRONG_DATA)
    return status


def let_interrupts_end_waits() -> None:
    """Let SIGINT end a wait for a thread or a lock.

    Polars handles SIGINT such that the system takes up a wait again, and Python is not asked.
    """
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, True)  # noqa: FBT003


def interrupted(*, is_command: bool) -> int:
    """Say so; end the process of the command even if a thread of it still waits for a server."""
    status = fail("interrupted", INTERRUPTED)
    if is_command and threading.active_count() > 1:
        flush_hooks(LAST_EVENTS_SECONDS)
        os._exit(status)
    return status


def parser() -> argparse.ArgumentParser:
    """Parser of the whole command."""
    command = argparse.ArgumentParser(
        prog="rangebar",
        description="Exact range bars, and the ticks to make them of.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=f"rangebar-polars {__version__}")
    verbs = command.add_subparsers(required=True, metavar="COMMAND")
    for group in (bars, populate, cache, ticks, symbols):
        group.add_parser(verbs)
    return command
