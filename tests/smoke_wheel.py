"""The installed wheel with nothing but Polars beside it: every door once.

Run by `make wheel` and by the workflow, in an empty environment: no test library is needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import polars as pl

import rangebar_polars as rb


def check_doors() -> int:
    """Compares the doors with each other; the number of bars."""
    trades = rb.sample_ticks()
    bars = trades.rangebar.bars(250)
    assert bars.height > 1
    assert trades.lazy().rangebar.bars(250).collect().equals(bars)

    ids = {name: name for name in ("agg_trade_id", "first_trade_id", "last_trade_id")}
    assert trades.select(rb.bars("price", 250, **ids)).unnest("bars").equals(bars)
    numbered = trades.with_columns(rb.bar_id("price", 250))
    folded = numbered.select(rb.aggregate("price", "bar_id", **ids)).unnest("bars")
    assert folded.drop("bar_id").equals(bars.drop("bar_id"))

    builder = rb.RangeBarBuilder(250)
    first = builder.push(trades[:20_000])
    builder = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    assert pl.concat([first, builder.push(trades[20_000:])]).equals(bars)
    return bars.height


def check_command(expected: int) -> None:
    """Runs the command on a Parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        trades, bars = Path(folder, "trades.parquet"), Path(folder, "bars.parquet")
        rb.sample_ticks().write_parquet(trades)
        command = [sys.executable, "-m", "rangebar_polars", "bars", str(trades)]
        command += ["--threshold", "250", "--out", str(bars)]
        subprocess.run(command, cwd=folder, check=True)
        assert pl.read_parquet(bars).height == expected


def check_missing_extra() -> None:
    """A door whose extra is not installed says which one it needs."""
    if find_spec("pandas") is not None:
        return
    message = ""
    try:
        rb.to_backtesting(rb.sample_ticks().rangebar.bars(250))
    except ImportError as error:
        message = str(error)
    assert "rangebar-polars[pandas]" in message, message


if __name__ == "__main__":
    installed = sorted({d.name for d in distributions()})
    print("installed:", ", ".join(installed))
    count = check_doors()
    check_command(count)
    check_missing_extra()
    print(f"ok: {count} bars, Python {sys.version.split()[0]}, Polars {pl.__version__}")
