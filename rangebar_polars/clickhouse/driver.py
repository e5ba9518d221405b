"""The driver clickhouse-connect: its clients, and its errors in the words of this package."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rangebar_polars._extra import import_extra
from rangebar_polars.exceptions import (
    CacheError,
    CacheLostError,
    CacheQueryError,
    CacheUnavailableError,
    CacheWriteError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

__all__ = [
    "FolderLockedError",
    "folder_client",
    "is_lost",
    "is_transient",
    "opening",
    "reading",
    "server_client",
    "writing",
]

#: Errors of the database that a later try may not meet: too many queries or parts, no memory,
#: a time-out, its own network.
_TRANSIENT_CODES = {159, 202, 209, 210, 241, 242, 252, 319, 999}

_USE_TICKS = "`use_cache=False` computes bars from ticks instead"


class FolderLockedError(Exception):
    """A program that does not take this package's lock has the folder open."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(holder)
        self.holder = holder


def server_client(dsn: str) -> Any:  # noqa: ANN401
    """Client of a server, for any number of threads; its own retries are off for queries."""
    connect = import_extra("clickhouse_connect", "cache")
    return connect.get_client(dsn=dsn, autogenerate_session_id=False, query_retries=0)


def folder_client(folder: Path) -> Any:  # noqa: ANN401
    """Client of the engine in this process, which is started if it is not running.

    Raises
    ------
    FolderLockedError
        Another process has the folder open.
    """
    connect = import_extra("clickhouse_connect", "cache")
    import_extra("chdb", "cache")
    folder.mkdir(parents=True, exist_ok=True)
    # Asked before, too: the engine complains on standard error.
    _judge_lock(folder)
    try:
        return connect.get_client(interface="chdb", path=str(folder))
    except _exceptions().ProgrammingError:
        _judge_lock(folder)
        raise


def _judge_lock(folder: Path) -> None:
    """Raise an error if a process has the engine's own lock of the folder, which it names."""
    import fcntl

    try:
        with (folder / "status").open(encoding="utf-8") as status:
            try:
                fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                found = re.search(r"PID: (\d+)", status.read())
                raise FolderLockedError(int(found[1]) if found else None) from error
    except FileNotFoundError:
        return


def _exceptions() -> ModuleType:
    return import_extra("clickhouse_connect.driver.exceptions", "cache")


def _code(error: Exception) -> int | None:
    return getattr(error, "code", None)


def is_lost(error: Exception) -> bool:
    """Whether there was no answer, so that nothing is known."""
    driver = _exceptions()
    return isinstance(error, driver.OperationalError | driver.InterfaceError | OSError) or (
        type(error).__module__.startswith("urllib3.")
    )


def is_transient(error: Exception) -> bool:
    """Whether a later try may do better."""
    return is_lost(error) or _code(error) in _TRANSIENT_CODES


def _is_of_driver(error: Exception) -> bool:
    known = isinstance(error, _exceptions().ClickHouseError | OSError)
    # The embedded engine raises its errors as RuntimeError.
    return known or is_lost(error) or type(error) is RuntimeError


def _words(error: Exception) -> str:
    """First line of the driver's words."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextmanager
def opening(address: str) -> Iterator[None]:
    """Turn any error of the driver into one that says that the cache is away."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        raise CacheUnavailableError(
            with_hint(
                f"the bar cache at `{address}` cannot be reached: {_words(error)}", _USE_TICKS
            )
        ) from error


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Turn errors of a query into those of this package."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        if is_lost(error):
            raise CacheUnavailableError(
                with_hint(f"the bar cache at `{address}` is away: {_words(error)}", _USE_TICKS)
            ) from error
        raise CacheQueryError(
            f"the bar cache at `{address}` refused a query: {_words(error)}", code=_code(error)
        ) from error


@contextmanager
def writing(address: str) -> Iterator[None]:
    """Turn errors of a write into those that say that it is not proved."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        sentence = f"a write to the bar cache at `{address}` was not confirmed: {_words(error)}"
        again = "run it again: what was published before is kept, nothing is written twice"
        if is_lost(error):
            raise CacheLostError(with_hint(sentence, f"{again}; {_USE_TICKS}")) from error
        raise CacheWriteError(with_hint(sentence, again)) from error
