"""The existing library's own answers on 27 cases, and each place where ours must differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_matches, assert_same_bars, bits
from properties.model import Case, expect

SHARED = Path(os.environ.get("RANGEBAR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FILE = SHARED / "oracle" / "bars_vectors.json"
VECTORS = {v["name"]: v for v in json.loads(FILE.read_text())} if FILE.is_file() else {}
pytestmark = pytest.mark.skipif(not VECTORS, reason=f"the shared vectors are not here: {FILE}")

# The existing band is cut to whole units; in these two cases that closes a bar before its threshold.
CUT_BANDS = {"zero delta": 3, "floored delta": 1}
# Their `last_trade_id` is below `first_trade_id` somewhere: an error here, a wrapped counter there.
REVERSED = {"random 0", "random 5", "random 9"}
FILL_IDS = ["first_trade_id", "last_trade_id"]
EXACT = [
    "open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "agg_record_count",
    "first_agg_trade_id", "last_agg_trade_id", "duration_us", *FILL_IDS,
]  # fmt: skip
COUNTS = ["individual_trade_count", "buy_trade_count", "sell_trade_count"]
TURNOVERS = ["turnover", "buy_turnover", "sell_turnover"]
# Features of volumes and prices, then those of counts, each with the counter that it depends on.
OF_MONEY = ["ofi", "price_impact", "kyle_lambda_proxy"]
OF_COUNTS = ["trade_intensity", "volume_per_trade", "aggregation_density", "aggression_ratio"]
ORDINARY = [n for n in VECTORS if n not in CUT_BANDS and n not in REVERSED]


def case_of(name: str, incomplete: str = "drop") -> Case:
    vector = VECTORS[name]
    schema = {
        "timestamp": pl.Int64,
        "price": pl.Float64,
        "quantity": pl.Float64,
        "is_buyer_maker": pl.Boolean,
        "agg_trade_id": pl.Int64,
        **dict.fromkeys(FILL_IDS, pl.Int64),
    }
    frame = pl.DataFrame(vector["trades"], schema=schema)
    frame = frame.with_columns(pl.col("timestamp").cast(pl.Datetime("ms", "UTC")))
    gate = vector["prevent_same_timestamp_close"]
    threshold = vector["threshold"]
    return Case(frame, threshold, features="microstructure", incomplete=incomplete, gate=gate)


def theirs_of(name: str, like: pl.DataFrame) -> pl.DataFrame:
    names = [c for c in like.columns if c != "bar_id" and not c.endswith("_time")]
    rows = [
        {c: float(bar[c]) if like.schema[c] == pl.Float64 else bar[c] for c in names}
        for bar in VECTORS[name]["bars"]
    ]
    return pl.DataFrame(rows, schema={c: like.schema[c] for c in names})


def check_counts(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    for name in COUNTS:  # theirs wrap at 2^32
        assert (ours[name] % 2**32).equals(theirs[name]), name


def check_turnovers(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    for name in TURNOVERS:  # theirs are 1e16 times the money, so dividing rounds a second time
        steps = np.abs(bits(ours[name]) - bits(theirs[name] / 1e16))
        assert (steps <= 1).all(), name


def check_vwap(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    traded = ours["volume"] > 0
    assert ours["vwap"].is_null().equals(~traded)
    cut = (ours["vwap"] - theirs["vwap"]).filter(traded).to_numpy()  # theirs are cut to the grid
    ulp = np.spacing(ours["vwap"].filter(traded).to_numpy())
    assert ((cut >= -3 * ulp) & (cut < 1e-8 + 3 * ulp)).all()


def check_undefined(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """Where ours is null, theirs is the filler of the formula."""
    fillers = dict.fromkeys((*OF_MONEY, "turnover_imbalance"), 0.0) | {"aggression_ratio": 1.0}
    for name, filler in fillers.items():
        assert (theirs[name].filter(ours[name].is_null()) == filler).all(), name
    no_time = ours["trade_intensity"].is_null()
    assert no_time.equals(ours["duration_us"] == 0)
    counts = theirs["individual_trade_count"].filter(no_time).cast(pl.Float64)
    assert theirs["trade_intensity"].filter(no_time).equals(counts, check_names=False)


def check_features(ours: pl.DataFrame, theirs: pl.DataFrame, unwrapped: pl.Series) -> None:
    for name in (*OF_MONEY, *OF_COUNTS):
        known = ours[name].is_not_null() & (unwrapped if name in OF_COUNTS else True)
        same = bits(ours[name].filter(known)) == bits(theirs[name].filter(known))
        assert same.all(), name
    known = ours["turnover_imbalance"].is_not_null()
    off = (ours["turnover_imbalance"] - theirs["turnover_imbalance"]).filter(known).abs()
    assert (off <= 1e-11).all()
    known = ours["vwap_close_deviation"].is_not_null()
    spread = (ours["high"] - ours["low"]).filter(known)
    off = (ours["vwap_close_deviation"] - theirs["vwap_close_deviation"]).filter(known).abs()
    assert (off <= 1e-9 + 1e-8 / spread).all()  # a vwap cut by 1e-8 shows as 1e-8 of the spread


@pytest.mark.parametrize("name", ORDINARY)
def test_bars_equal_the_vectors(name: str) -> None:
    case = case_of(name)
    ours = entry_points.eager(case)
    theirs = theirs_of(name, ours)
    assert_same_bars(ours.select(EXACT), theirs.select(EXACT))
    times = ours.select(pl.col("open_time", "close_time").dt.epoch("us"))
    assert times.rows() == [(b["open_time"], b["close_time"]) for b in VECTORS[name]["bars"]]
    check_counts(ours, theirs)
    check_turnovers(ours, theirs)
    check_vwap(ours, theirs)
    check_undefined(ours, theirs)
    unwrapped = ours["individual_trade_count"] == theirs["individual_trade_count"]
    check_features(ours, theirs, unwrapped)


@pytest.mark.parametrize("name", [n for n in VECTORS if n not in REVERSED])
def test_every_door_gives_the_bars_of_the_vectors_trades(name: str) -> None:
    case = case_of(name, "keep")
    expected = expect(case).bars
    for door in entry_points.ALL.values():
        assert_matches(door(case), expected)


@pytest.mark.parametrize("name", ORDINARY)
def test_the_unfinished_bar_equals_the_vectors(name: str) -> None:
    forming = entry_points.eager(case_of(name, "keep")).filter(~pl.col("is_closed"))
    theirs = VECTORS[name]["incomplete"]
    if theirs is None:
        assert forming.is_empty()
        return
    row = forming.row(0, named=True)
    millis = forming.select(pl.col("open_time", "close_time").dt.epoch("ms")).row(0)
    assert millis == (theirs.pop("open_time_ms"), theirs.pop("close_time_ms"))
    volume = theirs.pop("volume")  # theirs is multiplied by 1e-8, ours divided by 1e8
    assert row["volume"] == pytest.approx(volume, rel=1e-15)
    assert {name: row[name] for name in theirs} == theirs


@pytest.mark.parametrize("name", CUT_BANDS)
def test_no_bar_closes_before_its_threshold(name: str) -> None:
    """The move that closes theirs is below open · threshold; none of ours closes, and by the rule none may."""
    case = case_of(name)
    assert len(VECTORS[name]["bars"]) == CUT_BANDS[name]
    bars = entry_points.eager(case)
    assert bars.is_empty()
    for bar in VECTORS[name]["bars"]:
        units = [round(bar[c] * 1e8) for c in ("open", "close")]
        assert abs(units[1] - units[0]) * 100_000 < units[0] * case.threshold


@pytest.mark.parametrize("name", sorted(REVERSED))
def test_a_last_id_below_the_first_raises_where_a_counter_wrapped(name: str) -> None:
    case = case_of(name)
    reversed_ids = case.frame["last_trade_id"] < case.frame["first_trade_id"]
    row = reversed_ids.arg_true()[0]
    with pytest.raises(rb.exceptions.TickDataError, match=rf"\b{row}\b"):
        entry_points.eager(case)


@pytest.mark.parametrize("name", sorted(REVERSED))
def test_without_the_reversed_ids_the_rest_equals_the_vectors(name: str) -> None:
    case = case_of(name)
    ours = entry_points.eager(case.with_frame(case.frame.drop(FILL_IDS)))
    theirs = theirs_of(name, ours)
    rest = [c for c in EXACT if c not in FILL_IDS]
    assert_same_bars(ours.select(rest), theirs.select(rest))
    check_turnovers(ours, theirs)
    check_vwap(ours, theirs)
    for feature in OF_MONEY:
        known = ours[feature].is_not_null()
        assert (bits(ours[feature].filter(known)) == bits(theirs[feature].filter(known))).all()
