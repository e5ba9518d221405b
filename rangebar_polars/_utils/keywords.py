"""Functions that pass their keywords on to another one, and say so."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["judge_keywords", "keywords_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def keywords_of(model: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Show the keywords of `model` in place of `**arguments` in `help()` and to completion.

    Any other keyword is refused with the one that was probably meant.
    """
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
        known = [parameter.name for parameter in (*own, *keywords)]

        @functools.wraps(function)
        def judged(*positional: object, **given: object) -> object:
            judge_keywords(given, known)
            return function(*positional, **given)

        judged.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        return judged  # type: ignore[return-value]

    return decorate


def judge_keywords(given: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a keyword that is not known, with the one that was probably meant."""
    for name in given:
        if name not in known:
            names = sorted(set(known) - {"self"})
            listed = ", ".join(f"`{choice}`" for choice in names)
            sentence = f"there is no argument `{name}`; the arguments are {listed}"
            near = nearest(name, names)
            raise TypeError(with_hint(sentence, f"did you mean `{near}`?") if near else sentence)
