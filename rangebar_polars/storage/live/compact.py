"""Closed days: their journals become day files, and are compared with the final day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.day_ticks import Origin
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.days.day_file import Content, store_day
from rangebar_polars.storage.days.write import rewrite_days, stored_rows
from rangebar_polars.storage.files.codec import encode
from rangebar_polars.storage.files.content_file import place
from rangebar_polars.storage.id_kinds import ID
from rangebar_polars.storage.live.journal_file import list_journals, read_journal
from rangebar_polars.storage.live.live_days import is_settled, stored_trades, union
from rangebar_polars.storage.reading.plan import entries_around

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.journal_file import JournalContent
    from rangebar_polars.storage.manifest.entry import DayEntry

__all__ = ["DayDifference", "compact_day", "compare_day", "set_streamed_aside"]

#: Origin of a day whose journals are in its file.
STREAM = "stream"


def compact_day(symbol_dir: SymbolDir, day: date) -> bool:
    """Write the journals of a closed day into its day file, which stays a `tail`.

    The file then has, for an id that a journal contains, what the journal says, and for any other id
    what it had. Nothing happens without journals, for a day that does not grow any more, and for one
    whose journals are in its file already.

    Returns
    -------
    bool
        Whether the file is new.

    Raises
    ------
    StorageError
        A file cannot be read or written. The stored day is unchanged.
    TickOrderError
        The trades of journals and day file run back in time by more than a second.
    """
    if not list_journals(symbol_dir, day, day):
        return False
    entries = entries_around(symbol_dir, Span(day_start(day), day_start(day + ONE_DAY)))
    if _is_compacted(entries.get(day)):
        return False

    def rewrite(day: date, old: DayEntry | None) -> DayEntry | None:
        return None if _is_compacted(old) else _compacted(symbol_dir, day, old)

    report = rewrite_days(symbol_dir, [day], rewrite)
    is_new = day not in report.unchanged
    if is_new:
        failpoint(Step.DAY_COMPACTED)
    return is_new


def _is_compacted(entry: DayEntry | None) -> bool:
    return is_settled(entry) or (entry is not None and entry.origin.kind == STREAM)


def _compacted(symbol_dir: SymbolDir, day: date, old: DayEntry | None) -> DayEntry | None:
    """Store the union of a day file and its journals. The lock of the symbol is held."""
    contents = _journals(symbol_dir, day, day)
    if not contents:
        return None
    nothing = TRADES_SCHEMA.to_frame()
    stored = nothing
    if old is not None and old.is_stored and old.rows:
        stored = stored_rows(symbol_dir, day, old).select(nothing.columns)
    earlier = _journals(symbol_dir, day - ONE_DAY, day - ONE_DAY)
    missing_before = union(day - ONE_DAY, None, nothing, earlier).missing
    found = union(day, old, stored, contents, missing_before)
    content = Content(found.trades, "tail", Origin(STREAM), tuple(sorted(found.absent)))
    entry = store_day(symbol_dir, day, content, old)
    if entry is None or found.late is None:
        return entry
    late = found.late.get_column(ID).unique().sort()
    return replace(entry, late_ids=tuple(late.to_list()))


@dataclass(frozen=True, slots=True)
class DayDifference:
    """How the final trades of a day differ from the streamed ones."""

    day: date
    #: The first ids that differ, in order.
    ids: tuple[int, ...]
    #: Number of trades with other values, of trades that were not streamed, and of those that are
    #: not in the final day.
    changed: int
    added: int
    removed: int
    #: The streamed trades that are not in the final day, or have other values there.
    gone: pl.DataFrame
    #: The trades of the final day, and those that were applied in their place.
    final: pl.DataFrame
    applied: pl.DataFrame


#: Number of ids that a difference lists.
_MOST_LISTED = 10


def compare_day(symbol_dir: SymbolDir, day: date) -> DayDifference | None:
    """Compare the trades of a final day with those that its journals have, by id and value.

    Trades of both ends of the day are looked up in the journals of its neighbours: an archive may
    have moved them over midnight.

    Returns
    -------
    DayDifference or None
        None if they are the same, or nothing of the day was streamed.

    Raises
    ------
    StorageError, ParquetCorruptionError
        A file cannot be read.
    """
    span = Span(day_start(day - ONE_DAY), day_start(day + ONE_DAY + ONE_DAY))
    entries = entries_around(symbol_dir, span)
    contents = _journals(symbol_dir, day - ONE_DAY, day + ONE_DAY)
    own = [one for one in contents if one.day == day]
    streamed = _by_id(contents)
    if not own or streamed.is_empty():
        return None
    final = stored_trades(symbol_dir, day, entries.get(day))
    bounds = [final.get_column(ID), _by_id(own).get_column(ID)]
    known = [ids for ids in bounds if len(ids)]
    low, high = min(int(ids[0]) for ids in known), max(int(ids[-1]) for ids in known)
    # Before the first id of all journals, nothing was streamed.
    follows = [one.follows_id for one in contents if one.follows_id is not None]
    first = min([*streamed.get_column(ID).head(1), *(number + 1 for number in follows)])
    inside = pl.col(ID).is_between(max(low, first), high)
    around = [final]
    around += [
        stored_trades(symbol_dir, other, entries.get(other))
        for other in (day - ONE_DAY, day + ONE_DAY)
        if is_settled(entries.get(other))
    ]
    settled = pl.concat(around).sort(ID)
    streamed = streamed.filter(inside)
    applied = pl.concat([final.filter(~inside), streamed]).sort(ID)
    return _difference(day, inside, (final, settled), streamed, applied)


def _difference(
    day: date,
    inside: pl.Expr,
    stored: tuple[pl.DataFrame, pl.DataFrame],
    streamed: pl.DataFrame,
    applied: pl.DataFrame,
) -> DayDifference | None:
    """Compare trades. `stored` has those of the day, and those of its final neighbours, too."""
    final, settled = stored
    values = [name for name in TRADES_SCHEMA.names() if name != ID]
    pairs = settled.join(streamed, on=ID, how="inner", suffix="_streamed")
    is_other = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_streamed")) for name in values
    )
    changed = pairs.filter(is_other).get_column(ID)
    added = final.filter(inside).join(streamed, on=ID, how="anti").get_column(ID)
    removed = streamed.join(settled, on=ID, how="anti").get_column(ID)
    ids = pl.concat([changed, added, removed]).sort()
    if ids.is_empty():
        return None
    gone = streamed.filter(pl.col(ID).is_in(pl.concat([changed, removed]).implode()))
    listed = tuple(ids.head(_MOST_LISTED).to_list())
    return DayDifference(day, listed, len(changed), len(added), len(removed), gone, final, applied)


def set_streamed_aside(symbol_dir: SymbolDir, difference: DayDifference) -> None:
    """Copy the streamed trades that a final day does not contain to the quarantine.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    if difference.gone.is_empty():
        return
    day = difference.day.isoformat()
    data = encode(difference.gone)
    try:
        place(
            symbol_dir,
            symbol_dir.quarantine,
            data,
            lambda sha256: f"{day}.streamed.{sha256[:16]}.parquet",
        )
    except FileExistsError:  # a pass that was cut off had done it
        return


def _journals(symbol_dir: SymbolDir, first_day: date, last_day: date) -> list[JournalContent]:
    found = (
        read_journal(symbol_dir, file) for file in list_journals(symbol_dir, first_day, last_day)
    )
    return [content for content in found if content is not None and content.length]


def _by_id(contents: list[JournalContent]) -> pl.DataFrame:
    """Return the trades of journals in the order of their ids, of several with one id the last."""
    trades = pl.concat([TRADES_SCHEMA.to_frame(), *(one.trades for one in contents)])
    return trades.unique(ID, keep="last", maintain_order=True).sort(ID)
