"""Checks that must pass after any fault and its recovery."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.testing import assert_frame_equal

from population.tape import SYMBOL
from rangebar_polars.bar_series.days import restored
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.clickhouse.query.bars import read_bars
from rangebar_polars.clickhouse.query.units import details_of, read_chains, states_of
from rangebar_polars.clickhouse.schema.rows import hash_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from population.places import Place
    from rangebar_polars.bar_series.units import Chain, Unit
    from rangebar_polars.clickhouse.connection.client import Cache

TABLES = ("bars", "units", "generations", "leases", "population_checkpoints")


def spec(
    threshold: int = 250, *, reset: str = "year", gate: bool = True, symbol: str = SYMBOL
) -> BarSpec:
    rules = BarRules(prevent_same_timestamp_close=gate)
    return BarSpec.of(symbol, threshold, reset=reset, rules=rules)


def chains(cache: Cache, specs: Sequence[BarSpec] | None = None) -> dict[Any, Chain]:
    """Return the visible chains by series."""
    return {s: chain for s, chain in read_chains(cache, specs).items() if chain.units}


def table(place: Place, *, spoiled: bytes | None = None) -> list[tuple[Any, ...]]:
    """Return the visible rows of bars by their hashes, with the values of their units.

    Attempts and generations are left out: they are different each time. Every state can be gone on
    from, but for one that a test has spoiled.
    """
    found = []
    with place.open() as cache:
        known = chains(cache)
        units = [unit for chain in known.values() for unit in chain.units]
        hashes, states = _hashes(cache, units), states_of(cache, units)
        _judge_ids(cache, known.values())
    for unit in units:
        stored = hashes.get(unit.attempt, [])
        assert [one[0] for one in stored] == [one[1] for one in stored], "rows are damaged"
        assert len(stored) == unit.rows, "rows are lost"
        assert states[unit] == spoiled or restored(states[unit])
        ids = (unit.tick_first_id, unit.tick_last_id, unit.tick_hash)
        rows = tuple(one[0] for one in stored)
        found.append((unit.series, unit.day, *ids, unit.orphan_rows, rows, states[unit]))
    return found


def _hashes(cache: Cache, units: Sequence[Unit]) -> dict[int, list[tuple[int, int]]]:
    """Return the row hashes of each unit, as stored and as recomputed from the values."""
    attempts = ", ".join(["0", *(literal(unit.attempt) for unit in units)])
    rows = cache.query(
        f"SELECT attempt, row_hash, {hash_sql()} FROM {cache.table('bars')} "
        f"WHERE attempt IN ({attempts}) ORDER BY attempt, bar_seq"
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for attempt, sent, stored in rows.iter_rows():
        found.setdefault(attempt, []).append((sent, stored))
    return found


def _judge_ids(cache: Cache, known: Iterable[Chain]) -> None:
    """Check that the tick ids of a chain have no gap besides the recorded ones."""
    units = [unit for chain in known for unit in chain.units]
    recorded = details_of(cache, units).select("attempt", "source_absent").iter_rows()
    absent = {attempt: {tuple(span) for span in json.loads(text)} for attempt, text in recorded}
    for before, after in pairwise(one for one in units if one.tick_first_id is not None):
        if before.series == after.series:
            gap = (before.tick_last_id + 1, after.tick_first_id - 1)
            spans = absent[before.attempt] | absent[after.attempt]
            assert gap[1] < gap[0] or gap in spans, f"ids {gap} are lost before {after.day}"


def counts(place: Place, *names: str) -> dict[str, int]:
    """Count the rows of the tables, visible or not."""
    wanted = names or TABLES
    with place.open() as cache:
        each = (f"(SELECT toInt64(count()) FROM {cache.table(name)}) AS {name}" for name in wanted)
        return cache.query(f"SELECT {', '.join(each)}").row(0, named=True)


def judge(place: Place, expected: list[tuple[Any, ...]], again: Callable[[], object]) -> None:
    """Check that the table is that of a run without faults, and that another run adds nothing."""
    with place.open():
        assert table(place) == expected
        before = counts(place)
        assert int(again()) == 0
        assert counts(place) == before


def kept(place: Place, *specs: BarSpec) -> pl.DataFrame:
    """Return all visible bars of some specs, whose series must not overlap."""
    with place.open() as cache:
        found = chains(cache, specs)
        frames = [read_bars(cache, chain.units, include_orphans=True) for chain in found.values()]
    return pl.concat(frames).sort("close_time", "last_agg_trade_id")


def assert_kept(place: Place, expected: pl.DataFrame, *specs: BarSpec) -> None:
    seen = kept(place, *(specs or (spec(),)))
    assert_frame_equal(seen, expected.select(seen.columns))
