"""Whether another process of this machine is running."""

from __future__ import annotations

import os
import sys

__all__ = ["is_running"]


def is_running(process: int) -> bool:
    """Return whether there is a process of an id; False on Windows, where signal 0 would end it.

    Examples
    --------
    >>> import os
    >>> from rangebar_polars._files.processes import is_running
    >>> is_running(os.getpid()), is_running(2**62)
    (True, False)
    """
    if sys.platform == "win32" or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
