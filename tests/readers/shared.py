"""Ticks of two months, and series of their bars in a cache."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from rangebar_polars.bar_series.days import Track, compute_days, new_builder, orphan
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.client import Cache

SYMBOL = "BTCUSDT"
THRESHOLD = 250
#: A Sunday; the tape begins with a year, a month and a week.
FIRST, LAST = date(2023, 1, 1), date(2023, 3, 5)
ONE_DAY = timedelta(days=1)
PER_DAY = 120
END = datetime(2023, 3, 6, tzinfo=UTC)


def at(day: date, hour: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def january(day: int, hour: int = 0) -> datetime:
    """A day counted from the first of January, beyond its end too."""
    return at(FIRST, hour) + (day - 1) * ONE_DAY


def tape() -> pl.DataFrame:
    """A walk of prices, from a moment after midnight of the first day to one before the last's."""
    count = PER_DAY * ((LAST - FIRST).days + 1)
    random = np.random.default_rng(7)
    ids = pl.int_range(count, dtype=pl.Int64, eager=True)
    begin = int(at(FIRST).timestamp()) * 1_000_000
    step = 86_400_000_000 // PER_DAY
    return pl.DataFrame(
        {
            "timestamp": begin + ids * step + random.integers(0, step, count),
            "price": (20_000 * np.exp(random.normal(0, 0.0009, count).cumsum())).round(2),
            "quantity": random.integers(1, 100_000, count) / 10_000,
            "agg_trade_id": 1_000 + ids,
            "first_trade_id": 5_000 + 2 * ids,
            "last_trade_id": 5_001 + 2 * ids,
            "is_buyer_maker": random.random(count) < 0.5,
        }
    ).cast(dict(TRADES_SCHEMA))


TICKS = tape()


def ticks_between(start: datetime, end: datetime) -> pl.DataFrame:
    return TICKS.filter(pl.col("timestamp").is_between(start, end, closed="left"))


def bars(ticks: pl.DataFrame, threshold: int = THRESHOLD, **options: object) -> pl.DataFrame:
    """Bars of every kind, with all columns that the cache stores."""
    made = ticks.rangebar.bars(
        threshold, features="microstructure", incomplete="keep", **options
    )  # fmt: skip
    return made.drop("bar_id")


def keep(
    cache: Cache, folder: Path, spec: BarSpec, anchor: datetime, last_day: date, **fields: object
) -> None:
    """Publish bars of a spec from an instant to a day of the same segment."""
    series = spec.series(anchor)
    snapshot_days = snapshot(TickStorage(folder), spec.symbol, series.first_day, last_day)
    track = Track(series, new_builder(spec), series.first_day)
    drafts = []
    for one in compute_days(snapshot_days, [track], last_day):
        made, day = one.bars[0], snapshot_days[one.day]
        if series.segment.end == one.day + ONE_DAY:
            made = pl.concat([made, orphan(track.builder)])
        state = fields.get("state", track.builder.checkpoint())
        ticks = TickDay(day.coverage.state, one.rows, day.tick_hash, one.first_id, one.last_id)
        built_on = 0 if one.day == series.first_day else None
        number = fields.get("generation", 0)
        drafts.append(
            UnitDraft(series, one.day, made, ticks, state, built_on=built_on, generation=number)
        )
    publish(cache, drafts)


@dataclass(frozen=True)
class SharedFolder:
    """A folder with the tape and, by reset mode, the series in its cache."""

    folder: Path
    #: (anchor, first day without bars) of each series of `THRESHOLD`.
    kept: dict[str | None, list[tuple[datetime, date]]] = field(default_factory=dict)

    def keep(self, cache: Cache, reset: str | None, anchor: datetime, last_day: date) -> None:
        keep(cache, self.folder, BarSpec.of(SYMBOL, THRESHOLD, reset=reset), anchor, last_day)
        self.kept.setdefault(reset, []).append((anchor, last_day + ONE_DAY))

    @property
    def place(self) -> dict[str, object]:
        return {"cache_dir": self.folder, "fetch_if_missing": False}


#: Anchors, and the last days with bars, counted from the first of January.
KEPT = {
    "year": [((1, 0), 41), ((20, 0), 55)],
    "month": [((1, 0), 31), ((32, 0), 41), ((36, 0), 50)],
    "week": [((1, 0), 7), ((8, 0), 12), ((9, 0), 14), ((17, 6), 19), ((22, 0), 28), ((29, 0), 35)],
    "day": [((4, 0), 4), ((5, 0), 5), ((6, 12), 6), ((40, 0), 40)],
    None: [((3, 12), 35), ((1, 0), 30), ((50, 0), 60)],
}


def make_shared_folder(folder: Path) -> SharedFolder:
    shared = SharedFolder(folder)
    TickStorage(folder).write_ticks(SYMBOL, TICKS)
    with open_cache(cache_dir=folder, write=True) as cache:
        for reset, series in KEPT.items():
            for anchor, last in series:
                shared.keep(cache, reset, january(*anchor), january(last).date())
    return shared


def quiet(read: object, *arguments: object, **options: object) -> object:
    """Result of a read without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(*arguments, **options)


def opened_only(folder: Path, reset: str | None, anchor: datetime, last_day: date) -> None:
    """Publish one series in a folder with the tape, and close the cache again."""
    TickStorage(folder).write_ticks(SYMBOL, TICKS)
    with open_cache(cache_dir=folder, write=True) as cache:
        keep(cache, folder, BarSpec.of(SYMBOL, THRESHOLD, reset=reset), anchor, last_day)
