"""Addresses of servers that may contain secrets: a user, a password, a token in the query."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["Address", "fault_of", "scrubbed", "shown"]

# These addresses name a folder of this machine, where `@` and `?` are ordinary characters.
_LOCAL = ("file", "chdb")
_USER_INFO = re.compile(r"(?<=://)[^\s'\"`]*@")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;][\w.-]*(?:pass|pwd|secret|token|sig|key|cred|auth)[\w.-]*=)[^&;\s'\"`<>)]+"
)
# Shorter texts would also match where they are not secrets.
_SHORTEST_SECRET = 4


class Address(str):
    """An address whose text form and `repr` omit its secrets.

    The methods of `str` work on the full address. `str()`, `repr()`, formatting and logging use
    `shown`, so that secrets cannot reach a message, a file or a log by accident.

    Examples
    --------
    >>> from rangebar_polars._utils.address import Address
    >>> address = Address("https://reader:secret@host/prefix?token=abc")
    >>> print(address)
    https://host/prefix?token=…
    >>> address.full
    'https://reader:secret@host/prefix?token=abc'
    >>> address.joined("data/day.zip").full
    'https://reader:secret@host/prefix/data/day.zip?token=abc'
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Accept a text, or another address with its secrets."""
        return super().__new__(cls, str.__str__(text))

    def __str__(self) -> str:
        return shown(self)

    def __repr__(self) -> str:
        return repr(shown(self))

    def __format__(self, specification: str) -> str:
        return format(shown(self), specification)

    @property
    def full(self) -> str:
        """The address with its secrets."""
        return str.__str__(self)

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password without percent-encoding, or None without either."""
        parts = urlsplit(self.full)
        if parts.username is None and parts.password is None:
            return None
        return unquote(parts.username or ""), unquote(parts.password or "")

    def joined(self, path: str) -> Address:
        """Return the address of a path below this one, with the same query."""
        parts = urlsplit(self.full)
        below = f"{parts.path.rstrip('/')}/{path}"
        return Address(urlunsplit((parts.scheme, parts.netloc, below, parts.query, "")))

    def with_query(self, query: str) -> Address:
        """Return the address with additional query parameters."""
        parts = urlsplit(self.full)
        more = "&".join(part for part in (parts.query, query) if part)
        return Address(urlunsplit((parts.scheme, parts.netloc, parts.path, more, "")))


def shown(address: str) -> str:
    """Return an address without user, password, fragment and values of the query.

    This works on malformed addresses, too: everything before the last `@` is omitted.

    Examples
    --------
    >>> from rangebar_polars._utils.address import shown
    >>> shown("http://reader:12/3@host:8123/bars?password=x&secure=true")
    'http://host:8123/bars?password=…&secure=…'
    """
    scheme, mark, rest = str.__str__(address).partition("://")
    if not mark:
        scheme, rest = "", scheme
    is_path = not mark and rest.startswith("/") and not rest.startswith("//")
    if is_path or scheme.lower() in _LOCAL:
        host, slash, path = rest.partition("/")
        return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
    location, has_query, query = rest.rpartition("@")[2].partition("#")[0].partition("?")
    values = "&".join(_without_value(part) for part in re.split("[&;]", query))
    return f"{scheme}{mark}{location}{has_query}{values}"


def _without_value(parameter: str) -> str:
    name, mark, _ = parameter.partition("=")
    return f"{name}=…" if mark else "…" * bool(parameter)


def scrubbed(text: str, *addresses: str) -> str:
    """Remove the secrets of any address from a text of another library.

    Parameters
    ----------
    text
        A message of the library.
    *addresses
        Addresses that the library received. Their secrets are also removed where they stand alone.

    Examples
    --------
    >>> from rangebar_polars._utils.address import scrubbed
    >>> scrubbed("no answer from http://reader:secret@host/a?token=abc")
    'no answer from http://host/a?token=…'
    """
    for address in addresses:
        full = str.__str__(address)
        text = text.replace(full, shown(full))
        for secret in sorted(_secrets_of(full), key=len, reverse=True):
            text = text.replace(secret, "…")
    return _SECRET_PARAMETER.sub(r"\1…", _USER_INFO.sub("", text))


def _secrets_of(address: str) -> Iterator[str]:
    """Yield the secrets of an address, as written and decoded."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() in _LOCAL:
        return
    user_info, _, location = rest.rpartition("@")
    values = [part.partition("=")[2] for part in re.split("[&;]", location.partition("?")[2])]
    for secret in (user_info, user_info.partition(":")[2], *values):
        plain = unquote(secret)
        # As in an HTTP header.
        encoded = base64.b64encode(plain.encode("utf-8", "replace")).decode()
        for form in {secret, plain, encoded}:
            if len(form) >= _SHORTEST_SECRET:
                yield form


def fault_of(address: str) -> str | None:
    """Return why an address is ambiguous, without its secrets, or None if it is not.

    Examples
    --------
    >>> from rangebar_polars._utils.address import fault_of
    >>> fault_of("http://reader:12/3@host:8123")
    'has an `@` behind the host'
    """
    full = str.__str__(address)
    scheme, _, rest = full.partition("://")
    if scheme.lower() in _LOCAL:
        return None
    try:
        parts = urlsplit(full)
        _ = parts.port
    except ValueError:
        # The message of the library may contain a part of the password.
        return "has no valid host or port"
    # A `/`, `?` or `#` in a password ends the host early. The rest would be read as a path.
    behind = re.split("[/?#]", rest, maxsplit=1)[1:]
    return "has an `@` behind the host" if "@" in "".join(behind) else None
