"""The kernel against the definitions of the contract, column by column."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rangebar_polars as rb
from features.frames import WINDOWS, bars_of, frame, mismatches, stream, without
from features.oracle import COLUMNS, HELD, INTEGERS, LOOKBACK, Records

LENGTHS = sorted(
    {f.least + more for f in COLUMNS.values() for more in (-1, 0, 1)} | {1, 2, 250, 1_000}
)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("threshold", [20, 300])
def test_values_are_those_of_the_definitions(threshold: int, window: str) -> None:
    w = stream(threshold, 4_000)
    lookback = "1us" if window.startswith("time=0.") else window
    bars = bars_of(w, threshold, lookback=lookback)
    assert not mismatches(w, bars, WINDOWS[window])


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 700),
    base=st.sampled_from([1, 10**4, 10**10, 6 * 10**12, 10**17]),
    tick=st.sampled_from([1, 10**6, 10**9]),
    size=st.sampled_from([100, 10**8, 10**14]),
    threshold=st.sampled_from([1, 20, 300, 20_000, 100_000]),
    unsided=st.sampled_from([0.0, 0.0, 0.2, 1.0]),
    idle=st.sampled_from([False, False, False, True]),
    window=st.sampled_from([w for w in WINDOWS if "." not in w]),
    drop=st.sampled_from(
        [
            (),
            (),
            (),
            ("quantity",),
            ("side", "is_buyer_maker"),
            ("quantity", "side", "is_buyer_maker"),
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_trades(
    seed, rows, base, tick, size, threshold, unsided, idle, window, drop
) -> None:  # fmt: skip
    w = stream(seed, rows, base=base, tick=tick, size=size, unsided=unsided, idle=idle)
    bars = bars_of(w, threshold, drop=drop, lookback=window)
    assert not mismatches(without(w, drop), bars, WINDOWS[window])


@pytest.mark.parametrize("rows", LENGTHS)
def test_every_least_sample_and_one_below(rows: int) -> None:
    if rows < 1:
        return
    w = stream(rows, rows)
    trades = frame(w).with_columns(pl.lit(7).alias("id"))
    bars = trades.rangebar.aggregate("id", features=["intrabar", "extended"])
    assert bars.height == 1
    assert not mismatches(w, bars, {"records": 1})


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit(unit: str) -> None:
    w = stream(5, 1_500)
    w = Records([t // 1000 * 1000 for t in w.time], w.price, w.size, w.side, w.first_id, w.last_id)
    bars = frame(w, unit=unit).rangebar.bars(100, features="all", lookback="2s", incomplete="keep")
    assert not mismatches(w, bars, {"duration": 2_000_000})


def test_the_worked_example() -> None:
    w = Records(
        [0, 1_000_000, 1_000_000, 4_000_000],
        [100 * 10**8, 1001 * 10**7, 999 * 10**7, 1003 * 10**7],
        [10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8],
        [1, -1, -1, 1],
        [1, 2, 4, 9],
        [1, 3, 4, 9],
    )
    trades = frame(w).with_columns(pl.lit(0).alias("id"))
    bar = trades.rangebar.aggregate("id", features=["intrabar", "extended"]).row(0, named=True)
    want = {
        "intra_ofi": 0.0,
        "intra_duration_us": 4_000_000,
        "intra_intensity": 1.0,
        "intra_vwap_position": 0.525,
        "intra_volume_kurt": -1.36,
        "intra_kaufman_er": 3 / 7,
        "intra_max_runup": 0.4 / 99.9,
        "intra_count_imbalance": -0.2,
        "realized_variance": 1.7e-5,
        "upside_variance_share": 16 / 17,
        "sweep_share": 0.5,
        "delta_min": -4.0,
        "delta_extreme_at": 0.25,
        "twap": 99.925,
        "vwap_sd": 0.17,
        "open_crossings": 2,
        "order_size_p50": 4.0,
        "order_size_hhi": 0.42,
        "burstiness_kim_jo": 1 - 2 / 3**0.5,
        "max_silence_us": 3_000_000,
    }
    for name, value in want.items():
        assert bar[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name


def test_the_catalogue_agrees_with_the_definitions() -> None:
    rows = {row["name"]: row for row in rb.columns().iter_rows(named=True)}
    assert [n for n in rows if rows[n]["group"] in {"lookback", "intrabar", "extended"}] == [
        *COLUMNS
    ]
    letters = {"q": "quantity", "s": "side"}
    never_null = {"lookback_trade_count", "intra_trade_count", "intra_duration_us", "order_count"}
    for name, f in COLUMNS.items():
        row = rows[name]
        assert row["needs"] == ", ".join(letters[c] for c in f.needs), name
        assert (row["sample"], row["min_sample"]) == (f.sample, f.least), name
        assert (row["dtype"] == "Int64") == (name in INTEGERS), name
        assert row["nullable"] == (name not in never_null), name
    assert len(HELD) == 10
    assert list(rb.INTER_BAR_FEATURE_COLUMNS) == [*LOOKBACK]
    assert len(rb.INTRA_BAR_FEATURE_COLUMNS) == 22
