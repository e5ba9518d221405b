"""The command `rangebar`: data to stdout or a file, words to stderr.

It ends with 2 for a wrong call, with 1 for data that are wrong or missing.
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
from rangebar_polars.cli import bars, cache, populate, symbols, ticks
from rangebar_polars.cli._output import UsageError, fail, said_warnings, words_of
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
WRONG_DATA = 1
INTERRUPTED = 130  # as shells report an end by SIGINT
PIPE_CLOSED = 141  # and by SIGPIPE
LAST_EVENTS_SECONDS = 1.0

WRONG_CALL = (UsageError, SettingError, SymbolNotRegisteredError, ThresholdError)
MEANT_FOR_USERS = (RangeBarError, pl.exceptions.PolarsError, OSError, TypeError, ValueError)

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
    ending = Ending(is_command=argv is None)
    with ending, said_warnings():
        arguments = parser().parse_args(argv)
        let_interrupts_end_waits()
        ending.status = arguments.run(arguments) or 0
    return ending.status


class Ending(AbstractContextManager["Ending"]):
    """The end of a command: whatever was raised becomes words on stderr and an exit status.

    No list of classes decides whether a traceback is shown, since any parser or library may raise
    a class of its own on data that nobody thought of.
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
        if error is None or isinstance(error, SystemExit):
            return False
        self.status = self._status_of(error)
        return True

    def _status_of(self, error: BaseException) -> int:
        if isinstance(error, WRONG_CALL):
            return fail(words_of(error), USAGE)
        if isinstance(error, BrokenPipeError):
            return fail("", PIPE_CLOSED)
        if isinstance(error, KeyboardInterrupt):
            return interrupted(is_command=self._is_command)
        if isinstance(error, MEANT_FOR_USERS) and str(error):
            return fail(words_of(error), WRONG_DATA)
        return fail(unexpected(error), WRONG_DATA)


def unexpected(error: BaseException) -> str:
    """Words for an error that nobody has put into words, with the place where it was raised."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("rangebar_polars"):
            place = f" in {module}, line {line}"
    told = f": {shown(error, 500)}" if str(error) else ""
    hint = "the data or the arguments may be damaged; if they are sound, report this as a bug"
    return with_hint(f"unexpected error {type(error).__name__}{told}{place}", hint)


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
