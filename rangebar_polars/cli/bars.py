"""The command `rangebar bars`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from rangebar_polars._utils.span import parse_span
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    add_cache_arguments,
    add_place_arguments,
    add_threshold_argument,
    judged,
    place_of,
    symbol_of,
)
from rangebar_polars.cli._output import UsageError, emit, say, text_table, whole_file
from rangebar_polars.compute._options import parse_options
from rangebar_polars.compute.frame import bars_frame
from rangebar_polars.compute.trades import with_times
from rangebar_polars.distance import Distance
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.binance.archive import GLOB_CHARACTERS, resolve_paths, scan_agg_trades

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars._typing import Reset
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.threshold import LimitLike

__all__ = ["add_parser"]

WRITERS = (".parquet", ".csv")
TABLE_COLUMNS = (
    "threshold",
    "bar_id",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
)
SPAN_WORDS = 3  # a symbol and two dates

BARS_HELP = """\
range bars of a symbol between two dates, or of trade files

A symbol and two dates: bars that are kept are read, the rest is computed from ticks, which are
fetched where they are missing; at most 31 days in all, more with `rangebar populate` before.
Files: aggTrades files of Binance (CSV or zip, spot or futures) and Parquet files of trades, in the
order given. Without --out the bars go to stdout: to a terminal as a table of the first columns, to
a pipe or a file as CSV with all columns.
"""
BARS_EXAMPLES = """\
examples:
  rangebar bars BTCUSDT 2024-01-01 2024-01-31 --out bars.parquet
  rangebar bars BTCUSDT-aggTrades-2024-08-08.zip
  rangebar bars 'BTCUSDT-aggTrades-*.zip' --threshold 0.25% --threshold 0.5% --out bars.parquet
  rangebar bars trades.parquet --rule high_low --distance 1.50
  rangebar bars trades.parquet --features microstructure --reset month --plot bars.png > bars.csv
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    bars = verbs.add_parser(
        "bars",
        help="range bars of a symbol, or of trade files",
        description=BARS_HELP,
        epilog=BARS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bars.add_argument(
        "trades",
        nargs="+",
        metavar="SYMBOL START END | TRADES",
        help="a symbol and two dates (UTC, both included); or files, or patterns in quotes",
    )
    add_threshold_argument(bars, default=f"{DEFAULT_THRESHOLD}; several add a column `threshold`")
    bars.add_argument(
        "--distance",
        action="append",
        metavar="D",
        help="an absolute distance in units of price instead of a threshold, such as 1.50; of files "
        "only; several add a column `threshold`",
    )
    bars.add_argument(
        "--rule",
        default="open",
        metavar="R",
        help="open (default) or high_low, the height of the bar; of files only",
    )
    bars.add_argument(
        "--features",
        action="append",
        metavar="F",
        help="columns beyond the core: microstructure, or the name of one; may be repeated",
    )
    bars.add_argument(
        "--reset",
        metavar="R",
        help="start anew each year, month, week or day, UTC (default: year for a symbol, none for "
        "files)",
    )
    bars.add_argument("--out", type=Path, metavar="FILE", help="write to a .parquet or .csv file")
    bars.add_argument("--plot", type=Path, metavar="FILE", help="draw candlesticks in a .png file")
    _add_symbol_arguments(bars.add_argument_group("of a symbol"))
    bars.set_defaults(run=run_bars)


def _add_symbol_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--anchor",
        metavar="A",
        help="compute from `segment`, the last reset, or from an instant on, so that the bars do "
        "not depend on what is kept",
    )
    group.add_argument("--no-cache", action="store_true", help="from ticks, whatever is kept")
    add_place_arguments(group)
    add_cache_arguments(group)


def run_bars(arguments: argparse.Namespace) -> None:
    """`rangebar bars`."""
    thresholds: list[int] = arguments.threshold or [DEFAULT_THRESHOLD]
    features: list[str] = arguments.features or []
    distances = distances_of(arguments)
    judge(arguments, distances or thresholds)
    if is_file_name(arguments.trades[0]):
        bars = bars_of_files(arguments, distances or thresholds, features)
    else:
        bars = bars_of_symbol(arguments, thresholds, features)
    limits = map(str, distances) if distances else (f"{dbps / 1000:g} %" for dbps in thresholds)
    say(f"{bars.height:,} bars at {', '.join(limits)}")
    if arguments.plot:
        draw(bars, arguments.plot)
    if arguments.out:
        write(bars, arguments.out)
    elif sys.stdout is not None and sys.stdout.isatty():
        emit(table(bars, features) + "\n")
    else:
        emit(bars.write_csv())


def distances_of(arguments: argparse.Namespace) -> list[Distance]:
    """Return the distances that were typed; there are none beside thresholds or for a symbol."""
    if not arguments.distance and arguments.rule == "open":
        return []
    if not is_file_name(arguments.trades[0]):
        raise UsageError(
            with_hint(
                "bars of a symbol are by the rule `open` and by percentages, as the bar cache stores "
                "them; --rule and --distance are for files",
                "rangebar bars trades.parquet --rule high_low --distance 1.50",
            )
        )
    if arguments.distance and arguments.threshold:
        raise UsageError("give --threshold or --distance, not both")
    return [judged(Distance, text) for text in arguments.distance or ()]


def bars_of_files(
    arguments: argparse.Namespace, limits: Sequence[LimitLike], features: list[str]
) -> pl.DataFrame:
    """Bars of the files that are named."""
    trades = read_trades(arguments.trades, (arguments.out, arguments.plot))
    wanted = limits if len(limits) > 1 else limits[0]
    bars = bars_frame(
        trades, wanted, rule=arguments.rule, features=features, reset=reset(arguments)
    )
    return bars.collect()


def reset(arguments: argparse.Namespace) -> Reset | None:
    """Where bars start anew; None where they do not, or where nothing is said."""
    return None if arguments.reset == "none" else arguments.reset


def bars_of_symbol(
    arguments: argparse.Namespace, thresholds: list[int], features: list[str]
) -> pl.DataFrame:
    """Bars of a symbol between two dates: what is kept, and the rest from ticks."""
    from rangebar_polars.readers.bars import scan_range_bars

    name, start, end = arguments.trades
    begin = anchor(arguments.anchor)
    symbol = symbol_of(name)
    source, market = place_of(symbol, arguments.source, arguments.market)
    where: Any = {
        "source": source,
        "market": market,
        "cache_dir": arguments.cache_dir,
        "dsn": arguments.dsn,
    }
    frames = [
        scan_range_bars(
            symbol,
            start,
            end,
            dbps,
            features=features or "core",
            anchor=begin,
            ouroboros=arguments.reset or "year",
            use_cache=not arguments.no_cache,
            **where,
        ).collect()
        for dbps in thresholds
    ]
    return together(thresholds, frames) if len(frames) > 1 else frames[0]


def together(thresholds: list[int], frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Bars of several thresholds in the order of their ends, with a column `threshold`."""
    named = [
        frame.select(pl.lit(dbps, pl.UInt32).alias("threshold"), pl.all())
        for dbps, frame in zip(thresholds, frames, strict=True)
    ]
    # Several bars may close at one time; that of quotes has no id.
    return pl.concat(named).sort("close_time", "last_agg_trade_id", maintain_order=True)


def anchor(text: str | None) -> datetime | Literal["segment"] | None:
    """Anchor as it was typed."""
    if text is None or text == "segment":
        return text  # type: ignore[return-value]
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--anchor must be `segment` or a time; it is `{text}`") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def judge(arguments: argparse.Namespace, limits: Sequence[LimitLike]) -> None:
    """Refuse a wrong call before any trade is read."""
    try:
        parse_options(
            limits,
            rule=arguments.rule,
            features=arguments.features or [],
            reset=reset(arguments),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if not is_file_name(arguments.trades[0]):
        judge_span(*arguments.trades)
        anchor(arguments.anchor)
    refuse_name("--out", arguments.out, WRITERS)
    refuse_name("--plot", arguments.plot, (".png",))
    if arguments.plot:
        from rangebar_polars.plot.chart import require_extra

        require_extra()


def judge_span(name: str, *dates: str) -> None:
    """Refuse a symbol without its two dates: it may have been meant as a file."""
    symbol = symbol_of(name)
    if len(dates) + 1 != SPAN_WORDS:
        raise UsageError(
            with_hint(
                f"`{name}` is neither a file nor a pattern of file names, and two dates must follow "
                "a symbol",
                f"rangebar bars {symbol} 2024-01-01 2024-01-31, or rangebar bars "
                f"'{symbol}-aggTrades-*.zip'",
            )
        )
    judged(parse_span, *dates)


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
    from rangebar_polars.plot.chart import plot_bars, save_png

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
