"""Readers give stored groups, compute them where that is allowed, and name the call that stores them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from faulty import in_plan
from pipeline.groups import TICKS, frame, populate
from pipeline.tapes import SYMBOL, day, of_days, store
from rangebar_polars.cli import main
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import CoverageError, FeatureWarning, TicksNotCachedError
from rangebar_polars.readers.cached import (
    cached_groups,
    count_bars,
    coverage,
    get_cached_bars,
    get_n_bars,
)
from rangebar_polars.storage.parquet import TickStorage

SPAN = (SYMBOL, day(2), day(5))


@pytest.fixture
def place(folder):
    """Yield a folder whose cache stays open."""
    with open_cache(cache_dir=folder, write=True):
        store(folder, TICKS)
        yield folder


def closed(expected, first, last, names=None):
    """Return the closed bars of some days, without endings."""
    on = pl.col("close_time").dt.date().is_between(day(first), day(last))
    bars = expected.filter(on & pl.col("is_closed")).drop("is_closed", "ended_by")
    return bars if names is None else bars.select(names)


def bits(bars):
    return bars.with_columns(pl.col(pl.Float64).reinterpret(dtype=pl.UInt64))


def scan(first, last, folder, **options):
    options = {"cache_dir": folder, "fetch_if_missing": False, **options}
    return rb.scan_range_bars(SYMBOL, day(first), day(last), 250, **options).collect()


def test_the_error_names_the_line_that_stores_the_group(place):
    populate(place, 1, 5)
    plain = rb.get_range_bars(*SPAN, cache_dir=place)
    count = count_bars(SYMBOL, 250, cache_dir=place)
    for read in (
        lambda: rb.get_range_bars(*SPAN, features="extended", cache_dir=place),
        lambda: rb.scan_range_bars(*SPAN, features="twap", cache_dir=place),
        lambda: rb.get_n_range_bars(
            SYMBOL, 3, end_date=day(5), features="extended", cache_dir=place
        ),
        lambda: get_cached_bars(SYMBOL, 250, *SPAN[1:], features="extended", cache_dir=place),
        lambda: get_n_bars(SYMBOL, 3, features="extended", cache_dir=place),
    ):
        with pytest.raises(CoverageError, match='features="extended"') as caught:
            read()
    line = re.search(r"rb\.populate_cache_resumable\(.*\)", str(caught.value))[0]
    assert 'features="extended"' in line
    exec(line, {"rb": rb})
    wide = rb.get_range_bars(*SPAN, features="extended", cache_dir=place)
    assert wide[plain.columns].equals(plain)
    names = rb.columns().filter(pl.col("group") == "extended")["name"].to_list()
    assert list(wide.columns) == [*plain.columns, *names]
    assert count_bars(SYMBOL, 250, cache_dir=place) == count
    part = wide.attrs["rangebar"][0]
    assert (part["features"], part["lookback"]) == (["core", "microstructure", "extended"], None)
    json.dumps(wide.attrs["rangebar"])


@pytest.mark.parametrize("lookback", [None, "3bars", "20h"])
def test_stored_bars_are_continued_by_ticks_with_their_groups(place, lookback):
    populate(place, 1, 4, features="all", lookback=lookback)
    expected = frame(TICKS, last=12, lookback=lookback)
    # The second part lies in a segment without stored bars.
    for first, last in ((3, 7), (5, 6), (1, 12)):
        found = scan(first, last, place, features="all")
        assert_frame_equal(bits(found), bits(closed(expected, first, last)))
    forming = rb.get_range_bars(
        SYMBOL, day(1), day(4), features="intra_trade_count", include_incomplete=True,
        cache_dir=place, fetch_if_missing=False,
    )  # fmt: skip
    partial = of_days(TICKS, 1, 4).rangebar.bars(250, features="intrabar", incomplete="keep")
    assert forming["intra_trade_count"].to_list() == partial["intra_trade_count"].to_list()


def test_a_continued_read_needs_the_ticks_of_the_forming_bar(place):
    populate(place, 1, 4, features="extended")
    TickStorage(place).delete_ticks(SYMBOL, day(3), day(4))
    assert scan(3, 5, place).height
    with pytest.raises(TicksNotCachedError, match=str(day(4))):
        scan(3, 5, place, features="extended")
    now = of_days(TICKS, 4, 4).with_columns(pl.col("quantity") * 2)
    store(place, pl.concat([of_days(TICKS, 3, 3), now]))
    with (
        pytest.warns(rb.exceptions.CoverageWarning),
        pytest.raises(in_plan(CoverageError), match="refresh_stale=True"),
    ):
        scan(3, 5, place, features="extended")


def test_without_the_cache_any_group_and_window_is_computed(place):
    populate(place, 1, 5, features="lookback")
    options = {"features": "all", "lookback": "3bars"}
    found = scan(1, 5, place, use_cache=False, **options)
    assert_frame_equal(bits(found), bits(closed(frame(TICKS, lookback="3bars"), 1, 5)))
    with pytest.raises(CoverageError, match=r"`bars=3`(.|\n)*`records=200`"):
        scan(1, 5, place, features="lookback", lookback="3bars")
    with pytest.raises(CoverageError, match=r"`bars=3`(.|\n)*`records=200`"):
        get_n_bars(SYMBOL, 3, features="lookback", lookback="3bars", cache_dir=place)
    scan(1, 5, place, features="lookback", lookback=200)


def test_a_segment_without_bars_takes_the_window_of_the_others(place):
    populate(place, 1, 9, features="lookback", lookback=7)
    expected = frame(TICKS, features="lookback", lookback=7)
    assert_frame_equal(
        bits(scan(10, 12, place, features="lookback")), bits(closed(expected, 10, 12))
    )
    populate(place, 10, 11, features="lookback", lookback=9, force_refresh=True)
    with pytest.raises(CoverageError, match="different windows: `records=7`, `records=9`"):
        scan(8, 11, place, features="lookback")


def test_an_anchor_whose_series_has_no_group_is_computed(place):
    populate(place, 1, 5)
    found = scan(2, 5, place, features="intrabar", anchor="2024-12-23")
    assert_frame_equal(bits(found), bits(closed(frame(TICKS, features="intrabar"), 2, 5)))


def test_readers_of_stored_bars_and_their_coverage(place):
    populate(place, 1, 11, features=["lookback", "extended"])
    expected = frame(TICKS, last=11, features=["lookback", "extended"])
    found = get_cached_bars(SYMBOL, features=["lookback", "extended"], cache_dir=place)
    assert_frame_equal(bits(found), bits(closed(expected, 1, 11)))
    newest = get_n_bars(SYMBOL, 5, features="lookback_ofi", cache_dir=place)
    assert newest.columns[-1] == "lookback_ofi"
    assert newest["lookback_ofi"].equals(found["lookback_ofi"].tail(5))
    words = coverage(SYMBOL, 250, day(11), day(12), cache_dir=place)["features"].to_list()
    assert words == ["core microstructure lookback@1(records=200) extended@1", None]
    n = rb.get_n_range_bars(
        SYMBOL, 5, end_date=day(11), features="twap", cache_dir=place, fetch_if_missing=False
    )
    assert n["twap"].tolist() == found["twap"].tail(5).to_list()


def test_pandas_columns_are_the_fifteen_and_then_the_others(place):
    options = {"cache_dir": place, "use_cache": False, "fetch_if_missing": False}
    features = ["intra_trade_count", "ofi", "twap"]
    found = rb.get_range_bars(*SPAN, include_microstructure=True, features=features, **options)
    assert list(found.columns)[5:] == [*rb.REFERENCE_COLUMNS, "intra_trade_count", "twap"]
    assert set(map(str, found.dtypes)) == {"float64"}


def test_cut_windows_are_one_warning(folder):
    start = datetime(2024, 12, 23, tzinfo=UTC)
    row = pl.int_range(25_000, dtype=pl.Int64)
    price = pl.when(row % 12_000 > 11_990).then(101.0).otherwise(100.0)
    ticks = pl.select(
        timestamp=pl.lit(start).cast(pl.Datetime("us", "UTC")) + pl.duration(milliseconds=row * 100),
        price=price, quantity=pl.lit(1.0), agg_trade_id=row, first_trade_id=row, last_trade_id=row,
        is_buyer_maker=row % 2 == 0,
    )  # fmt: skip
    TickStorage(folder).write_ticks(SYMBOL, ticks)
    options = {"features": "lookback_ofi", "cache_dir": folder}
    with pytest.warns(FeatureWarning, match="`bars=100`") as caught:
        found = rb.get_range_bars(SYMBOL, day(1), day(1), lookback="100bars", **options)
    assert len(caught) == 1
    assert "lookback_trade_count" not in found.columns
    populate(folder, 1, 1, features="lookback", lookback="100bars")
    with pytest.warns(FeatureWarning, match="10,000 records"):
        rb.get_range_bars(SYMBOL, day(1), day(1), **options)
    with pytest.warns(FeatureWarning):
        assert get_cached_bars(SYMBOL, **options).columns[-1] == "lookback_ofi"


def test_the_commands(place, capsys, tmp_path):
    populate(place, 1, 9)
    here = ["--cache-dir", str(place)]
    span = [SYMBOL, str(day(2)), str(day(4))]
    assert main(["bars", *span, "--features", "extended", *here]) == 1
    text = capsys.readouterr().err
    assert "rangebar populate BTCUSDT" in text
    assert "--features extended" in text
    features = ["--features", "lookback", "--lookback", "3bars"]
    assert main(["populate", *span, *features, "--quiet", *here]) == 0
    assert main(["populate", SYMBOL, str(day(10)), str(day(11)), "--quiet", *here]) == 0
    assert (
        main(["populate", SYMBOL, str(day(10)), str(day(11)), "--features", "intrabar", *here]) == 0
    )
    capsys.readouterr()
    out = tmp_path / "bars.parquet"
    assert main(["cache", "export", SYMBOL, "--out", str(out), *here]) == 0
    assert "intrabar" in capsys.readouterr().err
    exported = pl.read_parquet(out)
    assert "lookback_ofi" in exported.columns
    assert "intra_ofi" not in exported.columns
    assert main(["bars", *span, *features, "--out", str(out), *here]) == 0
    assert pl.read_parquet(out)["lookback_ofi"].len() > 0
    assert main(["populate", *span, "--lookback", "3bars", *here]) == 2


def test_groups_of_an_export(place):
    populate(place, 1, 5, features="intrabar")
    options = {"ouroboros": "year", "source": "binance", "market": "spot", "dsn": None}
    found = cached_groups(SYMBOL, [250], day(1), day(5), cache_dir=place, **options)
    assert found == (("microstructure", "intrabar"), ())
