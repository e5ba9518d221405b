"""Imports of optional libraries, at the moment they are needed."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import BrokenExtraError, MissingExtraError, with_hint

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional library that the extra `extra` installs.

    Raises
    ------
    MissingExtraError
        The library is not installed. The message contains the command that installs it.
    BrokenExtraError
        The library is installed, and its import fails. The message contains the reason.

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
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise MissingExtraError.of(library, extra) from error
        raise BrokenExtraError(_broken(library, extra, error)) from error
    _keep_from_stderr(library)
    return found


def _broken(library: str, extra: str, error: ImportError) -> str:
    """Describe why an installed library cannot be imported, with the errors behind the first."""
    reasons: list[str] = []
    link: BaseException | None = error
    while link is not None and len(reasons) < 3:  # noqa: PLR2004 - the rest repeats the reason
        reason = str(link).partition("\n")[0][:200]
        reasons += [reason] if reason and reason not in reasons else []
        link = link.__cause__ or link.__context__
    sentence = f"`{library}` is installed, but its import fails: {'; '.join(reasons)}"
    from rangebar_polars.config import time_zone_variable

    zone = time_zone_variable()
    if zone and any("time zone" in reason for reason in reasons):
        hint = f"the variable `TZ` is `{zone}`, which `{library}` does not know: TZ=UTC"
    else:
        hint = f"pip install --force-reinstall 'rangebar-polars[{extra}]'"
    return with_hint(sentence, hint)


def _keep_from_stderr(library: str) -> None:
    """Pass the log records of a library only to handlers that the user has set up.

    Without handlers, Python prints warnings to stderr, such as one for each retry.
    """
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
