"""Functions that pass their keywords to another function, and show them in their signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["check_keywords", "keywords_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def keywords_of(model: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Show the keywords of `model` in place of `**arguments` in `help()` and completion.

    Any other keyword raises a TypeError that suggests the nearest name.
    """
    shown = [
        parameter
        for parameter in inspect.signature(model).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        known = [parameter.name for parameter in (*own, *shown)]

        @functools.wraps(function)
        def checked(*positional: object, **keywords: object) -> object:
            check_keywords(keywords, known)
            return function(*positional, **keywords)

        checked.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def check_keywords(keywords: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise for an unknown keyword, suggesting the nearest name."""
    for name in keywords:
        if name not in known:
            names = sorted(set(known) - {"self"})
            listed = ", ".join(f"`{choice}`" for choice in names)
            sentence = f"there is no argument `{name}`; the arguments are {listed}"
            near = nearest(name, names)
            raise TypeError(with_hint(sentence, f"did you mean `{near}`?") if near else sentence)
