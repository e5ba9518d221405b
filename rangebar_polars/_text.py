"""Conversion of data to text that is safe in a message, on a terminal and in a chart."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["count_text", "either", "most_similar", "printable", "shown"]

LONGEST = 200
# Control characters except tab and newline, lone surrogates, and noncharacters. XML parsers,
# terminals and UTF-8 encoders each reject some of them, or act on them.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(
        f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17)
    )
    + "]"
)
#: Names are shorter. To compare longer texts takes time with the square of their length.
LONGEST_NAME = 100
BITS_SHOWN = 1024  # Python refuses to write longer integers in decimal


def printable(text: str) -> str:
    r"""Escape unprintable characters other than tabs and newlines.

    Examples
    --------
    >>> from rangebar_polars._text import printable
    >>> print(printable("a\x1b[2Jb\ud800 é"))
    a\x1b[2Jb\ud800 é
    """
    return UNPRINTABLE.sub(_escaped, text)


def most_similar(text: str, choices: Iterable[str], cutoff: float) -> str | None:
    """Return the choice that is most similar to a text, if it is similar enough.

    Examples
    --------
    >>> from rangebar_polars._text import most_similar
    >>> most_similar("binanec", ["binance", "exness"], 0.8), most_similar("n" * 10**6, ["n"], 0.1)
    ('binance', None)
    """
    if len(text) > LONGEST_NAME:
        return None
    from difflib import get_close_matches

    names = [choice for choice in choices if len(choice) <= LONGEST_NAME]
    return next(iter(get_close_matches(text, names, n=1, cutoff=cutoff)), None)


def shown(value: object, longest: int = LONGEST) -> str:
    """Format any value for a message or a heading, with bounded length and depth.

    Examples
    --------
    >>> from rangebar_polars._text import shown
    >>> shown("maybe"), shown(250), shown("a" * 1000, longest=5), shown(10**5000)
    ('maybe', '250', 'aaaa…', 'an integer of 16610 bits')
    """
    if isinstance(value, str):
        # Escaping only lengthens a text, so the rest of it would be cut anyway.
        text = value[: longest + 1]
    elif isinstance(value, int):
        text = _SHORTENED.repr_int(value, 0)
    elif isinstance(value, (list, tuple, dict, set, frozenset)):
        text = _SHORTENED.repr(value)
    else:
        text = str(value)
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def either(choices: Iterable[str]) -> str:
    """List alternatives for a sentence.

    Examples
    --------
    >>> from rangebar_polars._text import either
    >>> either(["spot", "um", "cm"]), either(["spot"])
    ('spot, um or cm', 'spot')
    """
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural; a noun in `s` has one form.

    Examples
    --------
    >>> from rangebar_polars._text import count_text
    >>> count_text(1, "day"), count_text(2_000, "day"), count_text(2, "series")
    ('1 day', '2,000 days', '2 series')
    """
    return f"{count:,} {noun}" if count == 1 or noun.endswith("s") else f"{count:,} {noun}s"


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


class _Shortened(reprlib.Repr):
    """A `repr` of nested values with bounded depth and length."""

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        """Return the decimal digits, or the size of an integer that has too many."""
        bits = x.bit_length()
        return str(x) if bits <= BITS_SHOWN else f"an integer of {bits} bits"


_SHORTENED = _Shortened()
_SHORTENED.maxlevel = 3
