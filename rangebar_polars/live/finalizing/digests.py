"""Digests of the states after closed days, which outlive the process in the state file.

A series that begins with another state than the one its writer had after the same day is computed
otherwise from then on: that is a revision, too.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.identity import BarSeries
from rangebar_polars.bar_series.live_builders import bars_digest
from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.live.finalizing.revising import Revision, newest_revision
from rangebar_polars.live.helper.messages import series_of, series_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from rangebar_polars.live.helper.base import Base

    class Journal(Protocol):
        """A journal that takes revisions."""

        def revision(self, text: str) -> None:
            """Write a record of a revision."""
            ...


__all__ = ["Digests", "begin_revisions", "digest_values", "digests_of", "later_digests"]

#: The digest of the state of a series after a day.
Digests = dict[tuple[BarSeries, date], str]


def digest_values(digests: Mapping[tuple[BarSeries, date], str]) -> list[dict[str, Any]]:
    """Return digests as values that JSON knows."""
    return [
        {"series": series_values(series), "day": day.isoformat(), "digest": text}
        for (series, day), text in digests.items()
    ]


def digests_of(known: Mapping[str, Any]) -> Digests:
    """Return the digests in a state file, less what cannot be read.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.finalizing.digests import digest_values, digests_of
    >>> series = BarSpec.of("BTCUSDT", 250).series(date(2026, 11, 1))
    >>> digests = {(series, date(2026, 11, 2)): "ab"}
    >>> digests_of({"digests": [*digest_values(digests), "damaged"]}) == digests
    True
    """
    found: Digests = {}
    values = known.get("digests")
    for one in values if isinstance(values, list) else ():
        try:
            key = (series_of(one["series"]), date.fromisoformat(one["day"]))
            found[key] = str(one["digest"])
        except (ValueError, TypeError, KeyError, OverflowError, RangeBarError):
            continue
    return found


def later_digests(known: Digests, bases: Mapping[BarSeries, Base]) -> Digests:
    """Return the known digests of days after the states that series begin with.

    They hold as long as the state does: a series that begins with another state has none.
    """
    found: Digests = {}
    for series, base in bases.items():
        before = known.get((series, base.first_day - ONE_DAY))
        if before is None or before == bars_digest(base.state):
            found |= {
                key: text
                for key, text in known.items()
                if key[0] == series and key[1] >= base.first_day
            }
    return found


def begin_revisions(
    journal: Journal,
    series: Sequence[BarSeries],
    bases: Sequence[Base],
    records: Sequence[str],
    known: Digests,
) -> tuple[int, ...]:
    """Return the number of the newest revision of each series, 0 without one.

    A series whose state is another one than before is revised: a record is written.

    Parameters
    ----------
    journal
        Where to.
    series, bases
        The series, and the states that they begin with.
    records
        Earlier revisions.
    known
        The digests that the writer had.

    Raises
    ------
    OSError
        A record cannot be written.
    """
    numbers = [newest_revision(records, one) for one in series]
    number = max(int(clock.unix_seconds()), max(numbers, default=0) + 1)
    for index, (one, base) in enumerate(zip(series, bases, strict=True)):
        day = base.first_day - ONE_DAY
        before = known.get((one, day))
        if before is None or before == bars_digest(base.state):
            continue
        revision = Revision(one, day, base)
        if not any(revision.is_that_of(text) for text in records):
            journal.revision(revision.text(number))
            numbers[index] = number
    return tuple(numbers)
