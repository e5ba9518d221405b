"""A name for a folder that the embedded engine cannot read as anything but a path.

The engine takes its folder and its options as one text, `folder?option=value`. Some characters of a
folder's path mean something else there, and bytes that are not UTF-8 cannot be passed at all.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["EnginePath", "with_folders"]

#: What the engine and its driver read literally. Paths within the folder must fit, too.
_PLAIN = re.compile(r"/[A-Za-z0-9_.,+@/-]{0,1000}", re.ASCII)

#: The folder behind every alias that is in use.
_FOLDERS: dict[str, Path] = {}


class EnginePath:
    """A folder as the engine is told of it: its path, or an alias if the path is not plain.

    An alias is the open descriptor of the folder, where the system gives descriptors a path, or
    else a symbolic link in the folder for temporary files. It lasts until `close`.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor: int | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None
        self._alias = str(folder)
        if _PLAIN.fullmatch(self._alias):
            #: The text for the engine.
            self.text = self._alias
            return
        self._alias = self._of_descriptor(folder) or self._of_link(folder)
        # The driver would resolve a path that does not say that it is one.
        self.text = f"file:{self._alias}"
        _FOLDERS[self._alias] = folder

    def _of_descriptor(self, folder: Path) -> str | None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        alias = f"/proc/self/fd/{self._descriptor}"
        with suppress(OSError):
            if folder.samefile(alias):
                return alias
        self.close()
        return None

    def _of_link(self, folder: Path) -> str:
        self._links = tempfile.TemporaryDirectory(prefix="rangebar-")
        link = Path(self._links.name, "folder")
        link.symlink_to(folder, target_is_directory=True)
        return str(link)

    def close(self) -> None:
        """Forget the alias, once the engine no longer uses it."""
        _FOLDERS.pop(self._alias, None)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._links is not None:
            self._links.cleanup()


def with_folders(text: str) -> str:
    """Text of the engine with the folders' own paths in place of aliases."""
    for alias, folder in tuple(_FOLDERS.items()):
        # Another descriptor may begin with the same digits.
        text = str(folder).join(re.split(rf"{re.escape(alias)}(?!\d)", text))
    return text
