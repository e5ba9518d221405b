"""The compiled library: its path, the call of its expressions, and versions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.plugins import register_plugin_function

from rangebar_polars import _internal
from rangebar_polars._utils.fork import raise_if_forked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rangebar_polars._typing import IntoColumn

__all__ = ["plugin", "show_versions"]

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


def show_versions() -> None:
    """Print the versions for a bug report.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> rb.show_versions()
    rangebar-polars: ...
    polars: ...
    """
    build = "debug" if _internal.__debug_build__ else "release"
    facts = {
        "rangebar-polars": f"{_internal.__version__} ({build} build)",
        "polars": pl.__version__,
        "python": sys.version.split(maxsplit=1)[0],
        "platform": sys.platform,
        "instruction set": _internal.instruction_set(),
        "library": str(_LIBRARY),
    }
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))  # noqa: T201
