"""Frames of live bars: the columns, the order, and the marks of bars that consumers receive."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.bar_series.days import no_bars
from rangebar_polars.exceptions import with_hint
from rangebar_polars.readers.request import frame_columns, optional_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rangebar_polars._typing import Features
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.live.consumers.positions import Position
    from rangebar_polars.live.interfaces import SeriesBars

__all__ = ["BarFrames", "live_columns"]

_LAST_ID = "last_agg_trade_id"
#: Columns that order bars and find their place, whatever a frame shows.
_PLACE = (_LAST_ID, "is_closed", "close_time")
_BEFORE: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "threshold": pl.UInt32(),
    "anchor": pl.Datetime("us", "UTC"),
}
#: Place of the threshold in the configuration.
_RANK = "rank"
_AFTER: dict[str, pl.DataType] = {"is_replay": pl.Boolean(), "is_revised": pl.Boolean()}


def live_columns(features: Features = "core", *, endings: bool = False) -> tuple[str, ...]:
    """Return the columns of a bar in frames of live bars, in the order of the catalogue.

    They are those of `scan_range_bars` for the same arguments.

    Parameters
    ----------
    features
        "core", "microstructure", or names of their columns.
    endings
        Whether to add `is_closed` and `ended_by`.

    Raises
    ------
    ValueError
        A name is unknown, or belongs to another group.

    Examples
    --------
    >>> from rangebar_polars.live.frames import live_columns
    >>> live_columns(["ofi"])[:3], live_columns(["ofi"])[-1]
    (('open_time', 'close_time', 'open'), 'ofi')
    """
    extra, groups = optional_columns(features)
    if groups:
        sentence = f"live bars have no columns of `{', '.join(groups.groups)}`"
        hint = 'pass features="microstructure", or names of its columns; read others from the cache'
        raise ValueError(with_hint(sentence, hint))
    return frame_columns(extra, endings=endings)


class BarFrames:
    """Makes frames of the bars of series.

    Parameters
    ----------
    thresholds
        Thresholds in the order of the configuration, in decimal basis points.
    features
        As for `live_columns`.
    include_orphans
        Whether bars are included that a reset ended, with the columns `is_closed` and `ended_by`.
    endings
        Whether frames have these columns in any case.
    since, until
        Only bars that close from `since` on and before `until`. None for no bound.

    Raises
    ------
    ValueError
        As for `live_columns`.
    """

    def __init__(
        self,
        thresholds: Sequence[int],
        features: Features = "core",
        *,
        include_orphans: bool = False,
        endings: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self.thresholds = tuple(thresholds)
        self.include_orphans = include_orphans
        self.columns = live_columns(features, endings=include_orphans or endings)
        self._since, self._until = since, until
        self._rank = {threshold: rank for rank, threshold in enumerate(self.thresholds)}

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that bars must have to become a frame."""
        return tuple(dict.fromkeys((*self.columns, *_PLACE)))

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns of a frame and their data types."""
        bars = no_bars().schema
        return pl.Schema(_BEFORE | {name: bars[name] for name in self.columns} | _AFTER)

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns that `rows` returns."""
        keys = {_RANK: pl.UInt32(), **_BEFORE}
        del keys["symbol"]
        bars = no_bars().schema
        return pl.DataFrame(schema=keys | {name: bars[name] for name in self.needed})

    def rows(self, bars: Sequence[SeriesBars]) -> pl.DataFrame:
        """Return bars of one symbol in the order in which frames have them.

        A bar comes before another one if the trade that ended it does, then if its threshold does.
        """
        return self.merged([self._keyed(one.series, one.bars) for one in bars if one.bars.height])

    def merged(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return the rows of several frames of rows in order."""
        rows = [one for one in rows if one.height]
        if not rows:
            return self.no_rows
        if len(rows) == 1:
            return rows[0]
        # A reset ends a bar at the trade after its last one.
        keys = (pl.col(_LAST_ID), ~pl.col("is_closed"), pl.col(_RANK))
        return pl.concat(rows).sort(*keys, maintain_order=True)

    def forming(self, bars: Sequence[SeriesBars]) -> pl.DataFrame:
        """Return forming bars of one symbol, as `rows` returns those that have ended."""
        rows = [self._keyed(one.series, one.bars, is_forming=True) for one in bars]
        return self.merged(rows)

    def after(self, rows: pl.DataFrame, positions: Mapping[int, Position]) -> pl.DataFrame:
        """Return the rows that lie after the positions of their thresholds."""
        passes = pl.lit(value=False)
        for threshold, position in positions.items():
            anchor = pl.lit(position.series.anchor_us).cast(_BEFORE["anchor"])
            last = pl.col(_LAST_ID)
            is_next = last > position.last_id
            if not position.has_ended:
                is_next |= (last == position.last_id) & ~pl.col("is_closed")
            is_later = (pl.col("anchor") > anchor) | ((pl.col("anchor") == anchor) & is_next)
            passes |= (pl.col("threshold") == threshold) & is_later
        return rows.filter(passes)

    def frame(
        self,
        symbol: str,
        rows: pl.DataFrame,
        *,
        replay_until: int | None = None,
        revised: Sequence[int] = (),
    ) -> pl.DataFrame:
        """Return the frame of rows.

        Parameters
        ----------
        symbol
            Their symbol.
        rows
            What `rows` returned, or a part of it.
        replay_until
            Bars that ended up to this id are marked as replayed. None for no bar.
        revised
            Thresholds whose first bar is marked as revised.
        """
        is_replay = pl.lit(value=False)
        if replay_until is not None:
            is_replay = pl.col(_LAST_ID) <= replay_until
        is_revised = pl.lit(value=False)
        if revised:
            first = pl.col("threshold").is_first_distinct()
            is_revised = first & pl.col("threshold").is_in(list(revised))
        return rows.select(
            pl.lit(symbol).alias("symbol"),
            "threshold",
            "anchor",
            *self.columns,
            is_replay.alias("is_replay"),
            is_revised.alias("is_revised"),
        )

    def _keyed(
        self, series: BarSeries, bars: pl.DataFrame, *, is_forming: bool = False
    ) -> pl.DataFrame:
        """Return the bars that a frame may have, with the threshold and the anchor."""
        threshold = series.spec.threshold
        anchor = pl.lit(series.anchor_us).cast(_BEFORE["anchor"])
        rows = bars.select(
            pl.lit(self._rank[threshold], pl.UInt32).alias(_RANK),
            pl.lit(threshold, pl.UInt32).alias("threshold"),
            anchor.alias("anchor"),
            *self.needed,
        )
        passes = None if is_forming else self._passes
        return rows if passes is None else rows.filter(passes)

    @cached_property
    def _passes(self) -> pl.Expr | None:
        conditions = []
        if not self.include_orphans:
            conditions.append(pl.col("is_closed"))
        if self._since is not None:
            conditions.append(pl.col("close_time") >= self._since)
        if self._until is not None:
            conditions.append(pl.col("close_time") < self._until)
        return pl.all_horizontal(conditions) if conditions else None
