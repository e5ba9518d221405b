"""The golden files, which the Rust tests read too."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from properties import entry_points
from properties.comparing import assert_matches
from properties.model import STATUS, Case, expect

GOLDEN = Path(__file__).parent / "golden"
CASES = pl.read_csv(GOLDEN / "cases.csv", schema_overrides={"thresholds": pl.String})


def trades(name: str) -> pl.DataFrame:
    texts = {"price": pl.String, "quantity": pl.String}
    frame = pl.read_csv(GOLDEN / f"trades_{name}.csv", schema_overrides=texts)
    time = pl.col("timestamp_us").cast(pl.Datetime("us", "UTC")).alias("timestamp")
    return frame.select(
        time, pl.col("price", "quantity").cast(pl.Float64), pl.all().exclude("timestamp_us", *texts)
    )


def bars(name: str, like: pl.DataFrame) -> pl.DataFrame:
    """Read the expected bars in the dtypes of another frame."""
    read = pl.read_csv(GOLDEN / f"bars_{name}.csv", infer_schema=False)
    times = ("open_time", "close_time")
    casts = [pl.col(c).cast(pl.Int64).cast(like.schema[c]) for c in times]
    casts += [
        pl.col(c).replace_strict({"true": True, "false": False})
        if d == pl.Boolean
        else pl.col(c).cast(d)
        for c, d in like.schema.items()
        if c not in times
    ]
    return read.select(casts).select(like.columns)


def case_of(row: dict) -> Case:
    gap = row["max_gap_us"]
    return Case(
        trades(row["name"]),
        [int(t) for t in row["thresholds"].split(";")],
        features="microstructure",
        reset=row["reset"],
        max_gap=None if gap is None else dt.timedelta(microseconds=int(gap)),
        incomplete=row["incomplete"],
        gate=row["gate"],
    )


@pytest.mark.parametrize("row", CASES.to_dicts(), ids=lambda row: row["name"])
def test_golden_trades_give_golden_bars(row: dict) -> None:
    case = case_of(row)
    expected = bars(row["name"], expect(case).bars)
    for door in entry_points.ALL.values():
        assert_matches(door(case), expected)


@pytest.mark.parametrize("row", CASES.to_dicts(), ids=lambda row: row["name"])
def test_golden_files_agree_with_the_model(row: dict) -> None:
    case = case_of(row)
    assert_matches(expect(case).bars, bars(row["name"], expect(case).bars))


@pytest.mark.parametrize("row", CASES.to_dicts(), ids=lambda row: row["name"])
def test_golden_files_name_every_column(row: dict) -> None:
    header = (GOLDEN / f"bars_{row['name']}.csv").read_text().splitlines()[0].split(",")
    columns = expect(case_of(row)).bars.columns
    assert [c for c in header if c not in STATUS] == [c for c in columns if c not in STATUS]


def test_golden_cases_are_all_listed() -> None:
    names = {path.stem.removeprefix("trades_") for path in GOLDEN.glob("trades_*.csv")}
    assert names == set(CASES["name"])
