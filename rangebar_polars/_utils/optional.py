"""Optional libraries, imported by the function that needs them."""

from __future__ import annotations

import logging
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
    """Leave a library's records to handlers that somebody has set up.

    Without any, Python prints bare warnings, such as one for each of our retries.
    """
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
