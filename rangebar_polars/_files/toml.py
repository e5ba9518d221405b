"""TOML files of the user: settings and symbols."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import shown
from rangebar_polars.exceptions import SettingError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_there", "read_toml"]

_LARGEST_FILE = 1_000_000  # bytes of a settings or symbols file


def is_there(path: Path) -> bool:
    """Return whether a path exists.

    Raises
    ------
    SettingError
        The user may not access it.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingError(f"`{path}` cannot be read: {error.strerror or error}") from error
    return True


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of the user.

    Raises
    ------
    SettingError
        The file cannot be read, or is not valid TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SettingError(f"`{shown(path)}` cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise SettingError(f"`{shown(path)}` cannot be read: {error}") from error
    if len(data) > _LARGEST_FILE:
        raise SettingError(
            f"`{shown(path)}` is not a settings or symbols file: it has more than "
            f"{_LARGEST_FILE:,} bytes"
        )
    try:
        return tomllib.loads(data.decode())
    except RecursionError as error:
        raise SettingError(f"`{shown(path)}` has tables or arrays nested too deeply") from error
    except Exception as error:
        # The parser raises more than TOMLDecodeError for a malformed file.
        raise SettingError(f"`{shown(path)}` is not a TOML file: {shown(error)}") from error
