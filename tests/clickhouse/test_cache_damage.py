"""Damaged files of an embedded cache: the errors, and the remedies that they suggest."""

from __future__ import annotations

import shutil
import uuid
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.cli import main
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import (
    CacheError,
    CacheQueryError,
    CacheUnavailableError,
    CacheWriteError,
)
from rangebar_polars.maintenance.drop import SeriesFilter, remove
from rangebar_polars.readers.cached import coverage, get_cached_bars
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage

SPAN = ("ETHUSDT", "2024-08-08", "2024-08-09")
THRESHOLDS = (250, 500)
QUIET = {"verbose": False, "notify": False}
POPULATE = ["populate", *SPAN, "--quiet", "--no-notify"]


@pytest.fixture(scope="module")
def stock(in_memory):
    """Return a folder with ticks of three days, and bars of the first two in one part."""
    folder = in_memory / uuid.uuid4().hex[:12]
    sample = rb.sample_ticks()
    days = [
        sample.with_columns(
            pl.col("agg_trade_id") + n * sample.height, pl.col("timestamp") + timedelta(days=n)
        )
        for n in range(3)
    ]
    TickStorage(folder).write_ticks(SPAN[0], pl.concat(days))
    populate(folder, list(THRESHOLDS))
    return folder


@pytest.fixture(autouse=True)
def _no_idle_time(monkeypatch, _no_settings_of_the_user):
    """Every call closes the folder, and finds the damage as another process would."""
    monkeypatch.setenv("RANGEBAR_CACHE_IDLE_S", "0")


@pytest.fixture
def folder(stock):
    """Return a copy of the folder, which a test may damage."""
    copy = stock.with_name(uuid.uuid4().hex[:12])
    shutil.copytree(stock, copy, symlinks=True)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture(scope="module")
def whole(stock):
    """Return the undamaged bars of each threshold."""
    return {threshold: bars(stock, threshold) for threshold in THRESHOLDS}


def populate(folder, threshold=250, span=SPAN, **options):
    return rb.populate_cache_resumable(
        *span, threshold_decimal_bps=threshold, cache_dir=folder, **QUIET, **options
    )


def bars(folder, threshold=250, span=SPAN):
    return get_cached_bars(
        span[0], threshold, *span[1:], features="microstructure", cache_dir=folder
    )


def data_of(folder, table):
    """Return the data file of the oldest part of a table."""
    with open_cache(cache_dir=folder) as cache:
        parts = cache.query(
            f"SELECT part_type, path FROM system.parts WHERE active AND table = '{table}' "
            f"AND database = '{cache.database}' ORDER BY min_block_number"
        )
    kind, path = parts.row(0)
    assert kind == "Compact"
    file = Path(path) / "data.bin"
    assert file.is_relative_to(folder)
    return file


def column_at(folder, table, column):
    """Return an offset in the file that belongs to this column alone."""
    file = data_of(folder, table)
    good = file.read_bytes()
    with open_cache(cache_dir=folder) as cache:
        for place in range(24, len(good), 40):
            flip(file, place)
            hit = fails(cache, f"SELECT sum(cityHash64({column})) FROM {cache.table(table)}")
            file.write_bytes(good)
            if hit:
                return file, place
    raise AssertionError(column)


def fails(cache, sql):
    try:
        cache.query(sql)
    except CacheQueryError:
        return True
    return False


def flip(file, place=None):
    """Flip one bit of a file, by default in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    file.write_bytes(content)


def aside(folder):
    return [path.name for path in folder.glob("clickhouse/store/*/*/detached/*")]


# --- errors --------------------------------------------------------------------------------------


def zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


def cut_off(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("table", "damage", "code"),
    [("bars", flip, 40), ("bars", zeros, 432), ("bars", cut_off, 33), ("units", flip, 40)],
)
def test_an_error_of_damaged_files_names_what_helps(folder, table, damage, code):
    file = data_of(folder, table)
    with open_cache(cache_dir=folder) as cache:
        damage(file)
        with pytest.raises(CacheQueryError) as caught:
            cache.query(f"SELECT * FROM {cache.table(table)}")
    assert caught.value.code == code
    sentence, _, hint = str(caught.value).partition("\n\n")
    assert "damaged" in sentence
    assert ("stored bars" if table == "bars" else "`units`") in sentence
    assert ("--force-refresh" in hint) is (table == "bars")
    assert "rangebar cache drop" in hint


def test_a_query_refused_for_another_reason_is_not_damage(folder):
    with open_cache(cache_dir=folder) as cache, pytest.raises(CacheQueryError) as caught:
        cache.query("SELECT throwIf(number = 3) FROM numbers(9)")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("failing", ["SELECT throwIf(number = 3) FROM numbers(9)", "damage"])
def test_a_broken_answer_is_not_part_of_the_next_one(folder, failing):
    file = data_of(folder, "bars")
    with open_cache(cache_dir=folder) as cache:
        if failing == "damage":
            flip(file)
            failing = f"SELECT * FROM {cache.table('bars')}"
        with pytest.raises(CacheQueryError):
            cache.query(failing)
        assert cache.query("SELECT 2 AS answer").to_dicts() == [{"answer": 2}]


# --- remedies ------------------------------------------------------------------------------------


def test_damaged_bars_are_rebuilt(folder, whole):
    flip(data_of(folder, "bars"))
    with pytest.raises(CacheQueryError, match="--force-refresh"):
        bars(folder)
    with pytest.warns(CoverageWarning, match="is damaged and was set aside"):
        report = populate(folder, force_refresh=True)
    assert int(report) == whole[250].height
    assert bars(folder).equals(whole[250])
    assert len(aside(folder)) == 1
    # The other bars of the part are reported as damaged.
    with pytest.raises(rb.exceptions.CoverageError, match="--force-refresh"):
        bars(folder, 500)
    populate(folder, 500, force_refresh=True)
    assert bars(folder, 500).equals(whole[500])
    assert remove(SeriesFilter(), cache_dir=folder).series


@pytest.mark.parametrize("column", ["symbol", "attempt", "close"])
def test_bars_are_rebuilt_whichever_column_is_damaged(folder, whole, column):
    flip(*column_at(folder, "bars", column))
    with pytest.warns(CoverageWarning, match="set aside"):
        populate(folder, list(THRESHOLDS), force_refresh=True)
    for threshold, expected in whole.items():
        assert bars(folder, threshold).equals(expected)


def test_sound_bars_are_not_set_aside(folder, whole):
    populate(folder, force_refresh=True)
    assert bars(folder).equals(whole[250])
    assert aside(folder) == []


def test_days_are_added_beside_damaged_values(folder):
    file, place = column_at(folder, "bars", "ofi")
    flip(file, place)
    # Sorted between the stored series, so that their rows share blocks.
    assert int(populate(folder, 400)) > 0
    assert aside(folder) == []


def test_a_write_reports_damaged_bars(folder):
    flip(data_of(folder, "bars"))
    with pytest.raises(CacheWriteError, match=r"(?s)stored bars .* damaged.*--force-refresh"):
        remove(SeriesFilter(SPAN[0], [500]), cache_dir=folder)


def test_drop_removes_a_series_with_damaged_bars(folder, whole, capsys):
    flip(data_of(folder, "bars"))
    command = ["cache", "drop", SPAN[0], "-t", "250", "--yes", "--cache-dir", str(folder)]
    assert main(command) == 0
    heard = capsys.readouterr().err
    assert "removed 1 series (2 days," in heard
    assert "set aside" in heard
    assert main([*command[:3], "-t", "500", *command[5:]]) == 0
    assert main([*POPULATE, "--cache-dir", str(folder)]) == 0
    assert bars(folder).equals(whole[250])


@pytest.mark.parametrize("table", ["bars", "units", "generations", "leases"])
def test_drop_removes_all_tables_whatever_is_damaged(folder, whole, table):
    populate(folder, force_refresh=True)
    flip(data_of(folder, table), 30)
    place = ["--cache-dir", str(folder)]
    if table == "units":
        with pytest.raises(CacheError, match="rangebar cache drop"):
            coverage(SPAN[0], cache_dir=folder)
    assert main(["cache", "drop", "--yes", *place]) == 0
    assert main([*POPULATE, *place]) == 0
    assert bars(folder).equals(whole[250])


def test_a_folder_that_cannot_be_opened_can_be_moved_away(folder, whole):
    (definition,) = folder.glob("clickhouse/store/*/*/units.sql")
    definition.write_bytes(b"garbage")
    with pytest.raises(CacheUnavailableError, match="move the folder away and populate") as caught:
        bars(folder)
    # Not every function has the argument.
    assert "get_range_bars(..., use_cache=False)" in str(caught.value)
    (folder / "clickhouse").rename(folder / "damaged")
    populate(folder)
    assert bars(folder).equals(whole[250])


@pytest.mark.parametrize("name", ["data.bin", "checksums.txt", "columns.txt", "count.txt"])
def test_a_part_that_the_database_cannot_load_is_rebuilt(folder, whole, name):
    file = data_of(folder, "bars").with_name(name)
    file.write_bytes(b"garbage")
    with pytest.raises(rb.exceptions.CoverageError, match=r"(?s)damaged.*--force-refresh"):
        bars(folder)
    populate(folder, force_refresh=True)
    assert bars(folder).equals(whole[250])
