"""What to say about a name that the package does not have."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rangebar_polars._text import shown
from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["unknown_method", "unknown_name"]

#: Names of the reference library, and what to use here.
_FOREIGN = {
    "RangeBarProcessor": "use `rb.RangeBarBuilder(threshold=250)`, whose `push` takes frames",
    "THRESHOLD_DECIMAL_MIN": "thresholds are 1 to 100_000 decimal basis points",
    "THRESHOLD_DECIMAL_MAX": "thresholds are 1 to 100_000 decimal basis points",
    "validate_continuity": "use `from rangebar_polars.validation.continuity import validate_continuity`",
}
#: Modules for the user that are imported by their own name.
_MODULES = ("checkpoint", "events", "exness", "plugins", "symbol_registry", "validation")


def unknown_name(package: str, name: str, names: Iterable[str]) -> str:
    """Return the message for an attribute that the package does not have.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.public_names import unknown_name
    >>> print(unknown_name("rangebar_polars", "range_bar_builder", ["RangeBarBuilder", "bars"]))
    module `rangebar_polars` has no attribute `range_bar_builder`
    <BLANKLINE>
    hint: did you mean `rb.RangeBarBuilder`?
    """
    sentence = f"module `{package}` has no attribute `{shown(name)}`"
    if name.startswith("_"):
        return sentence
    if name in _FOREIGN:
        return with_hint(sentence, _FOREIGN[name])
    if name in _MODULES and find_spec(f"{package}.{name}") is not None:
        return with_hint(sentence, f"import {package}.{name}")
    near = _nearest(name, [public for public in names if not public.startswith("_")])
    return with_hint(sentence, f"did you mean `rb.{near}`?") if near else sentence


def unknown_method(thing: object, name: str, replaced: Mapping[str, str]) -> str:
    """Return the message for an attribute that an object does not have.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.public_names import unknown_method
    >>> print(unknown_method([], "add", {"add": "things.append(thing)"}))
    `list` has no attribute `add`
    <BLANKLINE>
    hint: write things.append(thing)
    """
    kind = type(thing)
    sentence = f"`{kind.__name__}` has no attribute `{shown(name)}`"
    if name in replaced:
        return with_hint(sentence, f"write {replaced[name]}")
    public = [known for known in dir(kind) if not known.startswith("_")]
    near = None if name.startswith("_") else _nearest(name, public)
    return with_hint(sentence, f"did you mean `{near}`?") if near else sentence


def _nearest(name: str, names: list[str]) -> str | None:
    """Return the name that is nearest to another one, letter case and underscores aside."""
    plain = {re.sub("_", "", public).casefold(): public for public in names}
    near = nearest(re.sub("_", "", name), plain)
    return plain[near] if near else None
