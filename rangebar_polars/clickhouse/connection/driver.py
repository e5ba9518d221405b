"""The driver clickhouse-connect: its clients, and its errors as errors of this package."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.address import scrubbed
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.clickhouse.connection.engine_folder import USE_TICKS, repair_folder
from rangebar_polars.clickhouse.connection.engine_path import EnginePath, is_plain, with_folders
from rangebar_polars.clickhouse.connection.sql import identifier, literal
from rangebar_polars.config import in_time_zone
from rangebar_polars.exceptions import (
    CacheError,
    CacheLostError,
    CacheQueryError,
    CacheUnavailableError,
    CacheWriteError,
    SettingError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from rangebar_polars._utils.address import Address
    from rangebar_polars.clickhouse.connection.sql import Value

__all__ = [
    "FolderLockedError",
    "folder_client",
    "is_damage",
    "is_disk_full",
    "is_forbidden",
    "is_lost",
    "is_transient",
    "opening",
    "reading",
    "server_client",
    "writing",
]

#: Errors of the database that may pass: too many queries or parts, no memory, a timeout, its own
#: network.
_TRANSIENT_CODES = {159, 202, 209, 210, 241, 242, 252, 319, 999}

#: How long to wait for a connection, and for the next byte of an answer.
_CONNECT_S, _SILENCE_S = 10, 60

#: The cache moves and replicates nothing, and a closed engine leaves such threads behind.
_ENGINE = {"background_move_pool_size": 0, "background_fetches_pool_size": 0}

#: Errors of a full disk.
_DISK_FULL_CODES = {243}

#: Errors of damaged files: truncated, of an unknown type, with a wrong checksum, missing, of another
#: size, corrupted, compressed in an unknown way.
_DAMAGE_CODES = {33, 39, 40, 107, 228, 246, 432}

#: Errors of a user without a privilege: a read-only one, and one without a grant.
_FORBIDDEN_CODES = {164, 497}

_REMOVE_ALL = "`rangebar cache drop`, without a symbol, removes all tables"


class FolderLockedError(Exception):
    """The folder is open in a program that does not take this package's lock."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(holder)
        self.holder = holder


def server_client(dsn: Address) -> Any:  # noqa: ANN401
    """Connect to a server. The client serves any number of threads and does not retry queries.

    Raises
    ------
    SettingError
        The address has an option that the driver does not know.
    """
    connect = import_extra("clickhouse_connect", "cache")
    try:
        return connect.get_client(
            dsn=dsn.full,
            autogenerate_session_id=False,
            query_retries=0,
            connect_timeout=_CONNECT_S,
            send_receive_timeout=_SILENCE_S,
        )
    except TypeError as error:
        what = scrubbed(str(error), dsn)
        hint = "options are those of `clickhouse_connect.get_client`"
        raise SettingError(
            with_hint(f"the driver does not accept the options of `{dsn}`: {what}", hint)
        ) from None


def folder_client(folder: Path) -> Any:  # noqa: ANN401
    """Start the engine in this process, and return its client.

    Raises
    ------
    FolderLockedError
        Another process has the folder open.
    """
    connect = import_extra("clickhouse_connect", "cache")
    # Made first: if the import fails, a later read sees that there is a cache that it cannot open.
    folder.mkdir(parents=True, exist_ok=True)
    # The engine refuses to start with rules such as `JST-9` in the variable `TZ`.
    with in_time_zone("UTC"):
        import_extra("chdb", "cache")
    # Checked before as well, since the engine would print to standard error.
    _check_lock(folder)
    repair_folder(folder)
    path = EnginePath(folder)
    try:
        with in_time_zone("UTC"):
            client = connect.get_client(interface="chdb", path=path.text, chdb_options=_ENGINE)
    except BaseException as error:
        path.close()
        if isinstance(error, _exceptions().ProgrammingError):
            _check_lock(folder)
        raise
    return _Engine(client, path)


class _Engine:
    """The engine's client, which discards what a failed statement left of its answer."""

    def __init__(self, client: Any, path: EnginePath) -> None:  # noqa: ANN401
        self._client = client
        self._path = path
        self._lock = Lock()

    def raw_query(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        return self._run(self._client.raw_query, *arguments, **options)

    def raw_insert(self, table: str, **options: Any) -> Any:  # noqa: ANN401
        if is_plain(Path(tempfile.gettempdir())):
            return self._run(self._client.raw_insert, table, **options)
        return self._insert(table, **options)

    def _insert(
        self,
        table: str,
        *,
        column_names: Sequence[str],
        insert_block: bytes,
        fmt: str,
        settings: Mapping[str, Value],
    ) -> Any:  # noqa: ANN401
        """Insert as the driver does, but from a file whose path the engine cannot read as a pattern."""
        listed = ", ".join(f"{name} = {literal(value)}" for name, value in settings.items())
        columns = ", ".join(map(identifier, column_names))
        with tempfile.NamedTemporaryFile() as file:
            file.write(insert_block)
            file.flush()
            path = EnginePath(Path(file.name))
            try:
                return self._run(
                    self._client.command,
                    f"INSERT INTO {table} ({columns}) FROM INFILE {literal(path.name)} "
                    f"SETTINGS {listed} FORMAT {fmt}",
                )
            finally:
                path.close()

    def command(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        return self._run(self._client.command, *arguments, **options)

    def close(self) -> None:
        try:
            self._client.close()
        finally:
            self._path.close()

    def _run(self, action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        # One at a time: another thread must not get the answer that is discarded.
        with self._lock:
            try:
                return action(*arguments, **options)
            except Exception:
                # The engine prepends the beginning of a broken answer to the next one.
                self._client.raw_query("SELECT 1", fmt="ArrowStream")
                raise


def _check_lock(folder: Path) -> None:
    """Raise an error if a process holds the engine's own lock of the folder."""
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
    """Check whether there was no answer, so that the result is unknown."""
    driver = _exceptions()
    return isinstance(error, driver.OperationalError | driver.InterfaceError | OSError) or (
        type(error).__module__.startswith("urllib3.")
    )


def is_transient(error: Exception) -> bool:
    """Check whether a later try may succeed."""
    return is_lost(error) or _code(error) in _TRANSIENT_CODES


def is_damage(error: BaseException) -> bool:
    """Check for damaged files, by an error of the database or the error made from it."""
    return _damaged_table(error) is not None


def is_forbidden(error: BaseException) -> bool:
    """Check for a missing privilege, by an error of the database or the error made from it."""
    found = error if error.__cause__ is None else error.__cause__
    return bool(_FORBIDDEN_CODES & _codes_in(found))


def _codes_in(error: BaseException) -> set[int]:
    """Return the codes of the database that the message of an error names."""
    return {int(code) for code in re.findall(r"[Cc]ode: (\d+)", str(error))}


def is_disk_full(error: BaseException) -> bool:
    """Check for a full disk, by an error of the database or the error made from it."""
    found = error if error.__cause__ is None else error.__cause__
    text = str(found)
    return (
        bool(_DISK_FULL_CODES & _codes_in(found))
        or os.strerror(errno.ENOSPC) in text
        or (isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT))
    )


def _damaged_table(error: BaseException) -> str | None:
    """Return the name of the damaged table, "" if it is unknown, or None if none is damaged."""
    text = str(error if error.__cause__ is None else error.__cause__)
    codes = {int(code) for code in re.findall(r"Code: (\d+)", text)}
    # The same codes are also raised for rows that were cut off while they were sent.
    if not codes & _DAMAGE_CODES or not re.search(r"(from|with) part ", text):
        return None
    found = re.search(r"in table (?:\S+\.)?(\w+)", text)
    return found[1] if found else ""


def _damage_text(error: Exception, address: str) -> str | None:
    """Describe damaged files; None if no file is damaged."""
    table = _damaged_table(error)
    if table is None:
        return None
    if table in ("bars", ""):
        again = "`rangebar populate SYMBOL -s DAY -t T --force-refresh`"
        how = (
            f"{again} sets the damaged parts aside and rebuilds the bars"
            if address.startswith("chdb:")
            else f"detach the parts that CHECK TABLE reports, then {again}"
        )
        return with_hint(
            f"stored bars of the cache at `{address}` are damaged: {_error_text(error)}",
            f"{how}; or start over: {_REMOVE_ALL}",
        )
    return with_hint(
        f"the stored table `{table}` of the cache at `{address}` is damaged: {_error_text(error)}",
        f"start over: {_REMOVE_ALL}; then populate again",
    )


def _is_of_driver(error: Exception) -> bool:
    known = isinstance(error, _exceptions().ClickHouseError | OSError)
    # The embedded engine raises its errors as RuntimeError.
    return known or is_lost(error) or type(error) is RuntimeError


def _error_text(error: Exception) -> str:
    """Return the first line of the driver's message."""
    text = with_folders(scrubbed(str(error)).strip() or type(error).__name__)
    return text.splitlines()[0][:300]


def _without_secrets(error: BaseException) -> BaseException:
    """Remove the secrets of addresses from the messages of an error and of its causes."""
    links: BaseException | None = error
    seen: set[int] = set()
    while links is not None and id(links) not in seen:
        seen.add(id(links))
        links.args = tuple(scrubbed(arg) if isinstance(arg, str) else arg for arg in links.args)
        links = links.__cause__ or links.__context__
    return error


@contextmanager
def opening(address: str) -> Iterator[None]:
    """Raise any error of the driver as `CacheUnavailableError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        sentence = f"the bar cache at `{address}` cannot be reached: {_error_text(error)}"
        hint = USE_TICKS
        if isinstance(error, _exceptions().ProgrammingError) and address.startswith("chdb:"):
            hint = (
                "the engine has written the reason to standard error; if files in the folder are "
                f"damaged, move it away and populate again; {USE_TICKS}"
            )
        raise CacheUnavailableError(with_hint(sentence, hint)) from _without_secrets(error)


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Raise errors of a query as errors of this package."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        if is_lost(error):
            raise CacheUnavailableError(
                with_hint(
                    f"the bar cache at `{address}` cannot be reached: {_error_text(error)}",
                    USE_TICKS,
                )
            ) from _without_secrets(error)
        damage = _damage_text(error, address)
        refused = f"the bar cache at `{address}` refused a query: {_error_text(error)}"
        raise CacheQueryError(damage or refused, code=_code(error)) from _without_secrets(error)


@contextmanager
def writing(address: str) -> Iterator[None]:
    """Raise errors of a write as errors that say that the write is not confirmed."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        sentence = (
            f"a write to the bar cache at `{address}` was not confirmed: {_error_text(error)}"
        )
        again = "run it again: earlier bars are intact, and nothing is written twice"
        if is_disk_full(error):
            again = f"free space on the disk of the cache, then {again}"
        if is_lost(error):
            raise CacheLostError(
                with_hint(sentence, f"{again}; {USE_TICKS}")
            ) from _without_secrets(error)
        damage = _damage_text(error, address)
        raise CacheWriteError(damage or with_hint(sentence, again)) from _without_secrets(error)
