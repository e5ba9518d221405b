"""The address of a cache: a folder of this machine or a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from rangebar_polars import config
from rangebar_polars._utils.address import Address, fault_of, shown
from rangebar_polars._utils.arguments.checks import require_folder
from rangebar_polars.exceptions import SettingError, unknown_choice, with_hint

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from rangebar_polars.config import Settings

__all__ = ["DATABASE", "Target", "resolve"]

#: The database of the tables, unless the address names another one.
DATABASE = "rangebar"

_FOLDER = "clickhouse"
_SCHEMES = ("chdb", "http", "https")
_USER_PARAMETERS = ("user", "username", "user_name")


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a cache, resolved from the arguments and the settings."""

    #: The address without user and password, for messages.
    address: str
    #: The address with user and password, which its text form omits.
    dsn: Address
    database: str
    #: The folder of an embedded cache; None for a server.
    folder: Path | None
    #: How long to wait for a folder that another process holds.
    wait_s: float
    #: How long a folder stays open without a call.
    idle_s: float = 0.0

    @property
    def key(self) -> str:
        """A key that is unique to this cache and, on a server, to the user. Not for messages."""
        return self.address if self.is_embedded else f"{self.dsn.full} {self.database}"

    @property
    def is_embedded(self) -> bool:
        """Whether the cache is a folder of this machine."""
        return self.folder is not None


def resolve(
    dsn: str | None = None, cache_dir: str | Path | None = None, *, wait_s: float | None = None
) -> Target:
    """Resolve the cache that the arguments or the settings name; by default, a folder.

    Raises
    ------
    SettingError
        The address is not valid.
    StorageError
        The folder, or one of its parents, is a file.

    Examples
    --------
    >>> from rangebar_polars.clickhouse.connection.dsn import resolve
    >>> resolve("http://reader:secret@localhost:8123").address
    'http://localhost:8123/rangebar'
    """
    settings = config.settings(cache_dir=cache_dir, clickhouse_dsn=dsn, cache_wait_s=wait_s)
    folder, address, wait = settings.cache_dir, settings.clickhouse_dsn, settings.cache_wait_s
    if address is None:
        require_folder(folder)
        return _embedded(folder / _FOLDER, settings)
    parts = _parts_of(Address(address).full)
    if parts.scheme == "chdb":
        return _embedded(_folder_of(address, parts), settings)
    return _server(parts, wait)


def _parts_of(address: str) -> SplitResult:
    """Split an address and check its scheme."""
    text = shown(address)
    fault = fault_of(address)
    if fault is not None:
        hint = (
            "http://localhost:8123; a port is a number up to 65535; write `/`, `?`, `#` and `@` in a "
            "user or password as %2F, %3F, %23 and %40"
        )
        location = text.partition("://")[2]
        raise SettingError(with_hint(f"`dsn` is not a valid address: `{location}` {fault}", hint))
    parts = urlsplit(address)
    if "://" not in address and parts.scheme not in _SCHEMES:
        is_path = text == address and address.startswith("/")
        hint = f"chdb://{address}" if is_path else f"http://{text}"
        raise SettingError(with_hint(f"`dsn` is `{text}`, which has no scheme", hint))
    if parts.scheme not in _SCHEMES:
        raise SettingError(unknown_choice("dsn", parts.scheme or text, _SCHEMES))
    return parts


def _folder_of(address: str, parts: SplitResult) -> Path:
    # From the address itself: its parts omit characters that a URL cannot have, such as a newline.
    folder = Path(address.partition("://")[2])
    if parts.netloc or not folder.is_absolute() or folder == Path("/"):
        raise SettingError(
            with_hint(
                f"`{address}` does not name a folder", "chdb:///path/of/a/folder, with three `/`"
            )
        )
    if "?" in address or "#" in address:
        raise SettingError(
            with_hint(
                f"`{address}` has options, and a folder takes no options",
                f"chdb://{parts.path}; pass a folder with `?` or `#` in its name as cache_dir=",
            )
        )
    require_folder(folder)
    return folder


def _embedded(folder: Path, settings: Settings) -> Target:
    path = folder.expanduser().resolve()
    dsn = f"chdb://{path}"
    return Target(dsn, Address(dsn), DATABASE, path, settings.cache_wait_s, settings.cache_idle_s)


def _server(parts: SplitResult, wait_s: float) -> Target:
    if not parts.hostname:
        raise SettingError(with_hint("`dsn` has no host", "http://localhost:8123"))
    host = parts.netloc.rpartition("@")[2]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    login = _login_of(parts, options)
    named = options.pop("database", "")
    database = parts.path.strip("/") or named or DATABASE
    if named not in ("", database):
        raise SettingError(
            with_hint(
                f"`{parts.scheme}://{host}/{database}` names another database in its options",
                "name the database once, after the host",
            )
        )
    dsn = Address(urlunsplit((parts.scheme, f"{login}{host}", "", urlencode(options), "")))
    return Target(f"{parts.scheme}://{host}/{database}", dsn, database, None, wait_s)


def _login_of(parts: SplitResult, options: dict[str, str]) -> str:
    """Return the user and password to put before the host, and remove them from the options."""
    login = {name: options.pop(name) for name in (*_USER_PARAMETERS, "password") if name in options}
    users = [value for name, value in login.items() if name in _USER_PARAMETERS]
    twice = len(users) > 1 or (users and parts.username) or ("password" in login and parts.password)
    if twice:
        raise SettingError(
            with_hint(
                f"the address of `{parts.hostname}` names a user or a password twice",
                "http://user:password@localhost:8123, without them in the options",
            )
        )
    user = users[0] if users else unquote(parts.username or "")
    password = login.get("password", unquote(parts.password or ""))
    if not user and not password:
        return ""
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{quote(user or 'default', safe='')}{secret}@"
