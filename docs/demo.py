"""Range bars of the bundled trades, and of real ones where they lie beside the repository.

Prints a table and draws a picture for each: `make demo`.
"""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl

import rangebar_polars as rb

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "build" / "demo"
REAL_TRADES = ROOT.parent / "shared" / "data" / "binance"
SHOWN = ("open_time", "close_time", "open", "high", "low", "close", "volume", "vwap", "ofi")


def show(name: str, trades: pl.DataFrame, threshold: int) -> None:
    """Prints the bars of `trades` and draws them."""
    start = time.perf_counter()
    bars = rb.rangebar(trades).bars(threshold, features="microstructure")
    elapsed = time.perf_counter() - start
    first, last = trades["timestamp"][0], trades["timestamp"][-1]
    print(f"\n{name}: {trades.height:,} trades, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}")
    print(f"{bars.height:,} bars of {threshold / 1_000:g} % in {elapsed * 1_000:.1f} ms")
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_rows=6, tbl_cols=-1, tbl_width_chars=160):
        print(bars.select(SHOWN))
    picture = PICTURES / f"{name}.png"
    title = f"{name}: {bars.height:,} range bars of {threshold / 1_000:g} %"
    rb.rangebar(bars).plot(title=title).save(picture)
    print(f"picture: {picture.relative_to(ROOT)}")


def main() -> None:
    """Shows the bundled trades, then the files at hand."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    rb.rangebar(rb.sample_ticks()).bars(250)  # loads the library, so that the times are the bars'
    show("sample", rb.sample_ticks(), threshold=250)
    files = sorted(REAL_TRADES.glob("*.csv")) if REAL_TRADES.is_dir() else []
    for file in files:
        show(file.name.partition(".")[0], rb.scan_agg_trades(file).collect(), threshold=10)
    if not files:
        print("\nno real trades beside the repository; `rb.scan_agg_trades` reads Binance archives")


if __name__ == "__main__":
    main()
