"""The driver clickhouse-connect: its clients, and its errors in the words of this package."""

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
from rangebar_polars.clickhouse.connection.engine_folder import USE_TICKS, mend
from rangebar_polars.clickhouse.connection.engine_path import EnginePath, is_plain, with_folders
from rangebar_polars.clickhouse.connection.sql import identifier, literal
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

#: How long to wait for a connection, and for any byte of an answer.
_CONNECT_S, _SILENCE_S = 10, 60

#: Nothing is moved or replicated, and the engine leaves the threads behind when it is closed.
_ENGINE = {"background_move_pool_size": 0, "background_fetches_pool_size": 0}

#: The database found no room on the disk.
_DISK_FULL_CODES = {243}

#: Errors of files that are not as they were written: cut off, of no known type, of other bytes, gone,
#: of another size, corrupted, compressed in no known way.
_DAMAGE_CODES = {33, 39, 40, 107, 228, 246, 432}

_BEGIN_ANEW = "`rangebar cache drop`, without a symbol, removes all tables"


class FolderLockedError(Exception):
    """A program that does not take this package's lock has the folder open."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(holder)
        self.holder = holder


def server_client(dsn: Address) -> Any:  # noqa: ANN401
    """Client of a server, for any number of threads; its own retries are off for queries.

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
            with_hint(f"the driver does not take the options of `{dsn}`: {what}", hint)
        ) from None


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
    mend(folder)
    path = EnginePath(folder)
    try:
        client = connect.get_client(interface="chdb", path=path.text, chdb_options=_ENGINE)
    except BaseException as error:
        path.close()
        if isinstance(error, _exceptions().ProgrammingError):
            _judge_lock(folder)
        raise
    return _Engine(client, path)


class _Engine:
    """The engine's client; what a statement that failed has written is no part of a later answer."""

    def __init__(self, client: Any, path: EnginePath) -> None:  # noqa: ANN401
        self._client = client
        self._path = path
        self._turn = Lock()

    def raw_query(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401
        return self._run(self._client.raw_query, *words, **options)

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
        """Insert as the driver does, by a file whose path is not taken for a pattern."""
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

    def command(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401
        return self._run(self._client.command, *words, **options)

    def close(self) -> None:
        try:
            self._client.close()
        finally:
            self._path.close()

    def _run(self, action: Callable[..., Any], *words: Any, **options: Any) -> Any:  # noqa: ANN401
        # In turn, as nobody else may get the answer that is thrown away.
        with self._turn:
            try:
                return action(*words, **options)
            except Exception:
                # The engine puts the beginning of an answer that it broke off before the next one.
                self._client.raw_query("SELECT 1", fmt="ArrowStream")
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


def is_damage(error: BaseException) -> bool:
    """Whether files of the database are not as it wrote them; of its error, or ours made of it."""
    return _damaged_table(error) is not None


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room on the disk; of its error, or ours made of it."""
    found = error if error.__cause__ is None else error.__cause__
    text = str(found)
    return (
        bool(_DISK_FULL_CODES & {int(code) for code in re.findall(r"Code: (\d+)", text)})
        or os.strerror(errno.ENOSPC) in text
        or (isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT))
    )


def _damaged_table(error: BaseException) -> str | None:
    """Name of a table whose files are damaged, "" where it is not known; None if none is."""
    text = str(error if error.__cause__ is None else error.__cause__)
    codes = {int(code) for code in re.findall(r"Code: (\d+)", text)}
    # Rows that are sent may be cut off, too.
    if not codes & _DAMAGE_CODES or not re.search(r"(from|with) part ", text):
        return None
    found = re.search(r"in table (?:\S+\.)?(\w+)", text)
    return found[1] if found else ""


def _damage(error: Exception, address: str) -> str | None:
    """What is said of damaged files; None if none are."""
    table = _damaged_table(error)
    if table is None:
        return None
    if table in ("bars", ""):
        again = "`rangebar populate SYMBOL -s DAY -t T --force-refresh`"
        how = (
            f"{again} sets what is damaged aside and builds the bars again"
            if address.startswith("chdb:")
            else f"detach the parts that CHECK TABLE finds, then {again}"
        )
        return with_hint(
            f"stored bars of the cache at `{address}` are damaged: {_words(error)}",
            f"{how}; or begin anew: {_BEGIN_ANEW}",
        )
    return with_hint(
        f"the stored table `{table}` of the cache at `{address}` is damaged: {_words(error)}",
        f"begin anew: {_BEGIN_ANEW}; then populate again",
    )


def _is_of_driver(error: Exception) -> bool:
    known = isinstance(error, _exceptions().ClickHouseError | OSError)
    # The embedded engine raises its errors as RuntimeError.
    return known or is_lost(error) or type(error) is RuntimeError


def _words(error: Exception) -> str:
    """First line of the driver's words."""
    text = with_folders(scrubbed(str(error)).strip() or type(error).__name__)
    return text.splitlines()[0][:300]


def _without_secrets(error: BaseException) -> BaseException:
    """The error, and those that led to it, without secrets of addresses in their words."""
    links: BaseException | None = error
    seen: set[int] = set()
    while links is not None and id(links) not in seen:
        seen.add(id(links))
        links.args = tuple(scrubbed(word) if isinstance(word, str) else word for word in links.args)
        links = links.__cause__ or links.__context__
    return error


@contextmanager
def opening(address: str) -> Iterator[None]:
    """Turn any error of the driver into one that says that the cache is away."""
    try:
        yield
    except Exception as error:
        if isinstance(error, CacheError | ImportError) or not _is_of_driver(error):
            raise
        sentence = f"the bar cache at `{address}` cannot be reached: {_words(error)}"
        hint = USE_TICKS
        if isinstance(error, _exceptions().ProgrammingError) and address.startswith("chdb:"):
            hint = (
                "the engine has written the reason to standard error; if files in the folder are "
                f"damaged, move it away and populate again; {USE_TICKS}"
            )
        raise CacheUnavailableError(with_hint(sentence, hint)) from _without_secrets(error)


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
                with_hint(f"the bar cache at `{address}` is away: {_words(error)}", USE_TICKS)
            ) from _without_secrets(error)
        damage = _damage(error, address)
        refused = f"the bar cache at `{address}` refused a query: {_words(error)}"
        raise CacheQueryError(damage or refused, code=_code(error)) from _without_secrets(error)


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
        if is_disk_full(error):
            again = f"make room on the disk of the cache, then {again}"
        if is_lost(error):
            raise CacheLostError(
                with_hint(sentence, f"{again}; {USE_TICKS}")
            ) from _without_secrets(error)
        damage = _damage(error, address)
        raise CacheWriteError(damage or with_hint(sentence, again)) from _without_secrets(error)
