"""Types of values in settings and symbols files: how they are parsed and described in errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rangebar_polars._text import either, shown
from rangebar_polars._utils.address import Address, fault_of, scrubbed
from rangebar_polars._utils.address import shown as address_shown
from rangebar_polars.exceptions import SettingError, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Kind", "choice", "listed", "whole_number"]

MOST_SECONDS = 10**9  # about 30 years; sockets and locks reject much longer waits
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s]")
_COMMA_BEFORE_SCHEME = re.compile(rf"\s*,\s*(?={_SCHEME.pattern})")
_ENCODED = "write `/`, `?`, `#` and `@` in a user or password as %2F, %3F, %23 and %40"


class AmbiguousAddressError(ValueError):
    """An address that can be parsed in more than one way."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of values: its description, and the function that parses one or raises ValueError."""

    description: str
    read: Callable[[Any], object]
    choices: tuple[str, ...] = ()
    #: How an error shows a value.
    show: Callable[[str], str] = scrubbed

    def value(self, raw: object, where: str, *, secret: bool = False) -> Any:  # noqa: ANN401
        """Parse a value. Errors name the setting or the line as `where`.

        Raises
        ------
        SettingError
            The value is not of this type.
        """
        try:
            return self.read(raw)
        except AmbiguousAddressError as error:
            raise SettingError(
                with_hint(f"{where} is `{shown(address_shown(str(raw)))}`, which {error}", _ENCODED)
            ) from None
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            text = raw
            if isinstance(raw, str):
                text = self.show(raw)
            elif isinstance(raw, list | tuple):
                text = ", ".join(self.show(str(item)) for item in raw)
            sentence = (
                f"{where} is `{'…' if secret else shown(text)}`, which is not {self.description}"
            )
            near = nearest(shown(raw), self.choices)
            message = with_hint(sentence, f"did you mean `{near}`?") if near else sentence
            raise SettingError(message) from error


def choice(*choices: str) -> Kind:
    """Make a type of one of several names, in any letter case."""

    def read(value: object) -> str:
        return choices[choices.index(_text(value).lower())]

    return Kind(either(choices), read, choices)


def whole_number(low: int, high: int | None = None, unit: str = "whole number") -> Kind:
    """Make a type of whole numbers from `low` to `high`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        number = int(value)
        if number < low or (high is not None and number > high):
            raise ValueError
        return number

    limits = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Kind(f"a {unit} {limits}", read)


def listed(kind: Kind) -> Kind:
    """Make a type of one or several values of a type, in a list or a text with commas.

    Examples
    --------
    >>> from rangebar_polars._utils.settings.types import THRESHOLD, listed
    >>> listed(THRESHOLD).read("250, 500")
    (250, 500)
    """

    def read(value: object) -> tuple[object, ...]:
        items = value.split(",") if isinstance(value, str) else value
        found = tuple(map(kind.read, items)) if isinstance(items, list | tuple) else ()
        found = found or (kind.read(value),)
        if len(set(found)) < len(found):
            raise ValueError
        return found

    return Kind(f"{kind.description}, or several with commas between", read, show=kind.show)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip():
        raise ValueError
    return value.strip()


def _path(value: object) -> Path:
    if not isinstance(value, Path):
        _text(value)
    # Not stripped: a name may begin or end with a space.
    path = Path(str(value)).expanduser()
    if "\0" in str(path):
        raise ValueError
    return path


def _address(value: object) -> Address:
    address = _text(value).rstrip("/")
    if not address.lower().startswith(("http://", "https://", "file://")):
        raise ValueError
    fault = fault_of(address)
    if fault is not None:
        raise AmbiguousAddressError(fault)
    return Address(address)


def _stream_address(value: object) -> Address:
    address = _text(value).rstrip("/")
    if not address.lower().startswith(("ws://", "wss://")):
        raise ValueError
    fault = fault_of(address)
    if fault is not None:
        raise AmbiguousAddressError(fault)
    parts = urlsplit(address)
    # The query names the streams, and no key is sent.
    if not parts.hostname or parts.port == 0 or set("@?#") & set(address) or " " in address:
        raise ValueError
    return Address(address)


def _notify_urls(value: object) -> tuple[str, ...]:
    # Such an address may contain commas itself.
    items = _COMMA_BEFORE_SCHEME.split(_text(value)) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TypeError
    found = tuple(map(_text, items))
    if not found or not all(map(_SCHEME.match, found)) or len(set(found)) < len(found):
        raise ValueError
    return found


def _dsn(value: object) -> Address:
    return Address(_text(value))


def _wait(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    seconds = float(value)
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError
    return seconds


def _seconds(value: object) -> float:
    seconds = _wait(value)
    if seconds == 0:
        raise ValueError
    return seconds


def _switch(value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    word = _text(value).lower()
    if word not in words:
        raise ValueError
    return words[word]


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return date.fromisoformat(_text(value))


TEXT = Kind("a text", _text)
PATH = Kind("a path", _path)
ADDRESS = Kind(
    "an address that begins with http://, https:// or file://", _address, show=address_shown
)
STREAM_ADDRESS = Kind(
    "an address such as wss://host:9443/path", _stream_address, show=address_shown
)
DSN = Kind("a text", _dsn)
NOTIFY_URLS = Kind("an address of apprise, or several with commas between", _notify_urls)
SECONDS = Kind(f"a number of seconds above 0, at most {MOST_SECONDS}", _seconds)
WAIT = Kind(f"a number of seconds, 0 or more, at most {MOST_SECONDS}", _wait)
SWITCH = Kind("true or false", _switch)
DATE = Kind("a date", _date)
COUNT = whole_number(1, 10**9)
RATE = whole_number(0, 10**12, "whole number of bytes per second")
THRESHOLD = whole_number(1, 100_000, "whole number of decimal basis points")
