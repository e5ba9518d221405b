"""Fills that two records of a day hold, so that they would count twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.exceptions import RepeatedFillsWarning, with_hint
from rangebar_polars.storage.coverage import IdSpans
from rangebar_polars.storage.id_kinds import ID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from rangebar_polars.storage.days.day_file import Content
    from rangebar_polars.storage.manifest.entry import IdSpan

__all__ = ["Single", "dropped_spans", "single_fills", "with_single_fills"]

FIRST, LAST = "first_trade_id", "last_trade_id"


class Single(NamedTuple):
    """Ticks without repeated records, and the dropped ones."""

    ticks: pl.DataFrame
    dropped: pl.DataFrame
    #: The first record, in order, that still shares fills with an earlier one; empty without one.
    overlapping: pl.DataFrame


def single_fills(ticks: pl.DataFrame) -> Single:
    """Drop each record that has the fills and the price of an earlier one.

    Where most records overlap, the ids of their fills are placeholders and nothing is dropped.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.days.repeated import single_fills
    >>> ticks = pl.DataFrame(
    ...     {
    ...         "price": [1.0, 1.0, 2.0],
    ...         "agg_trade_id": [1, 2, 3],
    ...         "first_trade_id": [5, 5, 7],
    ...         "last_trade_id": [6, 6, 7],
    ...     }
    ... )
    >>> found = single_fills(ticks)
    >>> found.ticks["agg_trade_id"].to_list(), found.dropped["agg_trade_id"].to_list()
    ([1, 3], [2])
    """
    none = ticks.clear()
    if not {FIRST, LAST, ID} <= set(ticks.columns):
        return Single(ticks, none, none)
    count = int(_overlaps(ticks).sum())
    if not count or 2 * count > ticks.height:
        return Single(ticks, none, none)
    is_first = ticks.select(pl.struct(FIRST, LAST, "price").is_first_distinct()).to_series()
    single = ticks.filter(is_first)
    return Single(single, ticks.filter(~is_first), single.filter(_overlaps(single)).head(1))


def _overlaps(ticks: pl.DataFrame) -> pl.Series:
    """Return which records begin at or below the highest fill before them."""
    first, highest = ticks.get_column(FIRST), ticks.get_column(LAST).cum_max().shift(1)
    return (first <= highest).fill_null(value=False)


def dropped_spans(dropped: pl.DataFrame) -> tuple[IdSpan, ...]:
    """Return the ids of dropped records as spans, which count as absent at the source."""
    ids = dropped.get_column(ID)
    return tuple((number, number) for number in ids.to_list())


def with_single_fills(content: Content, day: date, label: str) -> Content:
    """Return the rows of a day without repeated records, which are counted in its origin."""
    found = single_fills(content.ticks)
    if found.overlapping.height:
        _warn(found.overlapping.row(0, named=True), day, label)
    if found.dropped.is_empty():
        return content
    absent = _joined([*content.source_absent, *dropped_spans(found.dropped)])
    known = IdSpans(content.source_absent)
    new = [span for span in dropped_spans(found.dropped) if known.missing_from(span)]
    count = content.origin.repeated + len(new)
    origin = replace(content.origin, repeated=count)
    return replace(content, ticks=found.ticks, source_absent=absent, origin=origin)


def _joined(spans: Iterable[IdSpan]) -> tuple[IdSpan, ...]:
    """Join spans that overlap or follow one another."""
    joined: list[IdSpan] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _warn(row: dict[str, object], day: date, label: str) -> None:
    sentence = (
        f"{day} of {label}: the record `{row[ID]}` has fills of an earlier one (`{row[FIRST]}` to "
        f"`{row[LAST]}`), at another price or of another span: they count twice"
    )
    hint = "compare the records with the exchange; drop one of them before you write the day"
    warn_caller(with_hint(sentence, hint), RepeatedFillsWarning)
