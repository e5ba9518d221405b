"""Which days are to be fetched: pure functions of what the store says and what time it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

__all__ = ["ARCHIVE_PATIENCE", "by_month", "wanted_days"]

#: After so many days an archive that is still missing is not waited for any more.
ARCHIVE_PATIENCE = timedelta(days=10)

_OF_THE_USER = frozenset({"given"})
_COMPLETE = _OF_THE_USER | {"final", "absent_confirmed"}


def wanted_days(
    days: Iterable[date], states: Mapping[date, str], today: date, *, refresh: bool = False
) -> list[date]:
    """Days that the store lacks, or holds in a form that may have grown; none after today.

    With `refresh`, all but those that the user wrote.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.pipeline.plan import wanted_days
    >>> days = [date(2024, 1, day) for day in (1, 2, 3, 4)]
    >>> states = {days[0]: "final", days[1]: "tail"}
    >>> [day.day for day in wanted_days(days, states, today=days[2])]
    [2, 3]
    """
    complete = _OF_THE_USER if refresh else _COMPLETE
    return [day for day in days if day <= today and states.get(day) not in complete]


def by_month(days: Iterable[date]) -> dict[tuple[int, int], Sequence[date]]:
    """Days by their year and month, in order.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.pipeline.plan import by_month
    >>> {month: len(days) for month, days in by_month([date(2024, 1, 31), date(2024, 2, 1)]).items()}
    {(2024, 1): 1, (2024, 2): 1}
    """
    months: dict[tuple[int, int], list[date]] = {}
    for day in days:
        months.setdefault((day.year, day.month), []).append(day)
    return dict(months)
