"""What a population that was interrupted has stored."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars._utils import clock
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.clickhouse.open import reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import CacheError, StorageError
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading.plan import covered_days, entries_around

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.populate.plan import Request

__all__ = ["note_stored"]

_RESUME = "run it again to resume from there"


def note_stored(
    interrupt: KeyboardInterrupt,
    requests: Sequence[Request],
    *,
    cache_dir: str | Path | None,
    dsn: str | None,
) -> None:
    """Add notes to an interrupt: which days of ticks and of bars are stored, and how to resume.

    Where the cache or the store cannot be read now, their lines are left out.
    """
    with suppress(StorageError):
        for line in _of_ticks(requests, cache_dir):
            interrupt.add_note(line)
    with suppress(CacheError):
        for line in _of_bars(requests, cache_dir, dsn):
            interrupt.add_note(line)
    interrupt.add_note(_RESUME)


def _of_ticks(requests: Sequence[Request], cache_dir: str | Path | None) -> Iterator[str]:
    """Describe the stored days of ticks of each symbol."""
    storage = TickStorage(cache_dir)
    for request in requests:
        venue = request.specs[0].venue
        symbol_dir = storage.symbol_dir(request.symbol, venue.source, venue.market)
        span = _span(request)
        days = covered_days(symbol_dir, span, entries_around(symbol_dir, span), check_end=False)
        stored = [item.day for item in days if item.state in SETTLED]
        yield f"{request.symbol}: ticks of {_of_days(stored, request)}"


def _of_bars(
    requests: Sequence[Request], cache_dir: str | Path | None, dsn: str | None
) -> Iterator[str]:
    """Describe the stored days of bars of each symbol and threshold."""
    specs = [spec for request in requests for spec in request.specs]
    with reading(dsn, cache_dir=cache_dir) as cache:
        chains = {} if cache is None else read_chains(cache, specs)
    for request in requests:
        for spec in request.specs:
            units = [u for series, c in chains.items() if series.spec == spec for u in c.units]
            stored = {u.day for u in units if request.first_day <= u.day <= request.last_day}
            yield f"{request.symbol} at {spec.threshold} dbps: bars of {_of_days(stored, request)}"


def _of_days(stored: Sequence[date] | set[date], request: Request) -> str:
    count = len(_span(request).days())
    if not stored:
        return f"0 of {count_text(count, 'day')} are stored"
    return f"{len(stored):,} of {count_text(count, 'day')} are stored, the last is {max(stored)}"


def _span(request: Request) -> Span:
    yesterday = clock.utc_now().date() - ONE_DAY
    last_day = max(request.first_day, min(request.last_day, yesterday))
    return Span(day_start(request.first_day), day_start(last_day + ONE_DAY))
