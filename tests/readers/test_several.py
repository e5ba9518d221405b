"""Several symbols and thresholds in one plan, from a real store and a real cache."""

from __future__ import annotations

import inspect
import pickle
import re
from contextlib import ExitStack

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.io.plugins import register_io_source
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from counting_plans import COUNTS, assert_counts_equal
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import (
    CoverageError,
    SymbolNotRegisteredError,
    ThresholdError,
    TicksNotCachedError,
)
from rangebar_polars.readers import execute, lazy
from rangebar_polars.readers.cached import get_n_bars
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.reading import read
from readers.shared import SYMBOL, january, keep, ticks_between
from repetitions import repeated

OTHER = "ETHUSDT"
SYMBOLS = [OTHER, SYMBOL]
THRESHOLDS = [500, 250]
SPAN = (january(1), january(41))
DAY = pl.col("close_time").dt.date()


@pytest.fixture(scope="module")
def folder(in_memory):
    """Two symbols with forty days of ticks; the cache has the bars of all but the last few days."""
    place = in_memory / "several"
    ticks = ticks_between(*SPAN)
    TickStorage(place).write_ticks(SYMBOL, ticks)
    TickStorage(place).write_ticks(OTHER, ticks.with_columns(pl.col("price") / 10))
    with open_cache(cache_dir=place, write=True) as cache:
        for symbol in SYMBOLS:
            for threshold in THRESHOLDS:
                spec = BarSpec.of(symbol, threshold)
                days = 37 if symbol == SYMBOL else 35
                keep(cache, place, spec, january(1), january(days).date())
        yield place


def scan(folder, symbols=SYMBOLS, thresholds=THRESHOLDS, **options):
    return rb.scan_range_bars(symbols, *SPAN, thresholds, fetch=False, cache_dir=folder, **options)


@pytest.fixture(scope="module")
def expected(folder):
    """Return what one read after another gives, with the two columns before it."""
    frames = []
    for symbol in SYMBOLS:
        for threshold in THRESHOLDS:
            bars = scan(folder, symbol, threshold, features="microstructure").collect()
            dbps = pl.lit(threshold, pl.UInt32)
            keys = [pl.lit(symbol).alias("symbol"), dbps.alias("threshold")]
            frames.append(bars.select(*keys, pl.all()))
    return pl.concat(frames)


def test_series_follow_one_another_in_the_order_of_the_lists(folder, expected, engine):
    plan = scan(folder, features="microstructure")
    assert expected.height > 400
    assert plan.collect_schema() == expected.schema
    assert_frame_equal(plan.collect(), expected)
    backwards = scan(folder, SYMBOLS[::-1], THRESHOLDS[::-1], features="microstructure").collect()
    sort = ["symbol", "threshold", "close_time"]
    assert_frame_equal(backwards.sort(sort), expected.sort(sort))
    assert backwards["symbol"][0] == SYMBOL


def test_the_columns_are_those_of_the_frame_methods(folder):
    ticks = rb.scan_ticks(SYMBOLS, *SPAN, fetch=False, cache_dir=folder)
    made = ticks.rangebar.bars(THRESHOLDS, group_by="symbol", reset="year").drop("bar_id").collect()
    read = scan(folder).collect()
    assert made.schema == read.schema
    sort = ["symbol", "threshold", "close_time"]
    assert_frame_equal(made.sort(sort), read.sort(sort))


@pytest.mark.parametrize(
    ("symbols", "thresholds", "columns"),
    [
        ([SYMBOL], 250, ["symbol"]),
        (SYMBOL, [250], ["threshold"]),
        ((SYMBOL,), (250,), ["symbol", "threshold"]),
        (pl.Series([SYMBOL]), pd.Series([250]), ["symbol", "threshold"]),
        ((name for name in [SYMBOL]), ["0.25%"], ["symbol", "threshold"]),
        ("btcusdt", 250, []),
    ],
    ids=["a list", "a list of thresholds", "tuples", "series", "a generator", "neither"],
)
def test_a_list_adds_its_column(folder, symbols, thresholds, columns):
    plan = scan(folder, symbols, thresholds)
    names = plan.collect_schema().names()
    assert names[: len(columns)] == columns
    assert names[len(columns)] == "open_time"
    assert_frame_equal(plan.collect().drop(columns), scan(folder, SYMBOL, 250).collect())


class Opened:
    """The series that a query reads, by symbol and threshold."""

    def __init__(self, patch):
        self.series = []
        frames = lazy._frames

        def noted(request, reads, bounds):
            self.series.append((request.spec.symbol, request.spec.threshold))
            self.columns = request.columns
            return frames(request, reads, bounds)

        patch.setattr(lazy, "_frames", noted)


@pytest.fixture
def opened(monkeypatch):
    return Opened(monkeypatch)


SYM, DBPS = pl.col("symbol"), pl.col("threshold")
FILTERS = {
    "a symbol": (SYM == SYMBOL, [(SYMBOL, 500), (SYMBOL, 250)]),
    "another": (SYM != SYMBOL, [(OTHER, 500), (OTHER, 250)]),
    "a threshold": (DBPS == 250, [(OTHER, 250), (SYMBOL, 250)]),
    "a range of thresholds": (DBPS.is_between(300, 600), [(OTHER, 500), (SYMBOL, 500)]),
    "both": ((SYM == OTHER) & (DBPS > 300), [(OTHER, 500)]),
    "a list": (SYM.is_in([SYMBOL, "SOLUSDT"]), [(SYMBOL, 500), (SYMBOL, 250)]),
    "a text": (SYM.str.starts_with("ETH"), [(OTHER, 500), (OTHER, 250)]),
    "not": (~SYM.is_in([SYMBOL]), [(OTHER, 500), (OTHER, 250)]),
    "with a time": (
        (SYM == OTHER) & (DBPS == 250) & (pl.col("close_time") > january(39)),
        [(OTHER, 250)],
    ),
    "by symbol another time": (
        ((SYM == OTHER) & (pl.col("close_time") > january(60)))
        | ((SYM == SYMBOL) & (pl.col("close_time") > january(39))),
        [(OTHER, 500), (OTHER, 250), (SYMBOL, 500), (SYMBOL, 250)],
    ),
    "none": (SYM == "SOLUSDT", []),
    "with a price": ((SYM == OTHER) & (pl.col("close") > 0), [(OTHER, 500), (OTHER, 250)]),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_reads_only_the_series_that_it_passes(folder, expected, opened, engine, name):
    predicate, series = FILTERS[name]
    found = scan(folder, features="microstructure").filter(predicate).collect()
    assert_frame_equal(found, expected.filter(predicate))
    assert opened.series == series


def test_a_row_limit_opens_no_series_after_the_rows_are_there(folder, expected, opened):
    assert_frame_equal(scan(folder, features="microstructure").head(3).collect(), expected.head(3))
    assert opened.series == [(OTHER, 500)]


def test_only_the_columns_of_a_query_are_read(folder, opened):
    plan = scan(folder)
    plan.select("symbol", "close").collect()
    assert opened.columns == ("close",)
    plan.filter(DBPS == 250).select(pl.col("volume").sum()).collect()
    assert opened.columns == ("volume",)
    # Rows are counted by one column.
    counts = plan.group_by("symbol", "threshold", maintain_order=True).len().collect()
    assert len(opened.columns) == 1
    assert counts.select("symbol", "threshold").rows() == [
        (symbol, threshold) for symbol in SYMBOLS for threshold in THRESHOLDS
    ]


@pytest.mark.parametrize("count", COUNTS)
def test_a_plan_that_asks_for_no_column_has_all_bars(folder, expected, count):
    assert_counts_equal(scan(folder), expected, [COUNTS[count]])


@settings(max_examples=repeated(8, 15))
@given(
    names=st.lists(
        st.sampled_from(["symbol", "threshold", "close", "close_time", "volume", "ofi"]),
        min_size=1,
        unique=True,
    ),
    symbols=st.lists(st.sampled_from([SYMBOL, OTHER, "SOLUSDT"]), unique=True),
    threshold=st.sampled_from([100, 250, 400, 500]),
    days=st.tuples(st.integers(0, 45), st.integers(0, 45)),
    limit=st.one_of(st.none(), st.integers(0, 700)),
)
def test_what_is_pushed_down_changes_nothing(
    folder, expected, names, symbols, threshold, days, limit
):
    plan, whole = scan(folder, features="microstructure"), expected
    if limit is not None:
        plan, whole = plan.head(limit), whole.head(limit)
    between = pl.col("close_time").is_between(january(min(days)), january(max(days)))
    predicate = (SYM.is_in(symbols) & between) | ((threshold >= DBPS) & ~between)
    assert_frame_equal(
        plan.filter(predicate).select(names).collect(), whole.filter(predicate).select(names)
    )


def test_one_part_of_one_series_is_in_memory_at_a_time(folder, expected, monkeypatch):
    monkeypatch.setattr(lazy, "_MOST_ROWS", 20)
    heights = []
    frames = lazy._frames

    def noted(*arguments):
        for frame in frames(*arguments):
            heights.append(frame.height)
            yield frame

    monkeypatch.setattr(lazy, "_frames", noted)
    assert_frame_equal(scan(folder, features="microstructure").collect(), expected)
    assert len(heights) > 20
    assert max(heights) < expected.height / 8


def test_the_cache_is_opened_once_to_plan_all_series(folder, monkeypatch):
    opened = []
    reading = execute.reading

    def noted(*arguments, **options):
        opened.append(arguments)
        return reading(*arguments, **options)

    monkeypatch.setattr(execute, "reading", noted)
    scan(folder)
    assert len(opened) == 1


def test_a_plan_of_several_can_be_pickled(folder, expected):
    plan = scan(folder, features="microstructure")
    assert_frame_equal(pickle.loads(pickle.dumps(plan)).collect(), expected)


@pytest.mark.skipif(
    "explain_name" not in inspect.signature(register_io_source).parameters,
    reason="Polars before 2.0 does not show names of sources",
)
def test_the_plan_names_its_series(folder):
    assert f"{OTHER}, {SYMBOL} at 500, 250 dbps, 4 segments" in scan(folder).explain()
    one = scan(folder, SYMBOL, 250).explain()
    assert "PYTHON[RANGE_BARS]" in one
    assert one.rstrip().endswith(f"{SYMBOL} at 250 dbps, 1 segment")


# Errors


def test_an_error_names_all_series_that_are_not_cached(folder):
    with pytest.raises(CoverageError) as refused:
        rb.scan_range_bars(
            SYMBOLS, january(1), january(41), [250, 400, 450], fetch=False, cache_dir=folder
        )
    text = str(refused.value)
    for symbol in SYMBOLS:
        assert f"{symbol} at 400 dbps (2023-01-01 to 2023-02-09)" in text
        assert f"{symbol} at 450 dbps (2023-01-01 to 2023-02-09)" in text
    assert "at 250 dbps" not in text
    assert len(refused.value.days) == 40
    (call,) = re.findall(r"rb\.populate_cache_resumable\(.*?\]\)|rb\.populate.*\)", text)
    assert int(eval(call, {"rb": rb})) > 100
    plan = rb.scan_range_bars(
        SYMBOLS, january(1), january(41), [250, 400, 450], fetch=False, cache_dir=folder
    )
    assert plan.select("symbol", "threshold").unique().collect().height == 6


def test_an_error_of_one_series_is_that_of_a_read_of_it(folder):
    with pytest.raises(
        CoverageError, match="bars of ETHUSDT at 480 dbps are not cached for 35 days"
    ):
        rb.scan_range_bars(
            [OTHER], january(1), january(36), [480, 250], fetch=False, cache_dir=folder
        )


def test_a_symbol_without_ticks_is_named(folder):
    with pytest.raises(TicksNotCachedError, match="40 days of SOLUSDT") as refused:
        rb.scan_ticks([SYMBOL, "SOLUSDT"], *SPAN, fetch=False, cache_dir=folder)
    assert refused.value.symbol == "SOLUSDT"
    with pytest.raises(TicksNotCachedError, match="2 days of SOLUSDT"):
        rb.scan_range_bars(
            [SYMBOL, "SOLUSDT"], january(1), january(3), [500], fetch=False, cache_dir=folder
        )


def test_a_file_that_is_damaged_is_named_with_its_series(in_memory):
    place = in_memory / "damaged"
    ticks = ticks_between(january(1), january(3))
    for symbol in SYMBOLS:
        TickStorage(place).write_ticks(symbol, ticks)
    options = {"fetch": False, "cache_dir": place}
    plan = rb.scan_range_bars(SYMBOLS, january(1), january(3), [250], **options)
    ticks = rb.scan_ticks(SYMBOLS, january(1), january(3), **options)
    file = next((TickStorage(place).root / "binance" / "spot" / SYMBOL).rglob("2023-01-02.*"))
    file.write_bytes(b"nothing")
    for lazy_frame, words in ((ticks, "2023-01-02"), (plan, "BTCUSDT at 250 dbps")):
        with pytest.raises(
            (rb.exceptions.ParquetCorruptionError, pl.exceptions.ComputeError), match=words
        ) as refused:
            lazy_frame.collect()
        assert SYMBOL in str(refused.value)
        # The other symbol does not need the file.
        assert lazy_frame.filter(pl.col("symbol") == OTHER).collect().height > 0


@pytest.mark.parametrize(
    ("symbols", "error", "words"),
    [
        ([], ValueError, "the list of symbols is empty"),
        ([SYMBOL, "btcusdt"], ValueError, "names `BTCUSDT` twice"),
        ({SYMBOL, OTHER}, TypeError, r"in a set have no order(.|\n)*\[\"BTCUSDT\", \"ETHUSDT\"\]"),
        (5, TypeError, "must be text or a list of texts; it is of type `int`"),
        ({SYMBOL: 250}, TypeError, "it is of type `dict`"),
        ([SYMBOL, 5], TypeError, "`symbol` must be text; it is of type `int`"),
        ([SYMBOL, "NOPE", "NIX"], SymbolNotRegisteredError, "`NOPE`, `NIX` are not registered"),
    ],
    ids=["none", "twice", "a set", "a number", "a mapping", "a number inside", "unknown"],
)
@pytest.mark.parametrize("scanned", [rb.scan_ticks, rb.scan_range_bars])
def test_a_list_that_is_not_one_of_symbols_is_refused(folder, scanned, symbols, error, words):
    with pytest.raises(error, match=words):
        scanned(symbols, *SPAN, fetch=False, cache_dir=folder)


@pytest.mark.parametrize(
    ("thresholds", "error", "words"),
    [
        ([], ThresholdError, "the list of thresholds is empty"),
        ([250, "0.25%"], ThresholdError, "are the same: 250"),
        ([250, 100], ThresholdError, r"`100` \(0.1 %\) is below the minimum of ETHUSDT"),
        ({250, 500}, TypeError, "thresholds in a set have no order"),
    ],
    ids=str,
)
def test_a_list_that_is_not_one_of_thresholds_is_refused(folder, thresholds, error, words):
    with pytest.raises(error, match=words):
        scan(folder, SYMBOLS, thresholds)


ONE_EACH = {
    "get_range_bars": lambda symbol, dbps, place: rb.get_range_bars(
        symbol, "2023-01-02", "2023-01-03", dbps, fetch=False, cache_dir=place
    ),
    "get_n_range_bars": lambda symbol, dbps, place: rb.get_n_range_bars(
        symbol, 10, dbps, end_date="2023-01-30", fetch=False, cache_dir=place
    ),
    "get_cached_bars": lambda symbol, dbps, place: rb.get_cached_bars(
        symbol, dbps, cache_dir=place
    ),
    "get_n_bars": lambda symbol, dbps, place: get_n_bars(symbol, 10, dbps, cache_dir=place),
    "count_bars": lambda symbol, dbps, place: rb.count_bars(symbol, dbps, cache_dir=place),
    "coverage": lambda symbol, dbps, place: rb.coverage(symbol, dbps, cache_dir=place),
}


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize(
    ("symbol", "threshold", "words"),
    [
        (SYMBOLS, 250, "reads one symbol; `symbol` is `['ETHUSDT', 'BTCUSDT']`"),
        (SYMBOL, [250, 500], "reads one threshold; `threshold` is `[250, 500]`"),
        ((SYMBOL,), {250}, "reads one symbol and one threshold; `symbol` is `('BTCUSDT',)` and "),
    ],
    ids=str,
)
def test_readers_of_one_series_name_the_call_for_several(
    folder, monkeypatch, name, symbol, threshold, words
):
    with pytest.raises(TypeError) as refused:
        ONE_EACH[name](symbol, threshold, folder)
    text = str(refused.value)
    assert words in text.replace("threshold_decimal_bps", "threshold")
    assert "rb.scan_range_bars" in text
    code = re.search(r"(rb\.scan_range_bars\(.*\)|\[rb\..*\])(?:;|$)", text).group(1)
    compiled = compile(code, "hint", "eval")
    if name != "get_n_range_bars":  # which reads up to now
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
        assert eval(compiled, {"rb": rb}) is not None


def test_a_fetch_takes_one_symbol():
    with pytest.raises(TypeError, match="one symbol at a time"):
        rb.fetch_ticks([SYMBOL], "2023-01-01", "2023-01-01")


# Ticks


def test_ticks_follow_one_another_in_the_order_of_the_list(folder, engine):
    plan = rb.scan_ticks(SYMBOLS, *SPAN, fetch=False, cache_dir=folder)
    each = [
        rb.scan_ticks(symbol, *SPAN, fetch=False, cache_dir=folder)
        .collect()
        .select(pl.lit(symbol).alias("symbol"), pl.all())
        for symbol in SYMBOLS
    ]
    whole = pl.concat(each)
    assert plan.collect_schema() == whole.schema
    assert_frame_equal(plan.collect(), whole)
    assert_frame_equal(plan.slice(4_000, 2_000).collect(), whole.slice(4_000, 2_000))
    assert_frame_equal(pickle.loads(pickle.dumps(plan)).collect(), whole)
    first = rb.scan_ticks(SYMBOLS, SPAN[0], january(6), fetch=False, cache_dir=folder)
    for step in COUNTS.values():
        assert_counts_equal(first, whole.filter(pl.col("timestamp") < january(6)), [step])


def days_read(monkeypatch, query):
    """Return the days whose files a query reads, by symbol."""
    found = []
    verified = read.read_verified

    def noted(symbol_dir, day, entry):
        found.append((symbol_dir.symbol, day))
        return verified(symbol_dir, day, entry)

    with monkeypatch.context() as patch:
        patch.setattr(read, "read_verified", noted)
        query.collect()
    return found


def test_a_filter_reads_only_the_files_of_the_symbols_that_it_passes(folder, monkeypatch):
    plan = rb.scan_ticks(SYMBOLS, *SPAN, fetch=False, cache_dir=folder)
    late = pl.col("timestamp") >= january(39)
    assert {symbol for symbol, _ in days_read(monkeypatch, plan.filter(SYM == SYMBOL))} == {SYMBOL}
    assert days_read(monkeypatch, plan.filter(SYM == "SOLUSDT")) == []
    expected = [(symbol, january(day).date()) for symbol in SYMBOLS for day in (39, 40)]
    assert days_read(monkeypatch, plan.filter(late)) == expected
    assert days_read(monkeypatch, plan.filter(late, SYM != SYMBOL)) == expected[:2]
    # The next file is read ahead, and no more.
    first = days_read(monkeypatch, plan.head(5))
    assert first in ([(OTHER, january(1).date())], [(OTHER, january(n).date()) for n in (1, 2)])


def test_a_column_that_a_symbol_does_not_have_is_null(in_memory):
    place = in_memory / "columns"
    ticks = ticks_between(january(1), january(2))
    TickStorage(place).write_ticks(SYMBOL, ticks)
    TickStorage(place).write_ticks(OTHER, ticks.select("timestamp", "price", "agg_trade_id"))
    plan = rb.scan_ticks([OTHER, SYMBOL], january(1), january(2), fetch=False, cache_dir=place)
    frame = plan.collect()
    assert frame.columns == ["symbol", *ticks.columns]
    assert frame["quantity"].null_count() == ticks.height
    assert_frame_equal(frame.filter(SYM == SYMBOL).drop("symbol"), ticks)
    quantities = plan.select(pl.col("quantity").sum()).collect().item()
    assert quantities == pytest.approx(ticks["quantity"].sum())
    alone = rb.scan_ticks([OTHER], january(1), january(2), fetch=False, cache_dir=place)
    assert alone.collect_schema().names() == ["symbol", "timestamp", "price", "agg_trade_id"]


def test_text_ids_and_integers_of_one_source_stand_in_columns_of_their_own(in_memory):
    place = in_memory / "texts"
    ticks = ticks_between(january(1), january(2)).select(
        "timestamp", "price", "quantity", "agg_trade_id"
    )
    texts = ticks.with_columns(pl.col("agg_trade_id").cast(pl.String).alias("trade_id")).drop(
        "agg_trade_id"
    )
    options = {"source": "kraken", "market": "spot"}
    TickStorage(place).write_ticks(SYMBOL, ticks, **options)
    TickStorage(place).write_ticks(OTHER, texts, **options)
    frame = rb.scan_ticks(
        SYMBOLS, january(1), january(2), fetch=False, cache_dir=place, **options
    ).collect()
    assert frame.columns == ["symbol", "timestamp", "price", "quantity", "agg_trade_id", "trade_id"]
    of_each = frame.group_by("symbol", maintain_order=True).agg(
        pl.col("agg_trade_id").null_count(), pl.col("trade_id").null_count().alias("texts")
    )
    assert of_each.rows() == [(OTHER, ticks.height, 0), (SYMBOL, 0, ticks.height)]


def test_missing_days_are_fetched_once_for_all_thresholds(exchange, tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    span = ("2024-12-30", "2024-12-31")
    with ExitStack() as stack:
        from rangebar_polars.readers import request

        calls = []
        ensure = request.ensure_days

        def noted(*arguments, **options):
            calls.append(arguments)
            return ensure(*arguments, **options)

        stack.enter_context(monkeypatch.context()).setattr(request, "ensure_days", noted)
        plan = rb.scan_range_bars(["BTCUSDT"], *span, [250, 500, 1000])
    assert len(calls) == 1
    ticks = rb.scan_ticks("BTCUSDT", *span, fetch=False)
    made = ticks.rangebar.bars([250, 500, 1000], reset="year").collect().drop("bar_id")
    assert_frame_equal(
        plan.collect().drop("symbol"), made.sort("threshold", "close_time", maintain_order=True)
    )
