"""What is said when a read asks for more than may be computed, or for what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.covered import other_semantics, words_of_days
from rangebar_polars.clickhouse.remedy import absence_note, populate_line, stale_notes
from rangebar_polars.clickhouse.series import BAR_SEMANTICS
from rangebar_polars.exceptions import CoverageError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.series import Family
    from rangebar_polars.clickhouse.units import Unit
    from rangebar_polars.pipeline.reading import Access, Piece, Wanted

__all__ = [
    "MOST_DAYS",
    "days_from_ticks",
    "hole_note",
    "judge_length",
    "populate_line_of",
    "stale_notes_of",
]

#: So many UTC days a read computes from ticks.
MOST_DAYS = 31


def days_from_ticks(pieces: Sequence[Piece]) -> list[date]:
    """UTC days whose ticks have to be computed."""
    return [day for piece in pieces if piece.ticks is not None for day in piece.ticks.days()]


def judge_length(wanted: Wanted, pieces: Sequence[Piece], cache: Cache | None) -> None:
    """Refuse to compute more days than a read should.

    Raises
    ------
    CoverageError
        It names the days and the call that keeps their bars.
    """
    days = days_from_ticks(pieces)
    if len(days) <= MOST_DAYS:
        return
    family = wanted.asked.family
    sentence = (
        f"bars of {family.symbol} at {family.threshold} dbps are not kept for `{len(days):,}` "
        f"days, and a read computes at most {MOST_DAYS}: {words_of_days(days)}"
    )
    line = populate_line_of(family, wanted.access, days[0], days[-1])
    hint = f"keep them first: {line}"
    if not wanted.access.use_cache:
        hint += ", and read them with use_cache=True"
    raise CoverageError(
        with_hint(sentence, hint + _other_semantics(family, cache)),
        symbol=family.symbol,
        days=days,
    )


def populate_line_of(family: Family, access: Access, first: date, last: date) -> str:
    """The call that keeps bars of these days where a read looks for them.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.clickhouse.series import Family
    >>> from rangebar_polars.pipeline.reading import Access
    >>> from rangebar_polars.pipeline.shortfall import populate_line_of
    >>> family = Family.of("BTCUSDT", 500, reset="month")
    >>> print(populate_line_of(family, Access(), date(2024, 1, 1), date(2024, 6, 30)))
    rb.populate_cache_resumable("BTCUSDT", "2024-01-01", "2024-06-30", \
threshold_decimal_bps=500, ouroboros="month")
    """
    return populate_line(family, first, last, cache_dir=access.cache_dir, dsn=access.dsn)


def _other_semantics(family: Family, cache: Cache | None) -> str:
    """What is kept as another version of the package made bars."""
    if cache is None:
        return ""
    days = other_semantics(cache, family)
    if not days:
        return ""
    numbers = sorted(set(days.values()))
    return (
        f"; under another bar_semantics ({', '.join(map(str, numbers))}, this version has "
        f"{BAR_SEMANTICS}) are kept {words_of_days(days)}: rangebar cache upgrade"
    )


def hole_note(wanted: Wanted, days: Sequence[date]) -> str:
    """What is to be said of days between bars that are not kept; they are in order."""
    access = wanted.access
    return absence_note(wanted.asked.family, days, cache_dir=access.cache_dir, dsn=access.dsn)


def stale_notes_of(wanted: Wanted, units: Sequence[Unit]) -> list[str]:
    """What is to be said of units whose ticks have changed since."""
    return stale_notes(wanted.asked.family, units, wanted.access.cache_dir)
