"""A line on what is being tried, when a source does not answer for some seconds."""

from __future__ import annotations

import logging
import math
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rangebar_polars._utils import clock
from rangebar_polars.config import settings
from rangebar_polars.exceptions import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Attempted", "announced"]

_LOG = logging.getLogger("rangebar_polars.fetch")

#: Silence before the first line, and between two lines.
FIRST_S, NEXT_S = 2.5, 30.0


class Attempted:
    """A request that is tried several times, until it is `answered`."""

    def __init__(self, url: str, tries: int) -> None:
        self._url = url
        self._tries = tries
        self._failed = 0
        self._cause = "no answer yet"
        self._is_done = threading.Event()

    def failed(self, cause: str) -> None:
        """Note that a try has failed."""
        self._failed += 1
        self._cause = cause

    def answered(self) -> None:
        """Note that the source answers, and stop the announcements."""
        self._is_done.set()

    def __str__(self) -> str:
        tried = min(self._failed + 1, self._tries)
        return f"waiting for `{self._url}`: {self._cause} (try {tried} of {self._tries})"

    def announce(self) -> None:
        """Write the line whenever nothing has happened for a while."""
        wait_s = FIRST_S
        while not self._is_done.wait(clock.real_seconds(wait_s)):
            # Several files may be requested at once: one line stands for their host.
            if _TURNS.begin(urlsplit(self._url).netloc):
                _write(str(self))
            wait_s = NEXT_S


class _Turns:
    """When a line about each host was written last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def begin(self, host: str) -> bool:
        """Return whether a line about a host is due, and note that it is written."""
        with self._lock:
            now = clock.monotonic()
            is_due = now - self._last.get(host, -math.inf) >= FIRST_S
            if is_due:
                self._last[host] = now
            return is_due


_TURNS = _Turns()


def _write(text: str) -> None:
    """Log a line; without a handler for it, write it to stderr if the setting `verbose` is on."""
    logger: logging.Logger | None = _LOG
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            _LOG.warning("%s", text)
            return
        logger = logger.parent if logger.propagate else None
    with suppress(OSError, SettingError):
        if sys.stderr is not None and settings().verbose:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


@contextmanager
def announced(url: str, tries: int) -> Iterator[Attempted]:
    """Say what is being tried if there is no answer within three seconds.

    Examples
    --------
    >>> from rangebar_polars.fetch.failures.patience import announced
    >>> with announced("https://host/file.zip", tries=5) as attempted:
    ...     attempted.failed("connection refused")
    ...     print(attempted)
    waiting for `https://host/file.zip`: connection refused (try 2 of 5)
    """
    attempted = Attempted(url, tries)
    threading.Thread(target=attempted.announce, name="rangebar-waiting", daemon=True).start()
    try:
        yield attempted
    finally:
        attempted.answered()
