"""Durations and look-back windows, checked and in one form."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from rangebar_polars._typing import Lookback, MaxGap

__all__ = ["Window", "parse_gap", "parse_lookback"]

_SECOND = 1_000_000_000
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_DURATION_PART = re.compile(r"([0-9]{1,19})([a-zµμ]+)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_LONGEST_GAP = 2**63 - 1
_MOST_RECORDS = 10_000
_MOST_BARS = 100
_DAY = 86_400 * _SECOND
_CANONICAL = re.compile(r"(?:(records|bars)=([0-9]{1,19})|time=([0-9]{1,19})ns)")
_SHORT = re.compile(r"([0-9]{1,19})(bars)?")


@dataclass(frozen=True, slots=True)
class Window:
    """Extent of a look-back window: so many records, bars or nanoseconds."""

    kind: str
    count: int

    def __str__(self) -> str:
        """Return the canonical text, which `parse_lookback` accepts."""
        return f"time={self.count}ns" if self.kind == "time" else f"{self.kind}={self.count}"

    def kernel(self) -> dict[str, int]:
        """Return the window as an option of the kernel."""
        return {f"lookback_{'ns' if self.kind == 'time' else self.kind}": self.count}


def parse_lookback(lookback: Lookback) -> Window:
    """Check a look-back window and its limits.

    Examples
    --------
    >>> from rangebar_polars.compute._durations import parse_lookback
    >>> [str(parse_lookback(window)) for window in (200, "3bars", "5m")]
    ['records=200', 'bars=3', 'time=300000000000ns']
    """
    window = _window(lookback)
    if window.kind == "records" and not 1 <= window.count <= _MOST_RECORDS:
        raise ValueError(f"`lookback` must be 1 to {_MOST_RECORDS} records; it is {window.count}")
    if window.kind == "bars" and not 1 <= window.count <= _MOST_BARS:
        raise ValueError(f"`lookback` must be 1 to {_MOST_BARS} bars; it is {window.count}")
    if window.kind == "time" and not 0 < window.count <= _DAY:
        raise ValueError(
            f"`lookback` must be longer than 0 and at most 24 hours; it is `{lookback}`"
        )
    return window


def _window(lookback: Lookback) -> Window:
    if isinstance(lookback, timedelta):
        return Window("time", _nanoseconds(lookback))
    if isinstance(lookback, str):
        return _of_text(lookback.strip())
    if isinstance(lookback, bool) or not hasattr(lookback, "__index__"):
        raise TypeError(
            '`lookback` must be a number of records, text such as "3bars" or "5m", or a '
            f"timedelta; it is of type `{type(lookback).__name__}`"
        )
    return Window("records", operator.index(lookback))


def _of_text(text: str) -> Window:
    if (canonical := _CANONICAL.fullmatch(text)) is not None:
        kind, count, nanoseconds = canonical.groups()
        return Window(kind or "time", int(count or nanoseconds))
    if (short := _SHORT.fullmatch(text)) is not None:
        return Window(short[2] or "records", int(short[1]))
    return Window("time", _parse_duration(text, "lookback", 'write "30s", "5m", "24h" or "3bars"'))


def parse_gap(gap: MaxGap) -> int:
    """Return the longest gap in nanoseconds."""
    if isinstance(gap, timedelta):
        nanoseconds = _nanoseconds(gap)
    elif isinstance(gap, str):
        write = 'write "30m", "1h", "36h"'
        nanoseconds = _parse_duration(gap, "max_gap", write)
    else:
        raise TypeError(
            '`max_gap` must be a timedelta or a duration such as "1h" or "30m"; it is of type '
            f"`{type(gap).__name__}`"
        )
    if not 0 < nanoseconds <= _LONGEST_GAP:
        raise ValueError(f"`max_gap` must be longer than 0 and below 292 years; it is `{gap}`")
    return nanoseconds


def _nanoseconds(duration: timedelta) -> int:
    return (duration.days * 86_400 + duration.seconds) * _SECOND + duration.microseconds * 1000


def _parse_duration(text: str, name: str, write: str) -> int:
    stripped = text.strip()
    parts = _DURATION_PART.findall(stripped) if _DURATION.fullmatch(stripped) else []
    if not parts or any(unit not in _NANOSECONDS for _, unit in parts):
        raise ValueError(
            with_hint(
                f"`{name}` cannot be `{text}`: it must consist of numbers, each with a unit of "
                "fixed length: ns, us, ms, s, m, h",
                f"{write} or a timedelta; the length of days, weeks, months, "
                "quarters and years depends on the calendar",
            )
        )
    return sum(int(number) * _NANOSECONDS[unit] for number, unit in parts)
