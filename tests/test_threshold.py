"""Thresholds: every way to write one, and every way to write one wrong."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import RangeBarError, ThresholdError
from rangebar_polars.threshold import parse_threshold, parse_thresholds


class Indexed:
    def __index__(self) -> int:
        return 250


@pytest.mark.parametrize(
    ("written", "dbps"),
    [
        (250, 250), (1, 1), (100_000, 100_000), (np.int64(250), 250), (np.uint8(25), 25), (Indexed(), 250),
        ("0.25%", 250), ("1%", 1000), ("100%", 100_000), ("0.001%", 1), ("25bp", 250), ("1bp", 10), ("2.5bp", 25),
        ("micro", 10), ("tight", 50), ("standard", 100), ("medium", 250), ("wide", 500), ("macro", 1000),
    ],
)  # fmt: skip
def test_a_threshold_may_be_written_in_many_ways(written: object, dbps: int) -> None:
    assert parse_threshold(written) == dbps


REFUSED = [
    (0, ThresholdError, "1 to 100000"),
    (-250, ThresholdError, "1 to 100000"),
    (100_001, ThresholdError, "100000"),
    (2**64, ThresholdError, "100000"),
    (np.int64(0), ThresholdError, "100000"),
    (0.25, ThresholdError, r"250.*0\.25 ?%|0\.25 ?%.*250"),
    (250.0, (ThresholdError, TypeError), "250"),
    (float("nan"), (ThresholdError, TypeError), "nan"),
    (float("inf"), (ThresholdError, TypeError), "inf"),
    (np.float64(0.25), ThresholdError, "250"),
    (Fraction(1, 4), (ThresholdError, TypeError), "(?i)fraction|whole|250"),
    (True, TypeError, "bool"),
    (np.True_, TypeError, "bool"),
    (None, TypeError, "None"),
    (b"250", TypeError, "bytes"),
    ({250}, TypeError, "set"),
    ({"a": 250}, TypeError, "dict"),
    ("", ThresholdError, "medium"),
    ("midium", ThresholdError, "medium"),
    ("0%", ThresholdError, "100000"),
    ("101%", ThresholdError, "100000"),
    ("-1%", ThresholdError, "-1%"),
    ("0.0001%", ThresholdError, "whole"),
    ("0.05bp", ThresholdError, "whole"),
    ("nan%", ThresholdError, "nan"),
    ("1e3%", ThresholdError, "1e3%"),
    ("%", ThresholdError, "%"),
    ([], (ThresholdError, TypeError), "(?i)empty|one"),
    ([250, 250], ThresholdError, "250"),
    ([250, "0.25%"], ThresholdError, "250"),
    (["medium", 500, 250], ThresholdError, "250"),
    ([250, None], TypeError, "None"),
    ([[250]], TypeError, "several"),
    ([250, 0.5], ThresholdError, "500"),
]


@pytest.mark.parametrize(("wrong", "error", "said"), REFUSED, ids=repr)
def test_a_wrong_threshold_is_refused_at_every_door(
    wrong: object, error: type[Exception], said: str, day: pl.DataFrame
) -> None:
    for door in (
        lambda: rb.bars("price", wrong),
        lambda: rb.bar_id("price", wrong),
        lambda: day.rangebar.bars(wrong),
        lambda: day.lazy().rangebar.bars(wrong),
        lambda: rb.RangeBarBuilder(wrong),
        lambda: rb.iter_bars([day], wrong),
        lambda: pl.col("price").rangebar.bars(wrong),
    ):
        with pytest.raises(error, match=f"(?s){said}"):
            door()


def test_a_threshold_error_is_a_value_error_of_this_package() -> None:
    assert issubclass(ThresholdError, ValueError)
    assert issubclass(ThresholdError, RangeBarError)


def test_a_list_adds_a_column_even_for_one_threshold(day: pl.DataFrame) -> None:
    single, listed = day.rangebar.bars(250), day.rangebar.bars([250])
    assert listed.schema["threshold"] == pl.UInt32
    assert listed.drop("threshold").equals(single)


def test_several_thresholds_are_the_bars_of_each(day: pl.DataFrame) -> None:
    several = day.rangebar.bars(["wide", 250, "0.01%"], incomplete="keep")
    for threshold in (500, 250, 10):
        alone = day.rangebar.bars(threshold, incomplete="keep")
        assert several.filter(threshold=threshold).drop("threshold").equals(alone)


def test_presets_are_those_of_the_reference() -> None:
    presets = {"micro": 10, "tight": 50, "standard": 100, "medium": 250, "wide": 500, "macro": 1000}
    assert dict(rb.THRESHOLD_PRESETS) == presets


def test_the_smallest_and_the_largest_threshold_cut_where_they_say() -> None:
    time = pl.int_range(4, eager=True).cast(pl.Datetime("us"))
    fine = pl.DataFrame({"timestamp": time, "price": [100_000.0, 100_000.99, 99_999.01, 100_001.0]})
    assert fine.rangebar.bars(1)["close"].to_list() == [100_001.0]
    coarse = pl.DataFrame({"timestamp": time, "price": [100.0, 199.99999999, 0.00000001, 200.0]})
    assert coarse.rangebar.bars(100_000)["close"].to_list() == [200.0]


class Counted(int):
    """A threshold that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    def __hash__(self) -> int:
        return hash(int(self))


def test_a_long_list_of_thresholds_takes_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rangebar_polars.threshold.parse_threshold", Counted)
    parsed, _ = parse_thresholds(range(1, 3_001))
    assert Counted.compared <= 10 * 3_000
    assert [int(threshold) for threshold in parsed] == [*range(1, 3_001)]


def test_65535_thresholds_are_a_list_like_any_other() -> None:
    assert parse_thresholds(range(1, 65_536)) == (tuple(range(1, 65_536)), True)
    with pytest.raises(ThresholdError, match=r"`7` and `0\.007%` are the same: 7 "):
        parse_thresholds([*range(1, 65_536), "0.007%"])


@pytest.mark.parametrize(
    "wrong",
    [
        10**6000, -(10**6000), "9" * 10_000, "x" * 10**6 + "\x1b", Fraction(10**400, 3),
        Decimal("1e999999"), Decimal("sNaN"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_threshold_of_any_size_is_refused_in_few_words(wrong: object) -> None:
    with pytest.raises(ThresholdError) as caught:
        parse_threshold(wrong)
    assert len(str(caught.value)) < 2_000
    assert "\x1b" not in str(caught.value)


def hint_of(wrong: object) -> str:
    with pytest.raises((ThresholdError, TypeError)) as caught:
        parse_thresholds(wrong)
    return str(caught.value).partition("hint: ")[2]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("0.25", 'write "0.25%"'),
        ("0.0025", 'write "0.25%"'),
        ("2.5", 'write "2.5%"'),
        ("250.0", 'write "0.25%"'),
        ("250", 'write 250 without quotes, or with its unit: "250dbps"'),
        (
            "1000000",
            "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %",
        ),
        (1e6, "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %"),
        (
            float("nan"),
            "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %",
        ),
        (1e-9, "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %"),
        (0, "write a whole number from 1 (0.001 %) to 100000 (100 %), such as 250 for 0.25 %"),
        ("tigth", 'did you mean "tight"?'),
        ("", 'write 250, "medium", "0.25%" or "25bp"'),
        ([250, 250], "remove one of them"),
        ({100, 250}, "write a list: [100, 250]"),
        ([], "write 250, or [250, 500]"),
    ],
)
def test_each_hint_is_one_that_works(wrong: object, hint: str) -> None:
    assert hint_of(wrong) == hint


@pytest.mark.parametrize(
    "several", [[250, 500], (250, 500), range(2), np.array([250, 500]), pl.Series([1])]
)
def test_where_one_is_expected_several_are_named_as_such(several: object) -> None:
    with pytest.raises(TypeError, match="one threshold is expected here, not several") as caught:
        parse_threshold(several)
    assert "a list of those" not in str(caught.value)


@pytest.mark.parametrize(
    "several",
    [
        np.array([100, 250], dtype=np.uint16),
        pl.Series([100, 250]),
        pd.Series([100, 250]),
        pd.Index([100, 250]),
    ],
    ids=lambda several: type(several).__module__,
)
def test_arrays_and_series_are_lists(several: object) -> None:
    assert parse_thresholds(several) == ((100, 250), True)
    assert parse_thresholds(np.array(250)) == ((250,), False)
