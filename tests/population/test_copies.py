"""Copies of states decide nothing: a population resumes from the published units."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, timedelta

import pytest

from population.oracle import chains, judge, spec, table
from population.places import Place
from population.tape import store, tape
from rangebar_polars.clickhouse.query.units import states_of
from rangebar_polars.clickhouse.schema.tables import table as table_of
from rangebar_polars.populate.local_checkpoint import (
    LocalCheckpointWarning,
    local_path,
    write_local,
)

FIRST, HALF, LAST = date(2024, 1, 10), date(2024, 1, 15), date(2024, 1, 20)
TICKS = tape(FIRST, LAST)
SERIES = spec().series(FIRST)


def run(place, last=LAST):
    return place.populate(FIRST, last)


@pytest.fixture(scope="module")
def clean(new_folder):
    """Return a complete place, a folder with half of it, and local copies of several days."""
    whole, half = Place(new_folder()), Place(new_folder())
    for place in (whole, half):
        store(place.folder, TICKS)
    copies = {}
    with half.open():
        for last in (FIRST + timedelta(days=2), HALF):
            run(half, last)
            copies[last] = local_path(half.folder, SERIES).read_bytes()
    with whole.open():
        run(whole)
        copies[LAST] = local_path(whole.folder, SERIES).read_bytes()
        whole.populate(FIRST, HALF, 400)
        other = spec(400).series(FIRST)
        copies["other series"] = local_path(whole.folder, other).read_bytes()
        rows = [row for row in table(whole) if row[0] == SERIES]
    return half.folder, copies, rows


@pytest.fixture
def half(clean, new_folder):
    target = new_folder() / "half"
    shutil.copytree(clean[0], target, symlinks=True)
    return Place(target)


@pytest.mark.filterwarnings(
    "default::rangebar_polars.populate.local_checkpoint.LocalCheckpointWarning"
)
@pytest.mark.parametrize(
    "which", [FIRST + timedelta(days=2), LAST, "other series", b"", b"{}", None], ids=str
)
def test_a_local_copy_ahead_behind_of_another_or_none(clean, half, which):
    _, copies, expected = clean
    path = local_path(half.folder, SERIES)
    if which is None:
        shutil.rmtree(path.parent)
    else:
        path.write_bytes(which if isinstance(which, bytes) else copies[which])
    with half.open():
        run(half)
        judge(half, expected, lambda: run(half))


def test_a_local_copy_of_the_very_unit_with_another_state(clean, half):
    """The copy passes every check, and its state is still wrong."""
    _, _, expected = clean
    with half.open() as cache:
        chain = chains(cache)[SERIES]
        wrong = states_of(cache, [chain.units[0]])[chain.units[0]]
        write_local(half.folder, chain.last, wrong)
        run(half)
        judge(half, expected, lambda: run(half))


def test_a_local_copy_that_cannot_be_written_is_a_warning_and_nothing_is_lost(clean, half):
    path = local_path(half.folder, SERIES)
    shutil.rmtree(path.parent)
    path.parent.write_text("a file where the folder should be")
    with half.open():
        with pytest.warns(LocalCheckpointWarning, match="could not be written"):
            run(half)
        path.parent.unlink()
        judge(half, clean[2], lambda: run(half))


@pytest.mark.parametrize("days", [-3, 4], ids=["behind", "ahead"])
def test_a_checkpoint_of_the_cache_that_contradicts_the_units(clean, half, days):
    _, _, expected = clean
    with half.open() as cache:
        name = cache.table("population_checkpoints")
        rows = cache.query(f"SELECT * FROM {name} FINAL", binary=True)
        assert rows.height == 1
        wrong = rows.with_columns(
            unit_day=rows["unit_day"].dt.offset_by(f"{days}d"),
            attempt=rows["attempt"] + 1,
            updated_us=rows["updated_us"] + 10**12,
        )
        cache.insert(
            "population_checkpoints", wrong.cast(table_of("population_checkpoints").dtypes())
        )
        run(half)
        judge(half, expected, lambda: run(half))


def test_units_alone_decide_where_to_resume(clean, half):
    """Without any copy, the table of units is enough."""
    with half.open() as cache:
        cache.command(f"TRUNCATE TABLE {cache.table('population_checkpoints')}")
        shutil.rmtree(local_path(half.folder, SERIES).parent)
        report = run(half)
        assert report.published == (LAST - HALF).days
        judge(half, clean[2], lambda: run(half))


def test_a_state_that_this_version_cannot_read_is_computed_again(clean, half):
    """The state in the unit itself: the stored bars prove the recomputed one."""
    with half.open() as cache:
        chain = chains(cache)[SERIES]
        name = cache.table("units")
        columns = cache.query(f"SELECT * FROM {name} LIMIT 0").columns
        spoiled = ", ".join(
            "'of another version'" if c == "processor_state" else c for c in columns
        )
        where = f"attempt = {chain.last.attempt}"
        cache.command(
            f"INSERT INTO {name} ({', '.join(columns)}) SELECT {spoiled} FROM {name} WHERE {where}"
        )
        cache.command(
            f"DELETE FROM {name} WHERE {where} AND processor_state != 'of another version' "
            "SETTINGS lightweight_deletes_sync = 2"
        )
        assert set(states_of(cache, [chain.last]).values()) == {b"of another version"}
        run(half)
        # The day keeps its damaged state; the days after it are correct.
        found = table(half, spoiled=b"of another version")
        assert [row[:-1] for row in found] == [row[:-1] for row in clean[2]]
        assert found[-1] == clean[2][-1]
        assert replace(chain, units=chain.units[:-1]).frontier == HALF
