"""The compiled library: its path, and the call of its expressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polars.plugins import register_plugin_function

from rangebar_polars import _internal
from rangebar_polars._utils.fork import raise_if_forked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from rangebar_polars._typing import IntoColumn

__all__ = ["calls_library", "plugin"]

# The file, not its folder: given a folder, Polars takes the first library that it finds there.
_LIBRARY = Path(_internal.__file__)


def plugin(
    function: str,
    arguments: Sequence[IntoColumn],
    options: Mapping[str, Any],
    *,
    changes_length: bool,
) -> pl.Expr:
    """Return an expression that calls a function of the library.

    It is never elementwise: Polars would call it for parts of the rows, in any order.
    """
    raise_if_forked(function)
    return register_plugin_function(
        plugin_path=_LIBRARY,
        function_name=function,
        args=arguments,
        kwargs=dict(options),
        changes_length=changes_length,
        # A selector of known names gives as many inputs as there are such columns, also none.
        input_wildcard_expansion=True,
        # In `group_by(...).agg(...)`, too, inputs are known by their names.
        pass_name_to_apply=True,
    )


def calls_library(expression: pl.Expr) -> bool:
    """Tell whether an expression calls a function of the library.

    Its result is one column, though selectors are among its inputs.
    """
    # Polars writes the path from the environment on, if the library is in one.
    return f"{_LIBRARY.name}:" in str(expression)
