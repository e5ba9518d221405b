"""What a value in a settings or symbols file must be: its words for errors, and how it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rangebar_polars.exceptions import SettingError, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Kind", "choice", "whole_number"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value must be: in words, and as the function that reads it or raises ValueError."""

    words: str
    read: Callable[[Any], object]
    choices: tuple[str, ...] = ()

    def value(self, given: object, place: str, *, secret: bool = False) -> Any:  # noqa: ANN401
        """The value, read; `place` says in an error where it stands.

        Raises
        ------
        SettingError
            It is no value of this kind.
        """
        try:
            return self.read(given)
        except (ValueError, TypeError, RuntimeError) as error:
            shown = "…" if secret else given
            sentence = f"{place} is `{shown}`, which is not {self.words}"
            near = nearest(str(given), self.choices)
            message = with_hint(sentence, f"did you mean `{near}`?") if near else sentence
            raise SettingError(message) from error


def choice(*choices: str) -> Kind:
    """One of some words, in any letter case."""

    def read(value: object) -> str:
        return choices[choices.index(_text(value).lower())]

    *most, last = choices
    return Kind(f"{', '.join(most)} or {last}", read, choices)


def whole_number(low: int, high: int | None = None, unit: str = "whole number") -> Kind:
    """A whole number from `low` to `high`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        number = int(value)
        if number < low or (high is not None and number > high):
            raise ValueError
        return number

    limits = f"of at least {low}" if high is None else f"from {low} to {high}"
    return Kind(f"a {unit} {limits}", read)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip():
        raise ValueError
    return value.strip()


def _path(value: object) -> Path:
    if not isinstance(value, Path):
        _text(value)
    # As it is: a name may begin or end with a space.
    path = Path(str(value)).expanduser()
    if "\0" in str(path):
        raise ValueError
    return path


def _address(value: object) -> str:
    address = _text(value).rstrip("/")
    if not address.lower().startswith(("http://", "https://", "file://")):
        raise ValueError
    return address


def _wait(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds >= 0):
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
ADDRESS = Kind("an address that begins with http://, https:// or file://", _address)
SECONDS = Kind("a number of seconds above 0", _seconds)
WAIT = Kind("a number of seconds, 0 or more", _wait)
SWITCH = Kind("true or false", _switch)
DATE = Kind("a date", _date)
COUNT = whole_number(1)
THRESHOLD = whole_number(1, 100_000, "whole number of decimal basis points")
