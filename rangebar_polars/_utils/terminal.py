"""Text on the standard streams, and counts on a command line."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rangebar_polars._text import shown

__all__ = ["positive_count", "write_stderr", "write_stdout"]


def write_stdout(text: str) -> None:
    """Write a text to stdout, with `?` for characters that its encoding does not have.

    Raises
    ------
    OSError
        The stream is closed, or does not take the text.

    Examples
    --------
    >>> from rangebar_polars._utils.terminal import write_stdout
    >>> write_stdout("250 bars" + chr(10))
    250 bars
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    try:
        sys.stdout.write(_encodable(text, sys.stdout))
        sys.stdout.flush()
    except OSError:
        # Otherwise the interpreter writes again at exit, and reports that it failed.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise


def write_stderr(text: str) -> None:
    """Write a message to stderr, where possible."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(_encodable(text, sys.stderr))
            sys.stderr.flush()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def positive_count(text: str) -> int:
    """Parse a number of at least 1, for the `type` of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        The text is not such a number.

    Examples
    --------
    >>> from rangebar_polars._utils.terminal import positive_count
    >>> positive_count("10_000")
    10000
    """
    try:
        count = int(text.replace("_", ""))
    except ValueError:
        count = 0
    if count < 1:
        sentence = f"must be a whole number of at least 1; it is `{shown(text)}`"
        raise argparse.ArgumentTypeError(sentence)
    return count
