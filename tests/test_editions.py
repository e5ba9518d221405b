"""Archives that are published again with trades moved over midnight."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape
from exchange.tape import instant_us
from faulty import in_plan
from pipeline.oracle import SPAN, SYMBOL, point_at
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import SnapshotExpiredError, StorageError, TickOrderError
from rangebar_polars.ingest.editions import Editions, StoredIds
from rangebar_polars.storage.parquet import TickStorage
from storage.disks import FailingDisk
from storage.stock import FEBRUARY, JANUARY, day_files, given_day, trades

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = date(2024, 12, 30)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
MOVED = 7

pytestmark = pytest.mark.usefixtures("quick_retries")


def moved(tape: Tape, day: date, by: int) -> Tape:
    """The tape with trades that were on the day before (`by` > 0), or on the day, over midnight."""
    midnight_us = instant_us(day)
    row = tape.rows_before(day)
    rows = pl.int_range(pl.len()).is_between(
        *((row - by, row - 1) if by > 0 else (row, row - by - 1))
    )
    time = pl.lit(midnight_us if by > 0 else midnight_us - 1_000)
    times = pl.when(rows).then(time).otherwise(pl.col("timestamp").to_physical())
    # Neither may time run back.
    times = times.cum_max().cast(tape.ticks.schema["timestamp"])
    return replace(tape, ticks=tape.ticks.with_columns(timestamp=times))


def truth(tape: Tape, first: date = DAYS[0], last: date = DAYS[-1]) -> pl.DataFrame:
    return pl.concat([tape.day(day) for day in DAYS if first <= day <= last])


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.generate(start=f"{FIRST}", days=4, per_day=400, seed=3)


@pytest.fixture(scope="module")
def first_edition(tape: Tape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first edition of every day, fetched once for all tests."""
    folder = tmp_path_factory.mktemp("first_edition")
    with Exchange(tape) as box, pytest.MonkeyPatch.context() as patch:
        point_at(box, patch, folder)
        rb.fetch_ticks(*SPAN)
    return folder


@pytest.fixture
def old(first_edition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TickStorage:
    """A store with the first edition of every day."""
    shutil.copytree(first_edition, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    return TickStorage()


def shapes() -> Iterator[tuple[str, list[tuple[date, int]]]]:
    for number, day in enumerate(DAYS[1:]):
        for by in (MOVED, -MOVED):
            yield f"boundary {number} {by:+}", [(day, by)]
    yield "all later", [(day, MOVED) for day in DAYS[1:]]
    yield "all earlier", [(day, -MOVED) for day in DAYS[1:]]
    yield "in turn", [(day, MOVED * (-1) ** number) for number, day in enumerate(DAYS[1:])]


SHAPES = dict(shapes())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("asked", ["all", str(DAYS[0]), str(DAYS[2])])
def test_a_refresh_takes_a_day_and_its_neighbours_together(
    old: TickStorage, tape: Tape, tmp_path: Path, monkeypatch, shape: str, asked: str
) -> None:
    new = tape
    for day, by in SHAPES[shape]:
        new = moved(new, day, by)
    assert not new.ticks.equals(tape.ticks)
    span = (DAYS[0], DAYS[-1]) if asked == "all" else (date.fromisoformat(asked),) * 2
    with Exchange(new) as box:
        point_at(box, monkeypatch, tmp_path)
        report = rb.fetch_ticks(SYMBOL, *span, refresh=True)
        assert set(report.fetched) == {day for day in DAYS if span[0] <= day <= span[1]}
        found = rb.scan_ticks(SYMBOL, *span).collect()
        assert_frame_equal(found, truth(new, *span))
        # No id is lost or stored twice, whichever edition the other days are of.
        everything = old.get_ticks(*SPAN)
        assert_frame_equal(everything.drop("timestamp"), truth(new).drop("timestamp"))
        rb.fetch_ticks(*SPAN, refresh=True)
        assert_frame_equal(old.get_ticks(*SPAN), truth(new))
        assert rb.fetch_ticks(*SPAN, refresh=True).replaced == []
    assert old.coverage(*SPAN)["missing_before"].to_list() == [0] * 4
    assert set(old.coverage(*SPAN)["state"]) == {"final"}


@pytest.mark.parametrize("by", [MOVED, -MOVED])
@pytest.mark.parametrize("missing", DAYS)
def test_a_missing_day_of_a_new_edition_takes_its_neighbours_with_it(
    old: TickStorage, tape: Tape, tmp_path: Path, monkeypatch, missing: date, by: int
) -> None:
    old.delete_ticks(SYMBOL, missing, missing)
    new = tape
    for day in DAYS[1:]:
        new = moved(new, day, by)
    with Exchange(new) as box:
        point_at(box, monkeypatch, tmp_path)
        assert rb.fetch_ticks(*SPAN).fetched == [missing]
        assert_frame_equal(old.get_ticks(*SPAN).drop("timestamp"), truth(new).drop("timestamp"))
        assert_frame_equal(rb.scan_ticks(SYMBOL, missing, missing).collect(), new.day(missing))


def test_a_neighbour_that_the_user_wrote_is_not_replaced(
    tape: Tape, tmp_path: Path, monkeypatch
) -> None:
    own = tape.day(DAYS[2])
    with Exchange(moved(tape, DAYS[2], -MOVED)) as box:
        point_at(box, monkeypatch, tmp_path)
        TickStorage().write_ticks(SYMBOL, own)
        with pytest.raises(TickOrderError, match="run back between two days"):
            rb.fetch_ticks(SYMBOL, DAYS[1], DAYS[1])
    assert_frame_equal(TickStorage().get_ticks(SYMBOL, DAYS[2], DAYS[2]), own)


@pytest.mark.parametrize("by", [MOVED, -MOVED])
def test_a_plan_of_the_old_edition_gives_no_tick_twice(
    old: TickStorage, tape: Tape, tmp_path: Path, monkeypatch, by: int
) -> None:
    new = moved(tape, DAYS[1], by)
    with Exchange(new) as box:
        point_at(box, monkeypatch, tmp_path)
        plan = rb.scan_ticks(SYMBOL, DAYS[0], DAYS[1])
        day_files(old)[0].write_bytes(b"rot")
        with pytest.raises(in_plan(SnapshotExpiredError), match="scan_ticks"):
            plan.collect()
        found = rb.scan_ticks(SYMBOL, DAYS[0], DAYS[1]).collect()
        assert_frame_equal(found, truth(new, DAYS[0], DAYS[1]))


# Two months


def ids(storage: TickStorage) -> list[int]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = storage.get_ticks(SYMBOL, JANUARY, FEBRUARY, on_gap="report")
    return found["agg_trade_id"].to_list()


@pytest.mark.parametrize("border", [45, 55])
def test_ids_that_move_to_another_month_are_never_stored_twice(tmp_path, border):
    def days(last: int) -> list[DayTicks]:
        return [
            given_day(JANUARY, trades(JANUARY, last, 1)),
            given_day(FEBRUARY, trades(FEBRUARY, 100 - last, last + 1)),
        ]

    storage = TickStorage(tmp_path)
    storage.put_days(SYMBOL, days(50))
    intact = storage._disk
    for number in range(1, 100):
        storage._disk = FailingDisk(("link",), number, errno.EIO)
        try:
            report = storage.put_days(SYMBOL, days(border))
        except StorageError:
            seen = ids(storage)
            assert seen == sorted(set(seen))
            assert set(range(1, 101)) - set(range(46, 56)) <= set(seen)
        else:
            break
        finally:
            storage._disk = intact
    assert number > 2
    assert ids(storage) == list(range(1, 101))
    assert report.days == (JANUARY, FEBRUARY)
    assert storage.has_ticks(SYMBOL, JANUARY, FEBRUARY)


# Days as they come


def of_ids(day: date, first: int, last: int) -> DayTicks:
    return DayTicks(day, trades(day, last - first + 1, first), Origin("archive"))


class NoIds:
    def ids(self, first: int, last: int):
        raise AssertionError((first, last))


def test_a_day_whose_ids_did_not_move_is_given_before_the_next_one_is_asked_for():
    asked = []

    def source():
        for number, day in enumerate(DAYS):
            asked.append(day)
            yield [of_ids(day, 10 * number + 1, 10 * number + 10)]

    held = {day: StoredIds(10 * n + 1, 10 * n + 10) for n, day in enumerate(DAYS[:2])}
    runs = Editions(held.get, pytest.fail, NoIds()).runs(source())
    for number, run in enumerate(runs):
        assert [found.day for found in run] == [DAYS[number]]
        assert asked == DAYS[: number + 1]


def test_days_that_were_not_asked_for_are_fetched_only_as_far_as_ids_moved():
    held = {day: StoredIds(10 * n + 1, 10 * n + 10) for n, day in enumerate(DAYS)}
    new = {
        DAYS[0]: of_ids(DAYS[0], 1, 10),
        DAYS[1]: of_ids(DAYS[1], 11, 22),
        DAYS[2]: of_ids(DAYS[2], 23, 30),
        DAYS[3]: of_ids(DAYS[3], 31, 40),
    }
    for asked, fetched in ((1, [2]), (2, [1]), (0, []), (3, [])):
        again = []

        def fetch(day: date, again: list[date] = again) -> DayTicks:
            again.append(day)
            return new[day]

        runs = list(Editions(held.get, fetch, NoIds()).runs([[new[DAYS[asked]]]]))
        assert again == [DAYS[number] for number in fetched]
        assert [found.day for found in runs[0]] == sorted([DAYS[asked], *again])
