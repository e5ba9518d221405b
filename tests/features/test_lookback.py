"""The argument `lookback`: what it accepts, what it means, and where it is refused."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from features.frames import frame, same_bits, stream

TRADES = frame(stream(1, 1_000))
ACCEPTED = [
    (200, "records=200"),
    (np.int32(7), "records=7"),
    ("200", "records=200"),
    ("records=10000", "records=10000"),
    ("3bars", "bars=3"),
    ("bars=100", "bars=100"),
    ("5m", "time=300000000000ns"),
    ("1h30m", "time=5400000000000ns"),
    (dt.timedelta(minutes=5), "time=300000000000ns"),
    ("time=300000000000ns", "time=300000000000ns"),
    ("24h", "time=86400000000000ns"),
]


@pytest.mark.parametrize(("lookback", "text"), ACCEPTED)
def test_a_window_has_one_canonical_text(lookback: object, text: str) -> None:
    builder = rb.RangeBarBuilder(50, features="lookback_ofi", lookback=lookback)
    assert f"lookback='{text}'" in repr(builder)
    builder.push(TRADES)
    resumed = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    assert repr(resumed) == repr(builder)
    one = TRADES.rangebar.bars(50, features="lookback", lookback=lookback)
    assert same_bits(one, TRADES.rangebar.bars(50, features="lookback", lookback=text))


@pytest.mark.parametrize(
    ("lookback", "error", "text"),
    [
        (0, ValueError, "1 to 10,000 records"),
        (10_001, ValueError, "1 to 10,000 records"),
        (-1, ValueError, "1 to 10,000 records"),
        ("0bars", ValueError, "1 to 100 bars"),
        ("101bars", ValueError, "1 to 100 bars"),
        ("25h", ValueError, "at most 24 hours"),
        ("0s", ValueError, "longer than 0"),
        (dt.timedelta(days=2), ValueError, "at most 24 hours"),
        ("1d", ValueError, "24h"),
        ("soon", ValueError, "ns, us, ms, s, m, h"),
        (True, TypeError, "bool"),
        (2.5, TypeError, "float"),
    ],
)
def test_a_window_outside_its_limits(lookback: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        TRADES.rangebar.bars(50, features="lookback", lookback=lookback)


def test_a_window_that_no_column_uses() -> None:
    for features in ("core", "intrabar", ["ofi", "order_count"]):
        with pytest.raises(ValueError, match='features="lookback"'):
            TRADES.rangebar.bars(50, features=features, lookback=200)


def test_the_default_is_two_hundred_records() -> None:
    given = TRADES.rangebar.bars(50, features="lookback", lookback=200)
    assert same_bits(TRADES.rangebar.bars(50, features="lookback"), given)


def test_all_is_every_column_of_the_catalogue() -> None:
    bars = TRADES.rangebar.bars([50], features="all", incomplete="keep")
    assert bars.columns == rb.columns()["name"].to_list()
    assert bars.schema["order_count"] == pl.Int64
