"""A warning points at the line of the caller, also out of a context manager of the package."""

from __future__ import annotations

import warnings

from rangebar_polars._utils.warn import warn_caller

SOURCE = """
from contextlib import contextmanager

@contextmanager
def opened():
    warn_caller("text", UserWarning)
    yield
"""


def test_a_context_manager_is_passed_over() -> None:
    scope = {"__name__": "rangebar_polars.somewhere", "warn_caller": warn_caller}
    exec(SOURCE, scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with scope["opened"]():
            pass
    assert [one.filename for one in caught] == [__file__]
