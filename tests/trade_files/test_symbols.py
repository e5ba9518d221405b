"""`symbol=` reads the files and rows of that symbol, and never those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError
from trade_files.samples import SAMPLES, content, spot

if TYPE_CHECKING:
    from pathlib import Path

DAY = "2024-01-01"


def put(folder: Path, *names: str) -> list[Path]:
    """Write files of one trade each, whose ids are 1, 2, 3."""
    for number, name in enumerate(names, start=1):
        (folder / name).write_text(spot(range(number, number + 1)))
    return [folder / name for name in names]


def ids(plan) -> list[int]:
    return plan.collect()["agg_trade_id"].to_list()


@pytest.mark.parametrize(
    ("symbol", "own", "other"),
    [
        ("BTCUSDT", f"BTCUSDT-trades-{DAY}.csv", f"BTCUSDT_240628-trades-{DAY}.csv"),
        ("BTCUSDT", f"BTCUSDT{DAY}.csv", f"1000BTCUSDT{DAY}.csv"),
        ("BTCUSDT", "BTCUSDT-trades-202401.csv", f"BTCUSDT-240628-trades-{DAY}.csv"),
        ("BTCUSDT", "BTCUSDT_20240101.csv", "BTCUSDTM_20240101.csv"),
        ("BTC-USDT", f"BTC-USDT-trades-{DAY}.csv", f"BTC-USDT-SWAP-trades-{DAY}.csv"),
        ("BTC-USDT-SWAP", f"BTC-USDT-SWAP-trades-{DAY}.csv", f"BTC-USDT-trades-{DAY}.csv"),
        ("btcusd", "BTCUSD_trades.csv", "BTCUSD_PERP_trades.csv"),
        ("BTCUSD_PERP", f"BTCUSD_PERP-trades-{DAY}.csv", f"BTCUSD_240628-trades-{DAY}.csv"),
        ("BTCUSDT_240628", f"BTCUSDT_240628-trades-{DAY}.csv", f"BTCUSDT-trades-{DAY}.csv"),
    ],
)
def test_of_several_files_only_those_of_the_symbol_are_read(
    symbol: str, own: str, other: str, tmp_path: Path
) -> None:
    paths = put(tmp_path, own, other)
    for several in (tmp_path, paths, str(tmp_path / "*.csv")):
        assert ids(rb.scan_trades(several, symbol=symbol)) == [1]


def test_a_file_of_another_symbol_is_refused(tmp_path: Path) -> None:
    (path,) = put(tmp_path, f"ETHUSDT-trades-{DAY}.csv")
    for paths in (path, [path], tmp_path):
        with pytest.raises(TickDataError, match="does not say that its trades are of `BTCUSDT`"):
            rb.scan_trades(paths, symbol="BTCUSDT")
        assert ids(rb.scan_trades(paths, symbol="ethusdt")) == [1]


def test_a_parquet_file_of_another_symbol_is_refused(tmp_path: Path) -> None:
    for name in ("ETHUSDT.parquet", "BTCUSDT.parquet"):
        rb.sample_ticks().write_parquet(tmp_path / name)
    with pytest.raises(TickDataError, match=r"ETHUSDT\.parquet` does not say"):
        rb.scan_trades(tmp_path / "ETHUSDT.parquet", symbol="BTCUSDT")
    found = rb.scan_trades(tmp_path, symbol="BTCUSDT").collect()
    assert found.equals(rb.sample_ticks())


def test_the_rows_say_the_symbol_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ETHUSDT.csv"
    path.write_bytes(content(SAMPLES["tardis"]))
    symbol = path.read_text().splitlines()[1].split(",")[1]
    expected = rb.scan_trades(path).collect()
    assert rb.scan_trades(path, symbol=symbol).collect().equals(expected)
