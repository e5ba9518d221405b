"""Whether an archive has a file, asked without fetching it, and what time it is there."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rangebar_polars.fetch._http import date_of
from rangebar_polars.fetch.checksum import SUFFIX
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.fetch._http import Answer

__all__ = ["LARGEST_SKEW_S", "UNKNOWN_TIME", "ProbingTransport"]


#: When a file was written, if the archive does not say.
UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)


#: Difference of two clocks, in seconds, above which they may not agree what day it is.
LARGEST_SKEW_S = 60.0


class ProbingTransport(Transport):
    """Asks whether files are there, and takes note of the server's clock.

    Parameters
    ----------
    url
        Address of the archive.
    with_checksum
        Whether a file is there only once its checksum is there too.
    now
        Seconds since 1970 by the clock of this machine.
    """

    def __init__(
        self, url: str, *, with_checksum: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(url)
        #: Local time less the server's, by its last answer; None where it has not said.
        self.clock_skew_s: float | None = None
        self._with_checksum = with_checksum
        self._now = now

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks are so far apart that they may not agree what day it is."""
        return abs(self.clock_skew_s or 0.0) > LARGEST_SKEW_S

    def exists(self, path: str) -> bool:
        """Whether there is a file, and its checksum if that is asked for.

        Raises
        ------
        NoAnswerError
            No connection, after all tries.
        TransientSourceError
            An answer that says neither yes nor no, after all tries.
        """
        wanted = [path, path + SUFFIX] if self._with_checksum else [path]
        return all(self.facts(one) is not None for one in wanted)

    def changed(self, path: str) -> datetime | None:
        """When a file was written; the beginning of time where nothing is said, None without one."""
        facts = self.facts(path)
        return None if facts is None else facts.last_modified or UNKNOWN_TIME

    def noticed(self, answer: Answer) -> None:
        """Take over the server's clock; a cache on the way says how old its answer is."""
        said = date_of(answer.header("Date"))
        if said is not None:
            age = answer.header("Age")
            is_age = re.fullmatch("[0-9]{1,9}", age) is not None
            there = said.timestamp() + (int(age) if is_age else 0)
            # The header leaves out parts of a second: half a one, on average.
            self.clock_skew_s = self._now() - there - 0.5
