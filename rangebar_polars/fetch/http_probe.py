"""A transport that checks for files without downloading them, and reads the server's clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.fetch._http import date_of
from rangebar_polars.fetch.checksum import SUFFIX
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.fetch._http import Answer

__all__ = ["LARGEST_SKEW_S", "UNKNOWN_TIME", "ProbingTransport"]


#: When a file was written, if the archive does not say.
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)


#: Difference of two clocks in seconds above which they may disagree about the date.
LARGEST_SKEW_S = 60.0


class ProbingTransport(Transport):
    """Transport that checks whether files exist, and records the clock of the server.

    Parameters
    ----------
    url
        Address of the archive.
    with_checksum
        Whether a file counts as existing only with its checksum file.
    now
        Seconds since 1970 by the clock of this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        with_checksum: bool = False,
        now: Callable[[], float] = clock.unix_seconds,
    ) -> None:
        super().__init__(url)
        #: Local time minus the server's time in its last answer; None if unknown.
        self.clock_skew_s: float | None = None
        self._with_checksum = with_checksum
        self._now = now

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks may disagree about the date."""
        return abs(self.clock_skew_s or 0.0) > LARGEST_SKEW_S

    def exists(self, path: str) -> bool:
        """Return whether a file exists, with its checksum file if that is required.

        Raises
        ------
        NoAnswerError
            No connection after all tries.
        TransientSourceError
            The answer says neither yes nor no, after all tries.
        """
        paths = [path, path + SUFFIX] if self._with_checksum else [path]
        return all(self.facts(name) is not None for name in paths)

    def changed(self, path: str) -> datetime | None:
        """Return when a file was written; `UNKNOWN_TIME` if not stated, None if there is no file."""
        facts = self.facts(path)
        return None if facts is None else facts.last_modified or UNKNOWN_TIME

    def noticed(self, answer: Answer) -> None:
        """Record the server's clock. The header `Age` tells how old an answer from a cache is."""
        date = date_of(answer.header("Date"))
        if date is not None:
            age = answer.header("Age")
            is_age = re.fullmatch("[0-9]{1,9}", age) is not None
            server_s = date.timestamp() + (int(age) if is_age else 0)
            # The header omits fractions of a second, half a second on average.
            self.clock_skew_s = self._now() - server_s - 0.5
