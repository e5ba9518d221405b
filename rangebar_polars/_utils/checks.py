"""Validation of arguments that many functions take."""

from __future__ import annotations

import operator
import stat
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import StorageError, with_hint

if TYPE_CHECKING:
    from pathlib import Path
    from typing import SupportsIndex

__all__ = ["ACCESS_HINT", "count_of", "is_folder", "require_bool", "require_folder"]

ACCESS_HINT = (
    "let this user read and write the folder: chmod -R g+rwX, with setgid on the folders and "
    "umask 002 for users of one group; or give another folder: cache_dir=, or RANGEBAR_CACHE_DIR"
)


def require_bool(**flags: object) -> None:
    """Check that flags are bools. A text such as "no" would count as true.

    Examples
    --------
    >>> from rangebar_polars._utils.checks import require_bool
    >>> require_bool(notify=True, verbose=False)
    >>> require_bool(notify="no")
    Traceback (most recent call last):
        ...
    TypeError: `notify` must be a bool; it is `'no'`, of type `str`
    <BLANKLINE>
    hint: notify=True or notify=False
    """
    for name, value in flags.items():
        if not (isinstance(value, bool) or _is_of_numpy(type(value))):
            sentence = (
                f"`{name}` must be a bool; it is `{value!r}`, of type `{type(value).__name__}`"
            )
            raise TypeError(with_hint(sentence, f"{name}=True or {name}=False"))


def _is_of_numpy(kind: type) -> bool:
    """Return whether a type is NumPy's bool, which had another name before NumPy 2."""
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")


def count_of(n_bars: SupportsIndex) -> int:
    """Return `n_bars` as an int, after checking that it is at least 1.

    Raises
    ------
    ValueError
        The number is below 1.
    TypeError
        The value is not a whole number.

    Examples
    --------
    >>> from rangebar_polars._utils.checks import count_of
    >>> count_of(1_000)
    1000
    """
    count = operator.index(n_bars)
    if isinstance(n_bars, bool) or count < 1:
        raise ValueError(f"`n_bars` must be a number from 1 on; it is `{n_bars}`")
    return count


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
