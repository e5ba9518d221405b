"""Import of a plan into the store: no row is lost, and any order of the days is read once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.storage import importing
from rangebar_polars.storage.importing import import_ticks
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2024, 1, 1, tzinfo=UTC)


def ticks(*days: float | None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "timestamp": [None if day is None else START + timedelta(days=day) for day in days],
            "price": [100.0 + at for at in range(len(days))],
        },
        schema={"timestamp": pl.Datetime("us", "UTC"), "price": pl.Float64},
    )


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(plan: pl.LazyFrame, names: list[str]):
        del names
        yield from plan.collect().iter_slices(1)

    monkeypatch.setattr(importing, "batches", batches)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("days", [(0, None, 1, 2), (None, 0, 1, 2), (0, 1, 2, None), (0, 1, None)])
def test_a_row_without_a_time_is_refused(days: tuple, tmp_path: Path) -> None:
    with pytest.raises(RangeBarError, match="null"):
        import_ticks("BTCUSDT", ticks(*days), source="kraken", cache_dir=tmp_path)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    heights: list[int] = []
    write_ticks = TickStorage.write_ticks

    def counted(self, symbol, frame, **options):
        heights.append(frame.height)
        return write_ticks(self, symbol, frame, **options)

    monkeypatch.setattr(TickStorage, "write_ticks", counted)
    return heights


@pytest.mark.usefixtures("one_by_one")
def test_days_that_are_over_are_written_as_the_next_one_begins(
    tmp_path: Path, written: list[int]
) -> None:
    found = ticks(0, 0.5, 1, 1.5, 2)
    report = import_ticks("BTCUSDT", found, source="kraken", cache_dir=tmp_path)
    assert (report.rows_added, written) == (5, [2, 2, 1])


@pytest.mark.usefixtures("one_by_one")
def test_a_plan_that_runs_newest_first_is_joined_once(
    tmp_path: Path, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[int] = []
    concat = pl.concat

    def counted(frames, **options):
        if not written:
            joined.append(len(frames))
        return concat(frames, **options)

    monkeypatch.setattr(pl, "concat", counted)
    found = ticks(*range(5, 0, -1))
    import_ticks("BTCUSDT", found, source="kraken", cache_dir=tmp_path)
    assert (joined, written) == ([5], [5])
