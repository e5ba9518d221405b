"""A name for a folder or a file that the embedded engine cannot read as anything but a path.

The engine takes its folder and its options as one text, `folder?option=value`, and the path of a file
to insert as a pattern. Some characters of a path mean something else there, and bytes that are not
UTF-8 cannot be passed at all.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["EnginePath", "is_plain", "with_folders"]

#: What the engine and its driver read literally. Paths within the folder must fit, too.
_PLAIN = re.compile(r"/[A-Za-z0-9_.,+@/-]{0,1000}", re.ASCII)

#: What is behind every alias that is in use.
_ALIASES: dict[str, Path] = {}


def is_plain(path: Path) -> bool:
    """Whether the engine reads a path, and paths within it, as nothing but a path."""
    return _PLAIN.fullmatch(str(path)) is not None


class EnginePath:
    """A folder or a file as the engine is told of it: its path, or an alias if that is not plain.

    An alias is an open descriptor, where the system gives descriptors a path, or else a symbolic
    link in a folder for temporary files. It lasts until `close`.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None
        #: The path or the alias.
        self.name = str(path)
        #: The same as a folder to be opened.
        self.text = self.name
        if is_plain(path):
            return
        self.name = self._of_descriptor(path) or self._of_link(path)
        # The driver would resolve a path that does not say that it is one.
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
        place = None if is_plain(Path(tempfile.gettempdir())) else "/tmp"  # noqa: S108
        self._links = tempfile.TemporaryDirectory(prefix="rangebar-", dir=place)
        link = Path(self._links.name, "link")
        link.symlink_to(path)
        return str(link)

    def close(self) -> None:
        """Forget the alias, once the engine no longer uses it."""
        _ALIASES.pop(self.name, None)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._links is not None:
            self._links.cleanup()


def with_folders(text: str) -> str:
    """Text of the engine with paths in place of their aliases."""
    for alias, path in tuple(_ALIASES.items()):
        # Another descriptor may begin with the same digits.
        text = str(path).join(re.split(rf"{re.escape(alias)}(?!\d)", text))
    return text
