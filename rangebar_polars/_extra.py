"""Optional libraries, imported by the function that needs them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, extra: str) -> ModuleType:
    """Module of an optional library, which the extra `extra` installs.

    Raises
    ------
    MissingExtraError
        The library is not installed; the message has the line that installs it.

    Examples
    --------
    >>> from rangebar_polars._extra import import_extra
    >>> import_extra("no_such_library", "fetch")
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.MissingExtraError: `no_such_library` is not installed
    <BLANKLINE>
    hint: pip install 'rangebar-polars[fetch]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError.of(module.partition(".")[0], extra) from error
