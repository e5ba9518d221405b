"""What a value of a trade may be in dictionaries and in pandas frames."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError

START = 1_704_067_200_000
PRICES = [100.0, 100.1, 100.5]
GOOD = {
    "timestamp": START,
    "price": 100.0,
    "quantity": 1.0,
    "is_buyer_maker": True,
    "agg_trade_id": 1,
    "first_trade_id": 1,
    "last_trade_id": 1,
}


def rows(**columns: list) -> list[dict[str, object]]:
    base = {
        "timestamp": [START, START + 1, START + 2],
        "price": PRICES,
        "quantity": [1.0, 2.0, 4.0],
    } | columns
    return [dict(zip(base, values, strict=True)) for values in zip(*base.values(), strict=True)]


WANTED = rb.process_trades_to_dataframe(rows())
UTC = dt.UTC
MOMENTS = [dt.datetime(2024, 1, 1, microsecond=1000 * i) for i in range(3)]  # noqa: DTZ001


@pytest.mark.parametrize(
    "columns",
    [
        {"price": [np.float64(p) for p in PRICES]},
        {"price": [Decimal("100.0"), Decimal("100.1"), Decimal("100.5")]},
        {"quantity": [1, 2, 4]},
        {"quantity": [np.int64(1), np.int64(2), np.int64(4)]},
        {"timestamp": [np.int64(START + i) for i in range(3)]},
        {"timestamp": MOMENTS},
        {"timestamp": [m.replace(tzinfo=UTC) for m in MOMENTS]},
        {
            "timestamp": [
                m.replace(tzinfo=UTC).astimezone(dt.timezone(dt.timedelta(hours=9)))
                for m in MOMENTS
            ]
        },
        {"timestamp": [pd.Timestamp(m) for m in MOMENTS]},
        {"is_buyer_maker": [np.bool_(i) for i in (1, 0, 1)]},
        {"note": ["any", None, 3]},
    ],
    ids=lambda columns: f"{next(iter(columns))}-{type(next(iter(columns.values()))[0]).__name__}",
)
def test_values_of_usual_kinds_are_taken(columns: dict[str, list]) -> None:
    got = rb.process_trades_to_dataframe(rows(**columns))
    pd.testing.assert_frame_equal(got, WANTED, check_index_type=False, check_freq=False)
    pieces = list(rb.process_trades_chunked(iter(rows(**columns)), 250, 1))
    pd.testing.assert_frame_equal(pd.concat(pieces), WANTED, check_index_type=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": "1"}, {"price": None}, {"price": True}, {"price": 10**400}, {"price": Decimal("NaN")},
        {"price": np.float32(1.5)}, {"price": Decimal(100)}, {"price": [1.0]},
        {"timestamp": 1.5}, {"timestamp": True}, {"timestamp": pd.NaT}, {"timestamp": dt.date(2024, 1, 1)},
        {"timestamp": dt.datetime(2024, 1, 1, tzinfo=UTC)},
        {"is_buyer_maker": 1}, {"is_buyer_maker": "true"}, {"is_buyer_maker": 0},
        {"agg_trade_id": 5.0}, {"agg_trade_id": None}, {"first_trade_id": 2**63}, {"last_trade_id": "7"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_with_its_trade(wrong: dict[str, object]) -> None:
    later = GOOD | {"timestamp": START + 1, "agg_trade_id": 2}
    trades = [GOOD, later | wrong]
    column = next(iter(wrong))
    named = rf"(?s)\b(trade|row) 1\b.*{column}|{column}.*\b(trade|row) 1\b"
    for run in (
        lambda: rb.process_trades_to_dataframe(trades),
        lambda: list(rb.process_trades_chunked(trades)),
    ):
        with pytest.raises(TickDataError, match=named):
            run()
    # Cut before it, the trade is of a kind that is fine by itself: then the change is what is wrong.
    with pytest.raises((TickDataError, TypeError), match=column):
        list(rb.process_trades_chunked(iter(trades), 250, 1))


@pytest.mark.parametrize(
    "odd",
    [
        {k: v for k, v in GOOD.items() if k != "quantity"},
        {k: v for k, v in GOOD.items() if k != "price"},
        [START, 1.0],
        None,
        "trade",
    ],
    ids=repr,
)
def test_a_trade_unlike_the_others_is_refused_with_its_number(odd: object) -> None:
    later = [GOOD, GOOD | {"agg_trade_id": 2}]
    with pytest.raises((TickDataError, TypeError), match=r"\b2\b"):
        rb.process_trades_to_dataframe([*later, odd])


FRAME = pd.DataFrame(rows(is_buyer_maker=[True, False, True], agg_trade_id=[1, 2, 3]))


@pytest.mark.parametrize(
    "convert",
    [
        lambda f: f.assign(timestamp=pd.to_datetime(f["timestamp"], unit="ms")),
        lambda f: f.assign(timestamp=pd.to_datetime(f["timestamp"], unit="ms").dt.as_unit("ns")),
        lambda f: f.assign(timestamp=pd.to_datetime(f["timestamp"], unit="ms", utc=True)),
        lambda f: f.convert_dtypes(),
        lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
        lambda f: f.assign(agg_trade_id=f["agg_trade_id"].astype("Int64")),
        lambda f: f.assign(side=pd.Categorical(["sell", "buy", "sell"])).drop(columns="is_buyer_maker"),
        lambda f: f.set_index(pd.Index([7, 7, 7])),
        lambda f: f.iloc[:, ::-1],
        lambda f: f.assign(note=[object()] * 3),
    ],
    ids=[
        "times", "nanoseconds", "zoned times", "nullable", "arrow", "nullable ids", "side",
        "index of its own", "columns reversed", "a column of objects",
    ],
)  # fmt: skip
def test_pandas_frames_of_usual_kinds_are_taken(convert: object) -> None:
    got = rb.process_trades_to_dataframe(convert(FRAME))
    pd.testing.assert_frame_equal(got, WANTED, check_index_type=False)


@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (lambda f: f.assign(price=f["price"].astype("float32")), "price"),
        (lambda f: f.assign(price=f["price"].astype(str)), "price"),
        (lambda f: f.assign(agg_trade_id=pd.array([1, None, 3], dtype="Int64")), "agg_trade_id"),
        (lambda f: f.assign(is_buyer_maker=["m", None, "m"]), "is_buyer_maker"),
        (lambda f: f.set_axis(["timestamp", "price", "price", "m", "a"], axis=1), "name"),
        (lambda f: f.set_index("timestamp"), "timestamp"),
    ],
    ids=["float32", "text", "missing id", "flags of text", "a name twice", "times in the index"],
)  # fmt: skip
def test_pandas_frames_of_other_kinds_are_refused(convert: object, said: str) -> None:
    refused = (TypeError, ValueError, pl.exceptions.PolarsError)
    with pytest.raises(refused, match=said):
        rb.process_trades_to_dataframe(convert(FRAME))


def test_quantity_wins_over_volume() -> None:
    both = [row | {"volume": 99.0} for row in rows()]
    pd.testing.assert_frame_equal(rb.process_trades_to_dataframe(both), WANTED)


def test_a_wrong_unit_in_a_later_chunk_is_named_by_its_row() -> None:
    trades = [*rows(), {"timestamp": START // 1000, "price": 100.0, "quantity": 1.0}]
    with pytest.raises(TickDataError, match=r"(?s)\b3\b.*second|second.*\b3\b"):
        list(rb.process_trades_chunked(iter(trades), 250, 2))


@pytest.mark.parametrize(
    "nothing",
    [pl.DataFrame(), pl.LazyFrame(), pl.DataFrame(rows()).clear(), pl.LazyFrame(rows()).head(0)],
    ids=["frame", "lazy", "frame of columns", "lazy of columns"],
)
def test_no_trades_of_polars_give_no_bars_of_polars(nothing: pl.DataFrame | pl.LazyFrame) -> None:
    bars = rb.process_trades_polars(nothing)
    assert isinstance(bars, type(nothing))
    assert bars.lazy().collect().is_empty()
    assert {"open", "close", "volume"} <= set(bars.collect_schema())
