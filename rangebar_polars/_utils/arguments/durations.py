"""Durations and look-back windows, checked and in one form."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text, shown
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from rangebar_polars._typing import Lookback, MaxGap

__all__ = ["MOST_RECORDS", "Window", "cut_text", "parse_gap", "parse_lookback"]

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
#: Patterns are compiled at their first use, so that the import stays fast.
_DURATION_PART = r"([0-9]{1,19})([a-zµμ]+)"
_DURATION = rf"(?:{_DURATION_PART})+"
_LONGEST_GAP = 2**63 - 1
#: Most records of a look-back window; a longer one is cut to its newest records.
MOST_RECORDS = 10_000
_MOST_BARS = 100
_DAY = 86_400 * _SECOND
_GAP_HINT = 'write max_gap="1h"; the units are ns, us, ms, s, m and h'
_LOOKBACK_HINT = 'write lookback=200, lookback="3bars" or lookback="5m"'
#: A number and a unit, in the ways in which they are also written.
_LOOSE_DURATION = r"[+-]?\s*([0-9]{1,9})\s*([A-Za-zµμ]+)"
_MONTH = "M"
_HOURS = {"d": 24, "day": 24, "days": 24, "w": 168, "week": 168, "weeks": 168}
_UNIT_NAMES = {
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("minute", "minutes", "min", "mins", "t"), "m"),
    **dict.fromkeys(("second", "seconds", "sec", "secs"), "s"),
}
_CANONICAL = r"(?:(records|bars)=([0-9]{1,19})|time=([0-9]{1,19})ns)"
_SHORT = r"([0-9]{1,19})(bars)?"


@dataclass(frozen=True, slots=True)
class Window:
    """Length of a look-back window: a number of records, bars or nanoseconds."""

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
    >>> from rangebar_polars._utils.arguments.durations import parse_lookback
    >>> [str(parse_lookback(window)) for window in (200, "3bars", "5m")]
    ['records=200', 'bars=3', 'time=300000000000ns']
    """
    window = _window(lookback)
    limits = {
        "records": (MOST_RECORDS, f"1 to {MOST_RECORDS:,} records"),
        "bars": (_MOST_BARS, f"1 to {_MOST_BARS} bars"),
        "time": (_DAY, "longer than 0 and at most 24 hours"),
    }
    most, expected = limits[window.kind]
    if not 1 <= window.count <= most:
        sentence = f"`lookback` must be {expected}; it is `{shown(str(lookback))}`"
        raise ValueError(with_hint(sentence, _LOOKBACK_HINT))
    return window


def _window(lookback: Lookback) -> Window:
    if isinstance(lookback, timedelta):
        return Window("time", _nanoseconds(lookback))
    if isinstance(lookback, str):
        return _of_text(lookback.strip())
    if isinstance(lookback, bool) or not hasattr(lookback, "__index__"):
        sentence = (
            '`lookback` must be a number of records, text such as "3bars" or "5m", or a '
            f"timedelta; it is of type `{type(lookback).__name__}`"
        )
        raise TypeError(with_hint(sentence, _LOOKBACK_HINT))
    return Window("records", operator.index(lookback))


def _of_text(text: str) -> Window:
    if (canonical := re.fullmatch(_CANONICAL, text)) is not None:
        kind, count, nanoseconds = canonical.groups()
        return Window(kind or "time", int(count or nanoseconds))
    if (short := re.fullmatch(_SHORT, text)) is not None:
        return Window(short[2] or "records", int(short[1]))
    return Window("time", _parse_duration(text, "lookback", _LOOKBACK_HINT))


def cut_text(count: int) -> str:
    """Return the text of the warning that a number of windows were cut.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.durations import cut_text
    >>> cut_text(1)
    '1 look-back window reached the limit of 10,000 records: only the newest are used'
    """
    windows = count_text(count, "look-back window")
    return f"{windows} reached the limit of {MOST_RECORDS:,} records: only the newest are used"


def parse_gap(gap: MaxGap) -> int:
    """Return the longest gap in nanoseconds.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.durations import parse_gap
    >>> parse_gap("1h30m")
    5400000000000
    """
    if isinstance(gap, timedelta):
        nanoseconds = _nanoseconds(gap)
    elif isinstance(gap, str):
        nanoseconds = _parse_duration(gap, "max_gap", _GAP_HINT)
    else:
        is_seconds = isinstance(gap, int) and not isinstance(gap, bool) and gap > 0
        hint = f'if these are seconds, write max_gap="{gap}s"' if is_seconds else _GAP_HINT
        sentence = (
            '`max_gap` must be a timedelta or a duration such as "1h" or "30m"; it is of type '
            f"`{type(gap).__name__}`"
        )
        raise TypeError(with_hint(sentence, hint))
    if not 0 < nanoseconds <= _LONGEST_GAP:
        sentence = f"`max_gap` must be longer than 0 and below 292 years; it is `{gap}`"
        raise ValueError(with_hint(sentence, f"{_GAP_HINT}. None is no limit"))
    return nanoseconds


def parse_interval(interval: str | timedelta, name: str) -> float:
    """Return an interval in seconds.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.durations import parse_interval
    >>> parse_interval("1m30s", "partial_every"), parse_interval("250ms", "partial_every")
    (90.0, 0.25)
    """
    hint = f'write {name}="1s"; the units are ns, us, ms, s, m and h'
    if isinstance(interval, timedelta):
        nanoseconds = _nanoseconds(interval)
    elif isinstance(interval, str):
        nanoseconds = _parse_duration(interval, name, hint)
    else:
        kind = type(interval).__name__
        sentence = (
            f'`{name}` must be a timedelta or a duration such as "1s"; it is of type `{kind}`'
        )
        raise TypeError(with_hint(sentence, hint))
    if not 0 < nanoseconds <= _LONGEST_GAP:
        sentence = f"`{name}` must be longer than 0 and below 292 years; it is `{interval}`"
        raise ValueError(with_hint(sentence, hint))
    return nanoseconds / _SECOND


def _nanoseconds(duration: timedelta) -> int:
    return (duration.days * 86_400 + duration.seconds) * _SECOND + duration.microseconds * 1000


def _parse_duration(text: str, name: str, hint: str) -> int:
    stripped = text.strip()
    parts = re.findall(_DURATION_PART, stripped) if re.fullmatch(_DURATION, stripped) else []
    if not parts or any(unit not in _NANOSECONDS for _, unit in parts):
        raise ValueError(
            with_hint(
                f"`{name}` cannot be `{shown(text)}`: it must consist of numbers, each with a unit "
                "of fixed length: ns, us, ms, s, m, h",
                _meant_duration(stripped, name)
                or f"{hint}. The length of months, quarters and years depends on the calendar",
            )
        )
    return sum(int(number) * _NANOSECONDS[unit] for number, unit in parts)


def _meant_duration(text: str, name: str) -> str | None:
    """Return the hint for a duration with a blank, a sign or a unit of days; None for others."""
    found = re.fullmatch(_LOOSE_DURATION, text)
    if found is None:
        return None
    number, unit = int(found[1]), found[2].lower() if found[2] != _MONTH else _MONTH
    hours = _HOURS.get(unit)
    meant = f"{number * hours}h" if hours else f"{number}{_UNIT_NAMES.get(unit, unit)}"
    is_known = hours is not None or unit in _NANOSECONDS or unit in _UNIT_NAMES
    return f'write {name}="{meant}"' if number and is_known else None
