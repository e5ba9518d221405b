"""A cache folder may have any name that the file system allows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from series_data import FIRST, SERIES, SPEC, days, drafts, expected

from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.engine_path import EnginePath, with_folders
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import SettingError
from rangebar_polars.maintenance.drop import SeriesFilter, remove
from rangebar_polars.readers.cached import count_bars, get_cached_bars

NAMES = [
    b"run?1",
    b"run?2",
    b"run",
    b"x?path=elsewhere",
    b"x#y",
    b"x%20y",
    b"x%3Fy",
    b"x&a=b",
    b" spaces ",
    b"quotes'\"`",
    b"new\nline",
    b"tab\t",
    b"back\\slash",
    b":memory:",
    b"file:x",
    b"~home",
    b"gl*b[ab]{c,d}",
    b"a;b|c$d!",
    b"\x01\x7f",
    "h\u00e9\u6f22".encode(),
    b"bytes\xff\xfe",
    b"x" * 250,
]


def folder_of(parent, name):
    return Path(os.fsdecode(os.fsencode(parent) + b"/" + name))


def make(folder):
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such name")
    return folder


@pytest.fixture(scope="module")
def parent(in_memory):
    """One folder for all names, so that a name that leads into another folder is noticed."""
    folder = in_memory / "names"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("as_text", [False, True], ids=["path", "text"])
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_bars_are_stored_in_a_folder_of_this_name(parent, name, as_text):
    folder = make(folder_of(parent / ("text" if as_text else "path"), name))
    beside = set(folder.parent.iterdir())
    place = str(folder) if as_text else folder
    assert count_bars(SERIES.spec.symbol, 250, cache_dir=place) == 0
    scale = 1 + len(beside) / 100
    with open_cache(cache_dir=place, write=True) as cache:
        publish(cache, drafts(2, scale=scale))
    bars = get_cached_bars(SERIES.spec.symbol, 250, features="microstructure", cache_dir=place)
    assert bars.equals(expected(days(2), scale).select(bars.columns))
    assert (folder / "clickhouse" / "store").is_dir()
    assert set(folder.parent.iterdir()) == beside


def test_a_drop_removes_the_bars_of_its_folder_alone(parent):
    folders = [make(folder_of(parent, name)) for name in (b"drop?1", b"drop?2")]
    for folder in folders:
        with open_cache(cache_dir=folder, write=True) as cache:
            publish(cache, drafts(1))
    assert remove(SeriesFilter(SPEC.symbol), cache_dir=folders[0]).bars > 0
    counts = [count_bars(SPEC.symbol, 250, cache_dir=folder) for folder in folders]
    assert counts == [0, expected([FIRST]).height]


def test_a_very_long_path_is_opened(parent):
    folder = parent
    # The longest path has 4,096 bytes, and the engine's own files take some 200 of them.
    while len(os.fsencode(folder)) < 3_000:
        folder /= "y" * 200
    make(folder)
    with open_cache(cache_dir=folder, write=True) as cache:
        publish(cache, drafts(1))
    assert count_bars(SPEC.symbol, 250, cache_dir=folder) == expected([FIRST]).height


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_address_names_the_folder_it_spells(parent, name):
    folder = folder_of(parent / "address", name)
    if {b"?", b"#"} & {bytes([byte]) for byte in name}:
        with pytest.raises(SettingError, match="cache_dir="):
            resolve(f"chdb://{folder}")
    elif not name[-1:].isspace():
        assert resolve(f"chdb://{folder}").folder == folder


def test_a_system_without_paths_of_descriptors_uses_a_link(parent, monkeypatch):
    folder = make(folder_of(parent, b"link?1"))
    monkeypatch.setattr(EnginePath, "_of_descriptor", lambda *_: None)
    path = EnginePath(folder)
    alias = path.text.removeprefix("file:")
    assert Path(alias).is_symlink()
    assert folder.samefile(alias)
    assert with_folders(f"no file {alias}/store") == f"no file {folder}/store"
    path.close()
    assert not Path(alias).exists()
    with open_cache(cache_dir=folder, write=True) as cache:
        publish(cache, drafts(1))
    assert (folder / "clickhouse" / "store").is_dir()


def test_a_plain_path_is_used_unchanged(tmp_path):
    assert EnginePath(tmp_path).text == str(tmp_path)


def test_an_impossible_path_is_refused(tmp_path):
    with pytest.raises(SettingError, match="not a path"):
        resolve(None, f"{tmp_path}/a\0b")


@pytest.mark.parametrize("name", [b"t?", b"t*{a,b}[c]", b"t'\\", b"\xff"], ids=repr)
def test_a_folder_for_temporary_files_may_have_every_name(parent, monkeypatch, name):
    folder, temporary = make(parent / f"in{name!r}"), make(folder_of(parent / "temporary", name))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_cache(cache_dir=folder, write=True) as cache:
        publish(cache, drafts(1))
    assert count_bars(SPEC.symbol, 250, cache_dir=folder) == expected([FIRST]).height
    assert not list(temporary.iterdir())
