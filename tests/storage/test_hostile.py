"""Forged manifests and files: nothing outside the store is read or changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING

import polars as pl
import pytest

from rangebar_polars.exceptions import (
    ManifestError,
    ParquetCorruptionError,
    StorageError,
)
from rangebar_polars.storage.layout import day_of_file
from rangebar_polars.storage.parquet import TickStorage
from storage.stock import FEBRUARY, JANUARY, SYMBOL, day_files, quarantined, trades

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def storage(tmp_path):
    storage = TickStorage(tmp_path / "cache")
    storage.write_ticks(SYMBOL, trades(JANUARY))
    return storage


@pytest.fixture
def outside(tmp_path):
    """Make a file outside of the store."""
    path = tmp_path / "outside.parquet"
    path.write_bytes(b"precious")
    return path


def manifest_path(storage: TickStorage) -> Path:
    return max(storage.root.rglob("2024-01.manifest/*.json"))


def forge(storage: TickStorage, change: Callable[[dict], object]) -> None:
    """Change a manifest and update its SHA-256, as anybody can."""
    path = manifest_path(storage)
    body = json.loads(path.read_text())
    del body["sha256"]
    change(body)
    seal = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    path.write_text(json.dumps({**body, "sha256": seal.hexdigest()}))


def forge_day(storage: TickStorage, **values: object) -> None:
    forge(storage, lambda body: body["days"][str(JANUARY)].update(values))


def refused(storage: TickStorage, match: str) -> None:
    """Check that every access to the day raises a typed error, and that no file has moved."""
    before = sorted(storage.root.rglob("*"))
    for work in (
        lambda: storage.get_ticks(SYMBOL, JANUARY, JANUARY),
        lambda: storage.scan_ticks(SYMBOL, JANUARY, JANUARY).collect(),
        lambda: storage.coverage(SYMBOL, JANUARY, JANUARY),
        lambda: storage.write_ticks(SYMBOL, trades(JANUARY, 60)),
        lambda: storage.delete_ticks(SYMBOL),
        lambda: storage.stats(SYMBOL),
        lambda: storage.gc(dry_run=False),
    ):
        with pytest.raises(ManifestError, match=match):
            work()
    assert storage.verify()["state"].to_list() == ["manifest unreadable"]
    assert sorted(storage.root.rglob("*")) == before


NAMES = [
    "../../../../../../../outside.parquet",
    "../2024/2024-01-31.0000000000000000.parquet",
    "/etc/passwd",
    "..",
    ".",
    "a/b",
    "a\\b",
    "2024-01-31.manifest",
    "2024-02-01.0000000000000000.parquet",
    "2024-01-31.0000000000000000.parquet\n",
    "2024-01-31.0000000000000000.parquet",
    "nul\0",
    ".lock",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_that_of_the_day_and_its_hash_is_refused(storage, outside, name):
    forge_day(storage, file=name)
    refused(storage, "not the name of its file")
    assert outside.read_bytes() == b"precious"


def test_an_absolute_path_to_another_file_is_refused(storage, outside):
    forge_day(storage, file=str(outside), sha256="0" * 64)
    refused(storage, "not the name of its file")
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "values",
    [
        {"file": 7},
        {"file": None},
        {"file": ["x"]},
        {"file": ""},
        {"sha256": "../x"},
        {"sha256": "A" * 64},
        {"rows": -1},
        {"rows": 1.5},
        {"rows": True},
        {"rows": "50"},
        {"rows": 0},
        {"rows": 2**63},
        {"bytes": None},
        {"first_id": None},
        {"first_id": 99, "last_id": 1},
        {"first_id": 2**64},
        {"min_ts_us": "now"},
        {"min_ts_us": 2**62, "max_ts_us": 0},
        {"id_gaps": [[3, 2]]},
        {"id_gaps": [[1]]},
        {"id_gaps": [["1", "2"]]},
        {"id_gaps": 5},
        {"source_absent": [[1, 2.0]]},
        {"columns": ["timestamp", "secret"]},
        {"columns": ["price", "timestamp"]},
        {"columns": ["timestamp", "price", "agg_trade_id", "price"]},
        {"columns": [["timestamp"]]},
        {"columns": "timestamp"},
        {"columns": 1},
        {"origin": {"kind": 3}},
        {"origin": {"kind": "user", "raised": -1}},
        {"origin": {"surprise": 1}},
        {"origin": []},
        {"state": "unheard of"},
        {"state": ["final"]},
        {"state": {}},
        {"state": "quarantined", "kept_state": "x"},
        {"reason": 5},
    ],
    ids=repr,
)
def test_a_value_that_the_package_never_writes_is_refused(storage, values):
    forge_day(storage, **values)
    refused(storage, "cannot be read")


def test_what_a_newer_version_records_of_an_origin_is_ignored(storage):
    forge_day(storage, origin={"kind": "user", "surprise": 1})
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).height


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["days"].update({str(FEBRUARY): body["days"][str(JANUARY)]}),
        lambda body: body["days"].update({"2024-01-99": body["days"][str(JANUARY)]}),
        lambda body: body["days"].update({"x": 1}),
        lambda body: body.update(days=[1]),
        lambda body: body.update(days={str(JANUARY): 1}),
        lambda body: body.update(format=99),
    ],
)
def test_days_that_are_none_of_the_month_are_refused(storage, change):
    forge(storage, change)
    refused(storage, "cannot be read")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[]", "3", "null", '{"sha256": 1}', "9" * 5_000, "\xff"],
    ids=lambda text: text[:5],
)
def test_a_manifest_of_any_text_is_an_error_that_names_it(storage, text):
    path = manifest_path(storage)
    path.write_bytes(text.encode("latin-1"))
    refused(storage, path.name)


def test_columns_that_a_later_write_adds_are_valid_in_any_order(tmp_path):
    storage = TickStorage(tmp_path)
    ticks = trades(JANUARY)
    storage.write_ticks(SYMBOL, ticks.select("timestamp", "agg_trade_id", "price").head(20))
    storage.write_ticks(SYMBOL, ticks.tail(30))
    found = storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    assert found.columns == ticks.columns
    assert found.tail(30).equals(ticks.tail(30))
    assert found["quantity"].null_count() == 20


def pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _outside: Path) -> None:
    path.mkdir()


def device(path: Path, _outside: Path) -> None:
    path.symlink_to("/dev/zero")


def link_outside(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes with names")
@pytest.mark.parametrize("kind", [pipe, folder, device, link_outside])
@pytest.mark.parametrize("what", ["day", "manifest"])
def test_what_is_not_a_file_of_the_store_is_neither_read_nor_moved(storage, outside, kind, what):
    path = day_files(storage)[0] if what == "day" else manifest_path(storage)
    path.unlink()
    kind(path, outside)
    with pytest.raises(StorageError, match=str(path)) as caught:
        storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    assert not isinstance(caught.value, ParquetCorruptionError)
    (state,) = storage.verify()["state"]
    assert state == ("unreadable" if what == "day" else "manifest unreadable")
    assert not quarantined(storage)
    assert outside.read_bytes() == b"precious"


def test_folders_and_files_of_a_user_may_be_links(storage, tmp_path):
    """Test a year on another disk, and a file that is a link inside of it."""
    year = storage.root / "binance" / "spot" / SYMBOL / "2024"
    elsewhere = tmp_path / "another disk"
    year.rename(elsewhere)
    year.symlink_to(elsewhere)
    (file,) = elsewhere.glob("*.parquet")
    path = year / file.name
    path.rename(year / "blob")
    path.symlink_to("blob")
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))


def encoded(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"not Parquet",
        b"",
        encoded(pl.DataFrame({"a": [1]})),
        encoded(trades(JANUARY).with_columns(price=pl.lit("dear"))),
        encoded(trades(JANUARY).drop("quantity")),
    ],
    ids=["text", "empty", "other columns", "other dtype", "fewer columns"],
)
def test_bytes_that_a_forged_manifest_vouches_for_and_are_no_ticks_are_a_typed_error(storage, data):
    (path,) = day_files(storage)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{JANUARY}.{sha256[:16]}.parquet"
    path.with_name(name).write_bytes(data)
    forge_day(storage, file=name, sha256=sha256, bytes=len(data))
    for work in (
        lambda: storage.get_ticks(SYMBOL, JANUARY, JANUARY),
        lambda: storage.write_ticks(SYMBOL, trades(JANUARY, 60)),
    ):
        with pytest.raises(ParquetCorruptionError, match=name):
            work()


@pytest.mark.parametrize(
    "name",
    [
        "2024-13-01.0123456789abcdef.parquet",
        "2024-02-30.0123456789abcdef.parquet",
        "0000-01-01.0123456789abcdef.parquet",
        "٢٠٢٤-01-01.0123456789abcdef.parquet",
        "2024-01-01.0123456789abcdef.parquet.2",
    ],
)
def test_a_name_of_no_day_is_passed_over(storage, name):
    assert day_of_file(name) is None
    year = storage.root / "binance" / "spot" / SYMBOL / "2024"
    (year / name).write_bytes(b"x")
    (year / "2024-13.manifest").mkdir()
    (year / "2024-01.manifest" / f"{'9' * 60}.json").write_bytes(b"x")
    assert storage.verify()["state"].to_list() == ["ok"]
    assert storage.gc().is_empty()
    assert storage.get_ticks(SYMBOL, JANUARY, JANUARY).equals(trades(JANUARY))
