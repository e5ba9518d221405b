"""Frames to a text stream, one JSON object a bar on a line of its own."""

from __future__ import annotations

import io
import json
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, TextIO

import polars as pl
import polars.selectors as cs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AbortedError", "NdjsonReceiver", "StreamClosedError", "json_lines"]

#: So many bytes go into a pipe without blocking once it says that it takes some.
_PIPE_BYTES = getattr(select, "PIPE_BUF", 512)
#: So many bytes go into a file at a time.
_FILE_BYTES = 65_536
#: How often a blocked write looks whether it is to end.
_LOOK_MS = 100
_TIME = "%Y-%m-%dT%H:%M:%S%.6fZ"


class StreamClosedError(Exception):
    """Raised when nobody reads a stream any more."""


class AbortedError(Exception):
    """Raised when a write was given up."""


def json_lines(frame: pl.DataFrame) -> list[str]:
    """Return each row of a frame as a JSON object, without line breaks.

    Times are ISO 8601 in UTC with 6 digits, numbers the shortest that give the same value, and values
    that JSON does not have are null.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.live.consumers.ndjson import json_lines
    >>> json_lines(pl.DataFrame({"close": [0.1, float("nan")], "is_replay": [False, True]}))
    ['{"close":0.1,"is_replay":false}', '{"close":null,"is_replay":true}']
    """
    floats = cs.float()
    plain = frame.with_columns(
        cs.datetime().dt.convert_time_zone("UTC").dt.strftime(_TIME),
        pl.when(floats.is_finite()).then(floats),
        cs.enum().cast(pl.String),
    )
    encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
    return [encode(row) for row in plain.iter_rows(named=True)]


class NdjsonReceiver:
    """Writes bars to a text stream.

    Parameters
    ----------
    stream
        The stream. Files and pipes are written without its buffer, so that a write that fails or ends
        in the middle of a line is continued there.
    """

    kind = "ndjson"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_plain = _is_plain(stream)
        self._is_aborted = False
        #: The rest of a line that was begun, and the line.
        self._half: bytes = b""
        self._begun: bytes = b""

    def deliver(self, frame: pl.DataFrame, delivered: Callable[[int], None]) -> None:
        """Write the lines of a frame and flush them; pass on how many of them are written.

        Raises
        ------
        StreamClosedError
            Nobody reads the stream any more.
        AbortedError
            `abort` was called.
        OSError
            The disk is full, for example. What `delivered` was told is written.
        """
        lines = json_lines(frame)
        try:
            if self._is_plain:
                self._write_plain([line.encode("ascii") + b"\n" for line in lines], delivered)
            else:
                self._stream.write("\n".join((*lines, "")))
                self._stream.flush()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise StreamClosedError(str(error)) from error
        except ValueError as error:
            if getattr(self._stream, "closed", False):
                raise StreamClosedError("the stream is closed") from error
            raise

    def abort(self) -> None:
        """Give up a write that is blocked."""
        self._is_aborted = True

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""

    def _write_plain(self, lines: list[bytes], delivered: Callable[[int], None]) -> None:
        self._stream.flush()
        file = self._stream.fileno()
        if self._half:
            # The stream has the beginning of this line, which must come to its end.
            is_first = bool(lines) and lines[0] == self._begun
            while self._half:
                self._half = self._half[self._write_some(file, self._half) :]
            if is_first:
                lines = lines[1:]
                delivered(1)
        # Only a pipe or a terminal blocks.
        most = _FILE_BYTES if stat.S_ISREG(os.fstat(file).st_mode) else _PIPE_BYTES
        row, offset = 0, 0
        while row < len(lines):
            sent = self._write_some(file, _part(lines, row, offset, most))
            first = row
            while row < len(lines) and sent >= len(lines[row]) - offset:
                sent -= len(lines[row]) - offset
                row, offset = row + 1, 0
            offset += sent
            if offset:
                self._begun, self._half = lines[row], lines[row][offset:]
            else:
                self._half = b""
            if first < row < len(lines):
                delivered(row - first)

    def _write_some(self, file: int, data: bytes) -> int:
        """Write some bytes, as soon as the stream takes them."""
        while not _is_writable(file):
            if self._is_aborted:
                raise AbortedError
        try:
            return os.write(file, data)
        except BlockingIOError:  # another program has taken the room
            return 0


def _part(lines: list[bytes], row: int, offset: int, most: int) -> bytes:
    """Return whole lines from a place on, as far as they fit; a longer line in parts.

    A process that is killed between two writes then leaves no half line.
    """
    data = lines[row][offset:]
    while row + 1 < len(lines) and len(data) + len(lines[row + 1]) <= most:
        row += 1
        data += lines[row]
    return data[:most]


def _is_writable(file: int) -> bool:
    """Wait a moment until a file takes bytes, or nobody reads it; return whether that is so."""
    if sys.platform == "darwin":  # where `poll` does not know devices
        return bool(select.select([], [file], [], _LOOK_MS / 1_000)[1])
    poller = select.poll()
    poller.register(file, select.POLLOUT)
    return bool(poller.poll(_LOOK_MS))


def _is_plain(stream: TextIO) -> bool:
    """Return whether the bytes of a stream go to its file as they are."""
    if not isinstance(stream, io.TextIOWrapper):
        return False
    buffer = stream.buffer
    raw = getattr(buffer, "raw", buffer)
    return isinstance(raw, io.FileIO)
