"""Plugins in the five readers: what is called, what fails, and which columns there are."""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

import rangebar_polars as rb
from plugins.distributions import install, provider
from plugins.reading import (
    COLUMNS,
    OTHER,
    Place,
    install_windowed,
    place_with_two_symbols,
    windowed,
)
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.exceptions import PluginError, PluginWarning
from rangebar_polars.readers.cached import get_cached_bars, get_n_bars
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import SYMBOL, january, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from plugins.conftest import Seen

#: A symbol of which nothing is stored.
THIRD = "BNBUSDT"
#: Stored bars of two months, continued by ticks.
SPAN = (january(20), january(44))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with place_with_two_symbols() as one, open_cache(cache_dir=one.folder, write=True):
        yield one


def readers(place: Place) -> dict[str, Callable[..., Any]]:
    """Each reader with the arguments of a read over two segments; the test adds others."""
    month, week = {"ouroboros": "month"}, {"ouroboros": "week"}
    stored = {"cache_dir": place.folder}
    return {
        "get_range_bars": lambda **more: rb.get_range_bars(
            SYMBOL, *SPAN, **month, **place.here, **more
        ),
        "get_n_range_bars": lambda **more: rb.get_n_range_bars(
            SYMBOL, 90, end_date=january(36), **week, **place.here, **more
        ),
        "scan_range_bars": lambda **more: rb.scan_range_bars(
            SYMBOL, *SPAN, **month, **place.here, **more
        ).collect(),
        "get_cached_bars": lambda **more: get_cached_bars(
            SYMBOL, 250, january(20), january(42), **month, **stored, **more
        ),
        "get_n_bars": lambda **more: get_n_bars(
            SYMBOL, 90, before=january(36), **week, **stored, **more
        ),
    }


READERS = pytest.mark.parametrize("name", list(readers(Place(None))))  # type: ignore[arg-type]


def columns(frame: Any, names: list[str]) -> pl.DataFrame:
    """Return columns of a pandas or Polars frame, with null for NaN."""
    made = pl.DataFrame({name: pl.Series(np.asarray(frame[name], dtype=float)) for name in names})
    return made.fill_nan(None)


def calls() -> list[tuple[str, str, int, int]]:
    module = sys.modules.get("dist_windowed")
    return [] if module is None else module.calls


@READERS
def test_plugin_columns_come_last_and_change_no_other(place, name, site: Path, seen: Seen) -> None:
    install_windowed(site)
    read = readers(place)[name]
    plain = read()
    assert calls() == []
    added = read(include_plugin_features=True)
    assert list(added.columns) == [*plain.columns, *COLUMNS]
    assert added[list(plain.columns)].equals(plain)
    assert len(added) > 80
    assert columns(added, COLUMNS).null_count().row(0)[0] <= 29
    some = read(include_plugin_features=["short"])
    assert list(some.columns) == [*plain.columns, "short_x"]
    assert some["short_x"].equals(added["short_x"])
    assert list(read(include_plugin_features=[]).columns) == list(plain.columns)
    complete = seen.named("plugin_enrich_complete")
    assert {(one["symbol"], one["threshold"]) for one in complete} == {(SYMBOL, 250)}


@READERS
def test_pandas_and_polars_types(place, name, site: Path) -> None:
    install_windowed(site)
    added = readers(place)[name](include_plugin_features=True, features="microstructure")
    if isinstance(added, pl.DataFrame):
        assert set(added.select(COLUMNS).dtypes) == {pl.Float64}
    else:
        assert set(map(str, added.dtypes)) == {"float64"}
        assert list(added.columns)[-3:] == COLUMNS


@READERS
def test_what_is_asked_for_is_checked(place, name, site: Path) -> None:
    install_windowed(site)
    read = readers(place)[name]
    with pytest.raises(ValueError, match=r"(?s)`include_plugin_features`.*`lang`.*`long`"):
        read(include_plugin_features=["lang"])
    with pytest.raises(TypeError, match="include_plugin_features=True"):
        read(include_plugin_features="long")


@READERS
def test_a_plugin_that_fails_in_one_segment_has_no_value_in_any(
    place, name, site: Path, seen: Seen
) -> None:
    # The second segment begins on the 29th of January or later.
    is_first = 'bars["close_time"].dt.ordinal_day()[0] < 29'
    body = f'calls.append(1); return bars.select(moody_x="close") if {is_first} else 1 / 0'
    source = "calls = []\n" + provider("moody", body)
    install(site, "dist_moody", {"moody": "dist_moody:Provider"}, source)
    install_windowed(site)
    read = readers(place)[name]
    with pytest.warns(PluginWarning, match="ZeroDivisionError") as caught:
        added = read(include_plugin_features=["moody", "short"])
    assert [one.category for one in caught] == [PluginWarning]
    values = columns(added, ["moody_x", "short_x"])
    assert values["moody_x"].null_count() == len(added)
    assert sys.modules["dist_moody"].calls == [1, 1]
    assert values["short_x"].null_count() <= 3
    assert len(seen.named("plugin_enrich_failed")) == 1


def test_a_lazy_plan_calls_a_plugin_that_has_failed_in_no_other_series(
    place, site: Path, seen: Seen
) -> None:
    body = f'return bars.select(moody_x="close") if symbol == "{SYMBOL}" else 1 / 0'
    install(site, "dist_moody", {"moody": "dist_moody:Provider"}, provider("moody", body))
    plan = rb.scan_range_bars(
        [SYMBOL, OTHER], january(33), january(40), [250, 500], include_plugin_features=True,
        use_cache=False, **place.here,
    )  # fmt: skip
    for _ in range(2):
        with pytest.warns(PluginWarning) as caught:
            found = plan.collect()
        assert len(caught) == 1
        assert found.filter(symbol=OTHER)["moody_x"].is_null().all()
        assert found.filter(symbol=SYMBOL)["moody_x"].equals(found.filter(symbol=SYMBOL)["close"])
    assert len(seen.named("plugin_enrich_failed")) == 2


@READERS
@pytest.mark.parametrize("mode", ["strict", "off"])
def test_the_setting(place, name, mode, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "raise RuntimeError('no model')"
    install(site, "dist_bad", {"bad": "dist_bad:Provider"}, provider("bad", body))
    monkeypatch.setenv("RANGEBAR_PLUGINS", mode)
    read = readers(place)[name]
    if mode == "off":
        assert list(read(include_plugin_features=True).columns) == list(read().columns)
        return
    with pytest.raises((PluginError, pl.exceptions.ComputeError), match="no model"):
        read(include_plugin_features=True)


def test_a_query_calls_only_the_plugins_whose_columns_it_needs(place, site: Path) -> None:
    install_windowed(site)
    plan = rb.scan_range_bars(
        SYMBOL, *SPAN, ouroboros="month", include_plugin_features=True, **place.here
    )
    assert plan.collect_schema().names()[-3:] == COLUMNS
    plain = plan.drop(COLUMNS).collect()
    plan.filter(pl.col("close") > 0).select("close_time").collect()
    assert plan.select(pl.len()).collect().item() == plain.height
    assert calls() == []
    one = plan.select("short_x").collect()
    assert {call[0] for call in calls()} == {"short"}
    assert one["short_x"].equals(plan.collect()["short_x"])
    calls().clear()
    plan.filter(pl.col("none_x") > 0).select("close").collect()
    assert {call[0] for call in calls()} == {"none"}


def test_a_filter_on_time_reads_no_more_than_the_bars_before(place, site: Path) -> None:
    install_windowed(site)
    plan = rb.scan_range_bars(
        SYMBOL, january(2), january(41), include_plugin_features=["long"], **place.here
    )
    whole = plan.collect()
    heights = [call[3] for call in calls()]
    assert heights == [whole.height + 29 - sum(whole["long_x"].is_null())]
    calls().clear()
    late = pl.col("close_time") >= january(39)
    assert_frame_equal(plan.filter(late).collect(), whole.filter(late))
    assert [call[3] for call in calls()] == [whole.filter(late).height + 29]


def test_bars_that_are_not_closed_have_no_value(place, site: Path) -> None:
    install_windowed(site)
    options = {
        "ouroboros": "day", "include_plugin_features": True, "include_orphaned_bars": True,
        "include_incomplete": True, **place.here,
    }  # fmt: skip
    span = (SYMBOL, january(3), january(8, 5))
    lazy = rb.scan_range_bars(*span, **options).collect()
    is_closed = lazy["is_closed"]
    orphans = lazy.filter(~is_closed)
    assert orphans["ended_by"].null_count() == 1
    assert orphans.height > 3
    assert orphans.select(COLUMNS).null_count().row(0) == (orphans.height,) * 3
    without = {**options, "include_orphaned_bars": False, "include_incomplete": False}
    closed = rb.scan_range_bars(*span, **without).collect()
    assert_frame_equal(lazy.filter(is_closed).select(closed.columns), closed)
    pandas = rb.get_range_bars(*span, **options)
    assert_frame_equal(columns(pandas, COLUMNS), lazy.select(COLUMNS))
    assert list(pandas.columns)[-2:] == ["is_closed", "is_orphan"]


def test_bars_that_close_at_the_same_time(place, site: Path) -> None:
    install_windowed(site)
    row = pl.int_range(600, dtype=pl.Int64)
    start = int(january(1).timestamp()) * 1_000_000
    ticks = pl.select(
        # Four ticks at each time; every other tick closes a bar.
        timestamp=start + row // 4 * 1_000_000,
        price=20_000.0 + (row // 2 % 2) * 100 + row,
        quantity=1.0 + row % 7,
        agg_trade_id=row,
        first_trade_id=row,
        last_trade_id=row,
        is_buyer_maker=row % 3 == 0,
    ).cast(dict(TRADES_SCHEMA))
    TickStorage(place.folder).write_ticks(THIRD, ticks)
    bars = ticks.rangebar.bars(250, features="microstructure", prevent_same_timestamp_close=False)
    assert bars["close_time"].n_unique() < bars.height - 20
    want = bars.hstack(windowed(bars, THIRD, 250))
    spec = BarSpec.of(THIRD, 250, rules=BarRules(prevent_same_timestamp_close=False))
    options: dict[str, Any] = {
        "include_plugin_features": True, "prevent_same_timestamp_close": False,
        "cache_dir": place.folder,
    }  # fmt: skip
    with open_cache(cache_dir=place.folder, write=True) as cache:
        keep(cache, place.folder, spec, january(1), january(1).date())
        for count in (1, 2, 3, 4, 30, 31, bars.height):
            stored = get_n_bars(THIRD, count, 250, **options)
            assert_frame_equal(stored, want.tail(count).select(stored.columns))
            pandas = rb.get_n_range_bars(
                THIRD, count, 250, end_date=january(2), fetch_if_missing=False, **options
            )
            assert_frame_equal(columns(pandas, COLUMNS), want.tail(count).select(COLUMNS))
        for time in want["close_time"].unique().sort()[::20]:
            late = want.filter(pl.col("close_time") >= time)
            stored = get_cached_bars(THIRD, 250, time, january(2), **options)
            assert_frame_equal(stored, late.select(stored.columns))


def test_a_plugin_may_read_bars(place, site: Path) -> None:
    source = f"""
import polars as pl
from rangebar_polars.readers.cached import get_cached_bars

class Provider:
    name, version, columns, min_bars = "other", "1", ("other_x",), 0

    def enrich(self, bars, symbol, threshold_decimal_bps):
        stored = get_cached_bars(
            symbol, 250, "2023-01-02", "2023-01-03", ouroboros="month", cache_dir=r"{place.folder}"
        )
        return bars.with_columns(other_x=pl.lit(float(stored.height)))
"""
    install(site, "dist_other", {"other": "dist_other:Provider"}, source)
    height = get_cached_bars(
        SYMBOL, 250, "2023-01-02", "2023-01-03", ouroboros="month", cache_dir=place.folder
    ).height
    assert height > 0
    for read in readers(place).values():
        added = read(include_plugin_features=True)
        assert set(columns(added, ["other_x"])["other_x"]) == {float(height)}


def test_a_plan_with_plugins_can_be_pickled(place, site: Path) -> None:
    install_windowed(site)
    plan = rb.scan_range_bars(
        [SYMBOL], *SPAN, ouroboros="month", include_plugin_features=True, **place.here
    )
    assert_frame_equal(pickle.loads(pickle.dumps(plan)).collect(), plan.collect())


def test_bars_that_there_are_none_of(place, site: Path) -> None:
    install_windowed(site)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty = get_cached_bars(
            OTHER, 250, "2023-01-02", "2023-01-03", include_plugin_features=True,
            cache_dir=place.folder,
        )  # fmt: skip
    assert empty.height == 0
    assert empty.columns[-3:] == COLUMNS
    assert set(empty.select(COLUMNS).dtypes) == {pl.Float64}
    assert calls() == []
