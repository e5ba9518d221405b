"""Ticks under stored bars can be removed, and reads of the bars stay the same."""

from __future__ import annotations

import io
import shutil
import warnings
from datetime import timedelta

import polars as pl
import pytest
from pandas.testing import assert_frame_equal

from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.cli import main
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import RangeBarError, TicksNotCachedError
from rangebar_polars.maintenance.prune import prune
from rangebar_polars.readers.bars import get_range_bars
from rangebar_polars.readers.cached import coverage
from rangebar_polars.storage.days.prune import pruned_days
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import FIRST, LAST, ONE_DAY, SYMBOL, THRESHOLD, at, january, keep, ticks_between

DAYS = [FIRST + n * ONE_DAY for n in range((LAST - FIRST).days + 1)]


def final_days(folder, days=DAYS, shift_us=0) -> TickStorage:
    """Store days of the tape as the archive delivers them."""
    storage = TickStorage(folder)
    items = []
    for day in days:
        ticks = ticks_between(at(day), at(day + ONE_DAY)).with_columns(
            pl.col("timestamp") + timedelta(microseconds=shift_us)
        )
        items.append(DayTicks(day, ticks, Origin("archive")))
    storage.put_days(SYMBOL, items)
    return storage


def stored(folder, kept) -> TickStorage:
    """Store the tape, and series by reset mode, each with its anchor and its last day."""
    storage = final_days(folder)
    with open_cache(cache_dir=folder, write=True) as cache:
        for reset, series in kept.items():
            spec = BarSpec.of(SYMBOL, THRESHOLD, reset=reset)
            for anchor, last in series:
                keep(cache, folder, spec, january(*anchor), january(last).date())
    return storage


def numbers(days) -> list[int]:
    """Return days as numbers counted from the first of January."""
    return [(day - FIRST).days + 1 for day in days]


def removed(report) -> list[int]:
    return numbers(day for one in report.symbols for day in one.days)


def answer(folder, reset, first, hours):
    """Return the bars and the warnings of a read, or None if it needs days that are not stored."""
    start = january(1) + timedelta(hours=first)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            bars = get_range_bars(
                SYMBOL, start, start + timedelta(hours=hours), THRESHOLD, ouroboros=reset,
                cache_dir=folder, fetch_if_missing=False,
            )  # fmt: skip
        except RangeBarError:
            return None
    return bars, [str(warning.message) for warning in found]


SPANS = [
    (first, hours)
    for first in (0, 5, 13 * 24, 19 * 24 + 7, 34 * 24 + 1, 45 * 24)
    for hours in (11, 6 * 24, 30 * 24 + 3)
]

FAMILIES = {
    "one series": {"year": [((1, 0), 55)]},
    "two series that overlap": {"year": [((1, 0), 41), ((20, 0), 55)]},
    "a series that begins at noon": {"year": [((6, 12), 50)]},
    "two resets": {"year": [((1, 0), 60)], "month": [((1, 0), 31), ((32, 0), 45)]},
    "no first days": {"month": [((10, 0), 31), ((32, 0), 55)]},
}


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (FAMILIES["one series"], range(1, 55)),
        (FAMILIES["two series that overlap"], range(1, 41)),
        (FAMILIES["a series that begins at noon"], range(37, 50)),
        (FAMILIES["two resets"], range(1, 45)),
        (FAMILIES["no first days"], range(32, 55)),
    ],
    ids=list(FAMILIES),
)
def test_reads_of_stored_bars_stay_the_same(tmp_path, kept, expected):
    stored(tmp_path, kept)
    with open_cache(cache_dir=tmp_path):
        before = {
            (reset, *span): answer(tmp_path, reset, *span) for reset in kept for span in SPANS
        }
        report = prune(0, cache_dir=tmp_path, dry_run=False)
        assert removed(report) == list(expected)
        assert sum(found is not None for found in before.values()) > len(before) / 2
        for key, found in before.items():
            if found is not None:
                after = answer(tmp_path, *key)
                assert after is not None, key
                assert_frame_equal(found[0], after[0])
                assert found[1] == after[1]


@pytest.fixture(scope="module")
def one_series(in_memory):
    """Store the tape and one series, once for all tests."""
    folder = in_memory / "pruned"
    stored(folder, FAMILIES["one series"])
    return folder


@pytest.fixture
def folder(one_series, tmp_path):
    """Copy that folder for one test."""
    return shutil.copytree(one_series, tmp_path / "copy", symlinks=True)


def test_nothing_is_removed_by_default(folder):
    storage = TickStorage(folder)
    report = prune(0, cache_dir=folder)
    assert report.days == 54
    assert report.is_dry
    assert storage.list_days(SYMBOL) == DAYS
    row = report.to_frame().row(0, named=True)
    assert (row["symbol"], row["days"], row["first_day"]) == (SYMBOL, 54, FIRST)
    assert row["bytes"] == report.bytes > 0
    assert row["stay"] == len(DAYS) - 54


def test_the_newest_days_stay(folder, monkeypatch):
    now = at(january(50).date(), 12)
    monkeypatch.setattr("rangebar_polars._utils.clock.utc_now", lambda: now)
    assert removed(prune(10, cache_dir=folder)) == list(range(1, 40))


def test_a_pruned_day_is_missing_and_no_gap(folder):
    storage = TickStorage(folder)
    prune(0, cache_dir=folder, dry_run=False)
    days = storage.coverage(SYMBOL, DAYS[52], DAYS[56])
    assert days["state"].to_list() == ["missing", "missing", "final", "final", "final"]
    assert days["missing_before"].to_list()[2:] == [0, 0, 0]
    assert set(days["reason"].head(2)) == {"removed by `rangebar ticks prune`"}
    with pytest.raises(TicksNotCachedError, match="removed by `rangebar ticks prune`"):
        storage.get_ticks(SYMBOL, january(54), january(55))
    states = coverage(SYMBOL, THRESHOLD, january(1), january(55), cache_dir=folder)
    assert set(states["state"]) == {"final"}


def test_a_day_that_is_stored_again_is_not_pruned(folder):
    storage = TickStorage(folder)
    prune(0, cache_dir=folder, dry_run=False)
    place = storage.symbol_dir(SYMBOL, "binance", "spot")
    assert numbers(sorted(pruned_days(place))) == list(range(1, 55))
    final_days(folder, DAYS[:3])
    storage.delete_ticks(SYMBOL, DAYS[40], DAYS[44])
    assert numbers(sorted(pruned_days(place))) == [*range(4, 41), *range(46, 55)]
    assert storage.list_days(SYMBOL) == [*DAYS[:3], *DAYS[54:]]
    assert set(coverage(SYMBOL, THRESHOLD, cache_dir=folder)["state"]) == {"final"}


def test_a_second_prune_removes_nothing(folder):
    prune(0, cache_dir=folder, dry_run=False)
    files = sorted(folder.rglob("*.json"))
    assert prune(0, cache_dir=folder, dry_run=False).days == 0
    assert sorted(folder.rglob("*.json")) == files


def test_symbols_without_bars_are_left_alone(tmp_path):
    storage = final_days(tmp_path)
    report = prune(0, cache_dir=tmp_path, dry_run=False)
    assert report.days == 0
    assert report.to_frame()["reason"].to_list() == ["no bars of the symbol are stored"]
    assert storage.list_days(SYMBOL) == DAYS


def test_days_given_by_the_user_stay(folder):
    storage = TickStorage(folder)
    storage.delete_ticks(SYMBOL, DAYS[4], DAYS[5])
    storage.write_ticks(SYMBOL, ticks_between(at(DAYS[4]), at(DAYS[6])))
    left = set(range(1, 55)) - {5, 6}
    assert removed(prune(0, cache_dir=folder, dry_run=False)) == sorted(left)


def test_days_stay_whose_bars_are_stale(folder):
    final_days(folder, DAYS[10:12], shift_us=1)
    report = prune(0, cache_dir=folder, dry_run=False)
    assert removed(report) == [*range(1, 11), *range(13, 55)]
    assert report.symbols[0].stay[DAYS[10]] == "its bars were made from other ticks"


def test_days_stay_of_bars_that_another_rule_computed(folder):
    old = BarSpec.of(SYMBOL, 500, rules=BarRules(bar_semantics=0))
    with open_cache(cache_dir=folder, write=True) as cache:
        keep(cache, folder, old, january(1), january(55).date())
    assert removed(prune(0, cache_dir=folder)) == []


def test_a_file_stays_that_reaches_into_a_day_that_stays(tmp_path):
    """Its last tick raises the times of the next day, which would look changed without it."""
    storage = final_days(tmp_path, [*DAYS[:54], *DAYS[55:]])
    whole = ticks_between(at(DAYS[54]), at(DAYS[55]))
    late = whole.with_columns(
        timestamp=pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit(at(DAYS[54]) - timedelta(microseconds=1)).cast(pl.Datetime("us", "UTC")))
        .otherwise("timestamp")
    )
    storage.put_days(SYMBOL, [DayTicks(DAYS[54], late, Origin("archive"))])
    with open_cache(cache_dir=tmp_path, write=True) as cache:
        spec = BarSpec.of(SYMBOL, THRESHOLD)
        keep(cache, tmp_path, spec, january(1), january(55).date())
    prune(0, cache_dir=tmp_path, dry_run=False)
    states = coverage(SYMBOL, THRESHOLD, cache_dir=tmp_path)
    assert set(states["state"]) == {"final"}


def test_the_command_lists_and_removes(folder, capsys):
    storage = TickStorage(folder)
    command = ["ticks", "prune", "--keep-days", "0", "--cache-dir", str(folder)]
    assert main(command) == 0
    listed = capsys.readouterr()
    row = pl.read_csv(io.StringIO(listed.out)).row(0, named=True)
    assert (row["symbol"], row["days"], row["last_day"]) == (SYMBOL, 54, str(DAYS[53]))
    assert "54 days of ticks" in listed.err
    assert "--yes" in listed.err
    assert storage.list_days(SYMBOL) == DAYS
    assert main([*command, "ETHUSDT", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().err
    assert main([*command, "--yes", SYMBOL, "--source", "binance"]) == 0
    assert "removed 54 days" in capsys.readouterr().err
    assert storage.list_days(SYMBOL) == DAYS[54:]


@pytest.mark.parametrize("days", ["-1", "1.5", "many", ""])
def test_a_wrong_number_of_days_is_a_usage_error(capsys, days):
    with pytest.raises(SystemExit) as ended:
        main(["ticks", "prune", f"--keep-days={days}"])
    assert ended.value.code == 2
    assert "--keep-days" in capsys.readouterr().err


def test_a_negative_number_of_days_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pass 0 or more days"):
        prune(-1, cache_dir=tmp_path)
