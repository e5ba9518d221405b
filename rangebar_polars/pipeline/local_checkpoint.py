"""Copies of the newest processor states on this machine, so that the cache is not asked for them.

They decide nothing: `units` says which unit is the newest, and a copy is used only if it is of that
very unit. A copy that is damaged, or cannot be written, costs a question to the cache.
"""

from __future__ import annotations

import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars.config import settings
from rangebar_polars.pipeline.checkpoint_file import (
    LocalCheckpoint,
    UnusableError,
    decoded,
    encoded,
    name_of,
)
from rangebar_polars.storage.disk import Disk, Step
from rangebar_polars.storage.layout import listed, temporary_name, temporary_pid
from rangebar_polars.storage.place import disk_errors, write_synced

if TYPE_CHECKING:
    from rangebar_polars.clickhouse.series import Series
    from rangebar_polars.clickhouse.units import Unit

__all__ = [
    "LocalCheckpoint",
    "LocalCheckpointWarning",
    "forget_local",
    "list_local",
    "local_path",
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


def local_path(cache_dir: Path | str | None, series: Series) -> Path:
    """File of the copy of a series.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.clickhouse.series import Family
    >>> from rangebar_polars.pipeline.local_checkpoint import local_path
    >>> local_path("cache", Family.of("BTCUSDT", 250).series(date(2024, 1, 1))).name
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


def read_local(cache_dir: Path | str | None, series: Series) -> LocalCheckpoint | None:
    """The copy of a series; None where there is none that can be used, with a warning if one is there.

    It says nothing of what is published: compare it with the newest unit, or take
    `state_from_local`, which does.
    """
    return _read(local_path(cache_dir, series))


def state_from_local(cache_dir: Path | str | None, unit: Unit) -> bytes | None:
    """The state after a unit, if the copy is of that very unit."""
    found = read_local(cache_dir, unit.series)
    return found.state if found is not None and found.is_of(unit) else None


def forget_local(cache_dir: Path | str | None, series: Series) -> bool:
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
    >>> from rangebar_polars.pipeline.local_checkpoint import list_local
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
        disk.reached(Step.LINKED)
        disk.sync_folder(path.parent)
        disk.reached(Step.PLACE_SYNCED)
    finally:
        with suppress(OSError):
            disk.unlink(temporary)


def _sweep(path: Path) -> None:
    """Remove what writers of the same file that were killed have left."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            if temporary_pid(left.name) and left.stat().st_mtime < time.time() - _STALE_S:
                left.unlink()
