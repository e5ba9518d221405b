"""The functions of the reference document over trades in hand."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from faulty import in_plan
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from rangebar_polars.exceptions import ThresholdError, TickDataError, TickOrderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OHLCV = ["Open", "High", "Low", "Close", "Volume"]
ROWS = 3_000


@pytest.fixture(scope="module")
def ticks() -> pl.DataFrame:
    """Return trades with times in whole milliseconds, as integers."""
    frame = long_frame(seed=31, rows=ROWS, step=3 * 10**8)
    spread = pl.col("timestamp").dt.epoch("ms") + pl.int_range(pl.len())
    return frame.with_columns(timestamp=spread)


@pytest.fixture(scope="module")
def bars(ticks: pl.DataFrame) -> pl.DataFrame:
    time = pl.col("timestamp").cast(pl.Datetime("ms", "UTC"))
    return ticks.with_columns(time).rangebar.bars(50, features="microstructure")


def dicts(ticks: pl.DataFrame) -> list[dict[str, object]]:
    return ticks.to_dicts()


def expected(bars: pl.DataFrame, *, microstructure: bool = False) -> pd.DataFrame:
    extra = list(rb.REFERENCE_COLUMNS) if microstructure else []
    columns = ["open", "high", "low", "close", "volume", *extra]
    values = {name: bars[name].cast(pl.Float64).fill_null(math.nan).to_numpy() for name in columns}
    frame = pd.DataFrame(values).set_axis([*OHLCV, *extra], axis=1)
    index = bars["close_time"].dt.replace_time_zone(None).to_numpy()
    return frame.set_index(pd.DatetimeIndex(index, name="timestamp"))


def check(got: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(got.columns) == list(wanted.columns)
    assert set(got.dtypes) <= {np.dtype("float64")}
    assert isinstance(got.index, pd.DatetimeIndex)
    assert got.index.name == "timestamp"
    assert got.index.tz is None
    assert got.index.is_monotonic_increasing
    assert (got.index.as_unit("ns") == wanted.index.as_unit("ns")).all()
    ours, theirs = got.to_numpy(), wanted.to_numpy()
    assert ours.shape == theirs.shape
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.array_equal(np.nan_to_num(ours).view(np.int64), np.nan_to_num(theirs).view(np.int64))


def test_a_polars_frame_gives_the_bars_of_the_frame_door(
    ticks: pl.DataFrame, bars: pl.DataFrame
) -> None:
    core = bars.select(
        ticks.with_columns(pl.col("timestamp").cast(pl.Datetime("ms"))).rangebar.bars(50).columns
    )
    assert_same_bars(rb.process_trades_polars(ticks, 50), core)
    assert_same_bars(rb.process_trades_polars(ticks, 50, include_microstructure=True), bars)
    assert bars.schema["close_time"] == pl.Datetime("ms", "UTC")


def test_a_lazy_frame_gives_a_lazy_frame(
    ticks: pl.DataFrame, bars: pl.DataFrame, engine: str
) -> None:
    lazy = rb.process_trades_polars(ticks.lazy(), 50, include_microstructure=True)
    assert isinstance(lazy, pl.LazyFrame)
    assert_same_bars(lazy.collect(engine=engine), bars)
    assert lazy.collect_schema() == bars.schema


def test_a_datetime_keeps_its_unit_and_zone(ticks: pl.DataFrame) -> None:
    for dtype in (pl.Datetime("us"), pl.Datetime("ns", "Asia/Tokyo"), pl.Datetime("ms", "UTC")):
        time = pl.col("timestamp").cast(pl.Datetime("ms", dtype.time_zone)).cast(dtype)
        got = rb.process_trades_polars(ticks.with_columns(time), 50)
        assert got.schema["close_time"] == dtype


def test_the_default_threshold_is_250(ticks: pl.DataFrame) -> None:
    assert rb.process_trades_polars(ticks).equals(rb.process_trades_polars(ticks, 250))
    assert rb.process_trades_polars(ticks, threshold_decimal_bps="medium").equals(
        rb.process_trades_polars(ticks)
    )


@pytest.mark.parametrize("microstructure", [False, True])
def test_every_kind_of_trades_gives_the_same_pandas_frame(
    microstructure: bool, ticks: pl.DataFrame, bars: pl.DataFrame
) -> None:
    wanted = expected(bars, microstructure=microstructure)
    options = {"threshold_decimal_bps": 50, "include_microstructure": microstructure}
    timed = ticks.with_columns(pl.col("timestamp").cast(pl.Datetime("ms")))
    for trades in (
        dicts(ticks),
        ticks.to_pandas(),
        timed.to_pandas(),
        ticks.rename({"quantity": "volume"}).to_pandas(),
        dicts(timed),
    ):
        check(rb.process_trades_to_dataframe(trades, **options), wanted)


def test_microstructure_is_the_fifteen_columns(ticks: pl.DataFrame) -> None:
    frame = rb.process_trades_to_dataframe(dicts(ticks), 50, include_microstructure=True)
    fifteen = [
        "vwap", "buy_volume", "sell_volume", "individual_trade_count", "agg_record_count", "duration_us", "ofi",
        "vwap_close_deviation", "price_impact", "kyle_lambda_proxy", "trade_intensity", "volume_per_trade",
        "aggression_ratio", "aggregation_density", "turnover_imbalance",
    ]  # fmt: skip
    assert list(rb.REFERENCE_COLUMNS) == fifteen
    assert list(frame.columns) == [*OHLCV, *fifteen]


def test_undefined_features_are_nan_and_prices_never(ticks: pl.DataFrame) -> None:
    bare = ticks.select("timestamp", "price", quantity=pl.lit(0.0))
    frame = rb.process_trades_to_dataframe(bare.to_pandas(), 50, include_microstructure=True)
    assert not frame[OHLCV].isna().any(axis=None)
    assert frame[["ofi", "vwap", "buy_volume", "kyle_lambda_proxy"]].isna().all(axis=None)
    assert list(frame.columns) == [*OHLCV, *rb.REFERENCE_COLUMNS]


EMPTY = pd.DataFrame({"timestamp": [1], "price": [1.0], "quantity": [1.0]}).head(0)


@pytest.mark.parametrize("trades", [[], pd.DataFrame(), EMPTY], ids=["list", "bare frame", "frame"])
def test_no_trades_give_no_bars(trades: object) -> None:
    frame = rb.process_trades_to_dataframe(trades)
    assert list(frame.columns) == OHLCV
    assert frame.empty
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index.name == "timestamp"
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert list(rb.process_trades_chunked(iter([]))) == []


def chunked(trades: Iterable[object], size: int, **options: object) -> pd.DataFrame:
    frames = list(rb.process_trades_chunked(trades, 50, size, **options))
    assert all(len(frame) for frame in frames)
    return pd.concat(frames)


@pytest.mark.parametrize("size", [3, 97, 1_000, 100_000])
@pytest.mark.parametrize("microstructure", [False, True])
def test_chunks_never_change_a_bar(
    size: int, microstructure: bool, ticks: pl.DataFrame, bars: pl.DataFrame
) -> None:
    wanted = expected(bars, microstructure=microstructure)
    options = {"include_microstructure": microstructure}
    check(chunked(iter(dicts(ticks)), size, **options), wanted)


@pytest.mark.parametrize("size", [1, 97, 5_000])
@pytest.mark.parametrize(
    "convert", [lambda f: f, lambda f: f.to_pandas()], ids=["polars", "pandas"]
)
def test_an_iterator_may_give_frames(
    convert: Callable, size: int, ticks: pl.DataFrame, bars: pl.DataFrame
) -> None:
    frames = (
        convert(ticks.slice(start, size)) for start in range(0, 500 if size == 1 else ROWS, size)
    )
    closed = (
        bars.filter(pl.col("last_agg_trade_id") <= ticks["agg_trade_id"][499])
        if size == 1
        else bars
    )
    check(chunked(frames, 1_000), expected(closed))


def test_a_list_and_single_trades_are_chunks_too(ticks: pl.DataFrame, bars: pl.DataFrame) -> None:
    first = ticks.head(400)
    closed = bars.filter(pl.col("last_agg_trade_id") <= first["agg_trade_id"][-1])
    check(chunked(dicts(first), 1), expected(closed))


def test_chunks_are_read_as_they_are_needed(ticks: pl.DataFrame) -> None:
    read = []

    def source() -> Iterable[dict[str, object]]:
        for row in dicts(ticks):
            read.append(row)
            yield row

    chunks = rb.process_trades_chunked(source(), 50, 100)
    assert not read
    next(chunks)
    assert 0 < len(read) < ROWS


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(0.001, "second"), (1_000, "microsecond"), (1_000_000, "nanosecond")],
)
def test_a_time_in_another_unit_is_refused_by_its_name(
    factor: float, unit: str, ticks: pl.DataFrame
) -> None:
    other = ticks.with_columns((pl.col("timestamp") * factor).cast(pl.Int64)).head(100)
    for door in (
        lambda: rb.process_trades_polars(other),
        lambda: rb.process_trades_polars(other.lazy()).collect(),
        lambda: rb.process_trades_to_dataframe(other.to_pandas()),
        lambda: rb.process_trades_to_dataframe(dicts(other)),
        lambda: list(rb.process_trades_chunked(dicts(other))),
    ):
        with pytest.raises((ValueError, pl.exceptions.ComputeError), match=rf"(?i){unit}"):
            door()


@pytest.mark.parametrize("when", [-1, 0, 946_684_799_999, 4_102_444_800_000, 2**62])
def test_a_time_outside_of_this_century_is_refused(when: int) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        rb.process_trades_to_dataframe([{"timestamp": when, "price": 1.0, "quantity": 1.0}])


def test_trades_out_of_order_are_a_runtime_error(ticks: pl.DataFrame) -> None:
    back = pl.concat([ticks.slice(10, 10), ticks.head(10)])
    for door in (
        lambda: rb.process_trades_polars(back),
        lambda: rb.process_trades_to_dataframe(back.to_pandas()),
        lambda: rb.process_trades_to_dataframe(dicts(back)),
        lambda: list(rb.process_trades_chunked(dicts(back), 50, 10)),
    ):
        with pytest.raises(RuntimeError) as caught:
            door()
        assert isinstance(caught.value, TickOrderError)
    with pytest.raises(in_plan(RuntimeError), match="timestamp"):
        rb.process_trades_polars(back.lazy()).collect()


@pytest.mark.parametrize("symbol", ["BTCUSDT", "btcusdt"])
def test_a_symbol_brings_its_minimum(symbol: str, ticks: pl.DataFrame) -> None:
    for door in (
        lambda: rb.process_trades_polars(ticks, 50, symbol=symbol),
        lambda: rb.process_trades_to_dataframe(dicts(ticks), 50, symbol=symbol),
        lambda: list(rb.process_trades_chunked(dicts(ticks), 50, symbol=symbol)),
    ):
        with pytest.raises(ThresholdError, match="250"):
            door()
    assert rb.process_trades_polars(ticks, 250, symbol=symbol).height
    with pytest.raises(ThresholdError, match="1000"):
        rb.process_trades_polars(ticks, 250, symbol="PEPEUSDT")


def test_a_minimum_may_come_from_the_environment(
    ticks: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "40")
    assert rb.process_trades_polars(ticks, 50, symbol="BTCUSDT").height
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "600")
    with pytest.raises(ThresholdError, match="600"):
        rb.process_trades_polars(ticks, 500, symbol="BTCUSDT")


@pytest.mark.parametrize(
    "trades",
    [
        [{"price": 1.0, "quantity": 1.0}],
        [{"timestamp": 1_704_067_200_000, "quantity": 1.0}],
        pd.DataFrame({"price": [1.0], "quantity": [1.0]}),
        pd.DataFrame({"timestamp": [1_704_067_200_000], "quantity": [1.0]}),
    ],
)
def test_a_missing_field_is_named(trades: object) -> None:
    with pytest.raises(
        (ValueError, KeyError, pl.exceptions.ColumnNotFoundError), match=r"timestamp|price"
    ):
        rb.process_trades_to_dataframe(trades)


GOOD = {"timestamp": 1_704_067_200_000, "price": 100.0, "quantity": 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": None}, {"price": math.nan}, {"price": math.inf}, {"price": 0.0}, {"price": -1.0},
        {"quantity": -1.0}, {"quantity": math.nan}, {"timestamp": None}, {"is_buyer_maker": 0},
    ],
)  # fmt: skip
def test_a_bad_value_among_dictionaries_is_refused(wrong: dict[str, object]) -> None:
    flag = {"is_buyer_maker": True}
    rows = [GOOD | flag, GOOD | flag | wrong, GOOD | flag]
    column = next(iter(wrong))
    named = rf"(?s){column}.*\b(row|trade) 1\b|\b(row|trade) 1\b.*{column}"
    with pytest.raises(TickDataError, match=named):
        rb.process_trades_to_dataframe(rows)
    with pytest.raises(TickDataError, match=r"\b(row|trade) 1\b"):
        list(rb.process_trades_chunked(iter(rows), 50, 1))


@pytest.mark.parametrize(
    "wrong", [{"price": "100"}, {"price": [1]}, {"timestamp": "2024-01-01"}, {"quantity": "1"}]
)
def test_a_value_of_the_wrong_type_among_dictionaries_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        rb.process_trades_to_dataframe([GOOD, GOOD | wrong])


@pytest.mark.parametrize("trades", [None, 5, "trades", {"timestamp": [1]}, [1, 2], [None], [[1]]])
def test_what_is_no_trades_is_refused(trades: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        rb.process_trades_to_dataframe(trades)
    with pytest.raises((TypeError, ValueError)):
        list(rb.process_trades_chunked(trades))


@pytest.mark.parametrize("size", [0, -1, 1.5, None])
def test_a_wrong_chunk_size_is_refused(size: object) -> None:
    with pytest.raises((TypeError, ValueError), match="chunk_size"):
        list(rb.process_trades_chunked([GOOD], 250, size))


def test_integers_as_prices_are_taken_from_dictionaries() -> None:
    start = 1_704_067_200_000
    rows = [{"timestamp": start + i, "price": p, "quantity": 2} for i, p in enumerate([100, 101])]
    frame = rb.process_trades_to_dataframe(rows)
    assert frame["Volume"].tolist() == [4.0]
    mixed = [rows[0], rows[1] | {"price": 100.5, "quantity": 0.5}]
    assert rb.process_trades_to_dataframe(mixed)["Volume"].tolist() == [2.5]


def test_pandas_times_of_any_unit_keep_their_precision() -> None:
    time = pd.to_datetime([1, 2, 3], unit="us").as_unit("us")
    frame = pd.DataFrame({"timestamp": time, "price": [100.0, 101.0, 102.0], "quantity": 1.0})
    bars = rb.process_trades_to_dataframe(frame)
    assert bars.index[0] == pd.Timestamp(2, unit="us")
    aware = frame.assign(timestamp=time.tz_localize("UTC").tz_convert("America/New_York"))
    assert rb.process_trades_to_dataframe(aware).index[0] == pd.Timestamp(2, unit="us")
    nat = frame.assign(timestamp=[time[0], pd.NaT, time[2]])
    with pytest.raises(TickDataError, match=r"\brow 1\b"):
        rb.process_trades_to_dataframe(nat)


def test_python_datetimes_in_dictionaries_are_times() -> None:
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    rows = [
        {"timestamp": start + dt.timedelta(seconds=i), "price": 100.0 + i, "quantity": 1.0}
        for i in range(2)
    ]
    bars = rb.process_trades_to_dataframe(rows)
    assert bars.index[0] == pd.Timestamp("2024-01-01 00:00:01")
