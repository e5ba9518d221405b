"""Imports of optional libraries, at the moment they are needed."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional library that the extra `extra` installs.

    Raises
    ------
    MissingExtraError
        The library is not installed. The message contains the command that installs it.

    Examples
    --------
    >>> from rangebar_polars._utils.optional import import_extra
    >>> import_extra("no_such_library", "fetch")
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.MissingExtraError: `no_such_library` is not installed
    <BLANKLINE>
    hint: pip install 'rangebar-polars[fetch]'
    """
    library = module.partition(".")[0]
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise MissingExtraError.of(library, extra) from error
    _keep_from_stderr(library)
    return found


def _keep_from_stderr(library: str) -> None:
    """Pass the log records of a library only to handlers that the user has set up.

    Without handlers, Python prints warnings to stderr, such as one for each retry.
    """
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
