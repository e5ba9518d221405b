"""A name of a folder or a file that the embedded engine reads as a plain path.

The engine takes its folder and its options as one text, `folder?option=value`, and the path of a file
to insert as a pattern. Some characters of a path have another meaning there, and bytes that are not
UTF-8 cannot be passed at all.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["EnginePath", "is_plain", "with_folders"]

#: Paths that the engine and its driver read literally. The length leaves room for paths within.
_PLAIN = re.compile(r"/[A-Za-z0-9_.,+@/-]{0,1000}", re.ASCII)

#: The path of each alias in use.
_ALIASES: dict[str, Path] = {}


def is_plain(path: Path) -> bool:
    """Check whether the engine reads a path, and paths within it, literally."""
    return _PLAIN.fullmatch(str(path)) is not None


class EnginePath:
    """A folder or a file as the engine gets it: its path, or an alias if the path is not plain.

    An alias is the path of an open descriptor, where the system has such paths, or else a symbolic
    link in a temporary folder. It exists until `close`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None
        #: The path or the alias.
        self.name = str(path)
        #: The same, as the address of a folder to open.
        self.text = self.name
        if is_plain(path):
            return
        self.name = self._of_descriptor(path) or self._of_link(path)
        # The driver would resolve a path without the prefix.
        self.text = f"file:{self.name}"
        _ALIASES[self.name] = path

    def _of_descriptor(self, path: Path) -> str | None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        alias = f"/proc/self/fd/{self._descriptor}"
        with suppress(OSError):
            if path.samefile(alias):
                return alias
        self.close()
        return None

    def _of_link(self, path: Path) -> str:
        parent = None if is_plain(Path(tempfile.gettempdir())) else "/tmp"  # noqa: S108
        self._links = tempfile.TemporaryDirectory(prefix="rangebar-", dir=parent)
        link = Path(self._links.name, "link")
        link.symlink_to(path)
        return str(link)

    def close(self) -> None:
        """Remove the alias, once the engine no longer uses it."""
        _ALIASES.pop(self.name, None)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._links is not None:
            self._links.cleanup()


def with_folders(text: str) -> str:
    """Replace aliases by their paths in a message of the engine."""
    for alias, path in tuple(_ALIASES.items()):
        # The number of another descriptor may begin with the same digits.
        text = str(path).join(re.split(rf"{re.escape(alias)}(?!\d)", text))
    return text
