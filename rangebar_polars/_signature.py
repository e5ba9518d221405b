"""Functions that pass their keywords on to another one, and say so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars.exceptions import unknown_choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["judge_keywords", "keywords_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def keywords_of(model: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Show the keywords of `model` in place of `**arguments` in `help()` and to completion."""
    keywords = [
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
        shown = signature.replace(parameters=[*own, *keywords])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate


def judge_keywords(given: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a keyword that is not known, with the one that was probably meant."""
    for name in given:
        if name not in known:
            raise TypeError(unknown_choice("arguments", name, sorted(known)))
