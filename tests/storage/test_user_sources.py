"""Sources of one's own: their names, their three kinds of ids, and what is said of missing days."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.exceptions import (
    CoverageError,
    MissingColumnError,
    SettingError,
    StorageError,
    TickDataError,
    TicksNotCachedError,
)
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.sources import Venue, canonical_market, is_user_source
from rangebar_polars.storage import TickStorage
from rangebar_polars.storage.files.codec import content_hash
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.symbol_registry import get_symbol_entries

SYMBOL = "ETHUSDT"
DAY = date(2024, 3, 4)
DAYS = [DAY + timedelta(days=i) for i in range(3)]
KRAKEN = {"source": "kraken", "market": "futures_inverse"}


def trades(day: date, count: int = 240, first_id: int = 1) -> pl.DataFrame:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=6 * i) for i in range(count)],
            "price": [3000.0 + 40 * (i % 7) for i in range(count)],
            "quantity": [1.0 + i % 3 for i in range(count)],
            "is_buyer_maker": [i % 2 == 0 for i in range(count)],
            "agg_trade_id": range(first_id, first_id + count),
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))


def text_id(number: int) -> str:
    return str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128))


NUMBERED = pl.concat([trades(day, first_id=1 + 240 * i) for i, day in enumerate(DAYS)])
TEXTS = NUMBERED.with_columns(
    trade_id=pl.col("agg_trade_id").map_elements(text_id, return_dtype=pl.String)
).drop("agg_trade_id")
PLAIN = NUMBERED.drop("agg_trade_id")
KINDS = {"numbers": NUMBERED, "texts": TEXTS, "none": PLAIN}


@pytest.fixture
def storage(tmp_path):
    return TickStorage(tmp_path)


def read(storage: TickStorage) -> pl.DataFrame:
    return storage.get_ticks(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN)


@pytest.mark.parametrize("name", ["kraken", "my-feed_2", "ok", "a" * 32])
def test_any_plain_name_is_a_source_of_ones_own(name):
    assert is_user_source(name)
    assert canonical_market(name.upper(), "Perp") == (name, "perp")


@pytest.mark.parametrize("name", ["", "k", "1ok", "a b", "../x", "a" * 33, "ä", "_x", "a.b", "a/b"])
def test_other_names_are_refused_with_the_rule(name):
    with pytest.raises(ValueError, match="a source of your own has a name of 2 to 32"):
        canonical_market(name, "spot")


@pytest.mark.parametrize("market", ["", "..", "a/b", "a.b", " x", "ü", "x" * 33, "-x"])
def test_markets_that_are_no_plain_names_are_refused(market):
    with pytest.raises(ValueError, match="is not the name of a market"):
        canonical_market("kraken", market)


@pytest.mark.parametrize("kind", KINDS)
def test_ticks_of_each_kind_of_ids_come_back_as_they_were_written(storage, kind):
    ticks = KINDS[kind]
    report = storage.write_ticks(SYMBOL, ticks, **KRAKEN)
    assert (report.rows_added, report.duplicates, report.moved) == (720, 0, 0)
    assert_frame_equal(read(storage), ticks.select(read(storage).columns))
    covered = storage.coverage(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN)
    assert covered["state"].to_list() == ["given"] * 3
    assert covered["missing_before"].to_list() == [0, 0, 0]
    assert covered["first_id"].null_count() == (0 if kind == "numbers" else 3)
    assert storage.has_ticks(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN)
    assert storage.gaps(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN) == []
    assert storage.list_venues() == [Venue("kraken", "futures_inverse")]
    assert storage.verify()["state"].to_list() == ["ok"] * 3
    stats = storage.stats(SYMBOL, **KRAKEN)
    assert (stats["days"], stats["rows"]) == (3, 720)


@pytest.mark.parametrize("kind", KINDS)
def test_written_again_they_are_duplicates(storage, kind):
    ticks = KINDS[kind]
    storage.write_ticks(SYMBOL, ticks, **KRAKEN)
    again = storage.write_ticks(SYMBOL, ticks, **KRAKEN)
    assert (again.rows_added, again.duplicates, again.unchanged) == (0, 720, tuple(DAYS))
    # A part of them, and more after it.
    storage.delete_ticks(SYMBOL, DAYS[2], DAYS[2], **KRAKEN)
    storage.write_ticks(SYMBOL, ticks[480:600], **KRAKEN)
    more = storage.write_ticks(SYMBOL, ticks[400:], **KRAKEN)
    assert (more.rows_added, more.duplicates) == (120, 200)
    assert_frame_equal(read(storage), ticks.select(read(storage).columns))


@pytest.mark.parametrize("kind", KINDS)
def test_bars_are_populated_and_read(storage, kind, tmp_path):
    storage.write_ticks(SYMBOL, KINDS[kind], **KRAKEN)
    where = {"cache_dir": tmp_path, **KRAKEN}
    direct = NUMBERED.rangebar.bars(250, reset="year")
    days = str(DAYS[0]), str(DAYS[-1])
    rb.populate_cache_resumable(SYMBOL, *days, verbose=False, **where)
    bars = rb.scan_range_bars(SYMBOL, *days, **where).collect()
    assert bars["close_time"].to_list() == direct["close_time"].to_list()
    assert bars["volume"].to_list() == direct["volume"].to_list()
    assert len(rb.get_n_range_bars(SYMBOL, 10, 250, **where)) == 10
    assert newest_day(SYMBOL, None, venue=Venue(**KRAKEN), cache_dir=tmp_path).day == DAYS[-1]


@given(
    cuts=st.lists(st.integers(0, 720), max_size=4),
    kind=st.sampled_from(list(KINDS)),
    data=st.data(),
)
def test_pieces_in_any_order_make_the_whole(tmp_path_factory, cuts, kind, data):
    ends = sorted({0, 720, *cuts})
    pieces = [KINDS[kind][a:b] for a, b in pairwise(ends)]
    order = data.draw(st.permutations(pieces))
    storage = TickStorage(tmp_path_factory.mktemp("store"))
    added = sum(storage.write_ticks(SYMBOL, piece, **KRAKEN).rows_added for piece in order)
    assert added == 720
    assert_frame_equal(read(storage), KINDS[kind].select(read(storage).columns))


def test_rows_of_any_order_are_sorted_and_newest_first_is_reversed(storage):
    same = PLAIN.with_columns(timestamp=pl.col("timestamp").dt.truncate("1h"))
    report = storage.write_ticks(SYMBOL, same.reverse(), **KRAKEN)
    assert report.moved == 720
    assert_frame_equal(read(storage), same.select(read(storage).columns))
    storage.delete_ticks(SYMBOL, **KRAKEN)
    storage.write_ticks(SYMBOL, TEXTS.sample(fraction=1, shuffle=True, seed=3), **KRAKEN)
    assert_frame_equal(read(storage), TEXTS)


def test_a_text_id_twice_is_a_duplicate_or_an_error(storage):
    report = storage.write_ticks(SYMBOL, pl.concat([TEXTS, TEXTS[:5]]), **KRAKEN)
    assert (report.rows_added, report.duplicates) == (720, 5)
    wrong = TEXTS[:1].with_columns(price=1.5)
    for frame in (wrong, pl.concat([TEXTS, wrong])):
        with pytest.raises(TickDataError, match=r"two different ticks have the trade_id .*price `"):
            storage.write_ticks(SYMBOL, frame, **KRAKEN)


def test_without_ids_an_overlap_that_differs_is_refused(storage):
    storage.write_ticks(SYMBOL, PLAIN[:100], **KRAKEN)
    with pytest.raises(TickDataError, match="without ids, it is unknown which of them are new"):
        storage.write_ticks(SYMBOL, PLAIN[:100:2], **KRAKEN)
    with pytest.raises(
        TickDataError, match="the stored ticks of the day have no ids, the new ones texts"
    ):
        storage.write_ticks(SYMBOL, TEXTS, **KRAKEN)
    assert storage.get_ticks(SYMBOL, DAY, DAY, **KRAKEN).height == 100


@pytest.mark.parametrize(
    ("value", "fault"), [(None, "null"), ("", "empty"), ("x" * 129, "longer than 128")]
)
def test_text_ids_that_identify_nothing_are_refused(storage, value, fault):
    ids = pl.when(pl.int_range(pl.len()) == 7).then(pl.lit(value)).otherwise("trade_id")
    with pytest.raises(TickDataError, match=rf"row 7: the id in `trade_id` is {fault}") as caught:
        storage.write_ticks(SYMBOL, TEXTS.with_columns(trade_id=ids), **KRAKEN)
    assert '.drop("trade_id")' in str(caught.value)


def test_days_of_several_kinds_are_read_together(storage):
    for ticks, day in zip((NUMBERED, PLAIN, TEXTS), DAYS, strict=True):
        storage.write_ticks(SYMBOL, ticks.filter(pl.col("timestamp").dt.date() == day), **KRAKEN)
    assert storage.has_ticks(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN)
    found = read(storage)
    assert found["agg_trade_id"].null_count() == found["trade_id"].null_count() == 480


def test_numbers_are_a_chain_whose_gaps_are_reported(storage):
    storage.write_ticks(SYMBOL, NUMBERED.filter(pl.col("agg_trade_id") != 300), **KRAKEN)
    covered = storage.coverage(SYMBOL, DAYS[0], DAYS[-1], **KRAKEN)
    assert covered["missing_before"].to_list() == [0, 1, 0]
    with pytest.raises(CoverageError, match="write the ticks without the column of ids"):
        read(storage)


def test_names_of_ids_of_the_field_are_taken(storage):
    storage.write_ticks(SYMBOL, TEXTS.rename({"trade_id": "trdMatchID"}), **KRAKEN)
    assert_frame_equal(read(storage), TEXTS)
    frame = TEXTS.drop("trade_id").with_columns(agg_trade_id=TEXTS["trade_id"])
    assert storage.write_ticks(SYMBOL, frame, **KRAKEN).duplicates == 720
    assert storage.write_ticks(SYMBOL, TEXTS.to_pandas(), **KRAKEN).duplicates == 720
    doubled = TEXTS.rename({"trade_id": "id"}).with_columns(trdMatchID="id")
    with pytest.raises(TickDataError, match="`id` and `trdMatchID` could each be the ids"):
        storage.write_ticks(SYMBOL, doubled, **KRAKEN)


def test_missing_days_are_an_error_at_the_call_that_says_where_ticks_come_from(storage, tmp_path):
    storage.write_ticks(SYMBOL, PLAIN, **KRAKEN)
    last = DAYS[-1] + timedelta(days=2)
    for call in (rb.fetch_ticks, rb.scan_ticks):
        with pytest.raises(TicksNotCachedError, match="come from write_ticks only") as caught:
            call(SYMBOL, DAY, last, cache_dir=tmp_path, **KRAKEN)
        assert 'source="kraken", market="futures_inverse"' in str(caught.value)
    with pytest.raises(TicksNotCachedError, match="write_ticks"):
        rb.get_range_bars(SYMBOL, str(DAY), str(last), 250, cache_dir=tmp_path, **KRAKEN)
    assert rb.fetch_ticks(SYMBOL, DAY, DAYS[-1], cache_dir=tmp_path, **KRAKEN).kept == DAYS


def test_a_misspelt_source_is_asked_about_where_nothing_is_stored_under_it(storage, tmp_path):
    with pytest.raises(TicksNotCachedError, match='did you mean source="binance"'):
        rb.scan_ticks(SYMBOL, DAY, DAY, source="binanc", cache_dir=tmp_path)
    storage.write_ticks(SYMBOL, PLAIN, source="binanc")
    with pytest.raises(TicksNotCachedError) as caught:
        rb.scan_ticks(SYMBOL, date(2023, 1, 1), DAY, source="binanc", cache_dir=tmp_path)
    assert "did you mean" not in str(caught.value)


def test_a_damaged_day_is_written_again_as_a_whole(storage, tmp_path):
    storage.write_ticks(SYMBOL, PLAIN, **KRAKEN)
    directory = SymbolDir(storage.root, "kraken", "futures_inverse", SYMBOL)
    entry = read_manifest(directory, "2024-03").days[DAY]
    assert (entry.first_id, entry.rows, entry.columns[-1]) == (None, 240, "is_buyer_maker")
    directory.day_file(DAY, entry.file).write_bytes(b"x")
    with pytest.raises(StorageError, match="with the whole day"):
        read(storage)
    with pytest.raises(StorageError, match=r"its times `.*` cannot be read"):
        storage.write_ticks(SYMBOL, PLAIN[:100], **KRAKEN)
    storage.write_ticks(SYMBOL, PLAIN[:240], **KRAKEN)
    assert_frame_equal(read(storage), PLAIN.select(read(storage).columns))


def test_ids_are_required_of_a_source_of_the_table_and_the_hint_is_a_rename_or_a_cast(storage):
    with pytest.raises(MissingColumnError, match='need none: source="my_venue"'):
        storage.write_ticks(SYMBOL, PLAIN)
    with pytest.raises(MissingColumnError) as caught:
        storage.write_ticks(
            SYMBOL, PLAIN.with_columns(trade_id=NUMBERED["agg_trade_id"].cast(pl.String))
        )
    code = re.search(r"\.with_columns\(.*\)", str(caught.value)).group()
    frame = PLAIN.with_columns(trade_id=NUMBERED["agg_trade_id"].cast(pl.String))
    fixed = eval(f"frame{code}", {"frame": frame, "pl": pl})
    assert storage.write_ticks(SYMBOL, fixed).rows_added == 720


def test_the_registry_takes_an_exchange_of_ones_own(tmp_path, monkeypatch):
    file = tmp_path / "symbols.toml"
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))
    file.write_text(
        '[symbols."XBT/USD"]\nasset_class = "crypto"\nexchange = "Kraken"\nmarket = "Perp"\n'
    )
    entry = get_symbol_entries()["XBT/USD"]
    assert (entry.exchange, entry.market) == ("kraken", "perp")
    for line in ('exchange = "k!"', 'exchange = "kraken"\nmarket = "a/b"', 'market = "futures-xx"'):
        file.write_text(f'[symbols.X]\nasset_class = "crypto"\n{line}\n')
        with pytest.raises(SettingError, match=r"\[symbols\.X\] in"):
            get_symbol_entries()


def test_hashes_of_rows_see_texts_and_the_order_of_rows_without_numbers():
    assert content_hash(NUMBERED) == content_hash(NUMBERED.reverse())
    assert content_hash(PLAIN) != content_hash(PLAIN.reverse())
    changed = TEXTS.with_columns(trade_id=pl.col("trade_id").str.replace("a", "b", n=1))
    assert content_hash(TEXTS) != content_hash(changed)
    # Must never change, since manifests hold such values.
    assert content_hash(TEXTS[:2]) == "bf51c7f2d694433a"
