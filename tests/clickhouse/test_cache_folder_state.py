"""Repairs of a folder after a full disk or a copy, before the engine opens it."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from places import Place
from series_data import BARS_A_DAY, SERIES, SPEC, days, drafts, expected

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.open import _POOL
from rangebar_polars.exceptions import (
    CacheError,
    CacheUnavailableError,
    CacheWriteError,
    LeaseError,
)
from rangebar_polars.maintenance.drop import SeriesFilter, remove
from rangebar_polars.readers.cached import count_bars, get_cached_bars

DAYS = 2
BARS = DAYS * BARS_A_DAY
OTHER = BarSpec.of("ETHUSDT", 250, reset="year").series(SERIES.first_day)


def close_idle():
    _POOL._close_idle()


def fill(place, *, series=SERIES):
    with place.open(write=True) as cache:
        publish(cache, drafts(DAYS, series=series))
    close_idle()


def count(folder, symbol=SPEC.symbol):
    return count_bars(symbol, 250, cache_dir=folder)


@pytest.fixture
def folder(embedded):
    """A closed cache folder with bars of two days."""
    fill(embedded)
    return embedded.folder


# --- copies --------------------------------------------------------------------------------------


def links_in(folder):
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            if path.is_symlink():
                yield path


def that_follows_links(folder, copy):
    shutil.copytree(folder, copy)


def without_links(folder, copy):
    shutil.copytree(folder, copy, symlinks=True)
    for link in list(links_in(copy)):
        link.unlink()


def with_links_as_texts(folder, copy):
    shutil.copytree(folder, copy, symlinks=True)
    for link in list(links_in(copy)):
        text = os.fspath(link.readlink())
        link.unlink()
        link.write_text(text)


def with_files_in_place_of_links(folder, copy):
    """Move a folder to the place of a link to it."""
    shutil.copytree(folder, copy, symlinks=True)
    for link in list(links_in(copy)):
        target = link.resolve()
        link.unlink()
        target.rename(link)


@pytest.mark.parametrize(
    "copied",
    [that_follows_links, without_links, with_links_as_texts, with_files_in_place_of_links],
)
def test_a_copy_of_the_folder_is_opened(folder, tmp_path, copied):
    copy = tmp_path / "copy"
    copied(folder, copy)
    bars = get_cached_bars(SPEC.symbol, 250, features="microstructure", cache_dir=copy)
    assert bars.equals(expected(days(DAYS)).select(bars.columns))
    close_idle()
    assert list(links_in(copy))
    assert not list(Path(copy, "clickhouse", "data").rglob("*.bin"))
    # Later writes go to the copy.
    fill(Place(None, copy), series=OTHER)
    assert (count(copy, OTHER.spec.symbol), count(folder, OTHER.spec.symbol)) == (BARS, 0)


def test_an_incomplete_copy_is_refused_and_left_unchanged(folder, tmp_path):
    copy = tmp_path / "copy"
    that_follows_links(folder, copy)
    lost = next((copy / "clickhouse" / "store").rglob("data.bin"))
    lost.unlink()
    before = sorted(copy.rglob("*"))
    with pytest.raises(CacheUnavailableError, match="cp -a") as refused:
        count(copy)
    assert "copied without its symbolic links" in str(refused.value)
    assert [path for path in sorted(copy.rglob("*")) if "clickhouse." not in path.name] == [
        path for path in before if "clickhouse." not in path.name
    ]


# --- unfinished tables ---------------------------------------------------------------------------


def definitions(folder):
    return sorted((folder / "clickhouse").glob("metadata/*.sql")) + sorted(
        (folder / "clickhouse").glob("store/*/*/*.sql")
    )


@pytest.mark.parametrize("left", [0.0, 0.5])
@pytest.mark.parametrize("number", [0, 1, 4, -1])
def test_unfinished_tables_are_created_again(embedded, number, left):
    with embedded.open(write=True) as cache:
        for table in ("schema_version", "leases"):
            cache.command(f"TRUNCATE TABLE {cache.table(table)}")
    close_idle()
    for parts in (embedded.folder / "clickhouse" / "store").rglob("*_*_*"):
        if parts.is_dir():
            shutil.rmtree(parts)
    damaged = definitions(embedded.folder)[number]
    damaged.write_bytes(damaged.read_bytes()[: int(left * damaged.stat().st_size)])
    assert count(embedded.folder) == 0
    fill(embedded)
    assert count(embedded.folder) == BARS


def test_a_damaged_definition_beside_rows_is_named_and_nothing_is_removed(folder):
    damaged = next(path for path in definitions(folder) if path.name == "bars.sql")
    whole = damaged.read_bytes()
    damaged.write_bytes(b"")
    with pytest.raises(CacheUnavailableError, match="empty or truncated") as refused:
        count(folder)
    assert f"`{damaged.resolve()}`" in str(refused.value)
    damaged.write_bytes(whole)
    assert count(folder) == BARS


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """Return a function that mounts a small disk, or changes its size."""
    place = tmp_path / "disk"
    place.mkdir()
    is_mounted = False

    def mount(kilobytes):
        nonlocal is_mounted
        options = f"size={kilobytes}k" + (",remount" if is_mounted else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip("only root may mount a disk")
        is_mounted = True
        return place

    if shutil.which("mount") is None:
        pytest.skip("there is no `mount`")
    yield mount
    close_idle()
    if is_mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(disk):
    """Write until the disk is full."""
    with (disk / "rest").open("ab", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                if file.write(b"x" * size) < size:
                    size //= 2
            except OSError:
                size //= 2


@pytest.mark.parametrize("kilobytes", [4, 8, 16, 24, 40, 64, 200])
def test_a_disk_that_fills_up_while_tables_are_created_leaves_a_usable_folder(disk, kilobytes):
    place = Place(None, disk(kilobytes))
    with pytest.raises(CacheError), place.open(write=True):
        pass
    # The disk is still full: a reader finds no bars, or gets an error.
    with suppress(CacheError):
        assert count(place.folder) == 0
    close_idle()
    disk(100_000)
    assert count(place.folder) == 0
    fill(place)
    assert count(place.folder) == BARS


@pytest.fixture
def full(disk):
    """A full disk with two series."""
    place = Place(None, disk(30_000))
    for series in (SERIES, OTHER):
        fill(place, series=series)
    fill_up(place.folder)
    return place


def test_everything_is_dropped_on_a_full_disk(full):
    removed = remove(SeriesFilter(), cache_dir=full.folder)
    assert (len(removed.series), removed.bars, removed.units) == (2, 2 * BARS, 2 * DAYS)
    assert count(full.folder) == 0
    (full.folder / "rest").unlink()
    fill(full)
    assert count(full.folder) == BARS


def test_a_drop_of_one_series_on_a_full_disk_suggests_what_to_remove(full):
    with pytest.raises(CacheWriteError, match="its disk is full") as refused:
        remove(SeriesFilter(SPEC.symbol), cache_dir=full.folder)
    assert f"rm -r {full.folder / 'clickhouse'}" in str(refused.value)
    assert [count(full.folder, one.spec.symbol) for one in (SERIES, OTHER)] == [BARS, BARS]
    (full.folder / "rest").unlink()
    assert remove(SeriesFilter(SPEC.symbol), cache_dir=full.folder).bars == BARS


def test_nothing_is_dropped_on_a_full_disk_while_a_writer_is_at_work(full, run):
    code = """
import sys
sys.path[:0] = sys.argv[2:]
from series_data import SERIES
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.exceptions import CacheError
import os
os.unlink(sys.argv[1] + "/rest")
with hold_leases([SERIES.lease_key], cache_dir=sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
    writer = run(code, full.folder)
    assert writer.stdout.readline() == "held\n"
    fill_up(full.folder)
    with pytest.raises(LeaseError, match=f"`{writer.pid}`"):
        remove(SeriesFilter(), cache_dir=full.folder)
    assert count(full.folder) == BARS


def test_a_write_to_a_full_disk_reports_it(full):
    with (
        pytest.raises(CacheWriteError, match="free space on the disk"),
        hold_leases([SERIES.lease_key], cache_dir=full.folder),
    ):
        pass
