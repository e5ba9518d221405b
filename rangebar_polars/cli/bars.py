"""The command `rangebar bars`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import parse_span
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    add_cache_arguments,
    add_feature_arguments,
    add_quiet_argument,
    add_threshold_argument,
    add_venue_arguments,
    parsed,
    symbol_of,
    venue_of,
)
from rangebar_polars.cli._output import (
    UsageError,
    csv_text,
    emit,
    say,
    text_table,
    whole_file,
    write_csv,
)
from rangebar_polars.cli._trades import (
    TradeInput,
    add_file_arguments,
    is_file_name,
    is_trade_file,
    opened_trades,
)
from rangebar_polars.cli.populate import is_day
from rangebar_polars.compute._options import parse_options
from rangebar_polars.compute.frame import bars_frame
from rangebar_polars.distance import Distance
from rangebar_polars.exceptions import with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars._typing import Reset
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.threshold import LimitLike

__all__ = ["add_parser"]

SUFFIXES = (".parquet", ".csv")
PICTURES = (".png", ".svg")
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
SPAN_ARGUMENTS = 3  # a symbol and two dates

BARS_HELP = """\
Build range bars of a symbol between two dates, or of trade files.

Symbol and dates: cached bars are read, and the rest is computed from ticks; missing ticks are
fetched. At most 31 days are computed; run `rangebar populate` first for longer spans.
Files: the trades of an exchange or data vendor as CSV, zip, gzip or Parquet, read in the given
order; also folders, quoted patterns, addresses and `-` for standard input. The layout is recognised
and shown on stderr.
Without --out, the bars go to stdout: as a table of the main columns on a terminal, as CSV with all
columns otherwise.
"""
BARS_EXAMPLES = """\
examples:
  rangebar bars BTCUSDT 2024-01-01 2024-01-31 --out bars.parquet
  rangebar bars BTCUSDT-aggTrades-2024-08-08.zip
  rangebar bars 'BTCUSDT-aggTrades-*.zip' --threshold 0.25% --threshold 0.5% --out bars.parquet
  rangebar bars trades.parquet --rule high_low --distance 1.50
  rangebar bars trades.parquet --features microstructure --reset month --plot bars.png > bars.csv
  rangebar bars fills.csv --columns price=px,quantity=sz --time-unit ms
  zcat trades.csv.gz | rangebar bars - --group-by symbol --out bars.parquet
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    bars = verbs.add_parser(
        "bars",
        help="build range bars of a symbol, or of trade files",
        description=BARS_HELP,
        epilog=BARS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bars.add_argument(
        "trades",
        nargs="+",
        metavar="SYMBOL START END | TRADES",
        help="a symbol and two dates (UTC, both included); or files, folders, quoted patterns or `-`",
    )
    add_threshold_argument(bars, default=f"{DEFAULT_THRESHOLD}; several add a column `threshold`")
    bars.add_argument(
        "--distance",
        action="append",
        metavar="D",
        help="an absolute price distance instead of a threshold, such as 1.50; for files only; may "
        "be repeated, which adds a column `threshold`",
    )
    bars.add_argument(
        "--rule",
        default="open",
        metavar="RULE",
        help="measure the distance from the opening price (open, the default) or as the height of "
        "the bar (high_low); for files only",
    )
    add_feature_arguments(
        bars,
        "a feature group or column beyond the core, such as microstructure; may be repeated",
    )
    bars.add_argument(
        "--reset",
        metavar="MODE",
        help="restart the bars each year, month, week or day (UTC), or none (default: year for a "
        "symbol, none for files)",
    )
    bars.add_argument(
        "--out", type=Path, metavar="FILE", help="write the bars to this .parquet or .csv file"
    )
    bars.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw candlesticks to this .png or .svg file"
    )
    add_quiet_argument(bars)
    _add_file_arguments(bars.add_argument_group("options for files"))
    _add_symbol_arguments(bars.add_argument_group("options for symbols"))
    bars.set_defaults(run=run_bars)


def _add_file_arguments(group: argparse._ArgumentGroup) -> None:
    add_file_arguments(group)
    group.add_argument(
        "--symbol", metavar="SYMBOL", help="the symbol to read from files that hold several"
    )
    group.add_argument(
        "--group-by",
        action="append",
        metavar="COLUMN,...",
        help="build the bars of each key by itself, such as symbol",
    )


def _add_symbol_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--anchor",
        metavar="ANCHOR",
        help="start the computation at the last reset (`segment`) or at a time, so that the bars do "
        "not depend on the cache",
    )
    group.add_argument("--no-cache", action="store_true", help="compute from ticks only")
    add_venue_arguments(group)
    add_cache_arguments(group)


def run_bars(arguments: argparse.Namespace) -> None:
    """Run `rangebar bars`."""
    thresholds: list[int] = arguments.threshold or [DEFAULT_THRESHOLD]
    features: list[str] = arguments.features or []
    distances = distances_of(arguments)
    check_arguments(arguments, distances or thresholds)
    if are_files(arguments.trades):
        bars = bars_of_files(arguments, distances or thresholds, features)
    else:
        bars = bars_of_symbol(arguments, thresholds, features)
    limits = map(str, distances) if distances else (f"{dbps / 1000:g} %" for dbps in thresholds)
    say(f"{count_text(bars.height, 'bar')} at {', '.join(limits)}")
    if arguments.plot:
        draw(bars, arguments.plot)
    if arguments.out:
        write(bars, arguments.out)
    elif sys.stdout is not None and sys.stdout.isatty():
        emit(table(bars, features, TradeInput.of(arguments).group_by) + "\n")
    else:
        emit(csv_text(bars))


def are_files(words: Sequence[str]) -> bool:
    """Return whether the positional arguments are files, and not a symbol and two dates.

    Examples
    --------
    >>> from rangebar_polars.cli.bars import are_files
    >>> are_files(["BRK.B", "2024-01-01", "2024-01-31"]), are_files(["a.csv", "b.csv", "c.csv"])
    (False, True)
    """
    is_span = len(words) == SPAN_ARGUMENTS and all(map(is_day, words[1:]))
    if is_span and not any(map(is_trade_file, words)):
        return False
    return is_file_name(words[0])


def distances_of(arguments: argparse.Namespace) -> list[Distance]:
    """Parse the distances; refuse them for a symbol, or together with thresholds."""
    if not arguments.distance and arguments.rule == "open":
        return []
    if not are_files(arguments.trades):
        raise UsageError(
            with_hint(
                "--rule and --distance are for files: the bar cache stores bars by the rule `open` "
                "and thresholds in percent",
                "rangebar bars trades.parquet --rule high_low --distance 1.50",
            )
        )
    if arguments.distance and arguments.threshold:
        raise UsageError("pass --threshold or --distance, not both")
    return [parsed(Distance, text) for text in arguments.distance or ()]


def bars_of_files(
    arguments: argparse.Namespace, limits: Sequence[LimitLike], features: list[str]
) -> pl.DataFrame:
    """Build the bars of trade files."""
    wanted = TradeInput.of(arguments)
    written = (arguments.out, arguments.plot)
    with opened_trades(arguments.trades, wanted, written) as trades:
        bars = bars_frame(
            trades,
            limits if len(limits) > 1 else limits[0],
            rule=arguments.rule,
            features=features,
            lookback=arguments.lookback,
            reset=reset(arguments),
            group_by=wanted.group_by or None,
            columns=wanted.columns if wanted.group_by else None,
        )
        return bars.collect()


def reset(arguments: argparse.Namespace) -> Reset | None:
    """Return the reset of bars of files; None without one."""
    return None if arguments.reset == "none" else arguments.reset


def bars_of_symbol(
    arguments: argparse.Namespace, thresholds: list[int], features: list[str]
) -> pl.DataFrame:
    """Read the bars of a symbol between two dates, from the cache and from ticks."""
    from rangebar_polars.readers.bars import scan_range_bars

    name, start, end = arguments.trades
    begin = anchor(arguments.anchor)
    symbol = symbol_of(name)
    venue = venue_of(symbol, arguments.source, arguments.market)
    frames = [
        scan_range_bars(
            symbol,
            start,
            end,
            dbps,
            features=features or "core",
            lookback=arguments.lookback,
            anchor=begin,
            ouroboros=arguments.reset or "year",
            source=venue.source,
            market=venue.market,
            use_cache=not arguments.no_cache,
            cache_dir=arguments.cache_dir,
            dsn=arguments.dsn,
        ).collect()
        for dbps in thresholds
    ]
    return stack(thresholds, frames) if len(frames) > 1 else frames[0]


def stack(thresholds: list[int], frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Stack the bars of several thresholds, ordered by close time, with a column `threshold`."""
    named = [
        frame.select(pl.lit(dbps, pl.UInt32).alias("threshold"), pl.all())
        for dbps, frame in zip(thresholds, frames, strict=True)
    ]
    # Bars may share a close time; bars of quotes have no id to order them by.
    return pl.concat(named).sort("close_time", "last_agg_trade_id", maintain_order=True)


def anchor(text: str | None) -> datetime | Literal["segment"] | None:
    """Parse an anchor; a time without a zone is UTC."""
    if text is None or text == "segment":
        return text  # type: ignore[return-value]
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--anchor must be `segment` or a time; it is `{text}`") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def check_arguments(arguments: argparse.Namespace, limits: Sequence[LimitLike]) -> None:
    """Check all arguments before any trade is read."""
    try:
        parse_options(
            limits,
            rule=arguments.rule,
            features=arguments.features or [],
            lookback=arguments.lookback,
            reset=reset(arguments),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if not are_files(arguments.trades):
        check_span(*arguments.trades)
        check_no_file_options(arguments)
        anchor(arguments.anchor)
    check_output_path("--out", arguments.out, SUFFIXES)
    check_output_path("--plot", arguments.plot, PICTURES)
    if arguments.plot:
        from rangebar_polars.plot.chart import require_extra

        require_extra()


def check_span(name: str, *dates: str) -> None:
    """Check that two dates follow a symbol, which may be a mistyped file name."""
    symbol = symbol_of(name)
    if len(dates) + 1 != SPAN_ARGUMENTS:
        raise UsageError(
            with_hint(
                f"`{name}` is not a file or a pattern, and a symbol must be followed by two dates",
                f"rangebar bars {symbol} 2024-01-01 2024-01-31, or rangebar bars "
                f"'{symbol}-aggTrades-*.zip'",
            )
        )
    parsed(parse_span, *dates)


def check_no_file_options(arguments: argparse.Namespace) -> None:
    """Refuse options for files beside a symbol and two dates."""
    given = {
        "--layout": arguments.layout != "auto",
        "--columns": arguments.columns,
        "--time-unit": arguments.time_unit,
        "--symbol": arguments.symbol,
        "--group-by": arguments.group_by,
    }
    names = [name for name, value in given.items() if value]
    if names:
        is_are = "is an option" if len(names) == 1 else "are options"
        hint = f"leave out {', '.join(names)}, or give files"
        raise UsageError(with_hint(f"{', '.join(names)} {is_are} for files", hint))


def check_output_path(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Check the suffix and the folder of an output file."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} must end in {' or '.join(suffixes)}; it is `{path}`")
    if not path.parent.is_dir():
        raise UsageError(f"{option}: folder `{path.parent}` does not exist")


def draw(bars: pl.DataFrame, path: Path) -> None:
    """Draw the bars as candlesticks."""
    from rangebar_polars.plot.chart import plot_bars, save_png, save_svg

    chart = plot_bars(bars)
    with whole_file(path) as part:
        (save_svg if path.suffix.lower() == ".svg" else save_png)(chart, part)
    say(f"wrote {path}")


def write(bars: pl.DataFrame, path: Path) -> None:
    """Write the bars to a Parquet or CSV file."""
    with whole_file(path) as part:
        if path.suffix.lower() == ".csv":
            write_csv(bars, part)
        else:
            bars.write_parquet(part)
    say(f"wrote {path}")


def table(bars: pl.DataFrame, features: Sequence[str], keys: Sequence[str] = ()) -> str:
    """Format the main columns and the first rows for a terminal."""
    names = [name for name in (*keys, *TABLE_COLUMNS, *features) if name in bars.columns]
    return text_table(bars.select(list(dict.fromkeys(names))))
