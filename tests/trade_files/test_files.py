"""Containers, folders, order, and what is missing or comes twice."""

from __future__ import annotations

import gzip
import http.server
import pickle
import random
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import SourceError
from rangebar_polars.fetch.normalise import (
    MissingFileWarning,
    RepeatedFillsWarning,
    TradeFileWarning,
)
from rangebar_polars.trade_files import csv_blocks
from trade_files.samples import SAMPLES, content, spot

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_MS = 86_400_000
T0 = 1_704_067_200_000
FAILS = pl.exceptions.ComputeError


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


TEXT = spot(range(1, 300)).encode()


def containers(folder: Path) -> dict[str, Path]:
    plain, packed = folder / "a.csv", folder / "a.csv.gz"
    plain.write_bytes(TEXT)
    packed.write_bytes(gzip.compress(TEXT[:5000]) + gzip.compress(TEXT[5000:]))
    mac = {"a.csv": TEXT, "__MACOSX/._a.csv": b"\x00\x05\x16\x07", "._b.csv": b"\x00"}
    parquet = folder / "a.parquet"
    rb.scan_trades(plain).collect().write_parquet(parquet)
    return {
        "plain": plain,
        "gzip of two members": packed,
        "zip": zipped(folder / "a.zip", {"a.csv": TEXT}),
        "zip of a Mac": zipped(folder / "b.zip", mac),
        "zip with a folder": zipped(folder / "c.zip", {"x/": b"", "x/a.csv": TEXT}),
        "parquet": parquet,
    }


def test_each_container_gives_the_same(tmp_path: Path) -> None:
    paths = containers(tmp_path)
    plain = rb.scan_trades(paths["plain"]).collect()
    assert plain.height == 299
    for name, path in paths.items():
        assert rb.scan_trades(path).collect().equals(plain), name


def test_damage_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(TEXT)
    for data in (whole[:-9], whole[:40] + b"\xff" * 40 + whole[80:]):
        path = tmp_path / "a.csv.gz"
        path.write_bytes(data)
        with pytest.raises((FAILS, ValueError), match=r"a\.csv\.gz` is a damaged gzip file"):
            rb.scan_trades(path).collect()
    two = zipped(tmp_path / "two.zip", {"a.csv": TEXT, "b.csv": TEXT})
    with pytest.raises(ValueError, match="2 CSV files"):
        rb.scan_trades(two)


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", 9) as file:
        file.write(TEXT)
        for _ in range(120):
            file.write(b"\n" * (1 << 20))
    with pytest.raises((FAILS, ValueError), match=r"grow to more than|empty lines"):
        rb.scan_trades(path).collect()


def test_an_endless_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT + b"1" * (6 << 20) + b"\n" + TEXT)
    with pytest.raises(FAILS, match="longer than"):
        rb.scan_trades(path).collect()


def test_folders_patterns_lists_and_symbols(tmp_path: Path) -> None:
    inner = tmp_path / "x"
    inner.mkdir()
    (inner / "ETHUSDT-trades-2024-01-01.csv").write_text(spot(range(1, 5)))
    (tmp_path / "BTCUSDT-trades-2024-01-01.csv").write_text(spot(range(10, 15)))
    (tmp_path / "notes.txt").write_text("no trades")
    (tmp_path / "._BTCUSDT.csv").write_bytes(b"\x00")
    one = rb.scan_trades(tmp_path, symbol="btcusdt").collect()
    assert one["agg_trade_id"].to_list() == [10, 11, 12, 13, 14]
    assert rb.scan_trades(str(tmp_path / "B*.csv")).collect().equals(one)
    assert rb.scan_trades(list(tmp_path.glob("B*.csv"))).collect().equals(one)
    with pytest.raises(FileNotFoundError):
        rb.scan_trades(tmp_path / "nope.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no trade files"):
        rb.scan_trades(tmp_path / "empty")
    with pytest.raises(ValueError, match="the list of files is empty"):
        rb.scan_trades([])


def test_an_empty_file_among_others_is_passed_over_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(spot(range(1, 5)))
    (tmp_path / "b.csv").write_text("")
    with pytest.warns(TradeFileWarning, match=r"b\.csv` is empty"):
        assert rb.scan_trades(tmp_path).collect().height == 4


@pytest.mark.parametrize("scan", ["scan_trades", "scan_agg_trades"])
def test_a_missing_day_is_warned_of_once(scan: str, tmp_path: Path) -> None:
    for day in (0, 2, 4):
        rows = [
            f"{i},42000.5,0.5,{i},{i},{T0 + day * DAY_MS + i},True,True\n"
            for i in range(day * 10, day * 10 + 10)
        ]
        (tmp_path / f"{day}.csv").write_text("".join(rows))
    plan = getattr(rb, scan)(sorted(tmp_path.glob("*.csv")))
    with pytest.warns(MissingFileWarning, match="ids 10 to 19 between .* ids 30 to 39") as seen:
        assert plan.collect().height == 30
    assert len(seen) == 1
    plan.collect()  # said already


def test_a_missing_day_without_ids_is_seen_by_the_times(tmp_path: Path) -> None:
    head, row = "id,timestamp,price,volume,side\n", "1,{},1.5,2,buy\n"
    for day in (0, 2):
        times = (T0 + day * DAY_MS, T0 + day * DAY_MS + DAY_MS - 1)
        (tmp_path / f"{day}.csv").write_text(head + "".join(map(row.format, times)))
    with pytest.warns(MissingFileWarning, match="missing: 1 day between"):
        rb.scan_trades(tmp_path).collect()


def test_a_fill_that_comes_twice_is_named_within_a_file_and_across(tmp_path: Path) -> None:
    row = "{0},1.5,2,{1},{2},1704067200000,True,True\n"
    (tmp_path / "a.csv").write_text(row.format(1, 5, 9) + row.format(2, 8, 11))
    (tmp_path / "b.csv").write_text(row.format(3, 11, 12) + row.format(4, 13, 13))
    for scan in (rb.scan_trades, rb.scan_agg_trades):
        with pytest.warns(RepeatedFillsWarning) as seen:
            scan(sorted(tmp_path.glob("*.csv"))).collect()
        said = [str(one.message) for one in seen]
        assert len(said) == 2
        assert re.search(r"a\.csv`, line 2: the record `2` repeats fills 8 to 9", said[0])
        assert re.search(r"b\.csv`, line 1: the record `3` repeats fill 11", said[1])


def test_rows_find_their_place_and_copies_go(tmp_path: Path) -> None:
    lines = spot(range(1, 200)).splitlines(keepends=True)
    shuffled = [*lines, lines[7]]
    random.Random(5).shuffle(shuffled)
    path = tmp_path / "a.csv"
    path.write_text("".join(shuffled))
    with pytest.warns(TradeFileWarning, match="1 dropped as exact copies"):
        trades = rb.scan_trades(path).collect()
    assert trades["agg_trade_id"].to_list() == list(range(1, 200))


def test_two_trades_of_one_id_are_in_conflict(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(spot(range(1, 4)) + spot(range(3, 4), price=7.5))
    with pytest.raises(FAILS, match="lines 3 and 4: conflicting trades"):
        rb.scan_trades(path).collect()


@pytest.mark.parametrize("size", [1, 50, 700, 1 << 20])
def test_blocks_may_end_anywhere(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    path.write_bytes(TEXT)
    packed.write_bytes(gzip.compress(TEXT))
    whole = rb.scan_trades(path).collect()
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", size)
    assert rb.scan_trades(path).collect().equals(whole)
    assert rb.scan_trades(packed).collect().equals(whole)
    path.write_bytes(TEXT + b"300,abc,0.5,1,1704067500000,True,True\n")
    with pytest.raises(FAILS, match="line 300: `price` is `abc`"):
        rb.scan_trades(path).collect()


def test_newest_first_is_turned_around_over_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(reversed(TEXT.decode().splitlines(keepends=True))))
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 900)
    trades = rb.scan_trades(path).collect()
    assert trades["agg_trade_id"].to_list() == list(range(1, 300))
    assert trades["timestamp"].is_sorted()


def test_a_limit_a_filter_and_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT)
    plan = rb.scan_trades(path)
    assert plan.head(3).collect().height == 3
    assert plan.filter(pl.col("agg_trade_id") > 290).select("price").collect().height == 9
    assert plan.select(pl.len()).collect().item() == 299


@pytest.mark.parametrize("scan", ["scan_trades", "scan_agg_trades"])
def test_a_plan_gives_the_same_in_another_process(scan: str, tmp_path: Path) -> None:
    path, blob, out = tmp_path / "a.csv", tmp_path / "plan", tmp_path / "out.parquet"
    path.write_bytes(content(SAMPLES["binance agg, futures"]))
    plan = getattr(rb, scan)(path)
    blob.write_bytes(pickle.dumps(plan))
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')).collect().write_parquet(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, str(blob), str(out)], check=True, timeout=120)
    assert pl.read_parquet(out).equals(plan.collect())
    assert (
        pl.LazyFrame.deserialize(plan.serialize(), format="binary").collect().equals(plan.collect())
    )


def test_scan_agg_trades_names_the_layout_of_other_files(tmp_path: Path) -> None:
    for name in ("binance trades, spot", "binance trades, um", "tardis", "kraken"):
        path = tmp_path / "x.csv"
        path.write_bytes(content(SAMPLES[name]))
        layout = SAMPLES[name].layout.partition(" (")[0]
        with pytest.raises(FAILS, match=rf"`{layout}`[\s\S]*rb\.scan_trades\("):
            rb.scan_agg_trades(path).collect()
    rb.sample_ticks().write_parquet(tmp_path / "x.parquet")
    with pytest.raises(FAILS, match=r"is a Parquet file[\s\S]*rb\.scan_trades"):
        rb.scan_agg_trades(tmp_path / "x.parquet").collect()
    with pytest.raises(ValueError, match="is an address"):
        rb.scan_agg_trades("https://example.com/a.csv")


# Parquet


def test_parquet_of_known_names(tmp_path: Path) -> None:
    ticks, path = rb.sample_ticks(), tmp_path / "t.parquet"
    ticks.write_parquet(path)
    assert rb.scan_trades(path).collect().equals(ticks)
    other = ticks.select(
        px="price",
        qty="quantity",
        time=pl.col("timestamp").dt.epoch("ms"),
        side=pl.when("is_buyer_maker").then(pl.lit("SELL")).otherwise(pl.lit("BUY")),
    )
    other.write_parquet(path)
    with pytest.raises(ValueError, match='time_unit="ms"'):
        rb.scan_trades(path)
    trades = rb.scan_trades(path, time_unit="ms").collect()
    assert trades["price"].equals(ticks["price"])
    assert trades["is_buyer_maker"].equals(ticks["is_buyer_maker"])
    ticks.with_columns(price=-pl.col("price")).write_parquet(path)
    with pytest.raises(FAILS, match="row 0: not a trade"):
        rb.scan_trades(path).collect()


def test_parquet_of_a_dump_needs_no_unit(tmp_path: Path) -> None:
    path, text = tmp_path / "t.parquet", tmp_path / "t.csv"
    text.write_bytes(content(SAMPLES["tardis"]))
    pl.read_csv(text).write_parquet(path)
    assert rb.scan_trades(path).collect().equals(rb.scan_trades(text).collect())


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(ValueError, match=r"t\.parquet` cannot be read"):
        rb.scan_trades(path)


# Addresses


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves ranges of files, as object stores do."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, len(data)
        if span and span[1]:
            start, end = int(span[1]), min(int(span[2] or len(data) - 1) + 1, len(data))
        elif span:
            start = max(0, len(data) - int(span[2]))
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(end - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    handler = lambda *arguments: Ranges(*arguments, directory=str(tmp_path))  # noqa: E731
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_addresses_of_text_and_parquet(address: str, tmp_path: Path) -> None:
    paths = containers(tmp_path)
    plain = rb.scan_trades(paths["plain"]).collect()
    assert rb.scan_trades(f"{address}/a.csv").collect().equals(plain)
    assert rb.scan_trades(f"{address}/a.parquet").collect().equals(plain)
    with pytest.raises(ValueError, match="download it first"):
        rb.scan_trades(f"{address}/a.zip")
    with pytest.raises(SourceError, match="cannot be read"):
        rb.scan_trades(f"{address}/nope.csv")
