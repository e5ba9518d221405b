"""Output of the commands: messages to stderr, data and reports to stdout or a file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import polars as pl

from rangebar_polars._text import printable
from rangebar_polars._utils.terminal import write_stderr, write_stdout
from rangebar_polars.exceptions import SourceError, split_hint, with_hint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    #: Where a command adds its parser.
    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = [
    "UsageError",
    "csv_text",
    "emit",
    "emit_frame",
    "error_text",
    "fail",
    "hold_messages",
    "log_to_stderr",
    "release_messages",
    "report",
    "say",
    "text_table",
    "warnings_to_stderr",
    "whole_file",
    "write_csv",
]

TABLE_ROWS = 20
#: Parts of the package that log a long wait.
WAITING = ("fetch", "clickhouse")
WIDEST_TABLE = 1000  # one line per row; the terminal may wrap it


class Held:
    """Messages of a command with `--quiet`, which are shown only if it fails."""

    messages: ClassVar[list[str] | None] = None


class UsageError(Exception):
    """Raised for arguments that a command cannot accept."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` once everything is written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def text_table(frame: pl.DataFrame, rows: int = TABLE_ROWS) -> str:
    """Format rows as lines for a terminal."""
    times = pl.selectors.datetime().dt.strftime("%Y-%m-%d %H:%M:%S")
    with pl.Config(
        tbl_rows=rows,
        tbl_cols=-1,
        tbl_formatting="NOTHING",
        tbl_cell_numeric_alignment="RIGHT",
        tbl_width_chars=WIDEST_TABLE,
        fmt_str_lengths=WIDEST_TABLE,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        return printable(str(frame.with_columns(times)))


def emit_frame(frame: pl.DataFrame) -> None:
    """Write a whole frame to stdout: a table for a terminal, CSV for a pipe or a file."""
    if sys.stdout is not None and sys.stdout.isatty():
        emit(text_table(frame, rows=-1) + "\n")
    else:
        emit(csv_text(frame))


def csv_text(frame: pl.DataFrame) -> str:
    """Return rows as CSV, with times in UTC as RFC 3339 writes them.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> from rangebar_polars.cli._output import csv_text
    >>> time = pl.Series([datetime(2024, 1, 1)]).dt.replace_time_zone("Asia/Tokyo")
    >>> print(csv_text(pl.DataFrame({"time": time})), end="")
    time
    2023-12-31T15:00:00.000000Z
    """
    return _in_utc(frame).write_csv(datetime_format=_time_format(frame))


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    """Write rows to a file, as `csv_text` writes them, without all of the text in memory."""
    _in_utc(frame).write_csv(path, datetime_format=_time_format(frame))


def _in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.selectors.datetime(time_zone="*").dt.convert_time_zone("UTC"))


def _time_format(frame: pl.DataFrame) -> str:
    units = {dtype.time_unit for dtype in frame.dtypes if isinstance(dtype, pl.Datetime)}
    return f"%Y-%m-%dT%H:%M:%S%.{9 if 'ns' in units else 6}fZ"


def emit(text: str) -> None:
    """Write data to stdout."""
    if sys.stdout is None:
        raise OSError("standard output is closed; write to a file with --out")
    write_stdout(text)


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Show warnings as messages on stderr, without the source line that raised them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {_in_shell(message)}")
        yield


class MessageHandler(logging.Handler):
    """Shows what the package logs, such as a long wait, as messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message of a record."""
        say(record.getMessage())


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Show what the package logs as messages on stderr."""
    handler = MessageHandler(logging.WARNING)
    loggers = [logging.getLogger(f"rangebar_polars.{name}") for name in WAITING]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def say(text: str) -> None:
    """Write a message to stderr. If that fails, the data are still written."""
    if Held.messages is not None:
        Held.messages.append(text)
    else:
        write_stderr(f"rangebar: {printable(text)}\n")


def report(text: object) -> None:
    """Write the report of a command that has no data to stdout.

    With `--quiet`, it is held back as a message, and shown on stderr if the command fails.
    """
    lines = str(text).splitlines()
    if Held.messages is not None:
        Held.messages += lines
    elif sys.stdout is not None:
        emit("".join(f"{printable(line)}\n" for line in lines))


def hold_messages() -> None:
    """Hold messages back until `release_messages`."""
    Held.messages = []


def release_messages(*, shown: bool) -> None:
    """Show the messages that were held back, or drop them."""
    held, Held.messages = Held.messages, None
    for text in held or () if shown else ():
        say(text)


def error_text(error: BaseException) -> str:
    """Return the message of an error together with its notes.

    What a source does not deliver is one paragraph, and begins with the symbol and the day.
    """
    notes = getattr(error, "__notes__", ())
    if not isinstance(error, SourceError):
        return "\n".join([_in_shell(error), *notes])
    sentence, hint = split_hint(_in_shell(error))
    day = "" if error.day is None or str(error.day) in error.symbol else str(error.day)
    what = " ".join(filter(None, (error.symbol, day)))
    stored = "".join(f". {note[0].upper()}{note[1:]}" for note in notes)
    text = f"{what}: {sentence}{stored}" if what else f"{sentence}{stored}"
    return with_hint(text, hint.replace("the same call", "the same command")) if hint else text


def _in_shell(message: BaseException | str) -> str:
    """Return the text of an error or a warning with commands where it names Python calls."""
    from rangebar_polars.cli._remedies import shell_text, with_options

    missing = getattr(message, "remedy", None)
    return with_options(str(message) if missing is None else shell_text(str(message), missing))


def fail(text: str, status: int) -> int:
    """Write an error message to stderr, and return the exit status."""
    if text:
        say(text)
    return status
