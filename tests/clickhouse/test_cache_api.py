"""Reads of stored bars: nothing is computed, series are never mixed, and missing days are reported."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import QUICK
from series_data import FIRST, SERIES, SPEC, bars_on, days, drafts, expected

import rangebar_polars as rb
from rangebar_polars._utils.span import day_start
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.cli._remedies import command
from rangebar_polars.clickhouse import cache as api
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.client import Cache
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing
from rangebar_polars.exceptions import (
    CacheUnavailableError,
    SymbolNotRegisteredError,
    ThresholdError,
)
from rangebar_polars.readers.hints import missing_bars, python_call
from rangebar_polars.readers.request import ReadRequest
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot

NAMES = ("get_cached_bars", "get_n_bars", "count_bars", "coverage")
LAST_DAY = date(2024, 12, 31)
NEW_YEAR = date(2025, 1, 1)


class Stored:
    """The public functions on one cache, and the cache itself."""

    def __init__(self, cache, arguments):
        self.cache = cache
        self.arguments = arguments
        for name in NAMES:
            setattr(self, name, partial(self._call, getattr(api, name)))

    def _call(self, function, *positional, **named):
        return function("BTCUSDT", *positional, **(self.arguments | named))

    def publish(self, count, **fields):
        return publish(self.cache, drafts(count, **fields))


@pytest.fixture(params=["embedded", "server"])
def stored(request, tmp_path):
    """The public functions on an empty cache that stays open."""
    if request.param == "server":
        server = request.getfixturevalue("server")
        with server.open(write=True) as one:
            one.writes = one.reads = QUICK
            yield Stored(one, server.arguments)
    else:
        one = request.getfixturevalue("open_folder")
        create_tables_if_missing(one)
        for table in ("bars", "units", "generations"):
            one.command(f"TRUNCATE TABLE {one.table(table)}")
        address = f"chdb://{one.target.folder}"
        yield Stored(one, {"dsn": address, "cache_dir": tmp_path})


def core(frame):
    return frame.select(name for name in frame.columns if name not in {"is_closed", "ended_by"})


def bars_of(day_list, scale=1.0):
    names = rb.columns().filter(group="core")["name"]
    return core(expected(day_list, scale)).select(n for n in names if n in CORE)


CORE = core(expected([FIRST])).select(
    name for name in rb.columns().filter(group="core")["name"] if name not in
    {"bar_id", "threshold", "is_closed", "ended_by"}
).columns  # fmt: skip


# --- hints for missing bars ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, {}),
        (
            {"threshold": 640, "ouroboros": "month"},
            {"threshold_decimal_bps": 640, "ouroboros": "month"},
        ),
        ({"market": "um", "prevent_same_timestamp_close": False},) * 2,
    ],
)
def test_the_suggested_call_stores_the_requested_bars(tmp_path, asked, named):
    with pytest.warns(CoverageWarning, match="2 days are not cached") as said:
        api.get_cached_bars("BTCUSDT", start=FIRST, end=days(2)[1], cache_dir=tmp_path, **asked)
    assert called(said[0].message) == (
        ("BTCUSDT", str(FIRST), str(days(2)[1])),
        {**named, "cache_dir": str(tmp_path)},
    )


def test_the_suggested_call_stores_the_missing_newest_bars(stored):
    publish(stored.cache, drafts(1, series=replace(SPEC, threshold=640).series(FIRST)))
    with pytest.warns(CoverageWarning, match="1 day is not cached") as said:
        stored.get_n_bars(99, 640, before=days(3)[2])
    address = resolve(stored.arguments["dsn"]).address
    places = {"cache_dir": str(stored.arguments["cache_dir"]), "dsn": address}
    assert called(said[0].message) == (
        ("BTCUSDT", str(days(2)[1]), str(days(2)[1])),
        {"threshold_decimal_bps": 640, **places},
    )


def called(message):
    """Return the arguments of the call that a message suggests."""
    _, _, call = str(message).partition("hint: ")
    found = SimpleNamespace(populate_cache_resumable=lambda *given, **named: (given, named))
    return eval(call, {"rb": found})


def populating(spec, **options):
    """Return what a read of one day misses."""
    return missing_bars(ReadRequest(spec, **options), FIRST, FIRST)


def test_a_suggested_call_contains_no_password():
    missing = populating(SPEC, dsn="http://me:secret@host:8123/bars")
    assert "secret" not in repr(missing)
    assert python_call(missing).endswith('dsn="http://host:8123/bars")')
    line = command(missing)
    assert line == f"rangebar populate BTCUSDT -s {FIRST} -e {FIRST} --dsn http://host:8123/bars"


def test_a_suggested_command_omits_only_defaults_of_the_registry():
    places = {
        BarSpec.of("EURUSD", 250, source="exness", market="spot"): "EURUSD",
        BarSpec.of("BTCUSDT", 250, market="um"): "BTCUSDT --source binance --market um",
    }
    for spec, words in places.items():
        symbol, _, options = words.partition(" ")
        wanted = f"rangebar populate {symbol} -s {FIRST} -e {FIRST} {options}"
        assert command(populating(spec)) == wanted.strip()
    other_close = BarRules(prevent_same_timestamp_close=False)
    line = command(populating(replace(SPEC, rules=other_close)))
    assert "prevent_same_timestamp_close=False" in line


# --- reads ---------------------------------------------------------------------------------------


def test_bars_are_those_that_were_published(stored):
    stored.publish(3)
    assert stored.get_cached_bars(250, FIRST, days(3)[2]).equals(bars_of(days(3)))
    assert stored.get_cached_bars().equals(bars_of(days(3)))


def test_a_frame_has_the_columns_of_bars_whatever_is_stored(stored):
    empty = {f: stored.get_cached_bars(features=f) for f in ("core", "microstructure")}
    stored.publish(1)
    for features, frame in empty.items():
        found = stored.get_cached_bars(features=features)
        fresh = rb.sample_ticks().rangebar.bars(250, features=features).drop("bar_id")
        assert frame.schema == found.schema == fresh.schema
        assert frame.schema == stored.get_n_bars(5, features=features).schema
        assert (frame.height, found.height) == (0, 12)


def test_columns_follow_the_arguments_of_the_functions(stored):
    stored.publish(1)
    found = stored.get_cached_bars(features=["price_impact", "ofi", "close"])
    assert found.columns == [*CORE, "ofi", "price_impact"]
    with pytest.raises(ValueError, match="microstructure"):
        stored.get_cached_bars(features="micro")


def test_bars_that_a_reset_ended_are_returned_only_on_request(stored):
    group = drafts(3)
    group[1] = replace(group[1], bars=bars_on(days(2)[1], ending="reset"))
    publish(stored.cache, group)
    assert stored.get_cached_bars().height == 35
    found = stored.get_cached_bars(include_orphaned_bars=True)
    assert found.columns == [*CORE, "is_closed", "ended_by"]
    assert found["ended_by"].to_list().count("reset") == 1
    assert stored.count_bars() == 35
    assert stored.get_n_bars(36).height == 35
    assert stored.coverage()["rows"].to_list() == [12, 11, 12]


def test_any_cut_is_the_slice_of_the_whole(stored):
    stored.publish(4)
    whole = bars_of(days(4))
    instants = st.integers(0, 4 * 86_400).map(
        lambda seconds: day_start(FIRST) + timedelta(seconds=seconds)
    )

    @settings(max_examples=25)
    @given(st.tuples(instants, instants).filter(lambda pair: pair[0] < pair[1]))
    def cut(pair):
        start, end = pair
        close = pl.col("close_time")
        assert stored.get_cached_bars(250, start, end).equals(
            whole.filter((close >= start) & (close < end))
        )
        before = whole.filter(close < end)
        assert stored.count_bars(before=end) == before.height
        assert stored.get_n_bars(17, before=end).equals(before.tail(17))

    cut()


def test_end_includes_its_day_and_before_does_not(stored):
    stored.publish(3)
    second = days(2)[1]
    assert stored.get_cached_bars(250, FIRST, second).height == 24
    assert stored.get_cached_bars(250, end=second).height == 24
    assert stored.count_bars(before=second) == 12
    assert stored.get_n_bars(99, before=second).height == 12


def test_an_answer_cut_between_two_blocks_is_an_error(stored):
    stored.publish(3)

    class Cut:
        def __init__(self, client):
            self.client = client

        def raw_query(self, statement, fmt):
            return self.client.raw_query(statement, fmt=fmt)[:-8]

    cut = Cache(Cut(stored.cache._client), stored.cache.target)
    cut.reads = QUICK
    with pytest.raises(CacheUnavailableError, match="cut off"):
        read_chains(cut, [SPEC])


# --- missing bars --------------------------------------------------------------------------------


def test_days_that_are_not_stored_are_named(stored):
    stored.publish(3)
    with pytest.warns(CoverageWarning, match="2024-01-28 to 2024-01-29, 2024-02-02") as caught:
        found = stored.get_cached_bars(250, "2024-01-28", "2024-02-02")
    assert found.equals(bars_of(days(3)))
    (symbol, *span), _ = called(caught[0].message)
    assert (symbol, span) == ("BTCUSDT", ["2024-01-28", "2024-02-02"])
    assert caught[0].filename == __file__


def test_a_span_without_an_end_ends_with_the_stored_bars(stored):
    stored.publish(3)
    assert stored.get_cached_bars(250, days(2)[1]).equals(bars_of(days(3)[1:]))
    with pytest.warns(CoverageWarning, match="3 days"):
        assert stored.get_cached_bars(250, "2024-01-27").height == 36


def test_the_current_day_causes_no_warning(stored):
    today = datetime.now(UTC).date()
    series = SPEC.series(today - timedelta(days=2))
    if series.segment.start > today - timedelta(days=2) or today.timetuple().tm_yday < 3:
        pytest.skip("a year has just begun")
    stored.publish(2, series=series)
    found = stored.get_cached_bars(250, series.first_day, today)
    assert found.height == 24
    assert stored.get_n_bars(5, before=datetime.now(UTC)).height == 5


def test_an_impossible_span_is_refused(stored):
    with pytest.raises(ValueError, match="future"):
        stored.get_cached_bars(250, "2100-01-01")
    with pytest.raises(ValueError, match="not after"):
        stored.get_cached_bars(250, "2024-02-01", "2024-01-01")
    for count in (0, -1):
        with pytest.raises(ValueError, match="n_bars"):
            stored.get_n_bars(count)
    with pytest.raises(TypeError, match="n_bars"):
        stored.get_n_bars(True)
    naive, aware = "2024-01-01T00:00:00", "2024-01-01T00:00:00+00:00"
    assert stored.count_bars(before=naive) == stored.count_bars(before=aware)


# --- selection of a series -----------------------------------------------------------------------


def test_of_series_that_cover_a_span_the_earliest_anchor_is_read(stored):
    late = SPEC.series(days(2)[1])
    stored.publish(4)
    stored.publish(3, series=late, scale=3.0)
    assert stored.get_cached_bars(250, days(2)[1], days(4)[3]).equals(bars_of(days(4)[1:]))
    assert stored.get_cached_bars().equals(bars_of(days(4)))


def test_no_two_series_mix_in_a_segment(stored):
    late = SPEC.series(days(2)[1])
    stored.publish(3)
    stored.publish(4, series=late, scale=3.0)
    # One reaches furthest, one begins first, and neither covers the whole span.
    with pytest.warns(CoverageWarning, match=f"1 day is not cached: {days(6)[5]}"):
        found = stored.get_cached_bars(250, days(2)[1], days(6)[5])
    assert found.equals(bars_of(days(5)[1:], 3.0))
    with pytest.warns(
        CoverageWarning, match=f"2 days are not cached: {days(4)[3]} to {days(5)[4]}"
    ):
        assert stored.get_cached_bars(250, FIRST, days(5)[4]).equals(bars_of(days(3)))
    assert stored.get_n_bars(99).equals(bars_of(days(5)[1:], 3.0))


def test_a_series_with_days_of_the_span_is_preferred_to_one_that_only_reaches_it(stored):
    stored.publish(2)
    late = SPEC.series(days(4)[3])
    stored.publish(2, series=late, scale=3.0)
    with pytest.warns(CoverageWarning, match=f"1 day is not cached: {days(3)[2]}"):
        found = stored.get_cached_bars(250, days(3)[2], days(5)[4])
    assert found.equals(bars_of(days(5)[3:], 3.0))


def test_an_anchor_selects_exactly_its_series(stored):
    late = SPEC.series(days(2)[1])
    stored.publish(4)
    stored.publish(3, series=late, scale=3.0)
    second = days(2)[1]
    span = (250, second, days(4)[3])
    assert stored.get_cached_bars(*span, anchor=second).equals(bars_of(days(4)[1:], 3.0))
    assert stored.get_cached_bars(anchor=day_start(second)).equals(bars_of(days(4)[1:], 3.0))
    assert stored.get_n_bars(3, anchor=FIRST).equals(bars_of(days(4)).tail(3))
    assert stored.count_bars(anchor=second) == 36
    with pytest.warns(CoverageWarning, match="3 days"):
        assert stored.get_cached_bars(*span, anchor="segment").is_empty()
    assert stored.count_bars(anchor="segment") == 0
    assert stored.coverage(anchor=second)["anchor"].unique().to_list() == [day_start(second)]
    with pytest.raises(ValueError, match="lies after the start"):
        stored.get_cached_bars(250, FIRST, second, anchor=second)


def test_bars_of_other_specs_are_separate(stored):
    gate_off = replace(SPEC, rules=BarRules(prevent_same_timestamp_close=False))
    monthly = BarSpec.of("BTCUSDT", 250, reset="month")
    coin = BarSpec.of("BTCUSDT", 250, market="um")
    stored.publish(1)
    for number, spec in enumerate([gate_off, monthly, coin], 2):
        stored.publish(1, series=spec.series(FIRST), scale=float(number))
    asked = [
        {},
        {"prevent_same_timestamp_close": False},
        {"ouroboros": "month"},
        {"market": "um"},
    ]
    for number, arguments in enumerate(asked, 1):
        assert stored.get_cached_bars(**arguments).equals(bars_of(days(1), float(number)))
        assert stored.count_bars(**arguments) == 12
    assert stored.count_bars(ouroboros_mode="month", ouroboros="year") == 12
    assert stored.count_bars(ouroboros=None) == 0
    assert stored.count_bars("0.5%") == 0


# --- across resets -------------------------------------------------------------------------------


def whole_years(stored, first, count):
    """Publish days before the end of a year, and days of the next year."""
    last = SPEC.series(first)
    stored.publish((LAST_DAY - first).days + 1, series=last)
    stored.publish(count, series=SPEC.series(NEW_YEAR))


def test_segments_are_joined(stored):
    first = LAST_DAY - timedelta(days=1)
    whole_years(stored, first, 2)
    four = days(4, first)
    assert stored.get_cached_bars(250, first, four[-1]).equals(bars_of(four))
    assert stored.get_cached_bars().equals(bars_of(four))
    assert stored.count_bars() == 48
    assert stored.get_n_bars(30).equals(bars_of(four).tail(30))
    assert stored.get_n_bars(30, before=NEW_YEAR).equals(bars_of(four[:2]))


def test_a_hole_between_joined_segments_is_named(stored):
    first = LAST_DAY - timedelta(days=3)
    stored.publish(2, series=SPEC.series(first))
    stored.publish(2, series=SPEC.series(NEW_YEAR))
    joined = bars_of([*days(2, first), *days(2, NEW_YEAR)])
    assert stored.get_n_bars(24).equals(joined.tail(24))
    with pytest.warns(CoverageWarning, match="2 days are not cached: 2024-12-30 to 2024-12-31"):
        assert stored.get_n_bars(25).equals(joined.tail(25))
    with pytest.warns(CoverageWarning, match="2 days are not cached: 2024-12-30 to 2024-12-31"):
        assert stored.get_cached_bars().equals(joined)
    assert stored.count_bars() == 48


def test_the_walk_back_ends_at_a_segment_that_is_not_stored_from_its_start(stored):
    stored.publish(2, series=SPEC.series(LAST_DAY - timedelta(days=1)))
    stored.publish(2, series=SPEC.series(NEW_YEAR + timedelta(days=1)))
    assert stored.count_bars() == 24
    assert stored.get_n_bars(99).height == 24
    assert stored.count_bars(before=NEW_YEAR) == 24


def test_days_missing_before_the_requested_end_are_named(stored):
    stored.publish(3)
    with pytest.warns(CoverageWarning, match="2024-02-02 to 2024-02-04"):
        assert stored.get_n_bars(5, before="2024-02-05").height == 5
    with pytest.warns(CoverageWarning, match="2024-02-02 to 2024-02-04"):
        assert stored.get_cached_bars(end="2024-02-04").height == 36


# --- coverage ------------------------------------------------------------------------------------


def test_coverage_lists_stored_and_missing_days(stored):
    group = drafts(3)
    ticks = group[2].ticks
    group[2] = replace(group[2], ticks=replace(ticks, first_id=ticks.first_id + 7, reason="a halt"))
    publish(stored.cache, group)
    found = stored.coverage(250, "2024-01-29", "2024-02-02")
    assert found["unit_day"].to_list() == days(5, date(2024, 1, 29))
    assert found["state"].to_list() == ["missing", "final", "final", "final", "missing"]
    assert found["rows"].to_list() == [0, 12, 12, 12, 0]
    assert found["gap_before"].to_list() == [None, 0, 0, 7, None]
    assert found["reason"].to_list() == [None, None, None, "a halt", None]
    assert found["segment"].to_list() == ["2024"] * 5
    assert found["anchor"].to_list() == [None, *[day_start(FIRST)] * 3, None]
    assert found["first_id"][1] == ticks.first_id - 2000
    assert stored.coverage().equals(found[1:4])
    assert stored.coverage(250, days(2)[1]).equals(found[2:4])


def test_an_empty_coverage_has_the_same_columns(stored):
    empty = stored.coverage()
    missing = stored.coverage(250, FIRST, FIRST)
    stored.publish(1)
    assert empty.schema == missing.schema == stored.coverage().schema
    assert (empty.height, missing["state"].to_list()) == (0, ["missing"])


def test_coverage_counts_missing_ids_between_segments(stored):
    stored.publish(1, series=SPEC.series(LAST_DAY))
    group = drafts(1, series=SPEC.series(NEW_YEAR))
    ticks = replace(group[0].ticks, first_id=group[0].ticks.first_id + 5)
    publish(stored.cache, [replace(group[0], ticks=ticks)])
    assert stored.coverage()["gap_before"].to_list() == [0, 5]
    assert stored.coverage()["segment"].to_list() == ["2024", "2025"]


def test_coverage_shows_a_superseded_series_only_for_its_anchor(stored):
    late = SPEC.series(days(2)[1])
    stored.publish(2, series=late)
    stored.publish(2)
    both = stored.coverage()
    assert both["unit_day"].to_list() == [FIRST, days(2)[1], days(2)[1], days(3)[2]]
    last = read_chains(stored.cache, [SPEC])[SERIES].last
    stored.publish(1, first=days(3)[2], built_on=last.attempt)
    assert stored.coverage()["unit_day"].to_list() == days(3)
    assert stored.coverage(anchor=late.anchor)["unit_day"].to_list() == days(3)[1:]


def test_coverage_names_days_that_another_version_stored(stored):
    other = replace(SPEC, rules=BarRules(bar_semantics=0))
    stored.publish(2, series=other.series(FIRST))
    found = stored.coverage(250, FIRST, days(3)[2])
    assert found["state"].to_list() == ["missing"] * 3
    assert found["reason"].to_list() == [*["stored under bar_semantics 0"] * 2, None]
    assert stored.count_bars() == 0
    assert stored.get_cached_bars().is_empty()


def sample_day(stored, tick_hash):
    """Publish a unit of the day of the sample, from ticks with this hash."""
    day = date(2024, 8, 8)
    group = drafts(1, series=SPEC.series(day))
    publish(stored.cache, [replace(group[0], ticks=replace(group[0].ticks, hash=tick_hash))])
    return day


def test_a_day_whose_ticks_changed_is_stale(stored, tmp_path):
    storage = TickStorage(tmp_path)
    ticks = rb.sample_ticks()
    storage.write_ticks("BTCUSDT", ticks.head(1000))
    found = snapshot(storage, "BTCUSDT", "2024-08-08", "2024-08-08")
    day = sample_day(stored, found.days[0].tick_hash)
    assert stored.coverage()["state"].to_list() == ["final"]
    assert stored.get_cached_bars(250, day, day).height == 12
    storage.write_ticks("BTCUSDT", ticks[1000:1001])
    found = stored.coverage()
    assert found["state"].to_list() == ["stale"]
    assert "other ticks" in found["reason"][0]
    for call in (
        lambda: stored.get_cached_bars(250, day, day),
        lambda: stored.get_n_bars(3),
        stored.get_cached_bars,
    ):
        with pytest.warns(CoverageWarning, match="now has other ticks for 1 day: 2024-08-08"):
            assert not call().is_empty()
    assert stored.count_bars() == 12


def test_bars_of_a_store_elsewhere_are_not_stale(stored, tmp_path):
    TickStorage(tmp_path).write_ticks("ETHUSDT", rb.sample_ticks().head(10))
    sample_day(stored, "a hash of another machine's ticks")
    assert stored.coverage()["state"].to_list() == ["final"]
    assert stored.get_cached_bars().height == 12


# --- the gate, and an absent cache ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_function_checks_the_symbol_gate(tmp_path, name):
    door = getattr(api, name)
    more = [5] if name == "get_n_bars" else []
    with pytest.raises(SymbolNotRegisteredError, match=name):
        door("BTCUSDTT", *more, cache_dir=tmp_path)
    with pytest.raises(ThresholdError, match="below the minimum"):
        door("btcusdt", *more, 100, cache_dir=tmp_path)


def test_a_start_before_the_first_valid_day_is_moved(tmp_path):
    from rangebar_polars.symbol_registry import StartDateClampedWarning

    with (
        pytest.warns(StartDateClampedWarning, match="2018-01-16"),
        pytest.warns(CoverageWarning, match="5 days are not cached: 2018-01-16 to 2018-01-20"),
    ):
        api.get_cached_bars("BTCUSDT", 250, "2017-12-01", "2018-01-20", cache_dir=tmp_path)


ABSENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars
given = {"cache_dir": sys.argv[1]}
heights = [
    get_cached_bars("BTCUSDT", 250, "2024-01-01", "2024-01-31", **given).height,
    get_n_bars("BTCUSDT", 5, **given).height,
    count_bars("BTCUSDT", **given),
    coverage("BTCUSDT", 250, **given).height,
]
loaded = sorted({"chdb", "clickhouse_connect", "pandas", "pyarrow"} & set(sys.modules))
print(json.dumps([heights, loaded]))
"""


def test_an_absent_cache_is_empty_and_no_engine_is_started(tmp_path, run):
    out, errors = run(ABSENT, tmp_path).communicate(timeout=600)
    assert json.loads(out) == [[0, 0, 0, 0], []], errors
    assert list(tmp_path.iterdir()) == []
