"""Protocols of a source of ticks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from rangebar_polars._utils.span import ONE_DAY

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars.fetch.http_probe import ProbingTransport
    from rangebar_polars.sources import DayTicks

__all__ = ["ARCHIVE_PATIENCE", "ArchiveProbe", "DaySource", "IdSource", "IdSpans", "by_month"]


class ArchiveProbe:
    """Says of one symbol which whole UTC days its archive has.

    Parameters
    ----------
    symbol
        In upper case.
    transport
        Asks the archive.
    """

    #: How many days before a day are looked at until the archive counts as without any.
    patience = 10

    def __init__(self, symbol: str, transport: ProbingTransport) -> None:
        self.symbol = symbol
        self.transport = transport

    def has(self, day: date) -> bool:
        """Whether the archive has the day, whole."""
        raise NotImplementedError

    def before(self, day: date) -> date:
        """The newest day that may be there if this one is not."""
        return day - ONE_DAY


#: After so many days an archive that is still missing is not waited for any more.
ARCHIVE_PATIENCE = timedelta(days=10)


def by_month(days: Iterable[date]) -> dict[tuple[int, int], Sequence[date]]:
    """Days by their year and month, in order.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.fetch.source import by_month
    >>> {month: len(days) for month, days in by_month([date(2024, 1, 31), date(2024, 2, 1)]).items()}
    {(2024, 1): 1, (2024, 2): 1}
    """
    months: dict[tuple[int, int], list[date]] = {}
    for day in days:
        months.setdefault((day.year, day.month), []).append(day)
    return dict(months)


if TYPE_CHECKING:
    IdSpans = list[tuple[int, int]]


class IdSource(Protocol):
    """Asks an exchange for ticks by their ids."""

    def is_published(self, day: date) -> bool:
        """Whether the archive has the day."""
        ...

    def after(self, day: date, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Ticks of a day above an id, and the spans of ids between that do not exist."""
        ...

    def ids(self, first: int, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Ticks with these ids, and the spans of ids that the exchange does not have."""
        ...


class DaySource(Protocol):
    """The ticks of one symbol, a day at a time."""

    @property
    def by_id(self) -> IdSource | None:
        """Who can be asked for ids; None where ticks have no ids of the exchange."""
        ...

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """The days, in order, those of one file together.

        A day of which nothing can be known yet is left out; a file may hold more than was asked for.
        """
        ...

    def close(self) -> None:
        """Let go of connections; what is under way is given up."""
        ...
