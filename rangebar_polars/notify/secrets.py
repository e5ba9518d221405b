"""Removal of keys from the log records of the libraries that send notifications."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from rangebar_polars._utils.fork import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["hide", "secrets_of"]

#: Libraries whose records can contain an address with its keys.
LIBRARIES = ("apprise", "requests", "urllib3")
SHORTEST = 4
# Words of addresses that are options and not keys.
WORDS = {"html", "text", "markdown", "split", "truncate", "upstream", "true", "false", "post"}
WORDS |= {"info", "warning", "failure", "success", "high", "normal", "emergency", "message"}


class _HideSecrets(logging.Filter):
    """Replaces secrets in the records of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = ForkSafeLock()
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secrets: Iterable[str]) -> None:
        """Replace further secrets from now on."""
        with self._lock:
            new = {one for one in secrets if len(one) >= SHORTEST} - self._secrets
            if new:
                self._secrets |= new
                # The longest first: one secret can be a part of another.
                ordered = sorted(self._secrets, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace secrets in the message and the traceback of a record."""
        if self._pattern is None:
            return True
        message = record.getMessage()
        hidden = self._pattern.sub("…", message)
        if hidden != message:
            record.msg, record.args = hidden, ()
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
            record.exc_info, record.exc_text = None, self._pattern.sub("…", text)
        if record.stack_info:
            record.stack_info = self._pattern.sub("…", record.stack_info)
        return True


_filter = _HideSecrets()


def hide(secrets: Iterable[str]) -> None:
    """Hide secrets in all records of the libraries, for the rest of the process."""
    found = set(secrets)
    _filter.add(found | {quote(one, safe="") for one in found})
    # The filter of a logger does not apply to its children.
    known = [name for name in tuple(logging.root.manager.loggerDict) if _is_of_library(name)]
    for name in {*LIBRARIES, *known}:
        logging.getLogger(name).addFilter(_filter)


def _is_of_library(name: str) -> bool:
    return name.partition(".")[0] in LIBRARIES


def secrets_of(address: str) -> set[str]:
    """Return the parts of an apprise address that may be keys: all but the scheme and a host.

    Examples
    --------
    >>> from rangebar_polars.notify.secrets import secrets_of
    >>> sorted(secrets_of("json://user:pass%21@example.org:80/token?+X-Key=abcd&format=text"))
    ['abcd', 'dXNlcjpwYXNzIQ==', 'pass!', 'pass%21', 'token', 'user', 'user:pass!', 'user:pass%21']
    """
    rest = address.partition("://")[2]
    before, _, query = rest.partition("?")
    login, _, place = before.rpartition("@")
    host, *path = place.split("/")
    parts = [login, *login.split(":"), *path, "/".join(path)]
    parts += [value for _, value in parse_qsl(query)]
    name = host.partition(":")[0]
    if "." not in name and name != "localhost" and not name.startswith("["):
        parts += [host, *host.split(":")]
    found = {form for part in parts for form in (part, unquote(part))}
    if ":" in login:
        found.add(base64.b64encode(unquote(login).encode()).decode())
    return {one for one in found if len(one) >= SHORTEST and one.lower() not in WORDS}
