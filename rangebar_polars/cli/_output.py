"""Output of the commands: messages to stderr, data to stdout or a file."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

import polars as pl

from rangebar_polars._text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    #: Where a command adds its parser.
    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

__all__ = [
    "UsageError",
    "emit",
    "emit_frame",
    "error_text",
    "fail",
    "say",
    "text_table",
    "warnings_to_stderr",
    "whole_file",
]

TABLE_ROWS = 20
WIDEST_TABLE = 1000  # one line per row; the terminal may wrap it


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
        emit(frame.write_csv())


def emit(text: str) -> None:
    """Write data to stdout."""
    if sys.stdout is None:
        raise OSError("standard output is closed; write to a file with --out")
    try:
        _write(text)
    except OSError:
        # Otherwise the interpreter writes again at exit, and reports that it failed.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Show warnings as messages on stderr, without the source line that raised them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {_in_shell(message)}")
        yield


def say(text: str) -> None:
    """Write a message to stderr. If that fails, the data are still written."""
    if sys.stderr is not None:  # with file=None, print would write to stdout, where the data go
        with suppress(OSError):
            print(_encodable(f"rangebar: {printable(text)}", sys.stderr), file=sys.stderr)


def _write(text: str) -> None:
    """Write to stdout, with `?` for characters that its encoding does not have."""
    sys.stdout.write(_encodable(text, sys.stdout))
    sys.stdout.flush()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def error_text(error: BaseException) -> str:
    """Return the message of an error together with its notes."""
    return "\n".join([_in_shell(error), *getattr(error, "__notes__", ())])


def _in_shell(message: BaseException | str) -> str:
    """Return the text of an error or a warning with commands where it names Python calls."""
    missing = getattr(message, "remedy", None)
    if missing is None:
        return str(message)
    from rangebar_polars.cli._remedies import shell_text

    return shell_text(str(message), missing)


def fail(text: str, status: int) -> int:
    """Write an error message to stderr, and return the exit status."""
    if text:
        say(text)
    return status
