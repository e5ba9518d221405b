"""What must hold after any fault and its recovery."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.testing import assert_frame_equal

from population.tape import SYMBOL
from rangebar_polars.clickhouse.rows import read_bars
from rangebar_polars.clickhouse.series import Configuration, Family
from rangebar_polars.clickhouse.sql import literal
from rangebar_polars.clickhouse.stored import hash_sql
from rangebar_polars.clickhouse.units import details_of, read_chains, states_of
from rangebar_polars.pipeline.compute import restored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from population.places import Place
    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.units import Chain

TABLES = ("bars", "units", "generations", "leases", "population_checkpoints")


def family(
    threshold: int = 250, *, reset: str = "year", gate: bool = True, symbol: str = SYMBOL
) -> Family:
    configuration = Configuration(prevent_same_timestamp_close=gate)
    return Family.of(symbol, threshold, reset=reset, configuration=configuration)


def chains(cache: Cache, families: Sequence[Family] | None = None) -> dict[Any, Chain]:
    """What is visible, by series."""
    return {s: chain for s, chain in read_chains(cache, families).items() if chain.units}


def table(place: Place, *, spoiled: bytes | None = None) -> list[tuple[Any, ...]]:
    """The visible rows of the table of bars by their hashes, and what the units say of them.

    Attempts and generations are left out: they are different each time. Every state can be gone on
    from, but for one that a test has spoiled.
    """
    with place.open() as cache:
        found = []
        for series, chain in chains(cache).items():
            hashes = _hashes(cache, chain)
            states = states_of(cache, chain.units)
            for unit in chain.units:
                stored = hashes.get(unit.attempt, [])
                assert [one[0] for one in stored] == [one[1] for one in stored], "rows are damaged"
                assert len(stored) == unit.rows, "rows are lost"
                assert states[unit] == spoiled or restored(states[unit])
                ids = (unit.tick_first_id, unit.tick_last_id, unit.tick_hash)
                rows = tuple(one[0] for one in stored)
                found.append((series, unit.day, *ids, unit.orphan_rows, rows, states[unit]))
            _judge_ids(cache, chain)
    return found


def _hashes(cache: Cache, chain: Chain) -> dict[int, list[tuple[int, int]]]:
    """Hashes of the rows of each unit as they were sent, and as they follow from the values."""
    attempts = ", ".join(literal(unit.attempt) for unit in chain.units)
    rows = cache.query(
        f"SELECT attempt, row_hash, {hash_sql()} FROM {cache.table('bars')} "
        f"WHERE attempt IN ({attempts}) ORDER BY attempt, bar_seq"
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for attempt, sent, stored in rows.iter_rows():
        found.setdefault(attempt, []).append((sent, stored))
    return found


def _judge_ids(cache: Cache, chain: Chain) -> None:
    """The ids of the ticks have no gap, but for what is recorded."""
    absent = {
        tuple(span)
        for text in details_of(cache, chain.units)["source_absent"]
        for span in json.loads(text)
    }
    units = [unit for unit in chain.units if unit.tick_first_id is not None]
    for before, after in pairwise(units):
        gap = (before.tick_last_id + 1, after.tick_first_id - 1)
        assert gap[1] < gap[0] or gap in absent, f"ids {gap} are lost before {after.day}"


def counts(place: Place, *names: str) -> dict[str, int]:
    """How many rows the tables hold, visible or not."""
    with place.open() as cache:
        return {
            name: cache.scalar(f"SELECT toInt64(count()) FROM {cache.table(name)}")
            for name in names or TABLES
        }


def judge(place: Place, expected: list[tuple[Any, ...]], again: Callable[[], object]) -> None:
    """The table of a run without a fault; one more run writes nothing."""
    with place.open():
        assert table(place) == expected
        before = counts(place)
        assert int(again()) == 0
        assert counts(place) == before


def kept(place: Place, *families: Family) -> pl.DataFrame:
    """All visible bars of some families, whose series must not overlap."""
    with place.open() as cache:
        found = chains(cache, families)
        frames = [
            read_bars(cache, lambda chain=chain: chain.units, include_orphans=True)
            for chain in found.values()
        ]
    return pl.concat(frames).sort("close_time", "last_agg_trade_id")


def assert_kept(place: Place, expected: pl.DataFrame, *families: Family) -> None:
    seen = kept(place, *(families or (family(),)))
    assert_frame_equal(seen, expected.select(seen.columns))
