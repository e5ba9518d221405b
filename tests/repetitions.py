"""How often the tests repeat what is random or slow.

By default, a test repeats it often enough to prove what its name says. With the variable
`RANGEBAR_TEST_LONG` it looks for rare cases, too, and `HYPOTHESIS_PROFILE=thorough` draws other
examples in each run.
"""

from __future__ import annotations

import os
from typing import TypeVar

__all__ = ["IS_LONG", "repeated"]

T = TypeVar("T")
IS_LONG = bool(os.environ.get("RANGEBAR_TEST_LONG"))


def repeated(few: T, many: T) -> T:
    """Return a number of repetitions, or a list of cases: few by default, many in a long run."""
    return many if IS_LONG else few
