"""From an archive folder to bars: fetch, tick store, coverage, bars, picture, all offline.

The archive is built from generated trades in the layout of Binance's, so the whole way is taken
that real trades take. Where real ones lie beside the repository, their bars are drawn too.
`make demo` runs this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from datetime import date, timedelta
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import polars as pl

import rangebar_polars as rb

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "demo"
REAL_TRADES = ROOT.parent / "shared" / "data" / "binance"
SYMBOL = "ETHUSDT"
DAYS = [date(2025, 8, 6) + timedelta(days=n) for n in range(3)]
ARCHIVE_COLUMNS = ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id")
SHOWN = ("open_time", "close_time", "open", "high", "low", "close", "volume", "vwap", "ofi")


def generated_days() -> dict[date, pl.DataFrame]:
    """The bundled trades, once for each day, prices and ids running on from day to day."""
    sample = rb.sample_ticks()
    step = sample["price"][-1] / sample["price"][0]
    ids = sample["agg_trade_id"][-1] - sample["agg_trade_id"][0] + 1
    fills = sample["last_trade_id"][-1] - sample["first_trade_id"][0] + 1
    return {
        day: sample.with_columns(
            (pl.col("price") * step**n).round(2),
            pl.col("agg_trade_id") + n * ids,
            pl.col("first_trade_id", "last_trade_id") + n * fills,
            pl.col("timestamp") + (day - sample["timestamp"][0].date()),
        )
        for n, day in enumerate(DAYS)
    }


def write_archive(folder: Path, trades: dict[date, pl.DataFrame]) -> None:
    """Zips with their checksums, as the exchange publishes them."""
    place = folder / "data" / "spot" / "daily" / "aggTrades" / SYMBOL
    place.mkdir(parents=True)
    for day, frame in trades.items():
        stem = f"{SYMBOL}-aggTrades-{day}"
        rows = frame.select(
            *ARCHIVE_COLUMNS,
            pl.col("timestamp").dt.timestamp("us"),
            pl.col("is_buyer_maker").cast(pl.String).str.to_titlecase(),
            is_best_match=pl.lit("True"),
        )
        archive = place / f"{stem}.zip"
        with ZipFile(archive, "w", ZIP_DEFLATED) as file:
            file.writestr(f"{stem}.csv", rows.write_csv(include_header=False))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.with_name(f"{stem}.zip.CHECKSUM").write_text(f"{digest}  {stem}.zip\n")


def draw(name: str, bars: pl.DataFrame, threshold: int) -> None:
    """Print bars as a table, and draw them."""
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_rows=6, tbl_cols=-1, tbl_width_chars=160):
        print(bars.select(SHOWN))
    picture = FOLDER / f"{name}.png"
    title = f"{name}: {bars.height:,} range bars of {threshold / 1_000:g} %"
    rb.rangebar(bars).plot(title=title).save(picture)
    print(f"picture: {picture.relative_to(ROOT)}")


def from_archive_to_bars() -> None:
    """The main job, from an archive to a picture."""
    archive = FOLDER / "archive"
    write_archive(archive, generated_days())
    os.environ["RANGEBAR_BINANCE_ARCHIVE_URL"] = archive.as_uri()
    os.environ["RANGEBAR_CACHE_DIR"] = str(FOLDER / "cache")

    print(f"archive of generated trades: {archive.relative_to(ROOT)}")
    report = rb.fetch_ticks(SYMBOL, DAYS[0], DAYS[-1])
    print(f"fetched   {report}")
    print(f"again     {rb.fetch_ticks(SYMBOL, DAYS[0], DAYS[-1])}")

    from rangebar_polars.storage.parquet import TickStorage

    with pl.Config(tbl_hide_dataframe_shape=True, tbl_cols=-1, tbl_width_chars=160):
        print(TickStorage().coverage(SYMBOL, DAYS[0], DAYS[-1]))

    ticks = rb.scan_ticks(SYMBOL, DAYS[0], DAYS[-1])
    start = time.perf_counter()
    bars = rb.rangebar(ticks).bars(250, features="microstructure").collect()
    elapsed = time.perf_counter() - start
    print(f"{bars.height:,} bars of 0.25 % from the store in {elapsed * 1_000:.0f} ms")
    draw("generated", bars, 250)


def from_files_to_bars(files: list[Path]) -> None:
    """Bars of archive files at hand."""
    for file in files:
        name = file.name.partition(".")[0]
        bars = rb.rangebar(rb.scan_agg_trades(file)).bars(10, features="microstructure").collect()
        print(f"\n{name}: {bars.height:,} bars of 0.01 %")
        draw(name, bars, 10)


def main() -> None:
    """The generated archive, then the real files at hand."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    from_archive_to_bars()
    files = sorted(REAL_TRADES.glob("*.csv")) if REAL_TRADES.is_dir() else []
    from_files_to_bars(files)
    if not files:
        print(
            "\nno real trades beside the repository; `rangebar fetch` gets them from the exchange"
        )


if __name__ == "__main__":
    main()
