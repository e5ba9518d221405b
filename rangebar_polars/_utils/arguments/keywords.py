"""Functions that pass their keywords to another function, and show them in their signature."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rangebar_polars._text import shown
from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["check_keywords", "checked_keywords", "checked_methods", "keywords_of", "refused_call"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)

_COLUMNS = 'write columns={{"{name}": <"your_column">}}'
_VALIDATE = "leave it out; rangebar_polars.validation.continuity.validate_continuity checks a frame"
# Compiled when a message needs it, so that the import stays fast.
_EXAMPLE = "<(.+?)>"
_LONGEST_CODE = 80
#: Values of required arguments.
_EXAMPLES = {
    "threshold": "250",
    "price": '"price"',
    "bar_id": '"my_bar"',
    "symbol": '"BTCUSDT"',
    "n_bars": "1_000",
    "start": '"2024-01-01"',
    "start_date": '"2024-01-01"',
    "end": '"2024-01-31"',
    "end_date": '"2024-01-31"',
}
_BOUNDED = "leave it out; memory is bounded without a setting"
_ANY_SPLIT = "leave it out; how trades are split makes no difference to the bars"

#: Keywords of other functions, of other versions or of the reference library: the argument that
#: has to be there for the hint to apply (None for any function), and the hint. What stands in
#: brackets is an example, in place of the value that was given.
_ELSEWHERE: dict[str, tuple[tuple[str | None, str], ...]] = {
    "include_microstructure": (("features", 'write features="microstructure"'),),
    "ouroboros": (("reset", 'write reset=<"year">'),),
    "ouroboros_mode": (
        ("reset", 'write reset=<"year">'),
        ("ouroboros", 'write ouroboros=<"year">'),
    ),
    "include_incomplete": (("incomplete", 'write incomplete="keep"'),),
    "include_orphaned_bars": (("incomplete", 'write incomplete="keep"'),),
    "by": (("group_by", 'write group_by=<"symbol">'),),
    "over": (("group_by", 'write group_by=<"symbol">'),),
    "partition_by": (("group_by", 'write group_by=<"symbol">'),),
    "threshold_decimal_bps": (("threshold", "write threshold=<250>"),),
    "threshold": (("threshold_decimal_bps", "write threshold_decimal_bps=<250>"),),
    "columns": (("quantity", 'name columns one by one: <quantity="your_column">'),),
    "workers": (("executor", "write executor=concurrent.futures.ProcessPoolExecutor"),),
    "validation": ((None, "leave it out; every row is validated"),),
    "materialize": ((None, "leave it out; rb.scan_range_bars returns a lazy frame"),),
    "batch_size": ((None, _ANY_SPLIT),),
    "chunk_size": ((None, _ANY_SPLIT),),
    "max_memory_mb": ((None, _BOUNDED),),
    "max_memory_gb": ((None, _BOUNDED),),
    "invalidate_existing": (("force_refresh", "write force_refresh=True to compute all again"),),
    "num_async_writers": (("executor", "leave it out, or pass executor="), (None, "leave it out")),
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
    shown = _keyword_only(model)

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        named = {parameter.name for parameter in own}
        shown_here = [parameter for parameter in shown if parameter.name not in named]
        whole = signature.replace(parameters=[*own, *shown_here])
        checked = _checked(function, lambda: whole)
        checked.__signature__ = whole  # type: ignore[attr-defined]
        if documented:
            checked.__doc__ = model.__doc__
        return checked

    return decorate


@functools.cache
def _keyword_only(model: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a function that are keywords only.

    Several methods show those of one function, and the package is imported in little time.
    """
    parameters = inspect.signature(model).parameters.values()
    return tuple(one for one in parameters if one.kind is one.KEYWORD_ONLY)


def checked_keywords(function: _Function) -> _Function:
    """Raise for unknown keywords of a function, suggesting the nearest name.

    A missing argument, or a positional one too many, raises a TypeError with the call to write.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.keywords import checked_keywords
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
    # Made at the first call with keywords, since it takes as long as a tenth of the whole import.
    return _checked(function, functools.cache(lambda: inspect.signature(function)))


def checked_methods(kind: _Class) -> _Class:
    """Raise for unknown keywords of the public methods of a class."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, checked_keywords(method))
    return kind


def _checked(function: _Function, signature: Callable[[], inspect.Signature]) -> _Function:
    @functools.wraps(function)
    def checked(*positional: object, **keywords: object) -> object:
        if keywords:
            check_keywords(keywords, signature().parameters)
        try:
            return function(*positional, **keywords)
        except TypeError as error:
            # Without a further frame, Python refused the call before the function began.
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            message = refused_call(name, signature().parameters, positional, keywords)
            raise TypeError(message or str(error)) from None

    return checked  # type: ignore[return-value]


def refused_call(
    function: str,
    parameters: Mapping[str, inspect.Parameter],
    positional: Sequence[object],
    keywords: Collection[str],
    other_names: Mapping[str, str] | None = None,
) -> str | None:
    """Return the message for a call with a missing, repeated or positional argument; else None.

    `other_names` has the second names of parameters that have one.

    Examples
    --------
    >>> import inspect
    >>> from rangebar_polars._utils.arguments.keywords import refused_call
    >>> parameters = inspect.signature(lambda symbol, start: None).parameters
    >>> print(refused_call("read", parameters, ["BTCUSDT"], [], {"start": "start_date"}))
    `read` needs the argument `start`, also called `start_date`
    <BLANKLINE>
    hint: write start="2024-01-01"
    """
    places = [one.name for one in parameters.values() if one.kind is not one.KEYWORD_ONLY]
    given = {*places[: len(positional)], *keywords}
    repeated = [place for place in places[: len(positional)] if place in keywords]
    if repeated:
        return f"`{function}` was given `{repeated[0]}` twice, by position and by name"
    if len(positional) > len(places):
        listed = ", ".join(f"`{place}`" for place in places if place != "self") or "none"
        by_name = ", ".join(f"{name}=…" for name in parameters if name not in places)
        sentence = f"`{function}` was given too many positional arguments; it takes {listed}"
        return with_hint(sentence, f"pass the others by name: {by_name}") if by_name else sentence
    required = (one.name for one in parameters.values() if one.default is one.empty)
    missing = next((name for name in required if name not in given), None)
    if missing is None:
        return None
    other = (other_names or {}).get(missing)
    also = f", also called `{other}`" if other else ""
    sentence = f"`{function}` needs the argument `{missing}`{also}"
    example = _EXAMPLES.get(missing)
    return with_hint(sentence, f"write {missing}={example}") if example else sentence


def check_keywords(keywords: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise for an unknown keyword, saying where it went or suggesting the nearest name."""
    for name in keywords:
        if name not in known:
            names = sorted(set(known) - {"self"})
            listed = ", ".join(f"`{choice}`" for choice in names)
            sentence = f"there is no argument `{shown(name)}`; the arguments are {listed}"
            hint = _hint(name, keywords[name], names)
            raise TypeError(with_hint(sentence, hint) if hint else sentence)


def _hint(name: str, value: object, names: list[str]) -> str | None:
    for needed, hint in _ELSEWHERE.get(name, ()):
        if needed is None or needed in names:
            return re.sub(_EXAMPLE, lambda found: _as_code(value) or found[1], hint)
    near = nearest(name, names)
    return f"did you mean `{near}`?" if near else None


def _as_code(value: object) -> str | None:
    """Return the code of a short text or number, and of a mapping as keywords; else None."""
    if isinstance(value, bool) or not isinstance(value, (str, int, dict)):
        return None
    if isinstance(value, dict):
        pairs = [(field, _as_code(column)) for field, column in value.items()]
        written = [f"{field}={code}" for field, code in pairs if code and str(field).isidentifier()]
        return ", ".join(written) if pairs and len(written) == len(pairs) else None
    code = json.dumps(value, ensure_ascii=False)
    return code if len(code) <= _LONGEST_CODE else None
