"""What a source provides to be fetched: day sources, id sources and archive probes."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rangebar_polars._utils.span import ONE_DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from datetime import date

    import polars as pl

    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.fetch.http_probe import ProbingTransport

    IdSpans = list[tuple[int, int]]

__all__ = [
    "ARCHIVE_PATIENCE",
    "ArchiveProbe",
    "Caller",
    "DaySource",
    "Fetcher",
    "IdSource",
    "IdSpans",
    "RequestContext",
    "by_month",
    "current_context",
    "request_context",
]


#: How long a missing file of the archive is expected to appear.
ARCHIVE_PATIENCE = timedelta(days=10)


class Caller(Enum):
    """Who sends requests, which decides about the limit of their weight."""

    #: Live bars, which must not wait for a population.
    LIVE = "live"
    OTHER = "other"
    #: The helper of live bars, which populates in the background.
    HELPER = "helper"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who sends requests, and for which store. A host may be closed for all processes of a store."""

    caller: Caller = Caller.OTHER
    #: The cache folder; None: that of the settings.
    cache_dir: Path | None = None


_CONTEXT: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


@contextmanager
def request_context(
    *, caller: Caller | None = None, cache_dir: Path | str | None = None
) -> Iterator[RequestContext]:
    """Set who sends requests and for which store, for sources that are made within the block.

    None leaves a value as it is.

    Examples
    --------
    >>> from rangebar_polars.fetch.source import Caller, request_context
    >>> with request_context(caller=Caller.HELPER), request_context(cache_dir="ticks") as context:
    ...     context.caller.name, str(context.cache_dir)
    ('HELPER', 'ticks')
    """
    before = current_context()
    context = replace(
        before,
        caller=before.caller if caller is None else caller,
        cache_dir=before.cache_dir if cache_dir is None else Path(cache_dir),
    )
    token = _CONTEXT.set(context)
    try:
        yield context
    finally:
        _CONTEXT.reset(token)


def current_context() -> RequestContext:
    """Return the context of this thread."""
    return _CONTEXT.get() or RequestContext()


class DaySource(Protocol):
    """Ticks of one symbol, a day at a time."""

    @property
    def by_id(self) -> IdSource | None:
        """Source of single ids; None if the exchange does not number its ticks."""
        ...

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """Yield the days in order, those of one file together.

        A day about which nothing is known yet is left out. A file may hold more days than were
        requested.
        """
        ...

    def close(self) -> None:
        """Close connections and abandon unfinished downloads."""
        ...


class IdSource(Protocol):
    """Ticks of one symbol by their ids."""

    def is_published(self, day: date) -> bool:
        """Return whether the archive has the day."""
        ...

    def after(self, day: date, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Return the ticks of a day above an id, and the spans of ids among them that do not exist."""
        ...

    def ids(self, first: int, last: int) -> tuple[pl.DataFrame, IdSpans]:
        """Return the ticks with these ids, and the spans of ids that the exchange does not have."""
        ...


class ArchiveProbe:
    """Finds out which whole UTC days of one symbol an archive has.

    Parameters
    ----------
    symbol
        The symbol in upper case.
    transport
        Sends the requests to the archive.
    """

    #: How many days back to look for a day before the archive counts as empty.
    patience = 10

    def __init__(self, symbol: str, transport: ProbingTransport) -> None:
        self.symbol = symbol
        self.transport = transport

    def has(self, day: date) -> bool:
        """Return whether the archive has the whole day."""
        raise NotImplementedError

    def before(self, day: date) -> date:
        """Return the newest day that the archive may have if it does not have this one."""
        return day - ONE_DAY


class Fetcher(NamedTuple):
    """How to fetch one source."""

    #: Make a day source of a symbol and a market.
    days: Callable[[str, str], DaySource]
    #: Make a probe of a symbol, a market and a clock in seconds since 1970.
    probe: Callable[[str, str, Callable[[], float]], ArchiveProbe]


def by_month(days: Iterable[date]) -> dict[tuple[int, int], Sequence[date]]:
    """Group days by year and month, in order.

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
