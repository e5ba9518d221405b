"""The part of a status about the process and its machine."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars import __version__
from rangebar_polars._utils import clock
from rangebar_polars.live.health.status import ProcessStatus

if TYPE_CHECKING:
    from rangebar_polars.live.health.status import ProcessState

__all__ = ["ProcessFacts", "rss_bytes"]


class ProcessFacts:
    """What does not change about this process, and what it measures.

    Parameters
    ----------
    folder
        A folder of the file system that journals are written to.

    Examples
    --------
    >>> from rangebar_polars.live.health.process import ProcessFacts
    >>> from rangebar_polars.live.health.status import ProcessState
    >>> facts = ProcessFacts("/").status(ProcessState.STARTING)
    >>> facts.rss_bytes > 0, facts.disk_free_bytes >= 0, facts.now >= facts.started_at
    (True, True, True)
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._pid = os.getpid()
        self._host = socket.gethostname()
        self._started_at = clock.utc_now()

    def status(
        self, state: ProcessState, *, clock_skew_s: float | None = None, loop_lag_s: float = 0.0
    ) -> ProcessStatus:
        """Measure the process now. It takes some microseconds on a local disk."""
        return ProcessStatus(
            status=state,
            version=__version__,
            pid=self._pid,
            host=self._host,
            started_at=self._started_at,
            now=clock.utc_now(),
            clock_skew_s=clock_skew_s,
            loop_lag_s=loop_lag_s,
            rss_bytes=rss_bytes(),
            disk_free_bytes=self._disk_free_bytes(),
        )

    def _disk_free_bytes(self) -> int | None:
        """Return the space where the folder is, or where it will be made."""
        for folder in (self._folder, *self._folder.parents):
            try:
                return shutil.disk_usage(folder).free
            except FileNotFoundError:
                continue
            except OSError:
                return None
        return None


def rss_bytes() -> int | None:
    """Return the memory of this process; outside of Linux its largest one so far."""
    if sys.platform == "linux":
        try:
            pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        except OSError:  # a container without /proc
            return None
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1_024
