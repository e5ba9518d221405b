"""Optional feature groups of stored bars: their versions, their windows, and their words in a unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.durations import Window, parse_lookback
from rangebar_polars.bar_series.columns import OPTIONAL_GROUPS, group_columns, stored_groups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rangebar_polars.bar_series.columns import StoredColumn

__all__ = [
    "DEFAULT_WINDOW",
    "NO_FEATURES",
    "FeatureSet",
    "named_features",
    "stored_features",
]

#: Version of the values of each group. It rises when the values of the group change.
_VERSIONS = dict.fromkeys(OPTIONAL_GROUPS, 1)

#: The window of look-back columns where nothing else chooses one.
DEFAULT_WINDOW = Window("records", 200)

_WINDOWED = "lookback"
_WORD = re.compile(r"(?P<group>[a-z_]+)@(?P<version>[0-9]+)(?:\((?P<window>[^()]+)\))?")


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Optional feature groups, and the window of the look-back columns."""

    #: In the order of the catalogue.
    groups: tuple[str, ...] = ()
    #: None without look-back columns, and where a request leaves it to the stored series.
    window: Window | None = None

    @classmethod
    def of(cls, groups: Iterable[str], window: Window | None = None) -> FeatureSet:
        """Return the set of some groups; core and microstructure, which are no options, drop out.

        Examples
        --------
        >>> from rangebar_polars.bar_series.features import FeatureSet
        >>> FeatureSet.of({"intrabar", "core"}).groups
        ('intrabar',)
        """
        wanted = set(groups)
        chosen = tuple(group for group in OPTIONAL_GROUPS if group in wanted)
        return cls(chosen, window if _WINDOWED in chosen else None)

    def __bool__(self) -> bool:
        """Whether there is any group."""
        return bool(self.groups)

    @property
    def has_window(self) -> bool:
        """Whether there are look-back columns."""
        return _WINDOWED in self.groups

    @property
    def all_groups(self) -> tuple[str, ...]:
        """The groups, after those that every stored bar has."""
        return (*stored_groups(), *self.groups)

    @property
    def columns(self) -> tuple[StoredColumn, ...]:
        """The columns of the groups, in the order of the catalogue."""
        return group_columns(self.groups)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of the groups."""
        return tuple(column.bar_name for column in self.columns)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a unit with these groups, core and microstructure included.

        Examples
        --------
        >>> from rangebar_polars.bar_series.features import DEFAULT_WINDOW, FeatureSet
        >>> FeatureSet.of(["lookback", "extended"], DEFAULT_WINDOW).words
        ('core', 'microstructure', 'lookback@1(records=200)', 'extended@1')
        """
        return (*stored_groups(), *map(self.word, self.groups))

    def word(self, group: str) -> str:
        """Return the word of one of the groups."""
        text = f"{group}@{_VERSIONS[group]}"
        return f"{text}({self.window or DEFAULT_WINDOW})" if group == _WINDOWED else text

    def joined(self, other: FeatureSet, window: Window | None = None) -> FeatureSet:
        """Return the groups of both. `window`, if it is given, replaces their windows."""
        chosen = window or self.window or other.window or DEFAULT_WINDOW
        return FeatureSet.of({*self.groups, *other.groups}, chosen)


NO_FEATURES = FeatureSet()


@lru_cache
def stored_features(words: frozenset[str]) -> FeatureSet:
    """Return the groups that a unit has in the versions of this package.

    Examples
    --------
    >>> from rangebar_polars.bar_series.features import stored_features
    >>> stored_features(frozenset({"core", "intrabar@1", "extended@99"})).groups
    ('intrabar',)
    """
    return _features(words, any_version=False)


@lru_cache
def named_features(words: frozenset[str]) -> FeatureSet:
    """Return the groups that a unit has in any version.

    Examples
    --------
    >>> from rangebar_polars.bar_series.features import named_features
    >>> print(named_features(frozenset({"core", "lookback@99(bars=3)"})).window)
    bars=3
    """
    return _features(words, any_version=True)


def _features(words: Iterable[str], *, any_version: bool) -> FeatureSet:
    groups: list[str] = []
    window: Window | None = None
    for found in filter(None, map(_WORD.fullmatch, words)):
        group, text = found["group"], found["window"]
        if group not in _VERSIONS:
            continue
        if not any_version and int(found["version"]) != _VERSIONS[group]:
            continue
        if group == _WINDOWED:
            window = _window(text)
            if window is None:
                continue
        groups.append(group)
    return FeatureSet.of(groups, window)


def _window(text: str | None) -> Window | None:
    """Return the window of a word; None if this version does not know it."""
    if text is None:
        return None
    try:
        return parse_lookback(text)
    except ValueError:
        return None
