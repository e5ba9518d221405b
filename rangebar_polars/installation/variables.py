"""Environment variables that resemble settings of this package but have no effect."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from rangebar_polars._text import LONGEST_NAME, most_similar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["MINIMUM_THRESHOLD", "is_worker", "nearest_variables"]

_PREFIX = "RANGEBAR"
#: Variables of the tests of this package.
_OF_TESTS = "RANGEBARTEST"
#: Prefix of the smallest threshold of one symbol, whose name follows.
MINIMUM_THRESHOLD = "RANGEBAR_MIN_THRESHOLD_"
_SYMBOL = "<SYMBOL>"
#: How similar a name must be to be taken for a misspelling. Names of other programs are less so.
_SIMILAR = 0.76
#: Letters of the shortest name that stands for one that begins with it, or with which one begins.
_SHORTEST = 5


def nearest_variables(names: Iterable[str], known: Collection[str]) -> dict[str, str | None]:
    """Return the names that resemble settings but are not, each with the nearest known name.

    Letter case and `_` do not matter. Names of other packages, which are similar to no setting, have
    None.

    Examples
    --------
    >>> from rangebar_polars.installation.variables import nearest_variables
    >>> known = ["RANGEBAR_CACHE_DIR", "RANGEBAR_CACHE_WAIT_S"]
    >>> nearest_variables(["RANGEBAR_CACHEDIR", "rangebar_cache_wait", "RANGEBAR_MODE"], known)
    {'RANGEBAR_CACHEDIR': 'RANGEBAR_CACHE_DIR', 'rangebar_cache_wait': 'RANGEBAR_CACHE_WAIT_S', \
'RANGEBAR_MODE': None}
    >>> nearest_variables(["RANGEBAR_MIN_TRESHOLD_BTCUSDT"], known)
    {'RANGEBAR_MIN_TRESHOLD_BTCUSDT': 'RANGEBAR_MIN_THRESHOLD_BTCUSDT'}
    """
    spellings = tuple(sorted(known))
    return {
        name: _nearest(name, spellings)
        for name in names
        if _squeezed(name).startswith(_PREFIX)
        and not _squeezed(name).startswith(_OF_TESTS)
        and name not in known
        and not (name.startswith(MINIMUM_THRESHOLD) and name != MINIMUM_THRESHOLD)
    }


def is_worker() -> bool:
    """Return whether another process of Python has started this one, and warns in its place.

    Examples
    --------
    >>> from rangebar_polars.installation.variables import is_worker
    >>> is_worker()
    False
    """
    module = sys.modules.get("multiprocessing.process")
    return module is not None and module.parent_process() is not None


@lru_cache(maxsize=256)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known variable that a name is a misspelling of."""
    rest, head = (_squeezed(text).removeprefix(_PREFIX) for text in (name, MINIMUM_THRESHOLD))
    of_symbol = _with_symbol(name, head)
    if of_symbol is not None:
        return of_symbol
    spellings = {_squeezed(one).removeprefix(_PREFIX): one for one in known}
    spellings[head] = f"{MINIMUM_THRESHOLD}{_SYMBOL}"
    found = most_similar(rest, spellings, _SIMILAR)
    if found is not None:
        return spellings[found]
    begun = [
        text
        for text in spellings
        if min(len(text), len(rest)) >= _SHORTEST
        and (text.startswith(rest) or rest.startswith(text))
    ]
    return spellings[begun[0]] if len(begun) == 1 else None


def _with_symbol(name: str, head: str) -> str | None:
    """Return the variable of the smallest threshold of the symbol that ends a name."""
    if len(name) > LONGEST_NAME:
        return None
    words = name.upper().replace("-", "_").strip("_").split("_")
    begins = {_squeezed("".join(words[:n])).removeprefix(_PREFIX): n for n in range(1, len(words))}
    found = most_similar(head, begins, _SIMILAR)
    return None if found is None else MINIMUM_THRESHOLD + "_".join(words[begins[found] :])


def _squeezed(name: str) -> str:
    return name.upper().replace("_", "").replace("-", "")
