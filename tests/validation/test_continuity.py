"""The chain of ids says of bars whether a trade is missing or doubled, and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import MissingColumnError
from rangebar_polars.validation.continuity import ContinuityCheck, validate_continuity

START = datetime(2024, 12, 28, tzinfo=UTC)


def walk(days: int = 8, per_day: int = 400, first_id: int = 1000) -> pl.DataFrame:
    """Return trades that cross a week, a month and a year."""
    order = pl.int_range(days * per_day, eager=True)
    return pl.DataFrame(
        {
            "timestamp": order.cast(pl.Int64) * (86_400_000_000 // per_day),
            "price": 100 + (order % 40 - 20).abs() * 0.05,
            "quantity": [1.0] * len(order),
            "agg_trade_id": order + first_id,
        }
    ).with_columns(
        (pl.lit(START) + pl.duration(microseconds="timestamp"))
        .cast(pl.Datetime("us", "UTC"))
        .alias("timestamp")
    )


BARS = walk().rangebar.bars(250)


def found(report: object) -> list[tuple[int, str, int, int, int]]:
    return [tuple(one)[:5] for one in report.breaks]


# Whole chains


def test_bars_of_all_trades_are_continuous() -> None:
    report = validate_continuity(BARS)
    assert report
    assert (report.is_valid, report.bar_count, report.breaks) == (True, BARS.height, ())
    assert str(report) == f"{BARS.height} bars: no trade is missing"


def test_no_bars_are_continuous() -> None:
    assert validate_continuity(BARS.clear()).is_valid
    assert validate_continuity(BARS.head(1)).is_valid


def test_pandas_frames_are_judged_the_same() -> None:
    pandas = pytest.importorskip("pandas")
    holed = pl.concat([BARS[:3], BARS[5:]])
    frame = pandas.DataFrame({name: holed[name].to_list() for name in holed.columns})
    ours, theirs = validate_continuity(holed), validate_continuity(frame)
    assert found(ours) == found(theirs)
    assert [one.after for one in ours.breaks] == [one.after for one in theirs.breaks]
    titled = frame.set_index("close_time").drop(columns="open_time")
    assert found(validate_continuity(titled)) == found(ours)


# Breaks


def test_a_bar_that_is_gone_is_a_break() -> None:
    report = validate_continuity(pl.concat([BARS[:3], BARS[4:]]))
    gone = BARS.row(3, named=True)
    first, last = gone["first_agg_trade_id"], gone["last_agg_trade_id"]
    assert found(report) == [(3, "missing", first, last, last - first + 1)]
    assert report.breaks[0].after == BARS["close_time"][2]
    assert report.breaks[0].before == BARS["open_time"][4]
    assert not report
    assert f"before 3: ids {first} to {last} missing" in str(report)


@pytest.mark.parametrize("row", [1, BARS.height - 2])
def test_one_id_less_is_a_break(row: int) -> None:
    first = BARS["first_agg_trade_id"][row]
    bars = BARS.with_columns(
        first_agg_trade_id=pl.col("first_agg_trade_id")
        + (pl.int_range(pl.len()) == row).cast(pl.Int64),
        agg_record_count=pl.col("agg_record_count")
        - (pl.int_range(pl.len()) == row).cast(pl.Int64),
    )
    assert found(validate_continuity(bars)) == [(row, "missing", first, first, 1)]


def test_a_bar_that_is_there_twice_is_a_break() -> None:
    report = validate_continuity(pl.concat([BARS[:4], BARS[3:]]))
    twice = BARS.row(3, named=True)
    ids = (twice["first_agg_trade_id"], twice["last_agg_trade_id"])
    assert found(report) == [(4, "overlap", *ids, ids[1] - ids[0] + 1)]
    assert "doubled" in str(report)


def test_bars_out_of_order_are_a_break() -> None:
    assert validate_continuity(BARS.reverse()).breaks


def test_a_trade_that_is_missing_inside_a_bar_is_a_break() -> None:
    ticks = walk()
    middle = BARS["first_agg_trade_id"][5] + 1
    bars = ticks.filter(pl.col("agg_trade_id") != middle).rangebar.bars(250)
    inside = bars.row(5, named=True)
    ids = (inside["first_agg_trade_id"], inside["last_agg_trade_id"])
    assert found(validate_continuity(bars)) == [(5, "inside", *ids, 1)]
    assert "in bar 5: 1 of" in str(validate_continuity(bars))


def test_ids_that_do_not_exist_at_the_source_are_no_break() -> None:
    absent = [(BARS["first_agg_trade_id"][5] + 1,) * 2, (BARS["last_agg_trade_id"][8],) * 2]
    gone = [first for first, _ in absent]
    bars = walk().filter(~pl.col("agg_trade_id").is_in(gone)).rangebar.bars(250)
    assert not validate_continuity(bars)
    assert validate_continuity(bars, absent=absent)
    assert len(validate_continuity(bars, absent=absent[:1]).breaks) == 1


def test_what_is_missing_beside_ids_that_do_not_exist_is_a_break() -> None:
    last = BARS["last_agg_trade_id"][3]
    report = validate_continuity(pl.concat([BARS[:4], BARS[5:]]), absent=[(last + 2, last + 4)])
    assert [one[2:4] for one in found(report)] == [
        (last + 1, last + 1),
        (last + 5, BARS["last_agg_trade_id"][4]),
    ]


@pytest.mark.parametrize("place", ["first", "last"])
def test_one_id_at_the_edge_of_a_hole_may_not_exist(place: str) -> None:
    low, high = BARS["first_agg_trade_id"][4], BARS["last_agg_trade_id"][4]
    edge = low if place == "first" else high
    report = validate_continuity(pl.concat([BARS[:4], BARS[5:]]), absent=[(edge, edge)])
    left = (low + 1, high) if place == "first" else (low, high - 1)
    assert [one[2:4] for one in found(report)] == [left]


# Resets


@pytest.mark.parametrize("reset", ["year", "month", "week", "day", "1w"])
def test_orphans_that_were_left_out_are_no_break(reset: str) -> None:
    whole = walk().rangebar.bars(250, reset=reset, incomplete="keep")
    report = validate_continuity(whole)
    orphans = whole.filter(pl.col("ended_by").cast(pl.String) == "reset").height
    assert (report.is_valid, report.orphans, orphans > 0) == (True, orphans, True)
    closed = whole.filter("is_closed")
    assert validate_continuity(closed, reset=reset)
    assert validate_continuity(closed, reset=reset).resets == orphans
    assert len(validate_continuity(closed).breaks) == orphans


def test_a_reset_excuses_nothing_beside_it() -> None:
    closed = walk().rangebar.bars(250, reset="day")
    holed = pl.concat([closed[:3], closed[4:]])
    assert [one.bar_index for one in validate_continuity(holed, reset="day").breaks] == [3]


def test_a_week_that_begins_on_sunday_is_not_one_that_begins_on_monday() -> None:
    closed = walk().rangebar.bars(250, reset="week")
    assert not validate_continuity(closed, reset="1w")


def test_a_forming_bar_is_no_orphan() -> None:
    whole = walk().rangebar.bars(250, incomplete="keep")
    assert whole["is_closed"][-1] is False
    assert validate_continuity(whole).orphans == 0


# Quotes


def quotes(split: int, second_month: int, from_row: int = 0) -> pl.DataFrame:
    """Return bars of quotes whose ids begin anew after so many rows."""
    ids = [20241200000000 + row for row in range(split)]
    ids += [second_month + row for row in range(from_row, from_row + 3200 - split)]
    return walk().with_columns(agg_trade_id=pl.Series(ids)).drop("quantity").rangebar.bars(250)


#: Between two bars, and within one.
SPLITS = [int(BARS["first_agg_trade_id"][160]) - 1000, int(BARS["last_agg_trade_id"][160]) - 1000]


@pytest.mark.parametrize("split", SPLITS)
def test_ids_of_quotes_begin_anew_each_month(split: int) -> None:
    bars = quotes(split, 20250100000000)
    assert validate_continuity(bars, source="exness")
    assert not validate_continuity(bars)


def test_a_month_of_quotes_or_its_start_that_is_missing_is_a_break() -> None:
    assert not validate_continuity(quotes(SPLITS[0], 20250200000000), source="exness")
    assert not validate_continuity(quotes(SPLITS[0], 20250100000000, 1), source="exness")


# Pieces


@pytest.mark.parametrize("size", [1, 3, 50])
def test_pieces_give_what_the_whole_gives(size: int) -> None:
    closed = walk().rangebar.bars(250, reset="day")
    bars = pl.concat([closed[:9], closed[10:]])
    check = ContinuityCheck(reset="day")
    for piece in bars.iter_slices(size):
        check.add(piece)
    assert check.report() == validate_continuity(bars, reset="day")


# Refusals


def test_bars_without_ids_are_refused() -> None:
    with pytest.raises(MissingColumnError, match="first_agg_trade_id"):
        validate_continuity(BARS.drop("first_agg_trade_id"))
    no_ids = walk().drop("agg_trade_id").rangebar.bars(250)
    with pytest.raises(ValueError, match="no ids"):
        validate_continuity(no_ids)


def test_several_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="several thresholds"):
        validate_continuity(walk().rangebar.bars([250, 500]))


def test_what_is_no_reset_is_refused() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        validate_continuity(BARS, reset="fortnight")
    with pytest.raises(MissingColumnError, match="open_time"):
        validate_continuity(BARS.drop("open_time"), reset="day")


def test_bars_of_the_sample_are_continuous_with_every_gap_of_time() -> None:
    bars = rb.sample_ticks().rangebar.bars(250, max_gap=timedelta(seconds=2), incomplete="keep")
    assert validate_continuity(bars).orphans > 0
    assert validate_continuity(bars).is_valid
