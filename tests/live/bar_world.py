"""Bars of a made-up symbol, by id, and a source that computes them again.

A day has 40 ids. Bars of a threshold end at ids that a number of its own chooses; a revision chooses
others. A day ends a segment, and with it the forming bar.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.bar_series.days import no_bars
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.consumers.replay import Replayed
from rangebar_polars.live.frames import BarFrames
from rangebar_polars.live.interfaces import SeriesBars, SeriesStart

FIRST_DAY = date(2026, 11, 2)
THRESHOLDS = (250, 500)
DAY_IDS = 40
LAST = "last_agg_trade_id"


def series_on(threshold, day, symbol="BTCUSDT", reset="day"):
    spec = BarSpec.of(symbol, threshold, reset=reset)
    return spec.series(day_start(FIRST_DAY if reset == "none" else FIRST_DAY + day * ONE_DAY))


class BarWorld:
    """All bars, and how far trades are applied.

    Parameters
    ----------
    days
        Number of days.
    spacing
        About one id in so many ends a bar, by threshold.
    reset
        "day", or "none" for one segment.
    """

    def __init__(
        self, days=6, spacing=(3, 7), reset="day", symbol="BTCUSDT", thresholds=THRESHOLDS
    ):
        self.days, self.reset, self.symbol = days, reset, symbol
        self.thresholds = thresholds
        self.spacing = dict(zip(thresholds, spacing, strict=False))
        self.revisions = dict.fromkeys(thresholds, 0)
        self.applied_id = 0
        #: What the source raises next, and how often it was asked.
        self.errors = []
        self.asked = 0
        #: Called before each part of a replay.
        self.on_part = lambda: None

    @property
    def last_id(self):
        return self.days * DAY_IDS - 1

    def day_of(self, number):
        return number // DAY_IDS

    def ends(self, threshold, number, revision):
        """Whether a bar of a threshold ends at an id."""
        key = f"{threshold}/{number}/{revision}"
        return hash_of(key) % self.spacing[threshold] == 0

    def table(self, threshold):
        """Every bar of a threshold, orphans included, with the id that ended it."""
        return _table(
            self.days,
            threshold,
            self.spacing[threshold],
            self.revisions[threshold],
            self.reset,
        )

    def bars(self, threshold, after_id, applied_id):
        """The bars that end after an id and up to another one, by series in order."""
        found = self.table(threshold).filter(
            (pl.col("ended_at") > after_id) & (pl.col("ended_at") <= applied_id)
        )
        return [
            SeriesBars(self.thresholds.index(threshold), self.series(threshold, day), part)
            for (day,), part in found.group_by("day", maintain_order=True)
        ]

    def series(self, threshold, day):
        return series_on(threshold, day, self.symbol, self.reset)

    def newest(self, threshold):
        return self.series(threshold, self.day_of(self.applied_id))

    def starts(self, after_id=None, begin=None):
        after = self.applied_id if after_id is None else after_id
        return [
            SeriesStart(
                self.newest(t), after, self.revisions[t], None if begin is None else begin[t]
            )
            for t in self.thresholds
        ]

    def apply(self, count):
        """Apply trades, and return the bars that end."""
        before, self.applied_id = self.applied_id, min(self.last_id, self.applied_id + count)
        pieces = [piece for t in self.thresholds for piece in self.bars(t, before, self.applied_id)]
        return [piece._replace(bars=piece.bars.drop("ended_at", "day")) for piece in pieces]

    # The source of replays

    def bars_after(self, symbol, series, last_id, limit):
        assert symbol == self.symbol
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        threshold, applied = series.spec.threshold, self.applied_id
        table = self.table(threshold).filter(pl.col("ended_at") <= applied)
        if self.reset != "none":
            table = table.filter(pl.col("day") == (series.anchor.date() - FIRST_DAY).days)
        is_after = (pl.col(LAST) > last_id) | ((pl.col(LAST) == last_id) & ~pl.col("is_closed"))
        rows = table.filter(is_after).drop("ended_at", "day")
        while rows.height > limit:
            self.on_part()
            part, rows = rows.head(limit), rows.slice(limit)
            yield Replayed(part, part.item(-1, LAST))
        self.on_part()
        yield Replayed(rows, applied)

    def expected(self, threshold, after_id=-1):
        """(day, last id, is closed) of each bar that has ended, after one that ended at an id."""
        found = self.table(threshold).filter(
            (pl.col("ended_at") > after_id) & (pl.col("ended_at") <= self.applied_id)
        )
        return found.select("day", LAST, "is_closed", "open").rows()


def hash_of(key):
    value = 2166136261
    for letter in key.encode():
        value = ((value ^ letter) * 16777619) & 0xFFFFFFFF
    return (value ^ (value >> 15)) * 2246822519 >> 7


@lru_cache(maxsize=512)
def _table(days, threshold, spacing, revision, reset):
    rows = []
    for number in range(1, days * DAY_IDS):
        day = number // DAY_IDS
        key = f"{threshold}/{number}/{revision}"
        is_end = hash_of(key) % spacing == 0
        is_last = reset == "day" and number % DAY_IDS == DAY_IDS - 1
        if is_end or is_last:
            time = datetime(2026, 11, 2, tzinfo=UTC) + timedelta(
                days=day, seconds=(number % DAY_IDS) * 60
            )
            ended_at = number if is_end else number + 1
            rows.append((number, is_end, time, ended_at, day, number + revision / 8))
    names = [LAST, "is_closed", "close_time", "ended_at", "day", "open"]
    found = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col(LAST).cast(pl.Int64), pl.col("close_time").dt.cast_time_unit("us")
    )
    schema = no_bars().schema
    others = [
        pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in names
    ]
    return found.with_columns(others).select(*schema, "ended_at", "day")


def frames_of(world, **options):
    options.setdefault("include_orphans", True)
    return BarFrames(world.thresholds, **options)


STORAGE_ERROR = StorageError("the disk is away")
