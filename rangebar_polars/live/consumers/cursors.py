"""Cursors: how far consumers have come, in files that survive kills and losses of power.

A file holds the positions of one consumer in the series of one symbol. It is written aside, synced
and renamed, so it is always complete. A file that is damaged, or that belongs to something else, is an
error: without it, bars would be skipped or delivered again, and only the user knows which is better.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.atomic import (
    disk_errors,
    make_synced_folders,
    replace_synced,
    temporary_pid,
)
from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._text import shown
from rangebar_polars._utils.symbol_names import folder_name
from rangebar_polars.bar_series.identity import BarRules, BarSeries, BarSpec
from rangebar_polars.config import settings
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.live.consumers.positions import Position

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from rangebar_polars.sources import Venue

__all__ = ["Cursor", "CursorStore", "Mark", "boot_id", "check_consumer_name"]

_SCHEMA = 1
_FOLDER = ("live", "cursors")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_BOOT_NAME = b"kern.bootsessionuuid"


def check_consumer_name(name: object) -> str:
    """Return the name of a consumer, which is a part of a folder's name.

    Raises
    ------
    ValueError
        It is not one.

    Examples
    --------
    >>> from rangebar_polars.live.consumers.cursors import check_consumer_name
    >>> check_consumer_name("strategy-1")
    'strategy-1'
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    hint = 'use at most 64 letters, digits and `_-.`, as in consumer="strategy-1"'
    raise ValueError(with_hint(f"`consumer` must be a name, not `{shown(name)}`", hint))


@dataclass(frozen=True, slots=True)
class Mark:
    """The position of a consumer in the bars of a threshold."""

    position: Position
    #: Number of the last revision whose first bar was delivered with a mark.
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a consumer has come in the series of a symbol."""

    #: The applied id at which the symbol first became live for the consumer.
    live_id: int
    marks: tuple[Mark, ...]
    #: The run of the operating system that wrote it.
    boot: str = ""
    #: Whether the consumer had ended in order.
    is_closed: bool = False

    def mark(self, spec: BarSpec) -> Mark | None:
        """Return the mark of the series of a spec; None without one."""
        return next((one for one in self.marks if one.position.series.spec == spec), None)

    def with_marks(self, marks: Iterable[Mark]) -> Cursor:
        """Return the cursor with some marks replaced or added."""
        new = {one.position.series.spec: one for one in marks}
        old = {one.position.series.spec: one for one in self.marks}
        return replace(self, marks=tuple((old | new).values()))


class CursorStore:
    """The cursors of one consumer.

    Parameters
    ----------
    cache_dir
        The cache folder; None for that of the settings.
    consumer
        Name of the consumer.
    kind
        What receives the bars.
    venue
        Source and market of the symbols.

    Raises
    ------
    ValueError
        The name is not valid.
    """

    def __init__(
        self,
        cache_dir: Path | str | None,
        consumer: str,
        kind: Literal["callback", "ndjson"],
        venue: Venue,
        *,
        disk: Disk | None = None,
    ) -> None:
        self._root = Path(settings(cache_dir=cache_dir).cache_dir).absolute().joinpath(*_FOLDER)
        self._folder = self._root / f"{check_consumer_name(consumer)}.{kind}"
        self._owner = {"consumer": consumer, "kind": kind}
        self._venue = venue
        self._disk = Disk() if disk is None else disk

    def path(self, symbol: str) -> Path:
        """Return the path of the file of a symbol."""
        venue = self._venue
        names = map(folder_name, (venue.source, venue.market, symbol))
        return self._folder / f"{'.'.join(names)}.json"

    def load(self, symbol: str) -> Cursor | None:
        """Read the cursor of a symbol; None if there is none yet.

        Raises
        ------
        StorageError
            The file is damaged, belongs to another consumer or symbol, or cannot be read.
        """
        path = self.path(symbol)
        try:
            data = self._disk.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"the cursor `{path}` cannot be read: {reason}") from error
        try:
            return _decode(data, self._names(symbol), symbol, self._venue)
        except _UnusableError as error:
            hint = (
                "restore the file; or remove it, and the consumer receives the bars that end after "
                "the symbol is live"
            )
            raise StorageError(with_hint(f"the cursor `{path}` {error}", hint)) from error

    def save(self, symbol: str, cursor: Cursor) -> None:
        """Write the cursor of a symbol, synced.

        Raises
        ------
        StorageError
            The disk is full, for example. The file is unchanged, or already the new one.
        """
        path = self.path(symbol)
        with disk_errors(path):
            make_synced_folders(self._disk, self._root.parent, path.parent)
            replace_synced(self._disk, path, memoryview(_encode(cursor, self._names(symbol))))
        failpoint(Step.CURSOR_SAVED)

    def sweep(self, symbol: str) -> None:
        """Remove files that a killed writer has left; the caller holds the writer lock.

        Raises
        ------
        StorageError
            A file cannot be removed.
        """
        path = self.path(symbol)
        with disk_errors(path):
            for leftover in path.parent.glob(f".{path.name}.*.tmp"):
                if temporary_pid(leftover.name):
                    self._disk.unlink(leftover)

    def _names(self, symbol: str) -> dict[str, str]:
        venue = self._venue
        return {
            **self._owner,
            "source": venue.source,
            "market": venue.market,
            "symbol": symbol,
        }


class _UnusableError(Exception):
    """Raised for a file that cannot be used."""


def _encode(cursor: Cursor, names: dict[str, str]) -> bytes:
    body = {
        **names,
        "live_id": cursor.live_id,
        "boot": cursor.boot,
        "is_closed": cursor.is_closed,
        "series": [_mark_values(mark) for mark in cursor.marks],
    }
    values = {"schema": _SCHEMA, "crc32": _checksum(body), "cursor": body}
    return json.dumps(values, indent=1).encode() + b"\n"


def _mark_values(mark: Mark) -> dict[str, object]:
    position, series = mark.position, mark.position.series
    return {
        "threshold": series.spec.threshold,
        "reset": series.spec.reset,
        "rules": asdict(series.spec.rules),
        "segment_start": series.segment_start.isoformat(),
        "anchor_us": series.anchor_us,
        "last_id": position.last_id,
        "has_ended": position.has_ended,
        "revision": mark.revision,
    }


def _checksum(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def _decode(data: bytes, names: dict[str, str], symbol: str, venue: Venue) -> Cursor:
    try:
        values = json.loads(data)
        schema, body = values["schema"], values["cursor"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _UnusableError("is damaged") from error
    if schema != _SCHEMA:
        message = f"has the schema `{shown(schema)}`, and this version reads {_SCHEMA}"
        raise _UnusableError(message)
    if not isinstance(body, dict) or values.get("crc32") != _checksum(body):
        raise _UnusableError("is damaged: its content and its checksum differ")
    other = next((name for name, value in names.items() if body.get(name) != value), None)
    if other is not None:
        text = f"belongs to something else: its {other} is `{shown(body.get(other))}`, not"
        raise _UnusableError(f"{text} `{names[other]}`")
    try:
        return Cursor(
            live_id=_whole(body["live_id"]),
            marks=tuple(_mark(one, symbol, venue) for one in body["series"]),
            boot=str(body["boot"]),
            is_closed=body["is_closed"] is True,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _UnusableError(f"is damaged: a value is missing or not valid ({error})") from error


def _mark(values: dict[str, Any], symbol: str, venue: Venue) -> Mark:
    rules = BarRules(**values["rules"])
    spec = BarSpec(
        venue.source, venue.market, symbol, _whole(values["threshold"]), values["reset"], rules
    )
    start = date.fromisoformat(values["segment_start"])
    series = BarSeries(spec, start, _whole(values["anchor_us"]))
    if series.segment.start != start:
        raise ValueError(f"the anchor of {series} lies outside of its segment")
    position = Position(series, _whole(values["last_id"]), values["has_ended"] is True)
    return Mark(position, _whole(values["revision"]))


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"`{shown(value)}` is not a whole number")
    return value


@cache
def boot_id() -> str:
    """Return a name of this run of the operating system; empty where there is none.

    A cursor with another one may be older than the bars that were delivered: the machine lost power.
    """
    if sys.platform == "linux":
        try:
            return _BOOT_FILE.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""
    if sys.platform == "darwin":
        import ctypes

        library = ctypes.CDLL(None)
        buffer = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(len(buffer))
        done = library.sysctlbyname(_BOOT_NAME, buffer, ctypes.byref(size), None, 0)
        return buffer.value.decode("ascii", "replace") if done == 0 else ""
    return ""
