"""The open files of a process, and the limit on them.

A closed engine leaves some of its threads running, and each of them keeps files open.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rangebar_polars.exceptions import CacheUnavailableError, with_hint

__all__ = ["Descriptors", "descriptors", "raise_descriptor_limit", "refuse_without_descriptors"]

#: Where systems list the open files of a process.
_LISTS = (Path("/proc/self/fd"), Path("/dev/fd"))
#: A working engine has about fifty files open, and more for every part it reads.
_NEEDED = 100
#: A higher limit slows down programs that close every possible descriptor.
_HIGHEST_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files of this process; None where the system does not report them."""

    #: How many files it may have open.
    limit: int | None
    #: How many files it has open.
    in_use: int | None
    #: How many of them belong to threads of engines, including an open engine.
    of_engines: int | None


def descriptors() -> Descriptors:
    """Count the open files of this process.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.descriptors import descriptors
    >>> descriptors().in_use is None or descriptors().in_use > 2
    True
    """
    targets = _targets()
    of_threads = f"/proc/{os.getpid()}/task/"
    of_engines = None
    if targets is not None and _LISTS[0].is_dir():
        of_engines = sum(target.startswith(of_threads) for target in targets)
    return Descriptors(_soft_limit(), None if targets is None else len(targets), of_engines)


def _targets() -> list[str] | None:
    """Return the target of each open file, "" if it is unknown."""
    for folder in _LISTS:
        with suppress(OSError):
            return [_target(path) for path in folder.iterdir()]
    return None


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _soft_limit() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Raise the limit of open files of this process as far as the system allows."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    highest = _HIGHEST_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _HIGHEST_LIMIT)
    # Some systems have a lower limit that they do not report.
    while highest > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        except (ValueError, OSError):
            highest //= 2
        else:
            return


def refuse_without_descriptors(address: str, openings: int) -> Descriptors:
    """Refuse to open an engine that would run out of files; else return the current files.

    Raises
    ------
    CacheUnavailableError
        The process is close to its limit of open files.
    """
    found = descriptors()
    if found.limit is None or found.in_use is None or found.limit - found.in_use >= _NEEDED:
        return found
    left_behind = ""
    if openings and found.of_engines:
        left_behind = (
            f", {found.of_engines:,} of them left behind by {openings:,} openings of an embedded "
            "cache"
        )
    raise CacheUnavailableError(
        with_hint(
            f"`{address}` cannot be opened: this process has {found.in_use:,} of at most "
            f"{found.limit:,} files open{left_behind}",
            "restart the process with a higher limit (ulimit -n); if processes take turns all the "
            "time, share bars through a server: RANGEBAR_CLICKHOUSE_DSN=http://host:8123",
        ),
        holder=os.getpid(),
    )
