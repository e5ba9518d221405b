"""More series and units than fit in one query."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from series_data import bars_on, drafts, ticks_on

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.publish import UnitDraft, publish, write_checkpoints
from rangebar_polars.clickhouse.connection import sql
from rangebar_polars.clickhouse.drop import drop
from rangebar_polars.clickhouse.query.bars import coverage_of, read_bars
from rangebar_polars.clickhouse.query.status import stored_series
from rangebar_polars.clickhouse.query.units import details_of, read_chains, states_of
from rangebar_polars.clickhouse.schema.migrate import create_tables_if_missing
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars

ONE_DAY = timedelta(days=1)
FIRST = date(2010, 1, 1)
#: Not in the registry, so that no first day limits the span.
SYMBOL = "XXXUSDT"
THRESHOLDS = (250, 500, 750, 1000, 1250)
TEN_YEARS = 3_650


def days(count):
    return [FIRST + offset * ONE_DAY for offset in range(count)]


def daily(threshold=250):
    return BarSpec.of(SYMBOL, threshold, reset="day")


def one_a_day(spec, count, *, bars):
    return [
        UnitDraft(spec.series(day), day, bars(day), ticks_on(day), b"state %d" % day.toordinal(), built_on=0)
        for day in days(count)
    ]  # fmt: skip


def test_more_units_than_fit_in_one_query(open_folder, monkeypatch):
    """The conditions for 5,000 series of one day exceed the 262,144 characters of a query."""
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    spec, count = daily(), 5_000
    create_tables_if_missing(open_folder)
    bars = {}
    none = bars_on(FIRST, count=0)

    def few(day):
        # Most days have no bars: the test is about the queries.
        bars[day] = none if day.toordinal() % 100 else bars_on(day, count=1)
        return bars[day]

    units = publish(open_folder, one_a_day(spec, count, bars=few))
    write_checkpoints(open_folder, units)
    chains = read_chains(open_folder, [spec])
    assert len(chains) == count
    assert states_of(open_folder, units)[units[-1]] == b"state %d" % days(count)[-1].toordinal()
    assert details_of(open_folder, units).height == coverage_of(open_folder, units).height == count
    assert read_bars(open_folder, units).height == sum(frame.height for frame in bars.values())
    folder = open_folder.target.folder.parent
    span = (FIRST, days(count)[-1])
    options = {"ouroboros": "day", "cache_dir": folder}
    total = sum(frame.height for frame in bars.values())
    assert get_cached_bars(SYMBOL, 250, *span, **options).height == total
    assert get_n_bars(SYMBOL, 30, 250, **options).height == 30
    assert count_bars(SYMBOL, 250, **options) == total
    assert coverage(SYMBOL, 250, **options).height == count
    given = {**options, "fetch_if_missing": False}
    assert scan_range_bars(SYMBOL, *span, 250, **given).collect().height == total
    assert len(get_range_bars(SYMBOL, *span, 250, **given)) == total
    assert len(get_n_range_bars(SYMBOL, 30, 250, end_date=span[1], **given)) == 30
    assert stored_series(open_folder).filter(threshold=250, reset="day")["units"].sum() == count
    removed = drop(open_folder, list(chains))
    assert (removed.units, removed.bars, removed.checkpoints) == (count, total, count)
    assert not read_chains(open_folder, [spec])


@pytest.fixture
def small_queries(monkeypatch):
    monkeypatch.setattr(sql, "MOST_CHARACTERS", 60)


@pytest.mark.usefixtures("small_queries")
def test_several_queries_have_the_same_result(cache):
    specs = [daily(threshold) for threshold in (250, 500)]
    sent = [one for spec in specs for one in one_a_day(spec, 7, bars=bars_on)]
    sent += drafts(9, series=BarSpec.of("BTCUSDT", 250).series(FIRST))
    sent += drafts(2, series=BarSpec.of("ETHUSDT", 250).series(FIRST))
    units = publish(cache, sent)
    newest = {unit.series: unit for unit in units}
    write_checkpoints(cache, list(newest.values()))
    copied = f"SELECT uniqExact(attempt) FROM {cache.table('population_checkpoints')}"
    assert cache.scalar(copied) == len(newest)
    known = [draft.series.spec for draft in sent]
    found = {unit for chain in read_chains(cache, known).values() for unit in chain.units}
    assert found == set(units)
    assert states_of(cache, units) == {
        unit: draft.state for unit, draft in zip(units, sent, strict=True)
    }
    assert sorted(details_of(cache, units)["attempt"]) == sorted(unit.attempt for unit in units)
    for spec in specs:
        own = [unit for unit in units if unit.series.spec == spec]
        assert read_bars(cache, own).height == sum(unit.rows for unit in own)


def test_split_lists_contain_every_value_once(monkeypatch):
    monkeypatch.setattr(sql, "MOST_CHARACTERS", 40)
    values = [("BTCUSDT", number) for number in range(50)]
    conditions = sql.split_among(["symbol", "threshold"], [*values, *values])
    assert all(one.startswith("symbol = 'BTCUSDT' AND threshold IN (") for one in conditions)
    assert max(map(len, conditions)) < 100
    numbers = [int(n) for one in conditions for n in re.findall(r"\d+", one.partition("IN")[2])]
    assert numbers == list(range(50))
    assert list(sql.number_batches(range(5))) == [
        range(1),
        *(range(n, n + 1) for n in range(1, 5)),
    ]
    assert list(sql.joined_batches(["x" * 100, "y"])) == ["x" * 100, "y"]
    assert list(sql.joined_batches([])) == []
