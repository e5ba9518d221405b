"""Two names for one argument: the short one of the frame methods, and that of the reference library.

`both_names` gives a function the name that its signature does not have, and makes its errors speak
of the name that the caller wrote.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars._utils.arguments.checks import keeps_incomplete, require_bool
from rangebar_polars._utils.arguments.keywords import check_keywords, refused_call
from rangebar_polars.exceptions import RangeBarError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["NAMES", "REQUIRED", "both_names"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Short names of arguments with those of the reference library.
NAMES = {
    "threshold": "threshold_decimal_bps",
    "start": "start_date",
    "end": "end_date",
    "reset": "ouroboros",
    "features": "include_microstructure",
    "fetch": "fetch_if_missing",
    "incomplete": "include_incomplete",
}
#: Short names whose values are the same under the other name, so that messages can be reworded.
_SAME_VALUES = ("threshold", "start", "end", "reset", "fetch")
#: The short name of an argument that some functions have beside its long name, since it says more.
_GROUPS = "features"
#: Further names that a function may have for an argument.
_THIRD = {"reset": ("ouroboros_mode",)}


class _Shown:
    """A default value that a signature shows as a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


#: Default of an argument that has to be passed, under one of its two names.
REQUIRED: Any = _Shown("REQUIRED")


def both_names(function: _Function) -> _Function:
    """Accept each argument of `NAMES` by either of its names, and refuse both at once.

    Unknown keywords raise a TypeError that names the nearest one. The signature and the docstring
    show the further names.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.names import both_names
    >>> @both_names
    ... def read(symbol, start_date, *, fetch_if_missing=True):
    ...     return symbol, start_date, fetch_if_missing
    >>> read("BTCUSDT", start="2024-03-01", fetch=False)
    ('BTCUSDT', '2024-03-01', False)
    """
    call = _Signature.of(function)

    @functools.wraps(function)
    def named(*positional: object, **keywords: object) -> object:
        arguments, spoken = call.translate(positional, keywords)
        try:
            return function(*positional, **arguments)
        except (RangeBarError, ValueError, TypeError) as error:
            _reword(error, spoken)
            raise

    named.__signature__ = call.shown  # type: ignore[attr-defined]
    named.__doc__ = _documented(function.__doc__, call.aliases)
    return named  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Signature:
    """The parameters of a function, and the further names of some of them."""

    name: str
    parameters: Mapping[str, inspect.Parameter]
    #: Names that the function does not have, with those that it has.
    aliases: Mapping[str, str]
    shown: inspect.Signature

    @classmethod
    def of(cls, function: Callable[..., Any]) -> _Signature:
        signature = inspect.signature(function)
        own = {
            name: _shown(parameter)
            for name, parameter in signature.parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
        aliases = {}
        for short, long in NAMES.items():
            if (short in own) != (long in own):
                name, other = (short, long) if long in own else (long, short)
                # A function may take the threshold of something else under its short name.
                aliases[name] = other
        further = [
            own[known].replace(
                name=alias, kind=inspect.Parameter.KEYWORD_ONLY, default=_Shown(f"<{known}>")
            )
            for alias, known in aliases.items()
        ]
        shown = signature.replace(parameters=[*own.values(), *further])
        return cls(function.__name__, own, aliases, shown)

    def translate(
        self, positional: Sequence[object], keywords: Mapping[str, object]
    ) -> tuple[dict[str, object], dict[str, str]]:
        """Return the keywords by the function's own names, and the name to use in messages."""
        check_keywords(keywords, [*self.parameters, *self.aliases])
        places = [one.name for one in self.parameters.values() if one.kind is not one.KEYWORD_ONLY]
        given = {*keywords, *places[: len(positional)]}
        _refuse_both(given, self.parameters)
        arguments = {name: value for name, value in keywords.items() if name not in self.aliases}
        for alias, own in self.aliases.items():
            if alias in keywords:
                arguments[own] = _converted(alias, keywords[alias])
        others = {own: alias for alias, own in self.aliases.items()}
        message = refused_call(self.name, self.parameters, positional, arguments, others)
        if message is not None:
            raise TypeError(message)
        return arguments, self._spoken(given)

    def _spoken(self, given: set[str]) -> dict[str, str]:
        spoken = {}
        for short in _SAME_VALUES:
            names = (short, NAMES[short])
            own = next((name for name in names if name in self.parameters), None)
            if own is not None:
                chosen = next((name for name in names if name in given), own)
                spoken.update(dict.fromkeys(names, chosen))
        return spoken


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    is_required = parameter.default is REQUIRED
    return parameter.replace(default=parameter.empty) if is_required else parameter


def _refuse_both(given: set[str], own: Collection[str]) -> None:
    for short, long in NAMES.items():
        if short == _GROUPS and {short, long} <= set(own):
            continue
        for other in (long, *_THIRD.get(short, ())):
            if {short, other} <= given:
                raise TypeError(
                    f"`{short}` and `{other}` are two names of one argument; pass one of them"
                )


def _converted(alias: str, value: object) -> object:
    """Return the value of an argument under its other name."""
    if alias == "incomplete":
        return keeps_incomplete(value)
    if alias == "include_microstructure":
        require_bool(include_microstructure=value)
        return "microstructure" if value else "core"
    return value


def _reword(error: Exception, spoken: Mapping[str, str]) -> None:
    """Name the arguments in a message as the caller named them."""
    if not error.args or not isinstance(error.args[0], str):
        return
    text = error.args[0]
    for name, chosen in spoken.items():
        if name != chosen:
            # Only the first, and no value, which may be the same word.
            text = re.sub(f"(?<!is )`{name}`", f"`{chosen}`", text, count=1)
            # A call in a hint stays as it is: the command line looks for it.
            written = re.compile(rf"rb\.\w+\(.*?\)|(?<![\w`.]){name}=")
            text = written.sub(partial(_renamed, chosen), text)
    error.args = (text, *error.args[1:])


def _renamed(chosen: str, found: re.Match[str]) -> str:
    return f"{chosen}=" if found.group().endswith("=") else found.group()


def _documented(doc: str | None, aliases: Mapping[str, str]) -> str | None:
    """Return a docstring with an entry for the further names, before the section of results."""
    if doc is None or not aliases:
        return doc
    head, title, tail = doc.partition("\n    Returns\n")
    if not title:
        return doc
    listed = ", ".join(f"`{own}`" for own in aliases.values())
    entry = f"    {', '.join(aliases)}\n        Other names of {listed}, in this order.\n"
    return f"{head}{entry}{title}{tail}"
