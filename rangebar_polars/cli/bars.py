"""The command `rangebar bars`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._options import parse_options
from rangebar_polars.build import bars_frame
from rangebar_polars.cli._words import UsageError, emit, say, text_table, whole_file
from rangebar_polars.exceptions import ThresholdError, TickDataError, with_hint
from rangebar_polars.fetch.binance_archive import GLOB_CHARACTERS, resolve_paths, scan_agg_trades
from rangebar_polars.threshold import parse_threshold
from rangebar_polars.trades import with_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.cli._words import Verbs

__all__ = ["add_parser"]

DEFAULT_THRESHOLD = 250
WRITERS = (".parquet", ".csv")
TABLE_COLUMNS = ("threshold", "bar_id", "close_time", "open", "high", "low", "close", "volume")

BARS_HELP = """\
range bars of trade files

Reads aggTrades files of Binance (CSV or zip, spot or futures) and Parquet files of trades, in the
order given. Without --out the bars go to stdout: to a terminal as a table of the first columns, to
a pipe or a file as CSV with all columns.
"""
BARS_EXAMPLES = """\
examples:
  rangebar bars BTCUSDT-aggTrades-2024-08-08.zip
  rangebar bars 'BTCUSDT-aggTrades-*.zip' --threshold 0.25% --threshold 0.5% --out bars.parquet
  rangebar bars trades.parquet --features microstructure --reset month --plot bars.png > bars.csv
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    bars = verbs.add_parser(
        "bars",
        help="range bars of trade files",
        description=BARS_HELP,
        epilog=BARS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bars.add_argument("trades", nargs="+", metavar="TRADES", help="files, or patterns in quotes")
    bars.add_argument(
        "--threshold",
        action="append",
        type=threshold,
        metavar="T",
        help="250 (decimal basis points), 0.25%%, 25bp or a preset; several add a column "
        f"`threshold` (default: {DEFAULT_THRESHOLD})",
    )
    bars.add_argument(
        "--features",
        action="append",
        metavar="F",
        help="columns beyond the core: microstructure, or the name of one; may be repeated",
    )
    bars.add_argument("--reset", metavar="R", help="start anew each year, month, week or day, UTC")
    bars.add_argument("--out", type=Path, metavar="FILE", help="write to a .parquet or .csv file")
    bars.add_argument("--plot", type=Path, metavar="FILE", help="draw candlesticks in a .png file")
    bars.set_defaults(run=run_bars)


def threshold(text: str) -> int:
    """Threshold as it was typed."""
    number: Any = text  # a fraction is refused with the whole number that is meant
    if text.replace(".", "", 1).isdecimal():
        number = float(text) if "." in text else int(text)
    try:
        return parse_threshold(number)
    except ThresholdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run_bars(arguments: argparse.Namespace) -> None:
    """`rangebar bars`."""
    thresholds: list[int] = arguments.threshold or [DEFAULT_THRESHOLD]
    wanted = thresholds if len(thresholds) > 1 else thresholds[0]
    features: list[str] = arguments.features or []
    judge(arguments, thresholds)
    trades = read_trades(arguments.trades, (arguments.out, arguments.plot))
    bars = bars_frame(trades, wanted, features=features, reset=arguments.reset).collect()
    say(f"{bars.height:,} bars at {', '.join(f'{dbps / 1000:g} %' for dbps in thresholds)}")
    if arguments.plot:
        draw(bars, arguments.plot)
    if arguments.out:
        write(bars, arguments.out)
    elif sys.stdout is not None and sys.stdout.isatty():
        emit(table(bars, features) + "\n")
    else:
        emit(bars.write_csv())


def judge(arguments: argparse.Namespace, thresholds: list[int]) -> None:
    """Refuse a wrong call before any trade is read."""
    try:
        parse_options(thresholds, features=arguments.features or [], reset=arguments.reset)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if not is_file_name(arguments.trades[0]):
        raise UsageError(no_file(*arguments.trades))
    refuse_name("--out", arguments.out, WRITERS)
    refuse_name("--plot", arguments.plot, (".png",))
    if arguments.plot:
        from rangebar_polars.plot import require_extra

        require_extra()


def no_file(name: str, *dates: str) -> str:
    """Message for a symbol, perhaps with dates, where files are wanted."""
    start, end = (dates[0], dates[-1]) if dates else ("2024-01-01", "2024-01-31")
    return with_hint(
        f"`{name}` is neither a file nor a pattern of file names",
        f"give files of trades: rangebar bars '{name}-aggTrades-*.zip'; if it is a symbol, `rangebar "
        f"fetch {name} {start} {end}` puts its ticks into the store, and in Python "
        f'rb.scan_ticks("{name}", "{start}", "{end}").rangebar.bars({DEFAULT_THRESHOLD}) '
        "makes bars of them",
    )


def is_file_name(text: str) -> bool:
    """Whether it names files: it exists, is a path or a pattern, or has a suffix.

    Examples
    --------
    >>> from rangebar_polars.cli.bars import is_file_name
    >>> [is_file_name(text) for text in ("trades.csv", "data/*", "BTCUSDT")]
    [True, True, False]
    """
    path = Path(text)
    pattern = any(character in text for character in GLOB_CHARACTERS)
    return pattern or len(path.parts) > 1 or bool(path.suffix) or path.exists()


def refuse_name(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse a file to write whose suffix or folder is wrong."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} must end in {' or '.join(suffixes)}; it is `{path}`")
    if not path.parent.is_dir():
        raise UsageError(f"{option}: there is no folder `{path.parent}`")


def read_trades(names: Sequence[str], written: Sequence[Path | None] = ()) -> pl.LazyFrame:
    """Trades of all files, read when they are needed; none of them may be `written`."""
    paths = resolve_paths(names)
    for path in written:
        if path is not None and path.exists() and any(path.samefile(trades) for trades in paths):
            raise UsageError(f"`{path}` is among the trades; write to another file")
    parquet = [path for path in paths if path.suffix.lower() == ".parquet"]
    if not parquet:
        return scan_agg_trades(paths)
    if len(parquet) < len(paths):
        raise UsageError("give Parquet files or aggTrades files, not both at once")
    for path in paths:
        try:
            pl.read_parquet_schema(path)
        except pl.exceptions.PolarsError as error:
            raise TickDataError(f"`{path}` is no Parquet file: {error}") from error
    return with_times(pl.scan_parquet(paths))


def draw(bars: pl.DataFrame, path: Path) -> None:
    """Write a chart."""
    from rangebar_polars.plot import plot_bars, save_png

    chart = plot_bars(bars)
    with whole_file(path) as part:
        save_png(chart, part)
    say(f"wrote {path}")


def write(bars: pl.DataFrame, path: Path) -> None:
    """Write all columns to a file."""
    with whole_file(path) as part:
        if path.suffix.lower() == ".csv":
            bars.write_csv(part)
        else:
            bars.write_parquet(part)
    say(f"wrote {path}")


def table(bars: pl.DataFrame, features: Sequence[str]) -> str:
    """The first columns and rows, fit for a terminal."""
    names = [name for name in (*TABLE_COLUMNS, *features) if name in bars.columns]
    return text_table(bars.select(list(dict.fromkeys(names))))
