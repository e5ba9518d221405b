"""An archive's zip into the tick store, against taking it apart and writing it with Polars alone.

    python benches/fetch.py [--rows 2000000] [--rounds 9]

Ours checks the hash of the zip, its CRC, each line and the order of all, and outlasts a loss of
power; the other side reads, parses and writes. Both write the same columns.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result

HERE = Path(__file__).resolve().parent
ROWS = 2_000_000  # of a busy day
LEAST, AIM = 1.5, 1.0
SYMBOL, DAY = "BTCUSDT", "2026-01-01"
COLUMNS = ["agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "timestamp"]
COLUMNS += ["is_buyer_maker", "is_best_match"]
DAY_US = 86_400_000_000


def day_of_trades(rows: int) -> pl.DataFrame:
    """Generated trades, their times drawn together into one day."""
    import data

    start = int(datetime.fromisoformat(DAY).replace(tzinfo=UTC).timestamp()) * 1_000_000
    trades = data.frame(rows)
    since = trades["timestamp"].to_physical() - trades["timestamp"].to_physical()[0]
    longest = int(since[-1]) + 1
    times = (since * (DAY_US / longest)).floor().cast(pl.Int64) + start
    return trades.with_columns(timestamp=times.cast(data.SCHEMA["timestamp"]))


def archive_text(trades: pl.DataFrame) -> bytes:
    """The CSV of a spot archive."""
    word = pl.when("is_buyer_maker").then(pl.lit("True")).otherwise(pl.lit("False"))
    rows = trades.with_columns(
        pl.col("timestamp").to_physical(), is_buyer_maker=word, is_best_match=pl.lit("True")
    )
    return rows.select(COLUMNS).write_csv(include_header=False, float_precision=8).encode()


def publish(trades: pl.DataFrame, folder: Path) -> Path:
    """Write the archive of the day, and its checksum; give the zip."""
    name = f"{SYMBOL}-aggTrades-{DAY}"
    place = folder / f"data/spot/daily/aggTrades/{SYMBOL}"
    place.mkdir(parents=True)
    file = place / f"{name}.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.csv", archive_text(trades))
    total = hashlib.sha256(file.read_bytes()).hexdigest()
    Path(f"{file}.CHECKSUM").write_text(f"{total}  {file.name}\n", encoding="utf-8")
    return file


def plainly(file: Path, out: Path) -> None:
    """Unzip, parse and write, with nothing checked but the CRC."""
    with zipfile.ZipFile(file) as archive:
        text = archive.read(archive.namelist()[0])
    frame = pl.read_csv(text, has_header=False, new_columns=COLUMNS)
    frame.drop("is_best_match").write_parquet(out, compression="zstd", compression_level=3)


def into_store(folder: Path) -> Callable[[], None]:
    """Fetch the day and put it into a store, a new one each time."""
    from rangebar_polars.fetch import BinanceArchive
    from rangebar_polars.storage.parquet import TickStorage

    numbers = count()

    def work() -> None:
        archive = BinanceArchive("spot", url=folder.as_uri(), checksum="require")
        store = TickStorage(cache_dir=folder / f"store-{next(numbers)}")
        store.put_days(SYMBOL, [archive.fetch_day(SYMBOL, DAY)])

    return work


def archive_to_store(bench: Bench, rows: int = ROWS) -> Result:
    """Cost of zip to stored day, in times of unzip, `read_csv` and `write_parquet`."""
    from bench import cost
    from timing import here

    from rangebar_polars.storage.parquet import TickStorage

    trades = day_of_trades(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = publish(trades, folder)
        ours = into_store(folder)
        ours()
        stored = TickStorage(cache_dir=folder / "store-0").get_ticks(SYMBOL, DAY, DAY)
        if not stored.equals(trades.select(stored.columns)):
            message = "the store does not hold the trades of the archive"
            raise AssertionError(message)
        other = here(lambda: plainly(file, folder / "plain.parquet"))
        result = cost(bench.compare(here(ours), other), rows, "plainly")
    result.notes[:] = [f"{file_seconds(result):.2f} s a day"]
    return result


def file_seconds(result: Result) -> float:
    """Seconds that ours takes."""
    from timing import typical

    return typical(result.details["ours"])


def main() -> int:
    """Measures in this process and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="trades of the day (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of samples (%(default)s)")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out
    from bench import Bench
    from timing import require_release

    require_release()
    result = archive_to_store(Bench(given.rows, given.rounds, full=False), given.rows)
    print(
        f"archive zip -> stored day, {given.rows / 1e6:g} M rows: {result.value:.2f} "
        f"({result.low:.2f} … {result.high:.2f}), by CPU {result.by_cpu:.2f}; "
        f"at most {LEAST:g}, aim {AIM:g}; {'; '.join(result.notes)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
