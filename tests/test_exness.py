"""Bars of Exness quotes: their prices, their spreads, and which quotes are let through."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from exchange import Exchange, QuoteTape
from exness_files import hourly_rows, market_hours, quotes, write_rows
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    MissingColumnError,
    SymbolNotRegisteredError,
    ThresholdError,
    TickDataError,
    TickOrderError,
)
from rangebar_polars.exness import (
    SPREAD_COLUMNS,
    WEEKEND,
    Exness,
    ExnessInstrument,
    ExnessRangeBarBuilder,
    ValidationStrictness,
    fetch_exness_ticks,
    get_range_bars_exness,
    is_exness_available,
    process_exness_ticks_to_dataframe,
)
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from pathlib import Path

OHLCV = ["Open", "High", "Low", "Close", "Volume"]
GRID = 10**8


def expected_bars(frame: pl.DataFrame, threshold: int, **options: object) -> pl.DataFrame:
    """The bars of the mids by the core door, and spreads folded in Python's whole numbers."""
    pairs = [(round(bid * GRID), round(ask * GRID)) for bid, ask in frame["bid", "ask"].rows()]
    time = frame["timestamp"] if "timestamp" in frame.columns else frame["timestamp_ms"]
    mids = pl.DataFrame(
        {
            "timestamp": time.cast(pl.Datetime("ms" if time.dtype == pl.Int64 else "us", "UTC")),
            "price": [(bid + ask) / (2 * GRID) for bid, ask in pairs],
            "quantity": [0.0] * len(pairs),
        }
    )
    bars = mids.rangebar.bars(threshold, **options)
    ids = mids.select(rb.bar_id("price", threshold, **options)).to_series().to_list()
    spreads: dict[int, list[int]] = {}
    for bar, (bid, ask) in zip(ids, pairs, strict=True):
        if bar is not None:
            spreads.setdefault(bar, []).append(ask - bid)
    values = [spreads[bar] for bar in bars["bar_id"]]
    return bars.with_columns(
        pl.Series("spread_avg", [sum(v) / (len(v) * GRID) for v in values], pl.Float64),
        pl.Series("spread_min", [min(v) / GRID for v in values], pl.Float64),
        pl.Series("spread_max", [max(v) / GRID for v in values], pl.Float64),
    )


def in_pieces(frame: pl.DataFrame, cuts: list[int], builder: ExnessRangeBarBuilder) -> pl.DataFrame:
    """Bars of the frame, pushed in pieces that end at the cuts."""
    ends = [*sorted(cut % (frame.height + 1) for cut in cuts), frame.height]
    starts = [0, *ends[:-1]]
    return pl.concat([builder.push(frame[a:b]) for a, b in zip(starts, ends, strict=True)])


# Instruments and strictness


def test_the_ten_instruments_are_those_of_the_registry():
    listed = {name for name, entry in get_symbol_entries().items() if entry.exchange == "exness"}
    assert {str(instrument) for instrument in ExnessInstrument} == listed
    assert len(listed) == 10


@pytest.mark.parametrize("instrument", ExnessInstrument)
def test_an_instrument_knows_its_currencies_and_digits(instrument):
    assert ExnessInstrument(instrument.lower()) is instrument
    assert instrument.base_currency + instrument.quote_currency == instrument
    assert instrument.is_jpy == instrument.endswith("JPY")
    assert instrument.is_dollar == ("USD" in instrument.value)
    assert instrument.pip_size == pytest.approx(10 ** (1 - instrument.decimals))
    low, high = instrument.price_range
    assert 0 < low < high


@pytest.mark.parametrize("kind", [ExnessInstrument, ValidationStrictness])
def test_an_unknown_name_is_a_value_error(kind):
    for value in ("other", 7):
        with pytest.raises(ValueError, match=str(value)):
            kind(value)


@pytest.mark.parametrize(
    ("strictness", "bid", "ask", "passes"),
    [
        ("strict", 0.95, 1.05, True),  # 10 % of the mid
        ("strict", 0.95, 1.05000001, False),
        ("paranoid", 0.995, 1.005, True),  # 1 %
        ("paranoid", 0.995, 1.00500001, False),
        ("permissive", 0.5, 2.0, True),
        ("permissive", 400.0, 401.0, True),
        ("strict", 400.0, 401.0, False),
        ("STRICT", 1.0, 1.0, True),
    ],
)
def test_a_strictness_lets_pass_what_it_says(strictness, bid, ask, passes):
    builder = ExnessRangeBarBuilder("EURUSD", 250, strictness)
    frame = pl.DataFrame({"timestamp_ms": [1_704_067_200_000], "bid": [bid], "ask": [ask]})
    if passes:
        builder.push(frame)
        assert builder.partial().height == 1
        return
    with pytest.raises(TickDataError, match="row 0"):
        builder.push(frame)


REFUSED = {
    "crossed": (1.1, 1.0, "row 2: the quote is crossed, bid `1.1` is above ask `1.0`"),
    "null bid": (None, 1.0, "row 2: bid `None` and ask `1.0` are not valid prices"),
    "null ask": (1.0, None, "row 2"),
    "NaN": (float("nan"), 1.0, "row 2"),
    "infinite": (1.0, float("inf"), "row 2"),
    "zero": (0.0, 1.0, "row 2"),
    "negative": (-1.0, 1.0, "row 2"),
    "vanishing": (1e-9, 1.0, "row 2"),
    "beyond the grid": (1e8, 1e8, "row 2"),
}


@pytest.mark.parametrize("strictness", ValidationStrictness)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_quote_is_refused_by_all_and_changes_nothing(strictness, name):
    bid, ask, words = REFUSED[name]
    builder = ExnessRangeBarBuilder("EURUSD", 250, strictness)
    sound = quotes([1.0, 1.001, 1.0])
    builder.push(sound)
    before = builder.partial()
    later = sound.with_columns(pl.col("timestamp_ms") + 10_000)
    bad = later.with_columns(pl.Series("bid", [1.0, 1.0, bid]), pl.Series("ask", [1.0, 1.0, ask]))
    with pytest.raises(TickDataError) as error:
        builder.push(bad)
    assert words in str(error.value)
    assert builder.partial().equals(before)
    with pytest.raises(TickOrderError):
        builder.push(sound)
    assert builder.partial().equals(before)
    builder.push(later)
    assert builder.partial()["agg_record_count"].to_list() == [6]


# Bars and spreads


@pytest.mark.parametrize("threshold", [50, 100, 250])
def test_real_quotes_give_the_bars_of_their_mids_and_exact_spreads(threshold, shared):
    real = pl.read_parquet(shared / "data" / "fx" / "EURGBP_T1_cT.parquet").select(
        pl.col("datetime").cast(pl.Datetime("us")).alias("timestamp"), "bid", "ask"
    )
    expected = expected_bars(real, threshold)
    assert expected.height > 5
    builder = ExnessRangeBarBuilder("EURGBP", threshold)
    found = pl.concat([builder.push(piece) for piece in real.iter_slices(7_001)])
    columns = [name for name in expected.columns if not name.endswith("_time")]
    assert found.select(columns).equals(expected.select(columns))
    frame = process_exness_ticks_to_dataframe(real, "EURGBP", threshold)
    assert list(frame.columns) == [*OHLCV, *SPREAD_COLUMNS]
    assert frame["Close"].to_list() == expected["close"].to_list()
    assert frame["spread_avg"].to_list() == expected["spread_avg"].to_list()
    times = expected["close_time"].dt.replace_time_zone(None).to_list()
    assert frame.index.tolist() == [pd.Timestamp(time) for time in times]


@given(
    mids=st.lists(st.integers(99_500, 100_500), min_size=1, max_size=60),
    spreads=st.lists(st.integers(0, 40), min_size=60, max_size=60),
    steps=st.lists(st.sampled_from([0, 1, 60, 3_600, 144_000, 200_000]), min_size=60, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    max_gap=st.sampled_from([None, "1h", WEEKEND]),
)
def test_how_the_quotes_are_cut_changes_no_bar_and_no_spread(mids, spreads, steps, cuts, max_gap):
    time, times = 1_704_067_200_000, []
    for step in steps[: len(mids)]:
        time += step * 1000
        times.append(time)
    frame = pl.DataFrame(
        {
            "timestamp_ms": times,
            "bid": [mid / 1e5 for mid in mids],
            "ask": [(mid + spread) / 1e5 for mid, spread in zip(mids, spreads, strict=False)],
        }
    )
    builder = ExnessRangeBarBuilder("EURUSD", 50, max_gap=max_gap)
    found = in_pieces(frame, cuts, builder)
    assert found.equals(expected_bars(frame, 50, max_gap=max_gap))
    whole = ExnessRangeBarBuilder("EURUSD", 50, max_gap=max_gap)
    whole.push(frame)
    assert builder.partial().equals(whole.partial())


def test_the_forming_bar_has_its_spreads_too():
    builder = ExnessRangeBarBuilder("EURUSD", 250)
    assert builder.partial().is_empty()
    frame = quotes([1.0, 1.003, 1.0, 1.001]).with_columns(
        ask=pl.col("bid") + pl.Series([0.0, 0.0, 0.0002, 0.0001])
    )
    assert builder.push(frame).height == 1
    forming = builder.partial().row(0, named=True)
    assert (forming["bar_id"], forming["agg_record_count"]) == (1, 2)
    assert (forming["spread_avg"], forming["spread_min"]) == (0.00015, 0.0001)
    assert (forming["spread_max"], forming["is_closed"]) == (0.0002, False)


def test_the_average_spread_is_exact_whatever_the_number_of_quotes():
    builder = ExnessRangeBarBuilder("EURUSD", 250)
    many = quotes([1.0] * 100_000).with_columns(ask=pl.lit(1.0000001))
    for piece in many.iter_slices(999):
        builder.push(piece)
    assert builder.partial()["spread_avg"].item() == 1e-7


def test_a_silence_of_40_hours_ends_the_bar():
    for hours, counts in ((39.99, 5), (40, 2)):
        frame = quotes([1.0, 1.001, 1.0, 1.001, 1.0])
        time = pl.Series([0, 1, 2, 2 + int(hours * 3600), 3 + int(hours * 3600)]) * 1000
        frame = frame.with_columns(timestamp_ms=time + 1_704_067_200_000)
        builder = ExnessRangeBarBuilder("EURUSD", 250, max_gap=WEEKEND)
        assert builder.push(frame).is_empty()
        assert builder.partial()["agg_record_count"].item() == counts


# Quotes in hand


FRAME = quotes([1.0, 1.001, 1.003, 1.004, 1.0], half_spread=0.0001)


def forms() -> dict[str, object]:
    """One set of quotes in every form that is taken."""
    times = pl.col("timestamp_ms").cast(pl.Datetime("ms", "UTC")).alias("timestamp")
    timed = FRAME.select(times, "bid", "ask")
    pandas = FRAME.to_pandas()
    stamps = pd.to_datetime(pandas["timestamp_ms"], unit="ms", utc=True)
    return {
        "polars": FRAME,
        "times": timed,
        "naive": timed.with_columns(pl.col("timestamp").dt.replace_time_zone(None)),
        "new york": timed.with_columns(
            pl.col("timestamp").dt.convert_time_zone("America/New_York")
        ),
        "ms": FRAME.rename({"timestamp_ms": "timestamp"}),
        "decimal": FRAME.with_columns(pl.col("bid", "ask").cast(pl.Decimal(20, 8))),
        "more columns": FRAME.with_columns(note=pl.lit("x")),
        "ids": FRAME.with_columns(agg_trade_id=pl.int_range(pl.len())),
        "pandas": pandas,
        "pandas times": pandas.drop(columns="timestamp_ms").assign(timestamp=stamps),
        "pandas naive": pandas.drop(columns="timestamp_ms").assign(
            timestamp=stamps.dt.tz_localize(None)
        ),
    }


@pytest.mark.parametrize("form", list(forms()))
def test_quotes_are_taken_in_every_form(form):
    given_quotes = forms()[form]
    expected = process_exness_ticks_to_dataframe(FRAME, ExnessInstrument.EURUSD, 250)
    assert len(expected) == 2
    found = process_exness_ticks_to_dataframe(given_quotes, "eurusd", "0.25%", "strict")
    pd.testing.assert_frame_equal(found, expected, check_index_type=False)
    assert found["Volume"].to_list() == [0.0, 0.0]
    assert not found.isna().any().any()


def test_the_forming_bar_comes_only_when_it_is_asked_for():
    frame = FRAME.head(4)
    without = process_exness_ticks_to_dataframe(frame, "EURUSD")
    with_it = process_exness_ticks_to_dataframe(frame, "EURUSD", include_incomplete=True)
    assert (len(without), len(with_it)) == (1, 2)
    assert with_it.iloc[:1].equals(without)
    assert with_it["Open"].iloc[1] == 1.004


@pytest.mark.parametrize("empty", [FRAME.head(0), FRAME.head(0).to_pandas()], ids=["pl", "pd"])
def test_no_quotes_give_no_bars_with_all_columns(empty):
    bars = process_exness_ticks_to_dataframe(empty, "EURUSD", include_incomplete=True)
    assert bars.empty
    assert list(bars.columns) == [*OHLCV, *SPREAD_COLUMNS]


@pytest.mark.parametrize(
    ("ticks", "kind", "words"),
    [
        (FRAME.drop("bid"), MissingColumnError, "no column `bid`"),
        (FRAME.drop("timestamp_ms"), MissingColumnError, "no column `timestamp_ms`"),
        (FRAME.to_dicts(), TypeError, "quotes must be a frame"),
        (FRAME.lazy(), TypeError, "quotes must be a frame"),
        (FRAME.with_columns(pl.col("bid").cast(pl.Float32)), TypeError, "Float32"),
        (FRAME.with_columns(pl.col("bid").cast(pl.String)), TypeError, "String"),
        (FRAME.with_columns(timestamp=pl.lit("2024-01-15T00:00:00Z")), TypeError, "ISO8601"),
        (FRAME.with_columns(pl.col("timestamp_ms") // 1000), TickDataError, "looks like seconds"),
        (FRAME.reverse(), TickOrderError, "row"),
    ],
)
def test_what_are_no_quotes_is_said(ticks, kind, words):
    with pytest.raises(kind, match=words):
        process_exness_ticks_to_dataframe(ticks, "EURUSD")


def test_the_gate_comes_before_the_threshold():
    with pytest.raises(SymbolNotRegisteredError):
        process_exness_ticks_to_dataframe(FRAME, "EURXXX", 1)
    with pytest.raises(SymbolNotRegisteredError):
        ExnessRangeBarBuilder("EURXXX", 1)
    with pytest.raises(SymbolNotRegisteredError):
        get_range_bars_exness("EURXXX", "2024-01-01", "2024-01-31", 1)
    with pytest.raises(SymbolNotRegisteredError):
        fetch_exness_ticks("EURXXX", "2024-01-01", "2024-01-31")


def test_the_smallest_threshold_of_forex_holds():
    for call in (
        lambda: process_exness_ticks_to_dataframe(FRAME, "EURUSD", 49),
        lambda: ExnessRangeBarBuilder("EURUSD", 49),
        lambda: get_range_bars_exness("EURUSD", "2024-01-01", "2024-01-31", 49),
    ):
        with pytest.raises(ThresholdError) as error:
            call()
        assert error.value.min_threshold == 50
    process_exness_ticks_to_dataframe(FRAME, "EURUSD", 50)


# From the archive


def test_quotes_are_fetched_across_months(tmp_path):
    for month in (1, 2):
        write_rows(tmp_path, hourly_rows(2024, month), month=month)
    found = fetch_exness_ticks("eurusd", "2024-01-31", "2024-02-01", url=tmp_path.as_uri())
    source = Exness(url=tmp_path.as_uri())
    days = [source.read_day("EURUSD", day) for day in ("2024-01-31", "2024-02-01")]
    assert found.equals(pl.concat(days))
    start = datetime(2024, 1, 31, 12, tzinfo=UTC)
    part = fetch_exness_ticks(
        ExnessInstrument.EURUSD, start, start + timedelta(hours=2), url=tmp_path.as_uri()
    )
    assert part["timestamp"].dt.hour().to_list() == [12, 13]
    with pytest.raises(ArchiveMissingError):
        fetch_exness_ticks("EURUSD", "2023-12-31", "2024-01-01", url=tmp_path.as_uri())


def test_the_libraries_of_the_source_are_here():
    assert is_exness_available()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an archive of two months that the settings point at, with an empty store."""
    root = tmp_path / "archive"
    for month in (1, 2):
        write_rows(root, hourly_rows(2024, month), month=month)
    monkeypatch.setenv("RANGEBAR_EXNESS_URL", root.as_uri())
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    return root


def test_bars_come_from_the_store_and_end_with_the_week(archive):
    span = ("2024-01-15", "2024-02-14")
    found = get_range_bars_exness("EURUSD", *span, 250)
    ticks = fetch_exness_ticks("EURUSD", *span)
    expected = expected_bars(ticks, 250, max_gap=WEEKEND)
    assert expected.height > 10
    assert len(ticks) == sum(
        date(2024, 1, 15) <= time.date() <= date(2024, 2, 14)
        for month in (1, 2)
        for time in market_hours(2024, month)
    )
    assert found["Close"].to_list() == expected["close"].to_list()
    for column in SPREAD_COLUMNS:
        assert found[column].to_list() == expected[column].to_list()
    spanning = get_range_bars_exness("EURUSD", *span, 250, max_gap=None)
    assert len(spanning) != len(found)
    assert spanning["Close"].to_list() == expected_bars(ticks, 250)["close"].to_list()
    # The second time nothing is fetched.
    write_rows(archive, ["no quotes"])
    again = get_range_bars_exness("EURUSD", *span, 250, fetch=False)
    pd.testing.assert_frame_equal(again, found)


def test_a_weekend_gives_no_bars(archive):
    bars = get_range_bars_exness("EURUSD", "2024-01-20", "2024-01-20", include_incomplete=True)
    assert bars.empty
    assert list(bars.columns) == [*OHLCV, *SPREAD_COLUMNS]


def test_a_start_before_the_effective_one_is_moved_with_one_warning(archive, tmp_path, monkeypatch):
    symbols = tmp_path / "symbols.toml"
    symbols.write_text("[symbols.EURUSD]\neffective_start = 2024-01-10\n")
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(symbols))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = get_range_bars_exness("EURUSD", "2023-06-01", "2024-01-31")
    assert [str(one.message).splitlines()[0] for one in said] == [
        "EURUSD starts on `2024-01-10`, not on `2023-06-01`"
    ]
    assert found.index.min() >= pd.Timestamp("2024-01-10")


def test_a_running_month_is_replaced_when_more_of_it_is_asked_for(tmp_path, monkeypatch):
    tape = QuoteTape.generate("EURUSD", "2024-01-01", "2024-02-01", per_day=200)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    with Exchange(tape, now="2024-01-15T09:00:00Z") as box:
        monkeypatch.setenv("RANGEBAR_EXNESS_URL", box.url)
        for last, now in ((12, "2024-01-15T10:00:00Z"), (19, "2024-02-05")):
            box.now = now
            found = get_range_bars_exness("EURUSD", "2024-01-08", f"2024-01-{last}", 100)
            ticks = tape.between("2024-01-08", f"2024-01-{last + 1}")
            expected = expected_bars(ticks, 100, max_gap=WEEKEND)
            assert found["Close"].to_list() == expected["close"].to_list()
        assert len(box.asked(".zip")) == 2
