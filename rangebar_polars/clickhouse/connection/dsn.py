"""Which cache is meant: a folder of this machine, or a server by its address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from rangebar_polars import config
from rangebar_polars._utils.address import Address, fault_of, shown
from rangebar_polars._utils.checks import require_folder
from rangebar_polars.exceptions import SettingError, unknown_choice, with_hint

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from rangebar_polars.config import Settings

__all__ = ["DATABASE", "Target", "resolve"]

#: Where the tables are unless the address names another database.
DATABASE = "rangebar"

_FOLDER = "clickhouse"
_SCHEMES = ("chdb", "http", "https")
_USER_PARAMETERS = ("user", "username", "user_name")


@dataclass(frozen=True, slots=True)
class Target:
    """A cache that can be opened."""

    #: Address without user and password, for messages.
    address: str
    #: The address with user and password, which its text form leaves out.
    dsn: Address
    database: str
    #: Folder of an embedded cache.
    folder: Path | None
    #: For how long to wait for a folder that another process holds.
    wait_s: float
    #: For how long a folder stays open that no call uses.
    idle_s: float = 0.0

    @property
    def key(self) -> str:
        """What tells it from other caches: for a server the user too. Not for messages."""
        return self.address if self.is_embedded else f"{self.dsn.full} {self.database}"

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
        The address is not valid.
    StorageError
        The folder, or one that it lies in, is a file.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.dsn import resolve
    >>> resolve("http://reader:secret@localhost:8123").address
    'http://localhost:8123/rangebar'
    """
    found = config.settings(cache_dir=cache_dir, clickhouse_dsn=dsn, cache_wait_s=wait_s)
    folder, address, wait = found.cache_dir, found.clickhouse_dsn, found.cache_wait_s
    if address is None:
        require_folder(folder)
        return _embedded(folder / _FOLDER, found)
    parts = _parts_of(Address(address).full)
    if parts.scheme == "chdb":
        return _embedded(_folder_of(address, parts), found)
    return _server(parts, wait)


def _parts_of(address: str) -> SplitResult:
    """Parts of an address of a known kind."""
    text = shown(address)
    fault = fault_of(address)
    if fault is not None:
        hint = (
            "http://localhost:8123; a port is a number up to 65535, and `/`, `?`, `#` and `@` in a "
            "user or password are written as %2F, %3F, %23 and %40"
        )
        place = text.partition("://")[2]
        raise SettingError(
            with_hint(f"`dsn` is no address that can be read: `{place}` {fault}", hint)
        )
    parts = urlsplit(address)
    if "://" not in address and parts.scheme not in _SCHEMES:
        is_path = text == address and address.startswith("/")
        hint = f"chdb://{address}" if is_path else f"http://{text}"
        raise SettingError(
            with_hint(f"`dsn` is `{text}`, which does not say of what kind it is", hint)
        )
    if parts.scheme not in _SCHEMES:
        raise SettingError(unknown_choice("dsn", parts.scheme or text, _SCHEMES))
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
    require_folder(folder)
    return folder


def _embedded(folder: Path, found: Settings) -> Target:
    place = folder.expanduser().resolve()
    dsn = f"chdb://{place}"
    return Target(dsn, Address(dsn), DATABASE, place, found.cache_wait_s, found.cache_idle_s)


def _server(parts: SplitResult, wait_s: float) -> Target:
    if not parts.hostname:
        raise SettingError(with_hint("the address has no host", "http://localhost:8123"))
    host = parts.netloc.rpartition("@")[2]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    login = _login_of(parts, options)
    named = options.pop("database", "")
    database = parts.path.strip("/") or named or DATABASE
    if named not in ("", database):
        raise SettingError(
            with_hint(
                f"`{parts.scheme}://{host}/{database}` names another database in its options",
                "name the database once, behind the host",
            )
        )
    dsn = Address(urlunsplit((parts.scheme, f"{login}{host}", "", urlencode(options), "")))
    return Target(f"{parts.scheme}://{host}/{database}", dsn, database, None, wait_s)


def _login_of(parts: SplitResult, options: dict[str, str]) -> str:
    """User and password as they stand before the host; those of the options are taken out."""
    given = {name: options.pop(name) for name in (*_USER_PARAMETERS, "password") if name in options}
    users = [value for name, value in given.items() if name in _USER_PARAMETERS]
    twice = len(users) > 1 or (users and parts.username) or ("password" in given and parts.password)
    if twice:
        raise SettingError(
            with_hint(
                f"the address of `{parts.hostname}` names a user or a password twice",
                "http://user:password@localhost:8123, without them in the options",
            )
        )
    user = users[0] if users else unquote(parts.username or "")
    password = given.get("password", unquote(parts.password or ""))
    if not user and not password:
        return ""
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{quote(user or 'default', safe='')}{secret}@"
