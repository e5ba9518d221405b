"""The catalogue of columns, and that frames keep to it."""

from __future__ import annotations

import polars as pl
import pytest

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from properties.model import CORE, INTEGERS, STATUS, TEN


@pytest.fixture(scope="module")
def catalogue() -> pl.DataFrame:
    return rb.columns()


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    frame = long_frame(seed=51, rows=6_000)
    return frame.rangebar.bars([40, 90], features="all", incomplete="keep")


def test_the_catalogue_says_what_a_column_is(catalogue: pl.DataFrame) -> None:
    assert catalogue.columns == [
        "name",
        "dtype",
        "unit",
        "group",
        "nullable",
        "lower",
        "upper",
        "meaning",
        "needs",
        "sample",
        "min_sample",
    ]
    assert catalogue["name"].is_unique().all()
    assert catalogue["meaning"].str.len_chars().min() > 5
    groups = ["core", "microstructure", "lookback", "intrabar", "extended"]
    assert catalogue["group"].unique(maintain_order=True).to_list() == groups
    assert set(catalogue["sample"]) == {"records", "orders"}
    assert catalogue.schema["nullable"] == pl.Boolean
    assert catalogue.schema["lower"] == catalogue.schema["upper"] == pl.Float64


def test_the_catalogue_lists_the_columns_of_a_frame_in_order(
    catalogue: pl.DataFrame, bars: pl.DataFrame
) -> None:
    assert catalogue["name"].to_list() == bars.columns
    assert bars.columns[: len(CORE) + 13] == ["threshold", *CORE, *STATUS, *TEN]
    groups = dict(catalogue.select("name", "group").rows())
    assert {n for n, g in groups.items() if g == "microstructure"} == set(TEN)


def test_the_catalogue_names_the_dtypes_of_a_frame(
    catalogue: pl.DataFrame, bars: pl.DataFrame
) -> None:
    for name, dtype in catalogue.select("name", "dtype").rows():
        assert str(bars.schema[name]).startswith(dtype.split("(")[0]), name
        if name in INTEGERS:
            assert bars.schema[name] == pl.Int64


def test_values_stay_within_the_bounds_of_the_catalogue(
    catalogue: pl.DataFrame, bars: pl.DataFrame
) -> None:
    for row in catalogue.to_dicts():
        values = bars[row["name"]]
        if not row["nullable"]:
            assert values.null_count() == 0, row["name"]
        if row["lower"] is not None and len(values.drop_nulls()):
            assert values.min() >= row["lower"] - 1e-9, row["name"]
        if row["upper"] is not None and len(values.drop_nulls()):
            assert values.max() <= row["upper"] + 1e-9, row["name"]


def test_the_catalogue_is_a_new_frame_each_time(catalogue: pl.DataFrame) -> None:
    assert_same_bars(rb.columns(), catalogue)


def test_the_fifteen_of_the_reference_are_in_the_catalogue(catalogue: pl.DataFrame) -> None:
    assert len(rb.REFERENCE_COLUMNS) == 15
    assert set(rb.REFERENCE_COLUMNS) <= set(catalogue["name"])
    assert [c for c in rb.REFERENCE_COLUMNS if c in TEN] == TEN


def test_microstructure_columns_are_the_group_of_that_name(catalogue: pl.DataFrame) -> None:
    group = catalogue.filter(pl.col("group") == "microstructure")["name"]
    assert list(rb.MICROSTRUCTURE_COLUMNS) == group.to_list() == TEN
