"""The folders of an application, by the convention of each platform."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rangebar_polars.exceptions import SettingError, with_hint

__all__ = ["application_folder"]

_APPLICATION = "rangebar-polars"
_FOLDERS = {
    "darwin": {"cache": "Library/Caches", "config": "Library/Application Support"},
    "other": {"cache": ".cache", "config": ".config"},
}


@cache
def application_folder(use: str, platform: str, chosen: str, home: str) -> Path:
    """Return the folder for a use, below the one that the user has chosen or the home folder.

    Examples
    --------
    >>> from rangebar_polars._files.folders import application_folder
    >>> application_folder("cache", "linux", "", "/h").as_posix()
    '/h/.cache/rangebar-polars'
    """
    is_chosen = chosen != "" if platform == "win32" else Path(chosen).is_absolute()
    if home == "~" and not is_chosen:
        raise SettingError(
            with_hint(
                "the user has no home folder", "set HOME, or XDG_CACHE_HOME and XDG_CONFIG_HOME"
            )
        )
    if platform == "win32":
        local = Path(chosen) if is_chosen else Path(home) / "AppData" / "Local"
        return local / _APPLICATION / ("Cache" if use == "cache" else "")
    usual = _FOLDERS.get(platform, _FOLDERS["other"])
    return (Path(chosen) if is_chosen else Path(home) / usual[use]) / _APPLICATION
