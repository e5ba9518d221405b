"""Local copies of the newest processor states, which save a query to the cache.

The table `units` alone decides which unit is the newest, and a copy is used only if it belongs to
that unit. A damaged or missing copy costs one query to the cache.
"""

from __future__ import annotations

import json
import re
import time
import warnings
import zlib
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars._files.atomic import disk_errors, replace_synced, temporary_pid
from rangebar_polars._files.disk import Disk
from rangebar_polars.bar_series.identity import BarRules, BarSeries, BarSpec, BarSpecKey
from rangebar_polars.config import settings
from rangebar_polars.exceptions import LocalCheckpointWarning
from rangebar_polars.storage.layout import listed

if TYPE_CHECKING:
    from rangebar_polars.bar_series.units import Unit

__all__ = [
    "LocalCheckpoint",
    "LocalCheckpointWarning",
    "forget_local",
    "list_local",
    "local_path",
    "read_live",
    "read_local",
    "state_from_local",
    "write_live",
    "write_local",
]


_FOLDER = "checkpoints"


_SUFFIX = ".checkpoint"
#: Of the states of live bars that have no units.
_LIVE_SUFFIX = ".live"


#: A running writer renames its file long before this.
_STALE_S = 3600.0


_DISK = Disk()


def local_path(cache_dir: Path | str | None, series: BarSeries) -> Path:
    """Return the path of the copy of a series.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.populate.local_checkpoint import local_path
    >>> local_path("cache", BarSpec.of("BTCUSDT", 250).series(date(2024, 1, 1))).name
    'binance-spot-BTCUSDT-250-year-44675d7ecc1ce63d-2024-01-01-1704067200000000.checkpoint'
    """
    return _folder(cache_dir) / _file_name(series)


def _folder(cache_dir: Path | str | None) -> Path:
    return Path(settings(cache_dir=cache_dir).cache_dir).absolute() / _FOLDER


def write_local(
    cache_dir: Path | str | None, unit: Unit, state: bytes, *, disk: Disk = _DISK
) -> None:
    """Write a copy of the state after a published unit, in place of an older copy.

    If the process or the machine stops meanwhile, the file is the old or the new one, complete.
    A disk error is only a warning, since nothing depends on the copy.
    """
    path = local_path(cache_dir, unit.series)
    try:
        _replace(disk, path, LocalCheckpoint.of(unit, state))
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"the local checkpoint `{path}` could not be written: {reason}"
        warnings.warn(message, LocalCheckpointWarning, stacklevel=2)


def write_live(
    cache_dir: Path | str | None, checkpoint: LocalCheckpoint, *, disk: Disk = _DISK
) -> None:
    """Write the state of a live series that has no units, in place of an older one.

    Raises
    ------
    StorageError
        The file cannot be written. The older one stays.
    """
    path = _folder(cache_dir) / _file_name(checkpoint.series, _LIVE_SUFFIX)
    with disk_errors(path):
        _replace(disk, path, checkpoint)


def read_live(cache_dir: Path | str | None, series: BarSeries) -> LocalCheckpoint | None:
    """Read the state of a live series that has no units; None if there is no usable one."""
    return _read(_folder(cache_dir) / _file_name(series, _LIVE_SUFFIX))


def _replace(disk: Disk, path: Path, checkpoint: LocalCheckpoint) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    replace_synced(disk, path, memoryview(_encode(checkpoint)))


def read_local(cache_dir: Path | str | None, series: BarSeries) -> LocalCheckpoint | None:
    """Read the copy of a series; None if there is no usable one.

    A copy that is not usable is a warning. The copy may be older than the newest published unit:
    `state_from_local` compares them.
    """
    return _read(local_path(cache_dir, series))


def state_from_local(cache_dir: Path | str | None, unit: Unit) -> bytes | None:
    """Return the state after a unit, if the copy belongs to that unit."""
    checkpoint = read_local(cache_dir, unit.series)
    return checkpoint.state if checkpoint is not None and checkpoint.is_of(unit) else None


def forget_local(cache_dir: Path | str | None, series: BarSeries) -> bool:
    """Remove the copy of a series; return whether there was one.

    Raises
    ------
    StorageError
        The file cannot be removed.
    """
    path = local_path(cache_dir, series)
    with disk_errors(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def list_local(cache_dir: Path | str | None = None) -> list[LocalCheckpoint]:
    """Return all usable copies, sorted by file name.

    Raises
    ------
    StorageError
        The folder cannot be listed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.populate.local_checkpoint import list_local
    >>> list_local(mkdtemp())
    []
    """
    paths = (path for path in listed(_folder(cache_dir)) if path.suffix == _SUFFIX)
    checkpoints = (_read(path) for path in paths if not path.name.startswith("."))
    return [checkpoint for checkpoint in checkpoints if checkpoint is not None]


def _read(path: Path) -> LocalCheckpoint | None:
    try:
        return _decode(path.read_bytes(), path.name)
    except FileNotFoundError:
        return None
    except (_UnusableError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"the local checkpoint `{path}` is not used: {reason}"
        warnings.warn(message, LocalCheckpointWarning, stacklevel=3)
        return None


def _sweep(path: Path) -> None:
    """Remove temporary files that killed writers of the same file have left."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            if temporary_pid(leftover.name) and leftover.stat().st_mtime < time.time() - _STALE_S:
                leftover.unlink()


_VERSION = 1


_MAGIC = "rangebar checkpoint"


class _UnusableError(Exception):
    """Raised for a file that is damaged, or that another version wrote."""


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A copy of the state after a unit, with the identity of the unit."""

    series: BarSeries
    day: date
    generation: int
    #: Attempt of the unit: a random number that no other unit of any cache has.
    attempt: int
    tick_last_id: int | None
    tick_hash: str
    state: bytes
    code_version: str

    @classmethod
    def of(cls, unit: Unit, state: bytes) -> LocalCheckpoint:
        """Make the copy of a unit's state."""
        return cls(
            unit.series,
            unit.day,
            unit.generation,
            unit.attempt,
            unit.tick_last_id,
            unit.tick_hash,
            state,
            _internal.__version__,
        )

    def is_of(self, unit: Unit) -> bool:
        """Return whether the copy belongs to a unit."""
        return self == replace(self.of(unit, self.state), code_version=self.code_version)


def _file_name(series: BarSeries, suffix: str = _SUFFIX) -> str:
    """Return the file name of the copy of a series."""
    return f"{series.lease_key.file_name}-{series.anchor_us}{suffix}"


def _encode(checkpoint: LocalCheckpoint) -> bytes:
    """Encode a copy as the bytes of its file."""
    values = asdict(checkpoint)
    series = checkpoint.series
    key = {**series.key._asdict(), "segment_start": series.segment_start.isoformat()}
    values |= {
        "series": key,
        "configuration": asdict(series.spec.rules),
        "day": checkpoint.day.isoformat(),
        "state": b64encode(checkpoint.state).decode(),
    }
    body = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    return _first_line(body) + body


def _first_line(body: bytes) -> bytes:
    """Return the line with the version, and the length and CRC of the body."""
    return f"{_MAGIC} {_VERSION} {len(body)} {zlib.crc32(body):08x}\n".encode()


def _decode(data: bytes, name: str) -> LocalCheckpoint:
    """Decode the bytes of a file, and check that its name is that of the series."""
    first, line, body = data.partition(b"\n")
    if first + line != _first_line(body):
        raise _UnusableError(_fault_of(first))
    try:
        checkpoint = _from_values(json.loads(body))
    except (KeyError, TypeError, ValueError) as error:
        raise _UnusableError(f"a value is missing or not valid: {error}") from error
    if _file_name(checkpoint.series, Path(name).suffix) != name:
        raise _UnusableError(f"it belongs to {checkpoint.series}")
    return checkpoint


def _fault_of(first: bytes) -> str:
    """Describe why the first line does not match the body."""
    other = re.fullmatch(rf"{_MAGIC} (\d+)( .*)?", first.decode("ascii", "replace"))
    if other and int(other[1]) != _VERSION:
        return f"another version wrote it ({other[1]})"
    return "it is damaged"


def _from_values(values: dict[str, Any]) -> LocalCheckpoint:
    key = values.pop("series")
    parts = {name: key[name] for name in BarSpecKey._fields[:-1]}
    spec = BarSpec(**parts, rules=BarRules(**values.pop("configuration")))
    series = BarSeries(spec, date.fromisoformat(key["segment_start"]), key["anchor_us"])
    values["day"] = date.fromisoformat(values["day"])
    values["state"] = b64decode(values["state"], validate=True)
    return LocalCheckpoint(series=series, **values)
