"""The union of a day file and the journals of its day, and where its chain of ids ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.storage.coverage import IdSpans
from rangebar_polars.storage.days.merge import id_gaps
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.user_ticks import raised_times

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.storage.live.journal_file import JournalContent, MissingSpan
    from rangebar_polars.storage.manifest.entry import DayEntry, IdSpan

__all__ = ["LiveDay", "chain_end", "holes", "is_settled", "union"]


@dataclass(frozen=True, slots=True)
class LiveDay:
    """A day of which the store may have journals, a day file, or both."""

    day: date
    #: In the order of ids, with the columns of `TRADES_SCHEMA`.
    trades: pl.DataFrame
    #: Ids that journals say are missing.
    missing: tuple[MissingSpan, ...] = ()
    #: Ids that the entry of the day says are missing, and that no journal has.
    source_absent: tuple[IdSpan, ...] = ()
    #: Trades that arrived after their ids were confirmed missing.
    late: pl.DataFrame | None = None
    #: Revisions as JSON, in the order of their records.
    revisions: tuple[str, ...] = ()
    is_closed: bool = False
    has_journal: bool = False

    @property
    def absent(self) -> list[IdSpan]:
        """All spans of ids that are missing."""
        return [(span.first, span.last) for span in self.missing] + list(self.source_absent)

    def chain_end(self, after_id: int) -> int:
        """Return the last id of the chain that begins after an id."""
        return chain_end(after_id, self.trades.get_column(ID), self.absent)


def is_settled(entry: DayEntry | None) -> bool:
    """Return whether a day is its day file alone, whatever its journals hold."""
    return entry is not None and entry.state in SETTLED


def union(
    day: date,
    entry: DayEntry | None,
    stored: pl.DataFrame,
    contents: Sequence[JournalContent],
    missing_before: Sequence[MissingSpan] = (),
) -> LiveDay:
    """Join a day file that is not settled, and the journals of the day.

    For an id that a journal contains, as a trade or as missing, the journal decides; for every other
    id the day file. If journals contain an id more than once, a trade wins over a missing id, and the
    last trade over those before it. All frames have the same columns.
    """
    nothing = stored.clear()
    trades = _by_id(pl.concat([nothing, *(one.trades for one in contents)]))
    spans = {span for one in contents for span in one.missing}
    missing = _without_ids(sorted(spans), trades.get_column(ID))
    own = _not_among([*missing, *missing_before], stored)
    if trades.height and own.height:
        own = own.join(trades.select(ID), on=ID, how="anti", maintain_order="left")
        trades = pl.concat([trades, own]).sort(ID)
    elif own.height:
        trades = own
    absent = IdSpans([(span.first, span.last) for span in missing])
    source_absent = () if entry is None else entry.source_absent
    return LiveDay(
        day,
        raised_times(trades).ticks,
        tuple(missing),
        tuple(left for span in source_absent for left in absent.missing_from(span)),
        pl.concat([nothing, *(one.late for one in contents)]),
        tuple(text for one in contents for text in one.revisions),
        is_closed=any(one.is_closed for one in contents),
        has_journal=bool(contents),
    )


def _by_id(trades: pl.DataFrame) -> pl.DataFrame:
    """Return trades in the order of their ids, of several with one id the last."""
    ids = trades.get_column(ID)
    if ids.is_empty() or is_strictly_increasing(ids):
        return trades
    ordered = trades.sort(ID, maintain_order=True)
    is_last = pl.col(ID) != pl.col(ID).shift(-1)
    return ordered.filter(is_last.fill_null(value=True))


def _without_ids(spans: Sequence[MissingSpan], ids: pl.Series) -> list[MissingSpan]:
    """Return spans without some ids, which increase."""
    left = []
    for span in spans:
        start = ids.search_sorted(span.first, side="left")
        stop = ids.search_sorted(span.last, side="right")
        inside = IdSpans((number, number) for number in ids[start:stop])
        parts = inside.missing_from((span.first, span.last))
        left += [span._replace(first=first, last=last) for first, last in parts]
    return left


def _not_among(spans: Sequence[MissingSpan], trades: pl.DataFrame) -> pl.DataFrame:
    """Return the trades whose ids are in none of the spans."""
    if not spans or trades.is_empty():
        return trades
    bounds = pl.DataFrame(
        sorted((span.first, span.last) for span in spans),
        schema={"first": pl.Int64, "last": pl.Int64},
        orient="row",
    ).with_columns(pl.col("last").cum_max())
    inside = trades.sort(ID).join_asof(
        bounds.set_sorted("first"), left_on=ID, right_on="first", strategy="backward"
    )
    return inside.filter(pl.col("last").is_null() | (pl.col("last") < pl.col(ID))).select(
        trades.columns
    )


def holes(after_id: int, ids: pl.Series, absent: Sequence[IdSpan]) -> list[IdSpan]:
    """Return the spans of ids after an id that are neither in a series nor absent.

    The ids increase. The last span ends below the highest id that is known.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.live.live_days import holes
    >>> holes(4, pl.Series([5, 8, 9]), [(6, 6), (12, 13)])
    [(7, 7), (10, 11)]
    """
    ids = ids.filter(ids > after_id)
    top = max([after_id, *(last for _, last in absent), *ids.tail(1)])
    known = IdSpans(absent)
    gaps: list[IdSpan] = list(id_gaps(ids))
    if ids.is_empty():
        gaps.append((after_id + 1, top))
    else:
        gaps = [(after_id + 1, ids[0] - 1), *gaps, (ids[-1] + 1, top)]
    return [left for gap in gaps if gap[0] <= gap[1] for left in known.missing_from(gap)]


def chain_end(after_id: int, ids: pl.Series, absent: Sequence[IdSpan]) -> int:
    """Return the last id of the chain after an id: all ids up to it are in a series or absent.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.live.live_days import chain_end
    >>> chain_end(4, pl.Series([5, 8, 9]), [(6, 6)]), chain_end(4, pl.Series([5]), [(6, 9)])
    (6, 9)
    """
    left = holes(after_id, ids, absent)
    if left:
        return left[0][0] - 1
    top: int = max([after_id, *(last for _, last in absent), *ids.tail(1)])
    return top
