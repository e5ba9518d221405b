"""Functions that pass their keywords to another function, and show them in their signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["check_keywords", "checked_keywords", "checked_methods", "keywords_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)

_COLUMNS = 'name columns with columns={{"{name}": "your_column"}}'
_VALIDATE = "leave it out; rangebar_polars.validation.continuity.validate_continuity checks a frame"
_ANY_SPLIT = "leave it out; how trades are split makes no difference to the bars"

#: Keywords of other functions, of other versions or of the reference library: the argument that
#: has to be there for the hint to apply (None for any function), and the hint.
_ELSEWHERE: dict[str, tuple[tuple[str | None, str], ...]] = {
    "include_microstructure": (("features", 'write features="microstructure"'),),
    "ouroboros": (("reset", 'write reset="year"'),),
    "ouroboros_mode": (("reset", 'write reset="year"'), ("ouroboros", 'write ouroboros="year"')),
    "include_incomplete": (("incomplete", 'write incomplete="keep"'),),
    "include_orphaned_bars": (("incomplete", 'write incomplete="keep"'),),
    "by": (("group_by", 'write group_by="symbol"'),),
    "over": (("group_by", 'write group_by="symbol"'),),
    "partition_by": (("group_by", 'write group_by="symbol"'),),
    "threshold_decimal_bps": (("threshold", "write threshold=250"),),
    "threshold": (("threshold_decimal_bps", "write threshold_decimal_bps=250"),),
    "columns": (("quantity", 'name columns one by one: quantity="your_column"'),),
    "workers": (("executor", "write executor=concurrent.futures.ProcessPoolExecutor"),),
    "validation": ((None, "leave it out; every row is validated"),),
    "materialize": ((None, "leave it out; rb.scan_range_bars returns a lazy frame"),),
    "batch_size": ((None, _ANY_SPLIT),),
    "chunk_size": ((None, _ANY_SPLIT),),
    "max_memory_mb": ((None, "leave it out; memory is bounded without a setting"),),
    "verify_checksum": ((None, "leave it out; every file is verified (RANGEBAR_CHECKSUM)"),),
    "max_lookback_days": (
        (None, "leave it out; rb.populate_cache_resumable stores as many days as you like"),
    ),
    "warn_if_fewer": (
        ("allow_fewer", "write allow_fewer=True to get fewer bars with a warning"),
        (None, "leave it out"),
    ),
    "validate_on_return": ((None, _VALIDATE),),
    "continuity_action": ((None, _VALIDATE),),
    "continuity_tolerance_pct": ((None, _VALIDATE),),
    "checkpoint_dir": ((None, "leave it out; states are stored with the bars, in cache_dir"),),
    "inter_bar_lookback_count": (
        ("lookback", 'write features="lookback", lookback=200'),
        (None, "leave it out; rb.columns() lists the features"),
    ),
    "inter_bar_lookback_bars": (
        ("lookback", 'write features="lookback", lookback="3bars"'),
        (None, "leave it out; rb.columns() lists the features"),
    ),
    "include_intra_bar_features": (
        ("features", 'write features="intrabar"'),
        (None, "leave it out; rb.columns() lists the features"),
    ),
    "include_exchange_sessions": ((None, "leave it out; rb.columns() lists the features"),),
    **{
        name: (("columns", _COLUMNS.format(name=name)),)
        for name in (
            *("timestamp", "price", "quantity", "side", "is_buyer_maker"),
            *("agg_trade_id", "first_trade_id", "last_trade_id"),
        )
    },
}


def keywords_of(
    model: Callable[..., Any], *, documented: bool = False
) -> Callable[[_Function], _Function]:
    """Show the keywords of `model` in place of `**arguments` in `help()` and completion.

    Any other keyword raises a TypeError that suggests the nearest name. With `documented`, the
    function also gets the docstring of `model`.
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
        named = {parameter.name for parameter in own}
        shown_here = [parameter for parameter in shown if parameter.name not in named]
        known = [parameter.name for parameter in (*own, *shown_here)]
        checked = _checked(function, known)
        if documented:
            checked.__doc__ = model.__doc__
        checked.__signature__ = signature.replace(parameters=[*own, *shown_here])  # type: ignore[attr-defined]
        return checked

    return decorate


def checked_keywords(function: _Function) -> _Function:
    """Raise for unknown keywords of a function, suggesting the nearest name.

    Examples
    --------
    >>> from rangebar_polars._utils.keywords import checked_keywords
    >>> @checked_keywords
    ... def read(*, fetch=True):
    ...     return fetch
    >>> read(fecth=False)
    Traceback (most recent call last):
        ...
    TypeError: there is no argument `fecth`; the arguments are `fetch`
    <BLANKLINE>
    hint: did you mean `fetch`?
    """
    signature = inspect.signature(function)
    checked = _checked(function, list(signature.parameters))
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def checked_methods(kind: _Class) -> _Class:
    """Raise for unknown keywords of the public methods of a class."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, checked_keywords(method))
    return kind


def _checked(function: _Function, known: list[str]) -> _Function:
    @functools.wraps(function)
    def checked(*positional: object, **keywords: object) -> object:
        check_keywords(keywords, known)
        return function(*positional, **keywords)

    return checked  # type: ignore[return-value]


def check_keywords(keywords: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise for an unknown keyword, saying where it went or suggesting the nearest name."""
    for name in keywords:
        if name not in known:
            names = sorted(set(known) - {"self"})
            listed = ", ".join(f"`{choice}`" for choice in names)
            sentence = f"there is no argument `{name}`; the arguments are {listed}"
            hint = _hint(name, names)
            raise TypeError(with_hint(sentence, hint) if hint else sentence)


def _hint(name: str, names: list[str]) -> str | None:
    for needed, hint in _ELSEWHERE.get(name, ()):
        if needed is None or needed in names:
            return hint
    near = nearest(name, names)
    return f"did you mean `{near}`?" if near else None
