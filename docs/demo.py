"""Run the main job offline: fetch, store, populate, kill, resume, read back, and stream.

The archive is built from generated trades in the layout of Binance's archive, so they take the same
path as real trades. If real trades are found beside the repository, their bars are drawn too.
`make demo` runs this.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import polars as pl
from demo_live import live_session

import rangebar_polars as rb
from rangebar_polars._files.failpoints import Step
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.readers.cached import count_bars, coverage
from rangebar_polars.storage.parquet import TickStorage

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "demo"
REAL_TRADES = ROOT.parent / "shared" / "data" / "binance"
SYMBOL = "ETHUSDT"
DAYS = [date(2025, 8, 1) + timedelta(days=n) for n in range(45)]
SPAN = (str(DAYS[0]), str(DAYS[-1]))
THRESHOLDS = [250, 500]
ARCHIVE_COLUMNS = ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id")
SHOWN = ("open_time", "close_time", "open", "high", "low", "close", "volume", "vwap", "ofi")
DRAWN_BARS = 400

# A population that prints every step it reaches, and waits there for a line on stdin.
POPULATION = """
import sys
from rangebar_polars.checkpoint import populate_cache_resumable
from rangebar_polars._files.failpoints import on_failpoint

def step(name):
    print(name, flush=True)
    sys.stdin.readline()

with on_failpoint(step):
    symbol, start, end, *thresholds = sys.argv[1:]
    populate_cache_resumable(
        symbol, start, end, threshold_decimal_bps=[*map(int, thresholds)], verbose=False
    )
"""
KILLED_AT = Step.BARS_INSERTED  # bars are in the table, but not published yet
KILLED_IN_GROUP = 2


def generated_days() -> dict[date, pl.DataFrame]:
    """Repeat the bundled trades for each day, up or down, with continuing prices and ids."""
    sample = rb.sample_ticks()
    ids = sample["agg_trade_id"][-1] - sample["agg_trade_id"][0] + 1
    fills = sample["last_trade_id"][-1] - sample["first_trade_id"][0] + 1
    chance = random.Random(8)
    start = sample["price"][0]
    days: dict[date, pl.DataFrame] = {}
    for n, day in enumerate(DAYS):
        moves = (pl.col("price") / sample["price"][0]).pow(
            chance.choice((-1, 1)) * chance.uniform(0.6, 1.3)
        )
        days[day] = sample.with_columns(
            (moves * start).round(2),
            pl.col("agg_trade_id") + n * ids,
            pl.col("first_trade_id", "last_trade_id") + n * fills,
            pl.col("timestamp") + (day - sample["timestamp"][0].date()),
        )
        start = days[day]["price"][-1]
    return days


def write_archive(folder: Path, trades: dict[date, pl.DataFrame]) -> None:
    """Write zips with their checksums, as the exchange publishes them."""
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
        with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr(f"{stem}.csv", rows.write_csv(include_header=False))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.with_name(f"{stem}.zip.CHECKSUM").write_text(f"{digest}  {stem}.zip\n")


def heading(words: str) -> None:
    """Print a heading."""
    print(f"\n── {words} ──")


def show(frame: pl.DataFrame, rows: int = 6) -> None:
    """Print the first and last rows of a table."""
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_rows=rows, tbl_cols=-1, tbl_width_chars=160):
        print(frame)


def draw(name: str, bars: pl.DataFrame, threshold: int) -> None:
    """Print bars as a table, and draw them."""
    show(bars.select(SHOWN))
    picture = FOLDER / f"{name}.png"
    title = f"{name}: {bars.height:,} range bars of {threshold / 1_000:g} %"
    rb.rangebar(bars).plot(title=title).save(picture)
    print(f"picture: {picture.relative_to(ROOT)}")


def fetch_and_store() -> None:
    """Write an archive, and fetch its ticks into the store."""
    heading(
        "an archive of generated trades, fetched into the tick store, each day checked for completeness"
    )
    archive = FOLDER / "archive"
    write_archive(archive, generated_days())
    os.environ["RANGEBAR_BINANCE_ARCHIVE_URL"] = archive.as_uri()
    os.environ["RANGEBAR_CACHE_DIR"] = str(FOLDER / "cache")
    start = time.perf_counter()
    print(rb.fetch_ticks(SYMBOL, *SPAN))
    print(f"took {time.perf_counter() - start:.1f} s; once more: {rb.fetch_ticks(SYMBOL, *SPAN)}")
    show(TickStorage().coverage(SYMBOL, *SPAN))


def populate_killed() -> None:
    """Populate in a child process, and kill it while it writes."""
    heading("a population, killed by SIGKILL while it writes")
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-P", "-c", POPULATION, SYMBOL, *SPAN, *map(str, THRESHOLDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reached = 0
    for line in process.stdout:
        reached += line.strip() == KILLED_AT
        if reached == KILLED_IN_GROUP:
            process.kill()
            break
        process.stdin.write("\n")
        process.stdin.flush()
    assert reached == KILLED_IN_GROUP, "the population ended before it was killed"
    print(f"process {process.pid} ended with {process.wait()} at `{KILLED_AT}`")
    days = coverage(SYMBOL, THRESHOLDS[0], *SPAN)
    cached = days.filter(pl.col("state") != "missing")
    with open_cache() as cache:
        stored = cache.scalar(f"SELECT count() FROM {cache.table('bars')}")
    visible = sum(count_bars(SYMBOL, threshold) for threshold in THRESHOLDS)
    last_day = cached["unit_day"].to_list()[-1]
    print(f"days cached: {cached.height} of {days.height}, up to {last_day}")
    print(f"bars in the table: {stored:,}; published and visible: {visible:,}")


def populate_resumed() -> None:
    """Repeat the same population twice."""
    heading("the same call again resumes there")
    for _ in range(2):
        start = time.perf_counter()
        report = rb.populate_cache_resumable(
            SYMBOL, *SPAN, threshold_decimal_bps=THRESHOLDS, verbose=False
        )
        print(f"{report}\n{int(report):,} bars written in {time.perf_counter() - start:.1f} s")


def compare() -> None:
    """Compare the bars with those of an uninterrupted population."""
    heading("compared with a cache that was populated without an interruption")
    other = f"chdb://{FOLDER / 'other'}"
    rb.populate_cache_resumable(
        SYMBOL, *SPAN, threshold_decimal_bps=THRESHOLDS, verbose=False, dsn=other
    )
    for threshold in THRESHOLDS:
        here, there = (
            rb.scan_range_bars(SYMBOL, *SPAN, threshold, features="microstructure", dsn=dsn)
            for dsn in (None, other)
        )
        equal = here.collect().equals(there.collect())
        assert equal
        print(f"{threshold} dbps: all rows and columns equal: {equal}")


def read_back() -> None:
    """Read the bars lazily and as pandas, and show a table and a picture."""
    heading("read back lazily: two columns of one week")
    week = rb.scan_range_bars(SYMBOL, "2025-09-01", "2025-09-07", 250)
    daily = week.group_by_dynamic("close_time", every="1d").agg(
        pl.len().alias("bars"), pl.col("volume").sum().round(1)
    )
    show(daily.collect(), rows=7)

    heading("read back as pandas, fit for backtesting.py")
    start = time.perf_counter()
    frame = rb.get_range_bars(SYMBOL, *SPAN)
    print(f"{len(frame):,} bars in {(time.perf_counter() - start) * 1_000:.0f} ms")
    print(frame.tail(3))
    print(frame.attrs["rangebar"])

    heading("the newest bars")
    bars = rb.scan_range_bars(SYMBOL, *SPAN, 500, features="microstructure").collect()
    draw("generated", bars.tail(DRAWN_BARS), 500)


def stream() -> None:
    """Stream the bars of another exchange, and compare them with a population."""
    heading(
        "live bars of an exchange in a box, five hours in some seconds; the sidecar is killed once"
    )
    start = time.perf_counter()
    live_session(FOLDER / "live")
    print(f"took {time.perf_counter() - start:.1f} s")


def from_files_to_bars(files: list[Path]) -> None:
    """Compute and draw the bars of archive files."""
    for file in files:
        name = file.name.partition(".")[0]
        bars = rb.rangebar(rb.scan_agg_trades(file)).bars(10, features="microstructure").collect()
        heading(f"{name}: {bars.height:,} bars of 0.01 %")
        draw(name, bars, 10)


def main() -> None:
    """Run the demo on the generated archive, then on real files if there are any."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    fetch_and_store()
    populate_killed()
    populate_resumed()
    compare()
    read_back()
    files = sorted(REAL_TRADES.glob("*.csv")) if REAL_TRADES.is_dir() else []
    from_files_to_bars(files)
    if not files:
        print(
            "\nno real trades beside the repository; `rangebar fetch` gets them from the exchange"
        )
    stream()


if __name__ == "__main__":
    main()
