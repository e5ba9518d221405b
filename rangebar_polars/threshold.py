"""Parsing of thresholds to whole numbers of decimal basis points."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from decimal import Decimal
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, cast

from rangebar_polars._text import shown
from rangebar_polars.distance import Distance
from rangebar_polars.exceptions import ThresholdError, nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "THRESHOLD_PRESETS",
    "LimitLike",
    "ThresholdLike",
    "items_of",
    "parse_limits",
    "parse_threshold",
    "parse_thresholds",
]

#: One threshold: decimal basis points, a preset's name, or text such as "0.25%" and "25bp".
ThresholdLike: TypeAlias = SupportsIndex | str

#: What ends a bar: a percentage, or an absolute distance.
LimitLike: TypeAlias = ThresholdLike | Distance

#: Named thresholds in decimal basis points.
THRESHOLD_PRESETS: Mapping[str, int] = MappingProxyType(
    {"micro": 10, "tight": 50, "standard": 100, "medium": 250, "wide": 500, "macro": 1000}
)

_SMALLEST = 1
_LARGEST = 100_000
#: A larger number that is not whole counts decimal basis points, not percent.
_LEAST_FRACTION = 100
_DBPS_PER_UNIT = {"%": 1000, "bp": 10, "bps": 10, "dbps": 1}
# Few enough digits for exact Decimal arithmetic.
#: A number with a point, short enough for a double.
_FRACTION = r"[0-9]{0,9}\.[0-9]{1,15}|[0-9]{1,9}\."
_MOST_DIGITS = 9
_RANGE_HINT = "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %"
_TEXT_HINT = 'write 250, "medium", "0.25%" or "25bp"'
#: A number with a decimal comma, or with its unit in words.
_SPELT_OUT = r"([0-9]{1,9}(?:[.,][0-9]{1,15})?)\s*([a-z%]{1,20}(?: points?)?)"
_UNITS = {
    **dict.fromkeys(("pct", "percent", "perc"), "%"),
    **dict.fromkeys(("basis points", "basis point", "bips", "bip"), "bp"),
}
#: Arrays and series of libraries that hold several thresholds.
_ARRAYS = (
    ("numpy", "ndarray"),
    *((library, kind) for library in ("polars", "pandas") for kind in ("Series", "Index")),
)
_WITH_UNIT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,15})?|\.[0-9]{1,15})\s*(%|bps?|dbps)")


def parse_threshold(value: ThresholdLike) -> int:
    """Parse a threshold to decimal basis points.

    Parameters
    ----------
    value
        A whole number (250 is 0.25 %), the name of a preset, or a number with a unit:
        `"0.25%"`, `"25bp"` (1 bp is 10 dbps), `"250dbps"`.

    Raises
    ------
    ThresholdError
        The threshold is a float, an unknown name, or outside 1 to 100000.
    TypeError
        The threshold is neither a whole number nor text.

    Examples
    --------
    >>> from rangebar_polars.threshold import parse_threshold
    >>> [parse_threshold(value) for value in (250, "medium", "0.25%", "25bp")]
    [250, 250, 250, 250]
    >>> parse_threshold(0.25)
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.ThresholdError: threshold `0.25` is a float, not a whole \
number of decimal basis points: 250 means 0.25 %
    <BLANKLINE>
    hint: write 250 for 0.25 %
    """
    if isinstance(value, str):
        return _in_range(_parse_text(value), value)
    if isinstance(value, Distance):
        raise ThresholdError(
            with_hint(
                f"`{value!r}` is an absolute distance; symbols and the bar cache take percentages only",
                "rb.bars, df.rangebar.bars and rb.RangeBarBuilder take distances",
            )
        )
    if not isinstance(value, bool):
        try:
            return _in_range(operator.index(value), value)
        except TypeError:
            pass
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        raise ThresholdError(
            with_hint(
                f"threshold `{shown(value)}` is a {type(value).__name__}, not a whole number of decimal "
                "basis points: 250 means 0.25 %",
                _remedy(value),
            )
        )
    several = list(value) if isinstance(value, (set, frozenset)) else items_of(value)
    if several is not None:
        first = next((one for one in several if isinstance(one, (int, str))), 250)
        one = f'"{shown(first)}"' if isinstance(first, str) else f"{first:d}"
        raise TypeError(
            with_hint(
                f"one threshold is expected here, not several: `{shown(value)}`",
                f"write {one}, and call again for each of the others",
            )
        )
    raise TypeError(
        with_hint(
            "threshold must be a whole number of decimal basis points, or text; it is of type "
            f"`{type(value).__name__}`",
            _TEXT_HINT,
        )
    )


def parse_limits(
    value: LimitLike | Sequence[LimitLike],
) -> tuple[tuple[int, ...] | tuple[Distance, ...], bool]:
    """Parse percentages or absolute distances, and return whether they came as a list.

    Raises
    ------
    ThresholdError
        The list mixes both, names one distance twice, or holds a percentage that is not valid.

    Examples
    --------
    >>> from rangebar_polars import Distance
    >>> from rangebar_polars.threshold import parse_limits
    >>> parse_limits([Distance("1.50"), Distance(2)])
    ((Distance("1.5"), Distance("2")), True)
    """
    listed = items_of(value)
    long = listed is not None
    items: list[Any] = [value] if listed is None else listed
    distances = tuple(item for item in items if isinstance(item, Distance))
    if not distances:
        return parse_thresholds(cast("ThresholdLike | Sequence[ThresholdLike]", value))
    if len(distances) < len(items):
        other = next(item for item in items if not isinstance(item, Distance))
        raise ThresholdError(
            with_hint(
                f"`{distances[0]!r}` is a distance and `{other!r}` is a percentage; they do not mix "
                "in one list",
                "compute each kind in a separate call",
            )
        )
    repeated = [distance for distance, count in Counter(distances).items() if count > 1]
    if repeated:
        sentence = f"the distance `{repeated[0]}` is given twice"
        raise ThresholdError(with_hint(sentence, "remove one of them"))
    return distances, long


def parse_thresholds(
    value: ThresholdLike | Sequence[ThresholdLike],
) -> tuple[tuple[int, ...], bool]:
    """Parse thresholds to decimal basis points, and return whether they came as a list.

    Examples
    --------
    >>> from rangebar_polars.threshold import parse_thresholds
    >>> parse_thresholds(250), parse_thresholds(["tight", "1%"])
    (((250,), False), ((50, 1000), True))
    """
    if isinstance(value, (set, frozenset)):
        raise TypeError(
            with_hint(
                f"thresholds in a set have no order: `{shown(value)}`",
                f"write a list: {shown(sorted(value, key=str))}",
            )
        )
    items = items_of(value)
    if items is None:
        return (parse_threshold(cast("ThresholdLike", value)),), False
    parsed = tuple(parse_threshold(item) for item in items)
    if not parsed:
        sentence = "the list of thresholds is empty; it needs at least one"
        raise ThresholdError(with_hint(sentence, "write 250, or [250, 500]"))
    first_index: dict[int, int] = {}
    for index, threshold in enumerate(parsed):
        first = first_index.setdefault(threshold, index)
        if first < index:
            raise ThresholdError(
                with_hint(
                    f"thresholds `{shown(items[first])}` and `{shown(items[index])}` are the same: "
                    f"{threshold} decimal basis points ({threshold / 1000:g} %)",
                    "remove one of them",
                )
            )
    return parsed, True


def items_of(value: object) -> list[Any] | None:
    """Return the items of a list, or of an array or a series of a library; None for one value.

    Examples
    --------
    >>> from rangebar_polars.threshold import items_of
    >>> items_of(range(100, 300, 100)), items_of(250)
    ([100, 200], None)
    """
    if isinstance(value, (list, tuple, range)):
        return list(value)
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if (library, kind.__name__) in _ARRAYS and getattr(value, "ndim", 1) == 1:
        return list(cast("Iterable[Any]", value))
    return None


def _in_range(dbps: int, value: object) -> int:
    if _SMALLEST <= dbps <= _LARGEST:
        return dbps
    raise ThresholdError(
        with_hint(
            f"threshold `{shown(value)}` is out of the range {_SMALLEST} to {_LARGEST} decimal basis "
            "points (0.001 % to 100 %)",
            _RANGE_HINT,
        )
    )


def _parse_text(text: str) -> int:
    word = text.strip().lower()
    if word in THRESHOLD_PRESETS:
        return THRESHOLD_PRESETS[word]
    found = _WITH_UNIT.fullmatch(word)
    if found is None:
        raise ThresholdError(_unreadable(text, word))
    number, unit = found.groups()
    dbps = Decimal(number) * _DBPS_PER_UNIT[unit]
    if dbps != int(dbps):
        raise ThresholdError(
            with_hint(
                f"threshold `{shown(text)}` is {dbps.normalize():f} decimal basis points, which is "
                "not a whole number (1 is 0.001 %)",
                _nearby(dbps),
            )
        )
    return int(dbps)


def _unreadable(text: str, word: str) -> str:
    presets = ", ".join(f'"{name}"' for name in THRESHOLD_PRESETS)
    sentence = (
        f"threshold `{shown(text)}` is neither a preset ({presets}) nor a number with a unit "
        '("0.25%", "25bp")'
    )
    if not word:
        return with_hint("threshold is an empty text", _TEXT_HINT)
    if word.isdecimal() and word.isascii():
        number = shown(word)
        if len(word) > _MOST_DIGITS or not _SMALLEST <= int(word) <= _LARGEST:
            return with_hint(sentence, _RANGE_HINT)
        return with_hint(
            sentence, f'write {number} without quotes, or with its unit: "{number}dbps"'
        )
    if re.fullmatch(_FRACTION, word):
        texts = [f'"{dbps / 1000:g}%"' for dbps in _meant(float(word))]
        return with_hint(sentence, f"write {', or '.join(texts)}" if texts else _RANGE_HINT)
    return with_hint(sentence, _meant_text(word))


def _meant_text(word: str) -> str:
    """Suggest a preset, or a number with a unit that is written in another way."""
    near = nearest(word, THRESHOLD_PRESETS)
    if near:
        return f'did you mean "{near}"?'
    spelt = re.fullmatch(_SPELT_OUT, word)
    meant = f"{spelt[1].replace(',', '.')}{_UNITS.get(spelt[2], spelt[2])}" if spelt else ""
    return f'write "{meant}"' if _WITH_UNIT.fullmatch(meant) else _TEXT_HINT


def _nearby(dbps: Decimal) -> str:
    """Suggest the whole numbers below and above a fraction of decimal basis points."""
    lower = int(dbps)
    whole = [number for number in (lower, lower + 1) if _SMALLEST <= number <= _LARGEST]
    choices = [f"{number} for {number / 1000:g} %" for number in whole]
    return f"write {', or '.join(choices)}" if choices else _RANGE_HINT


def _remedy(fraction: Real | Decimal) -> str:
    """Suggest the whole numbers that a fractional threshold may stand for."""
    try:
        value = float(fraction)
    except (OverflowError, ValueError):  # too large for a double, or a signalling NaN
        value = math.inf
    choices = [f"{dbps} for {dbps / 1000:g} %" for dbps in _meant(value)]
    if not choices and _LEAST_FRACTION <= value <= _LARGEST:
        return _nearby(Decimal(value))
    return f"write {', or '.join(choices)}" if choices else _RANGE_HINT


def _meant(value: float) -> list[int]:
    """Return thresholds that a number stands for: of percent, of decimal basis points, or of 1."""
    if not math.isfinite(value):
        return []
    meant = [_whole(value * 1000), _whole(value)]
    if not any(meant):
        meant = [_whole(value * 100_000)]
    return [dbps for dbps in meant if dbps]


def _whole(dbps: float) -> int | None:
    nearby = round(dbps)
    near_enough = math.isclose(dbps, nearby, rel_tol=1e-9)
    return nearby if near_enough and _SMALLEST <= nearby <= _LARGEST else None
