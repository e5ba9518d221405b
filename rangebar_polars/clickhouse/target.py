"""Which cache is meant: a folder of this machine, or a server by its address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from rangebar_polars import config
from rangebar_polars._judge import must_be_folder
from rangebar_polars.exceptions import SettingError, unknown_choice, with_hint

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from rangebar_polars.config import Settings

__all__ = ["DATABASE", "Target", "resolve"]

#: Where the tables are unless the address names another database.
DATABASE = "rangebar"

_FOLDER = "clickhouse"
_SCHEMES = ("chdb", "http", "https")


@dataclass(frozen=True, slots=True)
class Target:
    """A cache that can be opened."""

    #: Address without user and password: what is shown, and by which openings are shared.
    address: str
    dsn: str
    database: str
    #: Folder of an embedded cache.
    folder: Path | None
    #: For how long to wait for a folder that another process holds.
    wait_s: float
    #: For how long a folder stays open that no call uses.
    idle_s: float = 0.0

    @property
    def is_embedded(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.folder is not None


def resolve(
    dsn: str | None = None, cache_dir: str | Path | None = None, *, wait_s: float | None = None
) -> Target:
    """Cache that the arguments or else the settings name; a folder where they name none.

    Raises
    ------
    SettingError
        An address that is none.
    StorageError
        The folder, or one that it lies in, is a file.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.target import resolve
    >>> resolve("http://reader:secret@localhost:8123").address
    'http://localhost:8123/rangebar'
    """
    found = config.settings(cache_dir=cache_dir, clickhouse_dsn=dsn, cache_wait_s=wait_s)
    folder, address, wait = found.cache_dir, found.clickhouse_dsn, found.cache_wait_s
    if address is None:
        must_be_folder(folder)
        return _embedded(folder / _FOLDER, found)
    parts = _parts_of(address)
    if parts.scheme == "chdb":
        return _embedded(_folder_of(address, parts), found)
    return _server(parts, wait)


def _parts_of(address: str) -> SplitResult:
    """Parts of an address of a known kind."""
    shown = address.rpartition("@")[2]
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        # Its words may hold a part of the password.
        hint = "http://localhost:8123; a port is a number up to 65535"
        raise SettingError(
            with_hint(f"`dsn` is no address that can be read, at `{shown}`", hint)
        ) from None
    if "://" not in address and parts.scheme not in _SCHEMES:
        hint = f"chdb://{address}" if address.startswith("/") else f"http://{shown}"
        raise SettingError(
            with_hint(f"`dsn` is `{shown}`, which does not say of what kind it is", hint)
        )
    if parts.scheme not in _SCHEMES:
        raise SettingError(unknown_choice("dsn", parts.scheme or shown, _SCHEMES))
    return parts


def _folder_of(address: str, parts: SplitResult) -> Path:
    # Of the address itself: its parts lack characters that a URL cannot have, such as a newline.
    folder = Path(address.partition("://")[2])
    if parts.netloc or not folder.is_absolute() or folder == Path("/"):
        raise SettingError(
            with_hint(f"`{address}` names no folder", "chdb:///path/of/a/folder, with three `/`")
        )
    if "?" in address or "#" in address:
        raise SettingError(
            with_hint(
                f"`{address}` names a folder, which takes no options",
                f"chdb://{parts.path}; a folder with `?` or `#` in its name is given by cache_dir=",
            )
        )
    must_be_folder(folder)
    return folder


def _embedded(folder: Path, found: Settings) -> Target:
    place = folder.expanduser().resolve()
    dsn = f"chdb://{place}"
    return Target(dsn, dsn, DATABASE, place, found.cache_wait_s, found.cache_idle_s)


def _server(parts: SplitResult, wait_s: float) -> Target:
    if not parts.hostname:
        raise SettingError(with_hint("the address has no host", "http://localhost:8123"))
    database = parts.path.strip("/") or DATABASE
    host = parts.netloc.rpartition("@")[2]
    dsn = urlunsplit((parts.scheme, parts.netloc, "", parts.query, ""))
    return Target(f"{parts.scheme}://{host}/{database}", dsn, database, None, wait_s)
