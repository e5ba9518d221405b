"""Coin-margined futures: contracts become coins when ticks are stored, or when old days are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape
from rangebar_polars._utils.contracts import with_coins
from rangebar_polars.exceptions import SettingError
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage import TickStorage
from rangebar_polars.storage.days.day_file import Content, store_day
from rangebar_polars.storage.files.lock import writing
from rangebar_polars.storage.manifest.versions import update_manifest
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.symbol_registry import get_contract_size, get_symbol_entries

SYMBOL = "BTCUSD_PERP"
DAY = date(2024, 3, 4)
CM = {"source": "binance", "market": "cm"}


def trades(count: int = 300) -> pl.DataFrame:
    start = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    ids = range(1, count + 1)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=4 * i) for i in range(count)],
            "price": [60_000.0 + 700.3 * (i % 7) for i in range(count)],
            "quantity": [float(1 + i % 11) for i in range(count)],
            "agg_trade_id": ids,
            "first_trade_id": ids,
            "last_trade_id": ids,
            "is_buyer_maker": [i % 2 == 0 for i in range(count)],
        },
        schema=TRADES_SCHEMA,
    )


def coins(contracts: float, price: float, size: int) -> float:
    exact = Fraction(str(contracts)) * size / Fraction(str(price))
    return round(exact * 10**8) / 10**8  # `round` of a fraction rounds half to even


@given(
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(10**4, 10**12)), min_size=1, max_size=20),
    st.sampled_from([1, 10, 100, 1_000]),
)
def test_coins_are_rounded_half_to_even_in_whole_numbers(rows, size):
    prices = [price / 10**4 for _, price in rows]
    contracts = [float(count) for count, _ in rows]
    found = with_coins(pl.DataFrame({"price": prices, "quantity": contracts}), size)
    assert found["quantity"].to_list() == [
        coins(count, price, size) for count, price in zip(contracts, prices, strict=True)
    ]
    assert found["contracts"].to_list() == contracts


def test_a_half_goes_to_the_even_neighbour():
    frame = pl.DataFrame({"price": [80_000_000.0] * 2, "quantity": [2.0, 6.0]})
    # 2.5 and 7.5 units of 1e-8
    assert with_coins(frame, 1)["quantity"].to_list() == [2e-8, 8e-8]


def test_written_contracts_are_stored_as_coins_with_the_contracts_beside_them(tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, trades(), **CM)
    found = storage.get_ticks(SYMBOL, DAY, DAY, **CM)
    assert found.columns == [*TRADES_SCHEMA, "contracts"]
    assert found["contracts"].to_list() == trades()["quantity"].to_list()
    assert found["quantity"][3] == coins(4, 60_000 + 700.3 * 3, 100)
    # What was read is written back as it is.
    assert storage.write_ticks(SYMBOL, found, **CM).duplicates == 300
    assert storage.write_ticks(SYMBOL, trades(), **CM).duplicates == 300
    assert storage.write_ticks(SYMBOL, found.to_pandas(), **CM).duplicates == 300


def test_fetched_contracts_are_coins_from_archive_and_rest(tmp_path, monkeypatch):
    tape = Tape.generate(
        SYMBOL, "2024-12-30", days=2, market="cm", price_digits=1, quantity_digits=0, absent=0,
    )  # fmt: skip
    with Exchange(tape) as exchange:
        for name, value in exchange.environment.items():
            monkeypatch.setenv(name, value)
        rb.fetch_ticks(SYMBOL, "2024-12-30", "2024-12-31", cache_dir=tmp_path, **CM, verbose=False)
        plan = rb.scan_ticks(SYMBOL, "2024-12-30", "2024-12-31", cache_dir=tmp_path, **CM).collect()
    expected = with_coins(
        tape.ticks.filter(pl.col("timestamp").dt.date() <= date(2024, 12, 31)), 100
    )
    assert_frame_equal(plan, expected)


def put_old(storage: TickStorage, ticks: pl.DataFrame) -> None:
    """Store a day as older versions did, with contracts as the quantity."""
    symbol_dir = storage.symbol_dir(SYMBOL, "binance", "cm")
    with writing(symbol_dir):
        entry = store_day(symbol_dir, DAY, Content(ticks, "given"), None)
        update_manifest(symbol_dir, "2024-03", lambda _: {DAY: entry})


def test_a_day_that_was_stored_in_contracts_is_read_in_coins(tmp_path):
    old, new = TickStorage(tmp_path / "old"), TickStorage(tmp_path / "new")
    put_old(old, trades())
    new.write_ticks(SYMBOL, trades(), **CM)
    expected = new.get_ticks(SYMBOL, DAY, DAY, **CM)
    assert_frame_equal(old.get_ticks(SYMBOL, DAY, DAY, **CM), expected)
    plan = old.scan_ticks(SYMBOL, DAY, DAY, **CM)
    for names in (["quantity"], ["contracts"], ["timestamp", "quantity"], ["agg_trade_id"]):
        assert_frame_equal(plan.select(names).collect(), expected.select(names))
    part = (
        plan.filter(pl.col("timestamp") < datetime(2024, 3, 4, 6, tzinfo=UTC))
        .select("quantity")
        .collect()
    )
    assert_frame_equal(part, expected[:90].select("quantity"))
    # Bars of contracts are not taken for bars of coins.
    before = trades().with_columns(contracts=pl.lit(None, pl.Float64)).drop("contracts")
    spot = TickStorage(tmp_path / "spot")
    spot.write_ticks("BTCUSDT", before)
    plain = snapshot(spot, "BTCUSDT", DAY, DAY).days[0].tick_hash
    assert snapshot(old, SYMBOL, DAY, DAY, **CM).days[0].tick_hash != plain
    # More ticks of the day make it a day of the new form.
    assert old.write_ticks(SYMBOL, trades(310), **CM).rows_added == 10
    assert old.get_ticks(SYMBOL, DAY, DAY, **CM).height == 310


def test_bars_of_coins_have_the_money_that_was_traded(tmp_path):
    TickStorage(tmp_path).write_ticks(SYMBOL, trades(), **CM)
    bars = rb.get_range_bars(
        SYMBOL, str(DAY), str(DAY), 250, cache_dir=tmp_path, use_cache=False, fetch_if_missing=False,
        include_microstructure=True, **CM,
    )  # fmt: skip
    direct = with_coins(trades(), 100).rangebar.bars(250)
    assert bars["Volume"].to_list() == direct["volume"].to_list()
    money = direct["turnover"].sum()
    rows = direct["agg_record_count"].sum()
    assert money == pytest.approx(trades()["quantity"][:rows].sum() * 100, rel=1e-6)


def test_a_symbol_without_a_contract_size_is_an_error_that_says_how_to_add_it(
    tmp_path, monkeypatch
):
    file = tmp_path / "symbols.toml"
    file.write_text('[symbols.ETHUSD_PERP]\nasset_class = "crypto"\nmarket = "futures-cm"\n')
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))
    storage = TickStorage(tmp_path)
    with pytest.raises(SettingError, match="no contract_size for `ETHUSD_PERP`") as caught:
        storage.write_ticks("ETHUSD_PERP", trades(), **CM)
    file.write_text(str(caught.value).partition("write\n")[2] + '\nasset_class = "crypto"\n')
    assert get_contract_size("ethusd_perp") == 10
    storage.write_ticks("ETHUSD_PERP", trades(), **CM)
    assert storage.get_ticks("ETHUSD_PERP", DAY, DAY, **CM)["quantity"][0] == coins(1, 60_000, 10)
    with pytest.raises(SettingError, match="no contract_size") as caught:
        get_contract_size("ADAUSD_PERP")
    file.write_text(str(caught.value).partition("write\n")[2])
    assert get_contract_size("ADAUSD_PERP") == 10
    assert replace(get_symbol_entries()["ADAUSD_PERP"]).market == "futures-cm"
