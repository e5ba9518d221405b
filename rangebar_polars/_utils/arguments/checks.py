"""Validation of arguments that many functions take."""

from __future__ import annotations

import operator
import stat
from typing import TYPE_CHECKING

from rangebar_polars._text import shown
from rangebar_polars.exceptions import StorageError, unknown_choice, with_hint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ACCESS_HINT",
    "count_of",
    "is_folder",
    "keeps_incomplete",
    "require_bool",
    "require_folder",
    "whole_number",
]

ACCESS_HINT = (
    "let this user read and write the folder: chmod -R g+rwX, with setgid on the folders and "
    "umask 002 for users of one group; or give another folder: cache_dir=, or RANGEBAR_CACHE_DIR"
)

_INCOMPLETE = {"drop": False, "keep": True}
_MOST_MEANT = 10**9


def require_bool(**flags: object) -> None:
    """Check that flags are bools. A text such as "no" would count as true.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.checks import require_bool
    >>> require_bool(notify=True, verbose=False)
    >>> require_bool(notify="no")
    Traceback (most recent call last):
        ...
    TypeError: `notify` must be a bool; it is `'no'`, of type `str`
    <BLANKLINE>
    hint: write notify=True or notify=False
    """
    for name, value in flags.items():
        if not (isinstance(value, bool) or _is_of_numpy(type(value))):
            sentence = (
                f"`{name}` must be a bool; it is `{value!r}`, of type `{type(value).__name__}`"
            )
            raise TypeError(with_hint(sentence, f"write {name}=True or {name}=False"))


def _is_of_numpy(kind: type) -> bool:
    """Return whether a type is NumPy's bool, which had another name before NumPy 2."""
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")


def count_of(value: object, name: str = "n_bars", *, meant: int = 1000) -> int:
    """Return an argument as an int, after checking that it is at least 1.

    `meant` is the number that the hint writes if the value does not show one.

    Raises
    ------
    ValueError
        The number is below 1.
    TypeError
        The value is not a whole number, or a bool.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.checks import count_of
    >>> count_of(1_000)
    1000
    """
    whole = whole_number(name, value, meant=meant)
    if whole < 1:
        sentence = f"`{name}` must be at least 1; it is `{whole}`"
        raise ValueError(with_hint(sentence, f"write {name}={meant:_}"))
    return whole


def whole_number(name: str, value: object, *, meant: int) -> int:
    """Return an argument as an int.

    `meant` is the number that the hint writes if the value does not show one.

    Raises
    ------
    TypeError
        The value is not a whole number, or a bool.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.checks import whole_number
    >>> whole_number("width", 960.0, meant=600)
    Traceback (most recent call last):
        ...
    TypeError: `width` must be a whole number; it is `960.0`, of type `float`
    <BLANKLINE>
    hint: write width=960
    """
    if not (isinstance(value, bool) or _is_of_numpy(type(value))):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    sentence = (
        f"`{name}` must be a whole number; it is `{shown(value)}`, of type `{type(value).__name__}`"
    )
    raise TypeError(with_hint(sentence, f"write {name}={_meant(value, meant)}"))


def _meant(value: object, example: int) -> int:
    """Return the whole number that a float or a text shows, else an example."""
    try:
        number = float(str(value).replace("_", ""))
    except ValueError:
        return example
    return int(number) if 1 <= number < _MOST_MEANT and number.is_integer() else example


def keeps_incomplete(incomplete: object, name: str = "incomplete") -> bool:
    """Return whether the argument `incomplete` keeps bars: "keep" and True, or "drop" and False.

    Examples
    --------
    >>> from rangebar_polars._utils.arguments.checks import keeps_incomplete
    >>> keeps_incomplete("keep"), keeps_incomplete(False)
    (True, False)
    """
    if isinstance(incomplete, bool) or _is_of_numpy(type(incomplete)):
        return bool(incomplete)
    if not isinstance(incomplete, str):
        sentence = f'`{name}` must be "drop" or "keep"; it is of type `{type(incomplete).__name__}`'
        hint = f'write {name}="keep", which is the same as {name}=True'
        raise TypeError(with_hint(sentence, hint))
    if incomplete not in _INCOMPLETE:
        raise ValueError(unknown_choice(name, incomplete, list(_INCOMPLETE)))
    return _INCOMPLETE[incomplete]


def is_folder(path: Path) -> bool:
    """Return whether a path is an existing folder.

    Raises
    ------
    StorageError
        The user may not access the path.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        sentence = f"`{path}` cannot be accessed: {error.strerror or error}"
        raise StorageError(with_hint(sentence, ACCESS_HINT)) from error


def require_folder(path: Path) -> None:
    """Check that a path is a folder, or that one can be made there.

    Raises
    ------
    StorageError
        The path or one of its parents is a file, or the user may not access it.
    """
    for ancestor in (path, *path.parents):
        if is_folder(ancestor):
            return
        if ancestor.is_file():
            sentence = f"`{ancestor}` is a file, where `cache_dir` or the cache needs a folder"
            hint = "give another folder: cache_dir=, or RANGEBAR_CACHE_DIR"
            raise StorageError(with_hint(sentence, hint))
