"""The tick store as its users know it: what goes in comes out, once, in order, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars import events
from rangebar_polars.exceptions import (
    MissingColumnError,
    StorageError,
    SymbolNotRegisteredError,
    TickDataError,
    TickOrderError,
    TicksNotCachedError,
)
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage import TickStorage
from storage.stock import SYMBOL, day_files, given_day, quotes, trades

DAYS = [date(2024, 1, 30) + timedelta(days=i) for i in range(4)]
FIRST, LAST = DAYS[0], DAYS[-1]
TICKS = pl.concat([trades(day, 50, 1 + 50 * i) for i, day in enumerate(DAYS)])


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


def got(storage: TickStorage) -> pl.DataFrame:
    return storage.get_ticks(SYMBOL, FIRST, LAST)


def test_what_was_written_is_read_in_every_way(storage):
    report = storage.write_ticks(SYMBOL, TICKS)
    assert report.days == tuple(DAYS)
    assert report.months == ("2024-01", "2024-02")
    assert (report.rows_added, report.duplicates) == (200, 0)
    assert got(storage).equals(TICKS)
    plan = storage.scan_ticks(SYMBOL, FIRST, LAST)
    assert plan.collect_schema() == TRADES_SCHEMA
    assert plan.collect().equals(TICKS)
    assert plan.select("price").collect().equals(TICKS.select("price"))
    assert plan.select(pl.len()).collect().item() == 200
    assert plan.rangebar.bars(250).collect().equals(TICKS.rangebar.bars(250))


def test_the_files_are_plain_parquet_that_others_read(storage):
    storage.write_ticks(SYMBOL, TICKS)
    files = day_files(storage)
    assert [path.name[:10] for path in files] == [day.isoformat() for day in DAYS]
    assert files[0].parent == storage.root / "binance" / "spot" / SYMBOL / "2024"
    assert pl.scan_parquet(files).rangebar.bars(250).collect().equals(TICKS.rangebar.bars(250))


def test_every_file_is_named_by_its_own_hash(storage):
    import hashlib

    storage.write_ticks(SYMBOL, TICKS)
    for path in day_files(storage):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name.split(".")[1] == digest[:16]


def test_the_same_rows_again_change_nothing(storage):
    storage.write_ticks(SYMBOL, TICKS)
    before = sorted(storage.root.rglob("*"))
    report = storage.write_ticks(SYMBOL, TICKS.reverse())
    assert (report.rows_added, report.duplicates) == (0, 200)
    assert report.unchanged == tuple(DAYS)
    assert sorted(storage.root.rglob("*")) == before


@pytest.mark.parametrize("seed", range(3))
def test_parts_in_any_order_and_overlapping_make_the_whole(storage, seed):
    shuffled = TICKS.sample(fraction=1.0, shuffle=True, seed=seed)
    for start in range(0, 200, 40):
        storage.write_ticks(SYMBOL, shuffled.slice(start, 60))
    assert got(storage).equals(TICKS)


def test_exact_copies_in_one_frame_are_dropped_and_counted(storage):
    report = storage.write_ticks(SYMBOL, pl.concat([TICKS, TICKS.head(5)]))
    assert (report.rows_added, report.duplicates, report.moved) == (200, 5, 5)
    assert got(storage).equals(TICKS)


@pytest.mark.parametrize(
    "column", ["price", "quantity", "is_buyer_maker", "last_trade_id", "timestamp"]
)
@pytest.mark.parametrize("stored", [False, True])
def test_two_ticks_with_one_id_are_an_error_and_nothing_is_written(storage, column, stored):
    value = {"is_buyer_maker": ~pl.col(column), "timestamp": pl.col(column) + timedelta(seconds=-3)}
    other = TICKS.slice(70, 1).with_columns(value.get(column, pl.col(column) + 1))
    if stored:
        storage.write_ticks(SYMBOL, TICKS)
        frame = other
    else:
        frame = pl.concat([TICKS, other])
    with pytest.raises(TickDataError, match=f"agg_trade_id `71`: {column}"):
        storage.write_ticks(SYMBOL, frame)
    assert storage.list_days(SYMBOL) == (DAYS if stored else [])


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("price", None, "null"),
        ("price", float("nan"), "not a finite"),
        ("price", float("inf"), "not a finite"),
        ("price", 0.0, "above 0"),
        ("price", -1.0, "above 0"),
        ("quantity", -1.0, "0 or above"),
        ("quantity", float("nan"), "0 or above"),
        ("agg_trade_id", None, "null"),
        ("agg_trade_id", -4, "below 0"),
        ("timestamp", None, "null"),
        ("last_trade_id", 3, "below its first_trade_id"),
    ],
)
def test_a_row_that_is_no_tick_is_named_and_nothing_is_written(storage, column, value, words):
    bad = TICKS.with_columns(
        pl.when(pl.col("agg_trade_id") == 151).then(value).otherwise(pl.col(column)).alias(column)
    )
    with pytest.raises(TickDataError, match=f"row 150: `{column}` .*{words}"):
        storage.write_ticks(SYMBOL, bad)
    assert not storage.root.exists()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_times_of_any_unit_and_zone_are_the_same_instants(storage, unit, zone):
    times = pl.col("timestamp").dt.truncate("1ms").dt.cast_time_unit(unit)
    times = times.dt.replace_time_zone(None) if zone is None else times.dt.convert_time_zone(zone)
    storage.write_ticks(SYMBOL, TICKS.with_columns(times))
    assert got(storage).equals(TICKS.with_columns(pl.col("timestamp").dt.truncate("1ms")))


@pytest.mark.parametrize(
    ("dtype", "call"),
    [
        (pl.Int64, 'pl.from_epoch("timestamp", time_unit="us")'),
        (pl.String, 'pl.col("timestamp").str.to_datetime()'),
        (pl.Date, 'pl.col("timestamp").cast(pl.Datetime("us"))'),
    ],
)
def test_a_time_that_is_no_datetime_is_refused_with_the_call_to_write(storage, dtype, call):
    words = rf"`timestamp` must be a Datetime.*\n\nhint: .*`{re.escape(call)}`$"
    with pytest.raises(TypeError, match=words):
        storage.write_ticks(SYMBOL, TICKS.with_columns(pl.col("timestamp").cast(dtype)))


def test_parts_of_a_microsecond_are_not_cut_off(storage):
    fine = TICKS.with_columns(
        pl.col("timestamp").cast(pl.Datetime("ns", "UTC")) + pl.duration(nanoseconds=1)
    )
    with pytest.raises(TickDataError, match="fractions of a microsecond"):
        storage.write_ticks(SYMBOL, fine)


def test_a_frame_without_ids_is_refused_with_a_way_out(storage):
    with pytest.raises(MissingColumnError, match='need none: source="my_venue"'):
        storage.write_ticks(SYMBOL, TICKS.drop("agg_trade_id"))


def test_columns_are_known_by_their_other_names_and_others_left_out(storage):
    names = {"quantity": "volume", "timestamp": "transact_time", "agg_trade_id": "agg_id"}
    storage.write_ticks(SYMBOL, TICKS.rename(names).with_columns(note=pl.lit("x")))
    assert got(storage).equals(TICKS)


def test_a_column_that_no_file_has_is_not_given(storage):
    narrow = TICKS.select("timestamp", "price", "quantity", "agg_trade_id")
    storage.write_ticks(SYMBOL, narrow)
    assert got(storage).equals(narrow)
    plan = storage.scan_ticks(SYMBOL, FIRST, LAST)
    assert plan.rangebar.bars(250).collect().equals(narrow.rangebar.bars(250))


def test_a_column_that_some_files_lack_is_null_there(storage):
    storage.write_ticks(SYMBOL, TICKS.head(50).drop("is_buyer_maker"))
    storage.write_ticks(SYMBOL, TICKS.tail(150))
    ticks = got(storage)
    assert ticks["is_buyer_maker"].null_count() == 50
    assert ticks.drop("is_buyer_maker").equals(TICKS.drop("is_buyer_maker"))
    sides = storage.scan_ticks(SYMBOL, FIRST, LAST).select("is_buyer_maker").collect()
    assert sides["is_buyer_maker"].equals(ticks["is_buyer_maker"])


def test_a_pandas_frame_is_taken(storage):
    pytest.importorskip("pandas")
    storage.write_ticks(SYMBOL, TICKS.to_pandas())
    assert got(storage).equals(TICKS)


def test_whole_numbers_and_decimals_are_kept_as_numbers(storage):
    frame = TICKS.with_columns(
        price=pl.lit(100, pl.Int32),
        quantity=pl.lit("0.5").cast(pl.Decimal(20, 8)),
        agg_trade_id=pl.col("agg_trade_id").cast(pl.UInt32),
    )
    storage.write_ticks(SYMBOL, frame)
    assert got(storage)["price"].unique().to_list() == [100.0]
    assert got(storage)["quantity"].unique().to_list() == [0.5]
    with pytest.raises(TypeError, match="`price` must be"):
        storage.write_ticks(SYMBOL, TICKS.with_columns(pl.col("price").cast(pl.String)))


def swapped(by_us: int) -> pl.DataFrame:
    """The 61st tick, so many microseconds before the 60th."""
    late = TICKS["timestamp"][59] - timedelta(microseconds=by_us)
    return TICKS.with_columns(
        pl.when(pl.col("agg_trade_id") == 61).then(late).otherwise("timestamp").alias("timestamp")
    )


def test_a_time_that_runs_back_by_a_second_is_raised_and_counted(storage):
    report = storage.write_ticks(SYMBOL, swapped(1_000_000))
    assert report.raised == 1
    assert storage.stats(SYMBOL)["raised"] == 1
    ticks = got(storage)
    assert ticks["timestamp"].is_sorted()
    assert ticks["timestamp"][60] == ticks["timestamp"][59]
    again = storage.write_ticks(SYMBOL, swapped(1_000_000))
    assert (again.rows_added, again.duplicates) == (0, 200)
    alone = storage.write_ticks(SYMBOL, swapped(1_000_000).slice(60, 1))
    assert alone.duplicates == 1


def test_a_time_that_runs_back_by_more_is_an_error(storage):
    with pytest.raises(TickOrderError, match="tick `61` runs back"):
        storage.write_ticks(SYMBOL, swapped(1_000_001))
    assert storage.list_days(SYMBOL) == []


def test_ids_that_run_back_from_day_to_day_are_an_error(storage):
    storage.write_ticks(SYMBOL, TICKS)
    wrong = trades(LAST + timedelta(days=1), 5, 120)
    with pytest.raises(TickOrderError, match="run back between two days"):
        storage.write_ticks(SYMBOL, wrong)
    assert storage.list_days(SYMBOL) == DAYS


def test_a_month_is_written_as_a_whole_and_the_error_says_which_are_in(storage):
    storage.write_ticks(SYMBOL, TICKS.filter(pl.col("agg_trade_id") == 160))
    bad = TICKS.with_columns(
        pl.when(pl.col("agg_trade_id") == 160).then(1.0).otherwise("price").alias("price")
    )
    with pytest.raises(TickDataError) as caught:
        storage.write_ticks(SYMBOL, bad)
    assert "2024-01" in caught.value.__notes__[0]
    assert storage.list_days(SYMBOL) == [*DAYS[:2], DAYS[3]]


def test_a_final_day_takes_no_other_rows(storage):
    storage.put_days(SYMBOL, [given_day(FIRST, TICKS.head(40))])
    assert storage.write_ticks(SYMBOL, TICKS.head(40)).duplicates == 40
    with pytest.raises(TickDataError, match=r"2024-01-30 .* is final: 10 of 50 rows"):
        storage.write_ticks(SYMBOL, TICKS.head(50))
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).height == 40


def test_a_source_takes_the_place_of_what_was_given(storage):
    storage.write_ticks(SYMBOL, TICKS.head(10))
    report = storage.put_days(SYMBOL, [given_day(FIRST, TICKS.head(50))])
    assert report.replaced == (FIRST,)
    assert storage.coverage(SYMBOL, FIRST, FIRST)["state"].to_list() == ["final"]
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).equals(TICKS.head(50))


def test_an_archive_published_anew_takes_the_place_of_the_old_one(storage):
    old, new = (given_day(FIRST, trades(FIRST, price=price)) for price in (100.0, 101.0))
    storage.put_days(SYMBOL, [old])
    heard = []
    events.register_hook("ticks_written", heard.append)
    try:
        report = storage.put_days(SYMBOL, [new])
        events.flush_hooks()
    finally:
        events.clear_hooks()
    assert report.replaced == (FIRST,)
    assert len(heard) == 1
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).equals(new.ticks)
    assert len(day_files(storage)) == 2
    assert storage.put_days(SYMBOL, [new]).unchanged == (FIRST,)


@pytest.mark.parametrize(
    "ticks",
    [TICKS.head(50).reverse(), TICKS.head(60), TICKS.head(50).drop("quantity"), TICKS.head(0)],
    ids=["order", "another day", "columns", "none, without a reason"],
)
def test_a_source_must_give_a_day_as_it_is(storage, ticks):
    with pytest.raises((TickDataError, TypeError)):
        storage.put_days(SYMBOL, [given_day(FIRST, ticks)])
    assert storage.list_days(SYMBOL) == []


def test_a_day_that_is_given_twice_in_one_call_is_refused(storage):
    with pytest.raises(ValueError, match="twice"):
        storage.put_days(SYMBOL, [given_day(FIRST, TICKS.head(50))] * 2)


def test_times_that_a_merge_raises_are_counted_in_the_manifest(storage):
    ticks = swapped(500_000).head(100)
    storage.write_ticks(SYMBOL, ticks.filter(pl.col("agg_trade_id") != 60))
    report = storage.write_ticks(SYMBOL, ticks.filter(pl.col("agg_trade_id") == 60))
    assert (report.rows_added, report.raised) == (1, 1)
    assert storage.stats(SYMBOL)["raised"] == 1
    assert storage.get_ticks(SYMBOL, FIRST, DAYS[1])["timestamp"].is_sorted()


def test_a_row_of_a_source_may_stand_a_little_beyond_midnight(storage):
    """An archive cuts by its own clock; the ticks still come in the order of their times."""
    late = datetime(2024, 1, 31, 0, 0, 0, 500_000, tzinfo=UTC)
    last = pl.col("agg_trade_id") == 50
    first = TICKS.head(50).with_columns(
        pl.when(last).then(late).otherwise("timestamp").alias("timestamp")
    )
    early = pl.col("agg_trade_id") == 51
    second = TICKS.slice(50, 50).with_columns(
        pl.when(early)
        .then(late - timedelta(milliseconds=200))
        .otherwise("timestamp")
        .alias("timestamp")
    )
    storage.put_days(SYMBOL, [given_day(FIRST, first), given_day(DAYS[1], second)])
    ticks = storage.get_ticks(SYMBOL, FIRST, DAYS[1])
    assert ticks["timestamp"].is_sorted()
    assert ticks["timestamp"].to_list()[49:51] == [late, late]
    tail = storage.get_ticks(SYMBOL, DAYS[1], DAYS[1])
    assert tail["agg_trade_id"].to_list() == list(range(50, 101))
    assert tail.equals(ticks.tail(51))
    assert storage.scan_ticks(SYMBOL, FIRST, DAYS[1]).rangebar.bars(250).collect().height


@pytest.mark.parametrize(
    ("start", "end", "ids"),
    [
        (DAYS[1], DAYS[1], (51, 100)),
        ("2024-01-31", "2024-02-01", (51, 150)),
        (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), (51, 100)),
        (TICKS["timestamp"][10], TICKS["timestamp"][70], (11, 70)),
        (TICKS["timestamp"][10], TICKS["timestamp"][10] + timedelta(microseconds=1), (11, 11)),
        ("2024-01-31T00:00:00-05:00", "2024-01-31T19:00:00-05:00", None),
    ],
)
def test_a_span_is_half_open_and_a_date_is_the_whole_day(storage, start, end, ids):
    storage.write_ticks(SYMBOL, TICKS)
    expected = (
        TICKS.filter(pl.col("agg_trade_id").is_between(*ids))
        if ids
        else TICKS.filter(
            pl.col("timestamp").is_between(
                datetime(2024, 1, 31, 5, tzinfo=UTC),
                datetime(2024, 2, 1, tzinfo=UTC),
                closed="left",
            )
        )
    )
    assert storage.get_ticks(SYMBOL, start, end).equals(expected)
    plan = storage.scan_ticks(SYMBOL, start, end)
    assert plan.collect().equals(expected)
    assert (
        plan.select("price", "agg_trade_id")
        .collect()
        .equals(expected.select("price", "agg_trade_id"))
    )


def test_spans_that_are_none_are_refused(storage):
    with pytest.raises(ValueError, match="not after"):
        storage.get_ticks(SYMBOL, LAST, FIRST)
    with pytest.raises(ValueError, match="on_gap"):
        storage.get_ticks(SYMBOL, FIRST, LAST, on_gap="ignore")


@pytest.mark.parametrize(
    "work",
    [
        lambda s: s.write_ticks("NOSUCH", TICKS),
        lambda s: s.get_ticks("NOSUCH", FIRST, LAST),
        lambda s: s.scan_ticks("NOSUCH", FIRST, LAST),
        lambda s: s.coverage("NOSUCH", FIRST, LAST),
        lambda s: s.has_ticks("NOSUCH", FIRST, LAST),
        lambda s: s.put_days("NOSUCH", []),
    ],
)
def test_a_symbol_passes_the_gate_first(storage, work, monkeypatch):
    with pytest.raises(SymbolNotRegisteredError):
        work(storage)
    assert not storage.root.exists()


def test_symbols_and_markets_are_known_in_any_letter_case_and_kept_apart(storage):
    storage.write_ticks("btcusdt", TICKS)
    storage.write_ticks("BTCUSDT", TICKS.head(50), market="futures-um")
    assert storage.list_symbols() == storage.list_symbols(source="Binance") == ["BTCUSDT"]
    assert storage.list_symbols(market="cm") == []
    assert storage.list_days("BtcUsdt") == DAYS
    assert storage.list_days(SYMBOL, market="um") == [FIRST]
    with pytest.raises(ValueError, match="market"):
        storage.list_days(SYMBOL, market="options")
    assert storage.verify().height == 5
    assert storage.verify(SYMBOL, source="binance", market="um").height == 1


def test_quotes_keep_bid_and_ask(storage):
    forex = {"source": "exness", "market": "spot"}
    rows = quotes(FIRST)
    storage.write_ticks("EURUSD", rows.drop("price"), **forex)
    assert_frame_equal(storage.get_ticks("EURUSD", FIRST, FIRST, **forex), rows)
    crossed = rows.with_columns(ask=pl.col("bid") - 0.001)
    with pytest.raises(TickDataError, match="below its bid"):
        storage.write_ticks("EURUSD", crossed, **forex)
    pytest.importorskip("pandas")
    assert storage.write_ticks("EURUSD", rows.to_pandas(), **forex).duplicates == 20


def test_days_that_were_deleted_are_gone_and_their_files_stay_for_a_week(storage):
    storage.write_ticks(SYMBOL, TICKS)
    plan = storage.scan_ticks(SYMBOL, FIRST, LAST)
    assert storage.delete_ticks(SYMBOL, DAYS[1], DAYS[2]) == DAYS[1:3]
    assert storage.list_days(SYMBOL) == [FIRST, LAST]
    with pytest.raises(TicksNotCachedError):
        got(storage)
    assert plan.collect().equals(TICKS)
    assert storage.verify()["state"].to_list().count("unreferenced") == 2
    storage.delete_ticks(SYMBOL)
    assert storage.list_symbols() == []
    assert storage.delete_ticks("ETHUSDT") == []
    storage.write_ticks(SYMBOL, TICKS)
    assert got(storage).equals(TICKS)


def test_sums_over_a_symbol(storage):
    storage.write_ticks(SYMBOL, TICKS)
    sums = storage.stats(SYMBOL)
    assert (sums["days"], sums["rows"]) == (4, 200)
    assert (sums["first_day"], sums["last_day"]) == (FIRST, LAST)
    assert (sums["first_id"], sums["last_id"]) == (1, 200)
    assert sums["bytes"] == sum(path.stat().st_size for path in day_files(storage))
    assert sums["states"] == {"given": 4}
    assert storage.stats("ETHUSDT")["days"] == 0


def test_the_folder_is_that_of_the_setting_and_does_not_move_with_the_process(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    assert TickStorage().root == tmp_path / "cache" / "ticks" / "v1"
    monkeypatch.chdir(tmp_path)
    storage = TickStorage(Path("here"))
    storage.write_ticks(SYMBOL, TICKS)
    monkeypatch.chdir("/")
    assert got(storage).equals(TICKS)
    assert (tmp_path / "here" / "ticks").is_dir()


def test_a_file_in_the_place_of_the_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "ticks").write_text("")
    with pytest.raises(StorageError, match="ticks"):
        TickStorage(tmp_path).write_ticks(SYMBOL, TICKS)


def test_an_empty_frame_writes_nothing(storage):
    assert storage.write_ticks(SYMBOL, TICKS.head(0)).days == ()
    assert not storage.root.exists()


def test_a_long_day_is_given_in_pieces_without_a_change(storage):
    from rangebar_polars.storage.files.codec import SLICE_ROWS

    rows = 2 * SLICE_ROWS + 1000
    ticks = (
        pl.int_range(rows, eager=True)
        .to_frame("row")
        .join(trades(FIRST, 1), how="cross")
        .drop("row")
        .with_columns(
            agg_trade_id=pl.int_range(rows),
            timestamp=pl.col("timestamp") + pl.duration(microseconds=pl.int_range(rows)),
        )
    )
    storage.put_days(SYMBOL, [given_day(FIRST, ticks)])
    assert storage.get_ticks(SYMBOL, FIRST, FIRST).equals(ticks)
    start = ticks["timestamp"][SLICE_ROWS - 3]
    part = storage.get_ticks(SYMBOL, start, start + timedelta(microseconds=7))
    assert part.equals(ticks.slice(SLICE_ROWS - 3, 7))


def test_the_sample_goes_through_the_store(storage):
    ticks = rb.sample_ticks()
    storage.write_ticks(SYMBOL, ticks)
    day = ticks["timestamp"][0].date()
    assert (
        storage.scan_ticks(SYMBOL, day, day)
        .rangebar.bars(250)
        .collect()
        .equals(ticks.rangebar.bars(250))
    )
