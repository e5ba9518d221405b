"""The validated arguments of a read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.checks import require_bool
from rangebar_polars.bar_series.columns import require_stored
from rangebar_polars.bar_series.query import SeriesQuery
from rangebar_polars.bar_series.segments import segments
from rangebar_polars.catalogue import REFERENCE_COLUMNS, column_names
from rangebar_polars.compute._options import fold_options

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime
    from pathlib import Path

    from rangebar_polars._typing import Features
    from rangebar_polars._utils.span import Span

__all__ = ["MAX_COMPUTED_DAYS", "ReadRequest", "extra_columns", "groups_of", "in_order"]

#: Most UTC days that one read computes from ticks.
MAX_COMPUTED_DAYS = 31

#: Columns of a bar frame that the bars of one series do not have.
_NOT_STORED = frozenset({"threshold", "bar_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest(SeriesQuery):
    """A query for series of bars, with the time, the columns and the caches to read."""

    #: Columns of a bar, in the order of the catalogue.
    columns: tuple[str, ...] = ()
    #: The time to cover. None for the newest bars.
    span: Span | None = None
    #: Bars close before this instant. None for no bound.
    end: datetime | None = None
    #: Number of newest bars. None for all bars.
    count: int | None = None
    #: Whether to include bars that a reset or a gap ended.
    include_orphans: bool = False
    #: Whether to include the forming bar at the end.
    include_incomplete: bool = False
    #: Whether the read ends with the newest available tick or bar, as no end was passed.
    is_open: bool = False
    use_cache: bool = True
    #: Whether missing ticks may be fetched.
    fetch: bool = True
    cache_dir: Path | str | None = None
    dsn: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_bool(use_cache=self.use_cache, fetch_if_missing=self.fetch)
        require_bool(
            include_orphaned_bars=self.include_orphans, include_incomplete=self.include_incomplete
        )

    @property
    def start(self) -> datetime | None:
        """The start of the span. None for no bound."""
        return None if self.span is None else self.span.start

    @property
    def segment_starts(self) -> list[date] | None:
        """The first day of each segment that the span touches. None for all segments."""
        if self.span is None:
            return None
        return [segment.start for segment in segments(self.span, self.spec.reset)]


def extra_columns(
    features: Features = "core", *, include_microstructure: bool = False
) -> tuple[str, ...]:
    """Return the columns that a pandas reader adds to open, high, low, close and volume.

    Examples
    --------
    >>> from rangebar_polars.readers.request import extra_columns
    >>> extra_columns(["vwap", "ofi"]), extra_columns("core")
    (('vwap', 'ofi'), ())
    """
    require_bool(include_microstructure=include_microstructure)
    optional = require_stored(fold_options(features).features)
    if include_microstructure:
        return REFERENCE_COLUMNS
    named = {features} if isinstance(features, str) else set(features)
    always = {"open_time", "close_time", "open", "high", "low", "close", "volume"}
    return in_order((named & set(column_names().core) | set(optional)) - always - _NOT_STORED)


def groups_of(names: Iterable[str]) -> set[str]:
    """Return the feature groups that a series needs to have these columns."""
    requested = set(names)
    groups = column_names().groups
    return {"core"} | {group for group, members in groups.items() if requested & set(members)}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns in the order of the catalogue."""
    requested, (core, optional, _) = set(names), column_names()
    return tuple(name for name in (*core, *optional) if name in requested)
