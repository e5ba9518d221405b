"""Single trades of Binance's archive beside the aggregate ones, and the import of plans."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.exceptions import CoverageError, SourceError, TickDataError
from rangebar_polars.sources import TRADES_SCHEMA, Venue, market_of_kind
from rangebar_polars.storage import TickStorage
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.importing import import_ticks

DAY = date(2024, 3, 4)
MARKETS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
HEADERS = {
    "spot": "",
    "um": "id,price,qty,quote_qty,time,is_buyer_maker\n",
    "cm": "id,price,qty,base_qty,time,is_buyer_maker\n",
}
SYMBOLS = {"spot": "BTCUSDT", "um": "BTCUSDT", "cm": "BTCUSD_PERP"}


def lines(market: str, day: date = DAY, first_id: int = 1, count: int = 200) -> str:
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    end = ",true" if market == "spot" else ""
    return HEADERS[market] + "".join(
        f"{first_id + i},{60000 + i % 7}.1,{1 + i % 3},9.9,{start + i * 60_000},"
        f"{'true' if i % 2 else 'false'}{end}\n"
        for i in range(count)
    )


def put(root, market: str, text: str, when: str = str(DAY), period: str = "daily") -> None:
    symbol = SYMBOLS[market]
    name = f"{symbol}-trades-{when}"
    folder = root / "data" / MARKETS[market] / period / "trades" / symbol
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}.csv", text)
    digest = hashlib.sha256((folder / f"{name}.zip").read_bytes()).hexdigest()
    (folder / f"{name}.zip.CHECKSUM").write_text(f"{digest}  {name}.zip\n")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    root = tmp_path / "mirror"
    root.mkdir()
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", root.as_uri())
    monkeypatch.setenv("RANGEBAR_BINANCE_REST_URL", "http://127.0.0.1:9")
    return root


@pytest.mark.parametrize("market", MARKETS)
def test_single_trades_are_fetched_into_a_folder_of_their_own(market, mirror, tmp_path):
    put(mirror, market, lines(market))
    symbol, where = SYMBOLS[market], {"market": market, "cache_dir": tmp_path / "cache"}
    report = rb.fetch_ticks(symbol, DAY, DAY, kind="trades", verbose=False, **where)
    assert (report.fetched, report.rows) == ([DAY], 200)
    found = rb.scan_ticks(symbol, DAY, DAY, kind="trades", **where).collect()
    assert found["agg_trade_id"].to_list() == list(range(1, 201))
    assert found["first_trade_id"].equals(found["last_trade_id"].rename("first_trade_id"))
    assert found["price"][1] == 60001.1
    assert found["is_buyer_maker"].to_list()[:2] == [False, True]
    if market == "cm":
        assert found["contracts"].to_list()[:3] == [1, 2, 3]
        assert found["quantity"][0] == round(100 / 60000.1, 8)
    storage = TickStorage(tmp_path / "cache")
    assert storage.list_venues() == [Venue("binance", f"{market}.trades")]
    assert storage.list_symbols(market=market) == []
    covered = storage.coverage(symbol, DAY, DAY, market=f"{market}.trades")
    assert covered["state"].to_list() == ["final"]


def test_a_day_of_the_month_file_and_a_gap_of_ids(mirror, tmp_path):
    days = [date(2024, 2, 1), date(2024, 2, 2)]
    put(
        mirror,
        "um",
        lines("um", days[0]) + lines("um", days[1], 206).partition("\n")[2],
        "2024-02",
        "monthly",
    )
    where = {"market": "um", "kind": "trades", "cache_dir": tmp_path}
    with pytest.raises(CoverageError, match="201 to 205"):
        rb.scan_ticks("BTCUSDT", *days, **where)
    with pytest.warns(CoverageWarning, match="201 to 205"):
        plan = rb.scan_ticks("BTCUSDT", *days, on_gap="report", **where)
    assert plan.collect().height == 400


def test_a_missing_day_is_an_error_of_the_source(mirror, tmp_path):
    with pytest.raises(SourceError, match="trades/BTCUSDT/BTCUSDT-trades-2024-03"):
        rb.fetch_ticks("BTCUSDT", DAY, DAY, kind="trades", cache_dir=tmp_path, verbose=False)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ("7,x,1,9.9,1709510400000,true\n", 202),
        ("7,1.5\n", 202),
        ("7,1.123456789,1,9,1709510400000,true\n", 202),
    ],
)
def test_a_line_that_is_no_trade_is_named(bad, line, mirror, tmp_path):
    put(mirror, "um", lines("um") + bad)
    with pytest.raises(TickDataError, match=rf"line(s from)? {line}"):
        rb.fetch_ticks(
            "BTCUSDT", DAY, DAY, market="um", kind="trades", cache_dir=tmp_path, verbose=False
        )


def test_ones_own_single_trades_stand_beside_the_aggregate_ones(tmp_path):
    storage = TickStorage(tmp_path)
    ticks = rb.sample_ticks()
    day = ticks["timestamp"][0].date()
    storage.write_ticks("ETHUSDT", ticks, kind="trades")
    assert storage.list_days("ETHUSDT") == []
    assert_frame_equal(storage.scan_ticks("ETHUSDT", day, day, kind="trades").collect(), ticks)
    plan = rb.scan_ticks("ETHUSDT", day, day, kind="trades", cache_dir=tmp_path, fetch=False)
    assert plan.select(pl.len()).collect().item() == ticks.height


def test_kinds_are_checked():
    with pytest.raises(ValueError, match=r"`kind`: unknown value `trade`.*\n.*\n.*`trades`"):
        market_of_kind(Venue(), "trade")
    for source in ("kraken", "exness"):
        with pytest.raises(ValueError, match="has no single trades"):
            market_of_kind(Venue(source, "spot"), "trades")


@pytest.mark.parametrize("ids", ["numbers", "none"])
def test_a_plan_is_imported_as_a_write_of_the_whole_would_be(ids, tmp_path):
    start = datetime(2024, 3, 1, tzinfo=UTC)
    rows = 300_000
    row = pl.int_range(rows, dtype=pl.Int64)
    ticks = pl.select(
        timestamp=pl.lit(start, TRADES_SCHEMA["timestamp"]) + pl.duration(seconds=2 * row),
        price=row % 50 + 100.0,
        quantity=row % 3 + 1.0,
        agg_trade_id=row,
    )
    if ids == "none":
        ticks = ticks.drop("agg_trade_id")
    read: list[int] = []
    where = {"source": "kraken", "cache_dir": tmp_path}
    report = import_ticks("ETHUSDT", ticks.lazy(), on_rows=read.append, **where)
    assert (report.rows_added, sum(read), len(report.days)) == (rows, rows, 7)
    storage = TickStorage(tmp_path)
    found = storage.get_ticks("ETHUSDT", "2024-03-01", "2024-03-07", source="kraken")
    assert_frame_equal(found, ticks)
    again = import_ticks("ETHUSDT", ticks.lazy(), **where)
    assert (again.rows_added, again.duplicates) == (0, rows)
