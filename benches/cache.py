"""Reading kept bars: medians of each read, with the cache held open and with a call's own opening,
and the ratio of a month from the cache to the same month from ticks.

    python benches/cache.py                     all rows
    python benches/cache.py --only month        some of them
    python benches/cache.py --symbols 10        the same bars, of ten symbols

The cache holds a million bars with all their columns: a populated year at four thresholds, published
as a population does it. A read is the public call, the plan and the proof of what is read included.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from timing import Sample

HERE = Path(__file__).resolve().parent
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT",
           "DOGEUSDT", "ADAUSDT", "AVAXUSDT", "LINKUSDT", "DOTUSDT")  # fmt: skip
THRESHOLDS = (250, 500, 750, 1000)
FIRST = date(2024, 1, 1)
DAYS = 366
#: Days that a population publishes at once.
GROUP = 30
NEWEST = 10_000


def synthetic_bars(day: date, rows: int, seed: int) -> pl.DataFrame:
    """Bars of a day that look like those of a busy symbol, with every column."""
    from rangebar_polars.bar_series.columns import ENDINGS, value_columns

    random = np.random.default_rng(seed * 10_000 + day.toordinal())
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**6
    close_time = np.sort(random.integers(1, 86_400 * 10**6, rows)) + midnight
    open_time = np.concatenate([[midnight], close_time[:-1]])
    close = (40_000 + np.cumsum(random.normal(0, 40, rows)) % 5_000).round(2)
    trades = random.integers(10, 5_000, rows)
    last_id = day.toordinal() * 10**6 + np.cumsum(trades)
    known = {
        "open_time": pl.Series(open_time).cast(pl.Datetime("us", "UTC")),
        "close_time": pl.Series(close_time).cast(pl.Datetime("us", "UTC")),
        "close": close,
        "first_agg_trade_id": last_id - trades + 1,
        "last_agg_trade_id": last_id,
        "is_closed": np.ones(rows, dtype=bool),
        "ended_by": pl.Series(["threshold"]).cast(pl.Enum(ENDINGS)).new_from_index(0, rows),
    }
    made = {
        "Float64": lambda: random.normal(100, 30, rows).round(5),
        "Int64": lambda: random.integers(1, 10**6, rows),
    }
    return pl.DataFrame(
        {
            one.bar_name: known[one.bar_name] if one.bar_name in known else made[one.kind]()
            for one in value_columns()
        }
    )


def fill(cache, symbols: int, bars: int) -> Iterator[int]:
    """Publish so many bars, a group of days of all thresholds of a symbol at a time."""
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.clickhouse.commit.publish import TickDay, UnitDraft, publish

    a_day = max(1, bars // (symbols * len(THRESHOLDS) * DAYS))
    state = bytes(2_000)
    for number, symbol in enumerate(SYMBOLS[:symbols]):
        series = [BarSpec.of(symbol, dbps).series(FIRST) for dbps in THRESHOLDS]
        built_on = dict.fromkeys(series, 0)
        for group in groups_of_days():
            drafts = [
                UnitDraft(
                    one,
                    day,
                    synthetic_bars(day, a_day, number * 10 + place),
                    TickDay("final", 10**6, day.isoformat(), 1, 10**6),
                    state,
                    built_on=built_on[one] if day == group[0] else None,
                )
                for place, one in enumerate(series)
                for day in group
            ]
            for unit in publish(cache, drafts):
                built_on[unit.series] = unit.attempt
            yield len(drafts) * a_day


def groups_of_days() -> Iterator[list[date]]:
    """The days of the year, at most 30 at a time and never across a month."""
    group: list[date] = []
    for offset in range(DAYS):
        day = FIRST + timedelta(days=offset)
        if group and (len(group) == GROUP or day.month != group[0].month):
            yield group
            group = []
        group.append(day)
    yield group


@dataclass
class Bench:
    """A filled cache, and how often each read is timed."""

    folder: Path
    rounds: int
    reads: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from rangebar_polars.readers.cached import count_bars, get_cached_bars, get_n_bars

        where = {"cache_dir": self.folder}
        everything = where | {"features": "microstructure"}
        self.reads = {
            "month": partial(
                get_cached_bars, SYMBOLS[0], 250, "2024-10-01", "2024-10-31", **everything
            ),
            "newest": partial(get_n_bars, SYMBOLS[0], NEWEST, 250, **everything),
            "count": partial(count_bars, SYMBOLS[0], 250, **where),
        }

    def held(self, name: str) -> list[Sample]:
        """Samples of a read within an open cache."""
        from rangebar_polars.clickhouse.open import open_cache

        with open_cache(cache_dir=self.folder):
            return self.timed(name)

    def timed(self, name: str) -> list[Sample]:
        """Samples of a read, after one that does not count."""
        from timing import here

        side = here(self.reads[name])
        side()
        return [side() for _ in range(self.rounds)]


GOALS = {"month": 40, "newest": 40, "count": 10}
OWN_OPENING = 150


def words(samples: list[Sample], goal: float) -> str:
    """Median and range of samples in milliseconds, beside what it should be."""
    wall = [sample.wall * 1000 for sample in samples]
    cpu = median(sample.cpu * 1000 for sample in samples)
    reached = "" if median(wall) <= goal else "  MISSED"
    spread = f"{min(wall):.1f} … {max(wall):.1f}"
    return f"{median(wall):.1f} ms ({spread}), by CPU {cpu:.1f} ms; ≤ {goal} ms{reached}"


def pandas(folder: Path, rounds: int, rows: int) -> str:
    """A month as pandas from the cache, against the same computed from stored ticks."""
    from timing import here, interleave, typical

    import rangebar_polars as rb
    from rangebar_polars.storage.parquet import TickStorage
    from storage import day_ticks

    storage = TickStorage(folder)
    days = [FIRST + timedelta(days=offset) for offset in range(31)]
    for place, day in enumerate(days):
        storage.put_days("BTCUSDT", [day_ticks(day, rows, 10**9 + place * rows)])
    rb.populate_cache_resumable(
        "BTCUSDT", days[0], days[-1], cache_dir=folder, notify=False, verbose=False
    )
    month = partial(
        rb.get_range_bars, "BTCUSDT", days[0], days[-1], cache_dir=folder, fetch_if_missing=False
    )
    assert month().equals(month(use_cache=False))
    result = interleave(here(month), here(partial(month, use_cache=False)), rounds)
    speed, cpu = median(result.speeds()), median(result.speeds("cpu"))
    seconds = f"{typical(result.ours) * 1000:.0f} ms against {typical(result.other) * 1000:.0f}"
    return f"{speed:.1f} × the speed, by CPU {cpu:.1f} ×, {seconds} from {31 * rows:,} ticks; > 1 ×"


def main() -> int:
    """Measures what was asked for."""
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
    from timing import require_release

    require_release()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=[*GOALS, "pandas"])
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--symbols", type=int, default=1, choices=range(1, len(SYMBOLS) + 1))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--ticks", type=int, default=200_000, help="ticks a day (%(default)s)")
    parser.add_argument("--folder", type=Path, help="keep the cache there, and use it again")
    given = parser.parse_args()
    os.environ["RANGEBAR_SYMBOL_GATE"] = "off"
    with tempfile.TemporaryDirectory(dir=Path.home() / ".cache") as temporary:
        names = given.only or [*GOALS, "pandas"]
        if set(names) & set(GOALS):
            run(given, given.folder or Path(temporary), [name for name in names if name in GOALS])
        if "pandas" in names:
            figure = pandas(Path(temporary) / "ticks", min(given.rounds, 9), given.ticks)
            print(f"month as pandas, own opening, against ticks: {figure}", flush=True)
    return 0


def run(given: argparse.Namespace, folder: Path, names: list[str]) -> None:
    """Fills the cache if it is new, and prints a line for each read."""
    from rangebar_polars.clickhouse.open import open_cache

    if not (folder / "clickhouse").is_dir():
        with open_cache(cache_dir=folder, write=True) as cache:
            bars = sum(fill(cache, given.symbols, given.bars))
        print(
            f"{bars:,} bars of {given.symbols} symbols at {len(THRESHOLDS)} thresholds", flush=True
        )
    bench = Bench(folder, given.rounds)
    for name in names:
        print(f"{name}, held open: {words(bench.held(name), GOALS[name])}", flush=True)
        print(f"{name}, own opening: {words(bench.timed(name), OWN_OPENING)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
