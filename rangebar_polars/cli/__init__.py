"""The command `rangebar`: data and reports go to stdout or a file, messages to stderr.

The exit status is 2 for a usage error, and 1 for invalid or missing data.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import traceback
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import __version__
from rangebar_polars._text import shown
from rangebar_polars.cli import bars, cache, health, live, populate, repair, symbols, ticks
from rangebar_polars.cli._arguments import check_source
from rangebar_polars.cli._output import (
    UsageError,
    error_text,
    fail,
    hold_messages,
    log_to_stderr,
    release_messages,
    warnings_to_stderr,
)
from rangebar_polars.cli._parser import CommandParser
from rangebar_polars.events import flush_hooks
from rangebar_polars.exceptions import (
    RangeBarError,
    SettingError,
    SymbolNotRegisteredError,
    ThresholdError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["main"]

USAGE = 2
DATA_ERROR = 1
INTERRUPTED = 130  # the status that shells report after SIGINT
PIPE_CLOSED = 141  # and after SIGPIPE
LAST_EVENTS_SECONDS = 1.0

USAGE_ERRORS = (UsageError, SettingError, SymbolNotRegisteredError, ThresholdError)
USER_ERRORS = (RangeBarError, pl.exceptions.PolarsError, OSError, TypeError, ValueError)

EXAMPLES = """\
examples:
  rangebar bars BTCUSDT 2024-01-01 2024-01-31 --out bars.parquet
  rangebar populate BTCUSDT --start 2023-01-01     cache a long history; resumes if interrupted
  rangebar cache update                            extend cached bars to the newest day
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
    ending = Ending(is_command=argv is None)
    with ending, warnings_to_stderr(), log_to_stderr():
        arguments = parser().parse_args(argv)
        let_interrupts_end_waits()
        if getattr(arguments, "quiet", False):
            hold_messages()
        check_source(arguments)
        ending.status = arguments.run(arguments) or 0
    return ending.status


class Ending(AbstractContextManager["Ending"]):
    """Turns any exception of a command into a message on stderr and an exit status.

    A traceback is never shown, whatever the class: parsers and libraries may raise classes of
    their own on unexpected data.
    """

    def __init__(self, *, is_command: bool) -> None:
        self.status = 0
        self._is_command = is_command

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        release_messages(shown=error is not None or self.status != 0)
        if error is None or isinstance(error, SystemExit):
            return False
        self.status = self._status_of(error)
        return True

    def _status_of(self, error: BaseException) -> int:
        if isinstance(error, USAGE_ERRORS):
            return fail(error_text(error), USAGE)
        if isinstance(error, BrokenPipeError):
            return fail("", PIPE_CLOSED)
        if isinstance(error, KeyboardInterrupt):
            return interrupted(is_command=self._is_command)
        if isinstance(error, USER_ERRORS) and str(error):
            return fail(error_text(error), DATA_ERROR)
        return fail(unexpected(error), DATA_ERROR)


def unexpected(error: BaseException) -> str:
    """Describe an unexpected error, with the line of this package that raised it."""
    origin = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("rangebar_polars"):
            origin = f" in {module}, line {line}"
    text = f": {shown(error, 500)}" if str(error) else ""
    hint = "check the data and the arguments; if they are valid, report this as a bug"
    return with_hint(f"unexpected error {type(error).__name__}{text}{origin}", hint)


def let_interrupts_end_waits() -> None:
    """Let SIGINT interrupt a wait for a thread or a lock.

    Polars installs a handler after which the system resumes the wait, so that Python never runs.
    """
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, True)  # noqa: FBT003


def interrupted(*, is_command: bool) -> int:
    """Report the interruption; exit even if a thread still waits for a server."""
    status = fail("interrupted", INTERRUPTED)
    if is_command and threading.active_count() > 1:
        flush_hooks(LAST_EVENTS_SECONDS)
        os._exit(status)
    return status


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command."""
    command = CommandParser(
        prog="rangebar",
        description="Build exact range bars, and manage the ticks behind them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--version", action="version", version=f"rangebar-polars {__version__}")
    verbs = command.add_subparsers(required=True, metavar="COMMAND")
    for group in (bars, populate, cache, ticks, repair, symbols, live, health):
        group.add_parser(verbs)
    return command
