"""Copies of the newest processor states on this machine, so that the cache is not asked for them.

They decide nothing: `units` says which unit is the newest, and a copy is used only if it is of that
very unit. A copy that is damaged, or cannot be written, costs a question to the cache.
"""

from __future__ import annotations

import json
import os
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
from rangebar_polars._files.atomic import disk_errors, temporary_name, temporary_pid, write_synced
from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars.bar_series.identity import BarRules, BarSeries, BarSpec, BarSpecKey
from rangebar_polars.config import settings
from rangebar_polars.storage.layout import listed

if TYPE_CHECKING:
    from rangebar_polars.bar_series.units import Unit

__all__ = [
    "LocalCheckpoint",
    "LocalCheckpointWarning",
    "UnusableError",
    "decoded",
    "encoded",
    "forget_local",
    "list_local",
    "local_path",
    "name_of",
    "read_local",
    "state_from_local",
    "write_local",
]


_FOLDER = "checkpoints"


_SUFFIX = ".checkpoint"


#: A writer that is alive has given its file a name long before.
_STALE_S = 3600.0


_DISK = Disk()


class LocalCheckpointWarning(UserWarning):
    """A local copy of a state could not be written, or is not one that can be used."""


def local_path(cache_dir: Path | str | None, series: BarSeries) -> Path:
    """File of the copy of a series.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.populate.local_checkpoint import local_path
    >>> local_path("cache", BarSpec.of("BTCUSDT", 250).series(date(2024, 1, 1))).name
    'binance-spot-BTCUSDT-250-year-44675d7ecc1ce63d-2024-01-01-1704067200000000.checkpoint'
    """
    return _folder(cache_dir) / name_of(series)


def _folder(cache_dir: Path | str | None) -> Path:
    return Path(settings(cache_dir=cache_dir).cache_dir).absolute() / _FOLDER


def write_local(
    cache_dir: Path | str | None, unit: Unit, state: bytes, *, disk: Disk = _DISK
) -> None:
    """Keep a copy of the state after a unit that is published, in place of an older one.

    Whenever the process or the machine ends, the file is the old one or the new one, whole. What
    the disk refuses is a warning: nothing is lost by it.
    """
    path = local_path(cache_dir, unit.series)
    data = encoded(LocalCheckpoint.of(unit, state))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        _replace(path, data, disk)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"the local checkpoint `{path}` could not be written: {reason}"
        warnings.warn(message, LocalCheckpointWarning, stacklevel=2)


def read_local(cache_dir: Path | str | None, series: BarSeries) -> LocalCheckpoint | None:
    """The copy of a series; None where there is none that can be used, with a warning if one is there.

    It says nothing of what is published: compare it with the newest unit, or take
    `state_from_local`, which does.
    """
    return _read(local_path(cache_dir, series))


def state_from_local(cache_dir: Path | str | None, unit: Unit) -> bytes | None:
    """The state after a unit, if the copy is of that very unit."""
    found = read_local(cache_dir, unit.series)
    return found.state if found is not None and found.is_of(unit) else None


def forget_local(cache_dir: Path | str | None, series: BarSeries) -> bool:
    """Remove the copy of a series; return whether there was one.

    Raises
    ------
    StorageError
        It cannot be removed.
    """
    path = local_path(cache_dir, series)
    with disk_errors(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def list_local(cache_dir: Path | str | None = None) -> list[LocalCheckpoint]:
    """Return every copy that can be used, by file name.

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
    found = (_read(path) for path in paths if not path.name.startswith("."))
    return [one for one in found if one is not None]


def _read(path: Path) -> LocalCheckpoint | None:
    try:
        return decoded(path.read_bytes(), path.name)
    except FileNotFoundError:
        return None
    except (UnusableError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"the local checkpoint `{path}` is not used: {reason}"
        warnings.warn(message, LocalCheckpointWarning, stacklevel=3)
        return None


def _replace(path: Path, data: bytes, disk: Disk) -> None:
    """Give a file other bytes, in one step."""
    temporary = path.parent / temporary_name(path.name)
    try:
        write_synced(disk, temporary, memoryview(data))
        os.replace(temporary, path)  # noqa: PTH105 - as with the rest, by its own name
        failpoint(Step.LINKED)
        disk.sync_folder(path.parent)
        failpoint(Step.PLACE_SYNCED)
    finally:
        with suppress(OSError):
            disk.unlink(temporary)


def _sweep(path: Path) -> None:
    """Remove what writers of the same file that were killed have left."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            if temporary_pid(left.name) and left.stat().st_mtime < time.time() - _STALE_S:
                left.unlink()


_VERSION = 1


_WORDS = "rangebar checkpoint"


_SUFFIX = ".checkpoint"


class UnusableError(Exception):
    """Bytes that are no copy, or not one of this version."""


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A copy of the state after a unit, and which unit that is."""

    series: BarSeries
    day: date
    generation: int
    #: Of the unit: a random number, so that no other unit of any cache has it.
    attempt: int
    tick_last_id: int | None
    tick_hash: str
    state: bytes
    code_version: str

    @classmethod
    def of(cls, unit: Unit, state: bytes) -> LocalCheckpoint:
        """Copy of a unit's state."""
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
        """Whether it is the copy of this unit and no other."""
        return self == replace(self.of(unit, self.state), code_version=self.code_version)


def name_of(series: BarSeries) -> str:
    """Name of the file of a series."""
    return f"{series.lease_key.file_name}-{series.anchor_us}{_SUFFIX}"


def encoded(checkpoint: LocalCheckpoint) -> bytes:
    """Bytes of a copy."""
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
    """Version, length and CRC of what follows."""
    return f"{_WORDS} {_VERSION} {len(body)} {zlib.crc32(body):08x}\n".encode()


def decoded(data: bytes, name: str) -> LocalCheckpoint:
    """The copy in a file of this name."""
    first, line, body = data.partition(b"\n")
    if first + line != _first_line(body):
        raise UnusableError(_fault_of(first))
    try:
        found = _from_values(json.loads(body))
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableError(f"it lacks a value: {error}") from error
    if name_of(found.series) != name:
        raise UnusableError(f"it is of {found.series}")
    return found


def _fault_of(first: bytes) -> str:
    """Why a first line is not the one of the bytes that follow."""
    other = re.fullmatch(rf"{_WORDS} (\d+)( .*)?", first.decode("ascii", "replace"))
    if other and int(other[1]) != _VERSION:
        return f"another version wrote it ({other[1]})"
    return "its bytes are not those that were written"


def _from_values(values: dict[str, Any]) -> LocalCheckpoint:
    key = values.pop("series")
    parts = {name: key[name] for name in BarSpecKey._fields[:-1]}
    spec = BarSpec(**parts, rules=BarRules(**values.pop("configuration")))
    series = BarSeries(spec, date.fromisoformat(key["segment_start"]), key["anchor_us"])
    values["day"] = date.fromisoformat(values["day"])
    values["state"] = b64decode(values["state"], validate=True)
    return LocalCheckpoint(series=series, **values)
