"""Records that hold fills of an earlier record: dropped if equal, and a warning otherwise."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.fetch.normalise import RepeatedFillsWarning
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage import TickStorage
from rangebar_polars.storage.manifest.entry import DayEntry
from rangebar_polars.storage.manifest.versions import read_manifest

SYMBOL = "BTCUSDT"
DAY = date(2024, 3, 4)


def trades(count: int = 100) -> pl.DataFrame:
    start = datetime(2024, 3, 4, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=i) for i in range(count)],
            "price": [100.0 + i % 7 for i in range(count)],
            "quantity": [1.0] * count,
            "agg_trade_id": range(1, count + 1),
            "first_trade_id": [2 * i for i in range(count)],
            "last_trade_id": [2 * i + 1 for i in range(count)],
            "is_buyer_maker": [True] * count,
        },
        schema=TRADES_SCHEMA,
    )


def with_row(position: int, **values: object) -> pl.DataFrame:
    """Trades in which one row has other values."""
    is_row = pl.int_range(pl.len()) == position
    return trades().with_columns(
        pl.when(is_row).then(pl.lit(value)).otherwise(name).cast(TRADES_SCHEMA[name]).alias(name)
        for name, value in values.items()
    )


REPEATED = with_row(50, first_trade_id=80, last_trade_id=81, price=100.0 + 40 % 7)
OTHER_PRICE = with_row(50, first_trade_id=80, last_trade_id=81, price=1.0)


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


def entry_of(storage):
    return read_manifest(storage.symbol_dir(SYMBOL, "binance", "spot"), "2024-03").days[DAY]


def test_a_later_record_of_the_same_fills_and_price_is_dropped_and_counted(storage):
    storage.put_days(SYMBOL, [DayTicks(DAY, REPEATED, Origin("archive"))])
    found = storage.get_ticks(SYMBOL, DAY, DAY)
    assert_frame_equal(found, REPEATED.filter(pl.col("agg_trade_id") != 51))
    entry = entry_of(storage)
    assert (entry.rows, entry.origin.repeated, entry.source_absent) == (99, 1, ((51, 51),))
    assert storage.gaps(SYMBOL, DAY, DAY) == []
    again = storage.put_days(SYMBOL, [DayTicks(DAY, REPEATED, Origin("archive"))])
    assert again.unchanged == (DAY,)


def test_ones_own_ticks_too_and_they_are_duplicates_when_written_again(storage):
    report = storage.write_ticks(SYMBOL, REPEATED)
    assert (report.rows_added, report.duplicates) == (99, 1)
    again = storage.write_ticks(SYMBOL, REPEATED)
    assert (again.rows_added, again.duplicates, again.unchanged) == (0, 100, (DAY,))
    storage.write_ticks(SYMBOL, REPEATED.head(0))
    more = trades(120).tail(20)
    assert storage.write_ticks(SYMBOL, pl.concat([REPEATED, more])).rows_added == 20
    assert (entry_of(storage).rows, entry_of(storage).origin.repeated) == (119, 1)
    assert storage.has_ticks(SYMBOL, DAY, DAY)


def test_another_price_or_span_is_stored_with_one_warning(storage):
    with pytest.warns(
        RepeatedFillsWarning, match=r"the record `51` has fills of an earlier one"
    ) as caught:
        storage.put_days(SYMBOL, [DayTicks(DAY, OTHER_PRICE, Origin("archive"))])
    assert [one.filename for one in caught] == [__file__]
    assert entry_of(storage).rows == 100


def test_ordinary_days_are_stored_without_a_word(storage):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage.write_ticks(SYMBOL, trades())
    assert entry_of(storage).origin.repeated == 0
    assert "repeated" not in json.dumps(entry_of(storage).to_json())


def test_an_entry_of_a_newer_version_with_more_in_its_origin_is_read(storage):
    storage.write_ticks(SYMBOL, trades())
    values = entry_of(storage).to_json()
    values["origin"]["counted_by_a_later_version"] = 7
    assert DayEntry.from_json(values) == entry_of(storage)
