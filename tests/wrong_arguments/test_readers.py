"""Arguments of the readers, of a population and of the tick store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import (
    CoverageError,
    MissingColumnError,
    SettingError,
    StorageError,
    SymbolNotRegisteredError,
    ThresholdError,
    TickDataError,
    TicksNotCachedError,
)
from wrong_arguments.table import check, run, wrong

if TYPE_CHECKING:
    from pathlib import Path

    from wrong_arguments.table import Wrong

DAY = "'2024-08-08', '2024-08-08'"
OFFLINE = "fetch=False, use_cache=False, **here"


def _read(arguments: str, error: type[Exception], *words: str, retry: str | None = None) -> Wrong:
    return wrong(f"rb.get_range_bars({arguments}, **here)", error, *words, retry=retry)


WRONG = [
    *(_read(f"{symbol}, {DAY}", SymbolNotRegisteredError, "did you mean `BTCUSDT`?", written)
      for symbol, written in (("'BTCUSD'", "[symbols.BTCUSD]\nasset_class"),
                              ("'BTC/USDT'", '[symbols."BTC/USDT"]'), ("'btc-usdt'", "BTC-USDT"))),
    _read(f"'', {DAY}", SymbolNotRegisteredError, "letters of any script"),
    _read(f"'../../etc', {DAY}", SymbolNotRegisteredError, "letters of any script"),
    _read(f"None, {DAY}", TypeError, "`symbol` must be text"),
    wrong(f"rb.populate_cache_resumable(['ETHUSDT', 'NOPE'], {DAY}, **here)",
          SymbolNotRegisteredError, "`NOPE` is not registered", "[symbols.NOPE]"),
    _read("'ETHUSDT', '2024-08-09', '2024-08-08'", ValueError, "`end_date` (2024-08-08)",
          "`start_date` (2024-08-09)", "swap them"),
    _read("'ETHUSDT', start='2024-08-09', end='2024-08-08'", ValueError, "`end` (2024-08-08)"),
    _read("'ETHUSDT', '2999-08-09', '2999-08-10'", ValueError, "lies in the future"),
    *(_read(f"'ETHUSDT', {start}, '2025-08-08'", ValueError, "`start_date`", "not a date", hint)
      for start, hint in (("'2025-02-30'", '"2024-03-01"'), ("'today'", '"2024-03-01"'),
                          ("'01/08/2025'", '"2025-08-01" or "2025-01-08"'),
                          ("'01.08.2025'", '"2025-08-01"'), ("'2025-08'", '"2025-08-31"'))),
    *(_read(f"'ETHUSDT', {start}, '2025-08-08'", TypeError, "must be a date", kind)
      for start, kind in (("1722988800000", "`int`"), ("None", "`NoneType`"))),
    _read(f"'ETHUSDT', {DAY}, market='futures'", ValueError, "`market`: unknown value `futures`",
          "`spot`, `um`, `cm`"),
    _read(f"'ETHUSDT', {DAY}, ouroboros='quarter'", ValueError, "`ouroboros`: unknown value"),
    _read(f"'ETHUSDT', {DAY}, reset='quarter'", ValueError, "`reset`: unknown value `quarter`"),
    _read(f"'EURUSD', {DAY}", ValueError, "a symbol of `exness`", 'source="exness"'),
    _read(f"'ETHUSDT', {DAY}, ouroboros='day', ouroboros_mode='month'", ValueError, "two names"),
    _read(f"'ETHUSDT', {DAY}, reset='day', ouroboros='month'", TypeError, "two names"),
    *(_read(f"'ETHUSDT', {DAY}, {keyword}=1", TypeError, f"no argument `{keyword}`", "leave it out")
      for keyword in ("validation", "materialize", "batch_size", "max_memory_mb", "chunk_size",
                      "verify_checksum", "checkpoint_dir", "validate_on_return")),
    wrong("rb.get_n_range_bars('ETHUSDT', 10, warn_if_fewer=True, **here)", TypeError,
          "write allow_fewer=True"),
    _read(f"'ETHUSDT', {DAY}, treshold=250", TypeError, "did you mean `threshold`?"),
    _read(f"'ETHUSDT', {DAY}, [250, 500]", TypeError, "reads one threshold", "rb.scan_range_bars("),
    _read(f"'ETHUSDT', {DAY}, 0.25", ThresholdError, "write 250 for 0.25 %",
          retry=f"rb.get_range_bars('ETHUSDT', {DAY}, {{value}}, {OFFLINE})"),
    _read(f"'ETHUSDT', {DAY}, 10", ThresholdError, "minimum of ETHUSDT, which is 250 (0.25 %)",
          "RANGEBAR_MIN_THRESHOLD_ETHUSDT=10"),
    _read(f"'ETHUSDT', {DAY}, 'tight'", ThresholdError, "`tight`, which is 50 (0.05 %)"),
    _read("'ETHUSDT'", TypeError, "`start_date`, also called `start`"),
    _read(f"'ETHUSDT', {DAY}, anchor='start'", ValueError, "`anchor` is `start`", '"segment"'),
    _read(f"'ETHUSDT', {DAY}, use_cache='no'", TypeError, "`use_cache` must be a bool; it is `'no'`"),
    *(_read(f"'ETHUSDT', {DAY}, {name}=0", TypeError, f"`{name}` must be a bool", f"{name}=True",
            retry=f"rb.get_range_bars('ETHUSDT', {DAY}, {{keyword}}, use_cache=False, **here)")
      for name in ("fetch", "fetch_if_missing")),
    _read(f"'ETHUSDT', {DAY}, dsn='localhost:8123'", SettingError, "`localhost:8123`",
          "http://localhost:8123"),
    _read(f"'ETHUSDT', {DAY}, dsn='postgres://x'", SettingError, "`chdb`, `http`, `https`"),
    wrong(f"rb.get_range_bars('ETHUSDT', {DAY}, cache_dir=a_file)", StorageError, "is a file",
          "give another folder"),
    *(wrong(f"rb.get_n_range_bars('ETHUSDT', {number}, end='2024-08-08', {OFFLINE})", error,
            "`n_bars` must be", *words)
      for number, error, *words in (
          ("0", ValueError, "at least 1", "n_bars=1_000"), ("1e2", TypeError, "`float`", "n_bars=100"),
          ("'100'", TypeError, "`str`", "n_bars=100"), ("True", TypeError, "`bool`", "n_bars=1000"))),
    wrong(f"rb.get_range_bars('ETHUSDT', '2024-01-01', '2024-08-08', {OFFLINE})", CoverageError,
          "for 221 days (2024-01-01 to 2024-08-08)", "at most 31 days",
          "rb.populate_cache_resumable("),
    wrong(f"rb.get_range_bars('ETHUSDT', '2024-08-07', '2024-08-08', {OFFLINE})",
          TicksNotCachedError, "2024-08-07", "rb.fetch_ticks(", "cache_dir="),
    wrong(f"rb.scan_ticks('ETHUSDT', {DAY}, on_gap='warn', **here)", ValueError,
          "`on_gap`: unknown value `warn`; choose from `raise`, `report`"),
    wrong(f"rb.scan_ticks('ETHUSDT', {DAY}, kind='trade', **here)", ValueError, "`trades`?"),
    wrong(f"rb.scan_range_bars('ETHUSDT', {DAY}, include_microstructure=1, **here)", TypeError,
          "`include_microstructure` must be a bool",
          retry=f"rb.scan_range_bars('ETHUSDT', {DAY}, {{keyword}}, {OFFLINE}).collect()"),
    wrong(f"rb.populate_cache_resumable([], {DAY}, **here)", ValueError, "at least one symbol"),
    wrong(f"rb.populate_cache_resumable('ETHUSDT', {DAY}, verbose=2, **here)", TypeError,
          "`verbose` must be a bool"),
    wrong(f"rb.populate_cache_resumable('ETHUSDT', {DAY}, executor=4, **here)", TypeError,
          "`int`", "ProcessPoolExecutor"),
    wrong(f"rb.populate_cache_resumable('ETHUSDT', {DAY}, threshold=[], **here)", ThresholdError,
          "the list of thresholds is empty"),
    wrong("rb.populate_cache_resumable('ETHUSDT', dt.datetime(2024, 8, 8, 5), '2024-08-08', "
          "**here)", ValueError, "whole UTC days", "pass dates"),
]  # fmt: skip

STORE = [
    *(wrong(f"store.write_ticks('ETHUSDT', day.with_columns(timestamp={time}))", TypeError,
            "column `timestamp` must be a Datetime", dtype,
            retry=f"store.write_ticks('ETHUSDT', day.with_columns(timestamp={time})"
            ".with_columns(timestamp={call}))")
      for time, dtype in (("us", "`Int64`"), ("us * 1000", "`Int64`"),
                          ("us / 1e6", "`Float64`"))),
    wrong("store.write_ticks('ETHUSDT', day.with_columns(timestamp=us // 1000))", TypeError,
          'pl.from_epoch("timestamp", time_unit="ms")',
          retry="store.write_ticks('SOLUSDT', day.with_columns(timestamp=us // 1000)"
          ".with_columns(timestamp={call}))"),
    wrong("store.write_ticks('NOPE', day)", SymbolNotRegisteredError, "`NOPE` is not registered"),
    wrong("store.write_ticks('ETHUSDT', day.with_columns(pl.col('price') + 1))", TickDataError,
          "two different ticks have the agg_trade_id", "price"),
    wrong("store.write_ticks('ETHUSDT', day.drop('agg_trade_id'))", MissingColumnError,
          "no column `agg_trade_id`", 'source="my_venue"',
          retry="store.write_ticks('ETHUSDT', day.drop('agg_trade_id'), {keyword})"),
    wrong("store.write_ticks('ETHUSDT', None)", TypeError, "must be a frame", "`NoneType`"),
    *(wrong(f"store.{old}", AttributeError, f"`TickStorage` has no attribute `{old}`", new)
      for old, new in (("read_ticks", "storage.get_ticks("), ("fetch_month", "rb.fetch_ticks("),
                       ("list_months", "storage.list_days("), ("writeticks", "`write_ticks`?"))),
    wrong("rb.rangebars", AttributeError, "did you mean `rb.rangebar`?"),
    wrong("rb.RangeBarProcessor", AttributeError, "rb.RangeBarBuilder(threshold=250)"),
]  # fmt: skip

ACCEPTED = [
    f"' ETHUSDT ', {DAY}",
    f"'ethusdt', {DAY}",
    "'ETHUSDT', '20240808', '20240808'",
    "'ETHUSDT', dt.datetime(2024, 8, 8), pd.Timestamp('2024-08-08 12:00')",
    "'ETHUSDT', np.datetime64('2024-08-08'), '2024-08-08 12:00'",
    f"'ETHUSDT', {DAY}, ouroboros='none'",
    f"'ETHUSDT', {DAY}, reset=None, threshold='0.25%', features='microstructure'",
]


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the names of a store with one day of ticks."""
    folder = tmp_path_factory.mktemp("store")
    rb.TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    (folder / "file").touch()
    names = {"here": {"cache_dir": folder}, "a_file": folder / "file"}
    return {**names, "store": rb.TickStorage(folder)}


@pytest.mark.parametrize("row", WRONG, ids=str)
def test_an_argument_of_a_reader(row: Wrong, further: dict[str, object]) -> None:
    check(row, **further)


@pytest.mark.parametrize("row", STORE, ids=str)
def test_an_argument_of_the_store(row: Wrong, further: dict[str, object]) -> None:
    check(row, **further)


@pytest.mark.parametrize("arguments", ACCEPTED)
def test_arguments_that_are_accepted(arguments: str, further: dict[str, object]) -> None:
    assert len(run(f"rb.get_range_bars({arguments}, {OFFLINE})", **further)) > 0


def test_the_index_of_a_result_can_be_passed_back(further: dict[str, object]) -> None:
    bars = run(f"rb.get_range_bars('ETHUSDT', {DAY}, {OFFLINE})", **further)
    again = f"rb.get_range_bars('ETHUSDT', bars.index[0], bars.index[-1], {OFFLINE})"
    found = run(again, bars=bars, **further)
    # A span of instants begins with a bar of its own, and its end is not in it.
    time = pl.col("timestamp")
    first, end = (pl.lit(bars.index[place]).dt.replace_time_zone("UTC") for place in (0, -1))
    wanted = rb.sample_ticks().filter(time >= first, time < end).rangebar.bars(250)
    assert found["Close"].to_list() == wanted["close"].to_list()
    assert len(found) > 200


def test_ticks_without_ids_go_into_a_source_of_your_own(tmp_path: Path) -> None:
    ticks = rb.sample_ticks().drop("agg_trade_id", "first_trade_id", "last_trade_id")
    rb.TickStorage(tmp_path).write_ticks("ETHUSDT", ticks, source="my_venue")
    plan = rb.scan_ticks(
        "ETHUSDT", "2024-08-08", "2024-08-08", source="my_venue", cache_dir=tmp_path
    )
    assert plan.select(pl.len()).collect().item() == ticks.height
