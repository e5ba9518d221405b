"""What every command shares: words to stderr, data to stdout or a file."""

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
    "fail",
    "said_warnings",
    "say",
    "text_table",
    "whole_file",
    "words_of",
]

TABLE_ROWS = 20
WIDEST_TABLE = 1000  # a row is one line, which the terminal may wrap


class UsageError(Exception):
    """A call that cannot be meant."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to that becomes `path` once all is written; never half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def text_table(frame: pl.DataFrame, rows: int = TABLE_ROWS) -> str:
    """The rows as lines, fit for a terminal."""
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
        raise OSError("standard output is closed; name a file with --out")
    try:
        _write(text)
    except OSError:
        # Else the interpreter tries once more at its end, and says that it failed.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise


@contextmanager
def said_warnings() -> Iterator[None]:
    """Warnings of this package as words on stderr, without the line of source code they come from."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {_in_shell(message)}")
        yield


def say(words: str) -> None:
    """Words for the user; the data does not depend on whether they can be said."""
    if sys.stderr is not None:  # print would take stdout, where the data go
        with suppress(OSError):
            print(_encodable(f"rangebar: {printable(words)}", sys.stderr), file=sys.stderr)


def _write(text: str) -> None:
    """Write to stdout; a sign that its encoding lacks is shown as `?`."""
    sys.stdout.write(_encodable(text, sys.stdout))
    sys.stdout.flush()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def words_of(error: BaseException) -> str:
    """What an error says, with the notes that were added to it."""
    return "\n".join([_in_shell(error), *getattr(error, "__notes__", ())])


def _in_shell(message: BaseException | str) -> str:
    """Return the text of an error or a warning with commands where it names Python calls."""
    missing = getattr(message, "remedy", None)
    if missing is None:
        return str(message)
    from rangebar_polars.cli._remedies import shell_text

    return shell_text(str(message), missing)


def fail(words: str, status: int) -> int:
    """Say what went wrong."""
    if words:
        say(words)
    return status
