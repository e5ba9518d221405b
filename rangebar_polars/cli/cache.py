"""The commands `rangebar cache`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._utils.span import parse_day, parse_span
from rangebar_polars.bar_series.segments import reset_mode
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    STOPPED,
    add_action,
    add_cache_arguments,
    add_place_arguments,
    add_threshold_argument,
    cache_arguments,
    judged,
    place_of,
    symbol_of,
)
from rangebar_polars.cli._output import emit, emit_frame, fail, say, words_of
from rangebar_polars.cli.bars import WRITERS, refuse_name, write
from rangebar_polars.cli.cache_drop import add_removal
from rangebar_polars.cli.populate import add_work_arguments, unanswered, workers
from rangebar_polars.exceptions import (
    PopulationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.maintenance.update import UpkeepReport

__all__ = ["add_parser"]


CACHE_HELP = """\
what the bar cache keeps, and its upkeep

The cache is the ClickHouse server that RANGEBAR_CLICKHOUSE_DSN names, else a folder in the cache
folder. What is listed goes to stdout: a table for a terminal, else CSV.
"""


CACHE_EXAMPLES = """\
examples:
  rangebar cache status
  rangebar cache update                             what is kept goes on to the newest day
  rangebar cache export BTCUSDT 2024-01-01 2024-06-30 -t 250 --out bars.parquet
"""


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    cache = verbs.add_parser(
        "cache",
        help="what the bar cache keeps, and its upkeep",
        description=CACHE_HELP,
        epilog=CACHE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    _add_reading(actions)
    _add_work(actions)
    add_removal(actions)


def _add_reading(actions: Verbs) -> None:
    status = add_action(actions, "status", "a line for each series that is kept", run_status)
    status.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this one")
    add_cache_arguments(status)
    coverage = add_action(
        actions,
        "coverage",
        "a line for each day: what is kept of it, and what is not",
        run_coverage,
    )
    _add_bars_arguments(coverage, span=True)
    count = add_action(
        actions, "count", "how many closed bars are kept, back from the newest", run_count
    )
    _add_bars_arguments(count, span=False)
    count.add_argument("--before", metavar="TIME", help="only bars that close before")
    export = add_action(actions, "export", "write bars that are kept to a file", run_export)
    _add_bars_arguments(export, span=True)
    export.add_argument(
        "--features",
        action="append",
        metavar="F",
        help="columns beyond the core: a group or a name; may be repeated (default: all)",
    )
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="a .parquet or .csv file (default: CSV to stdout)"
    )


def _add_bars_arguments(command: argparse.ArgumentParser, *, span: bool) -> None:
    command.add_argument("symbol", metavar="SYMBOL", help="`rangebar cache status` lists them")
    if span:
        command.add_argument(
            "start", nargs="?", metavar="START", help="first day (UTC; default: the first kept)"
        )
        command.add_argument(
            "end", nargs="?", metavar="END", help="last day (default: the last kept)"
        )
    add_threshold_argument(command, default=str(DEFAULT_THRESHOLD))
    command.add_argument(
        "--reset", default="year", metavar="R", help="reset mode of the bars (default: year)"
    )
    add_place_arguments(command)
    add_cache_arguments(command)


def _add_work(actions: Verbs) -> None:
    update = add_action(
        actions, "update", "go on with what is kept to the newest day there is", run_update
    )
    update.add_argument("symbols", nargs="*", metavar="SYMBOL", help="only these")
    add_threshold_argument(update, default="all that are kept")
    update.add_argument("-e", "--end", metavar="DAY", help="last day (default: the newest)")
    add_work_arguments(update)
    upgrade = add_action(
        actions,
        "upgrade",
        "bring the tables to this version, and build bars of an older rule anew",
        run_upgrade,
    )
    add_work_arguments(upgrade)


def run_status(arguments: argparse.Namespace) -> None:
    """`rangebar cache status`."""
    from rangebar_polars.clickhouse.open import engine_use, reading
    from rangebar_polars.clickhouse.query.status import sizes, stored_series

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        listed, taken = stored_series(cache), sizes(cache)
        is_embedded = cache is not None and cache.is_embedded
    if symbol is not None:
        listed = listed.filter(pl.col("symbol") == symbol)
    emit_frame(listed.with_columns(pl.col("feature_groups").list.join(" ")))
    if listed.is_empty():
        say("nothing is kept" if symbol is None else f"nothing is kept of {symbol}")
    else:
        say(f"{float(taken['bytes'].sum()) / 1e6:,.1f} MB on the disk")
    if is_embedded:
        say(str(engine_use()))


def run_coverage(arguments: argparse.Namespace) -> None:
    """`rangebar cache coverage`."""
    from rangebar_polars.readers.cached import coverage

    span = _span(arguments)
    emit_frame(
        _by_threshold(arguments, lambda symbol, dbps, where: coverage(symbol, dbps, *span, **where))
    )


def run_count(arguments: argparse.Namespace) -> None:
    """`rangebar cache count`."""
    from rangebar_polars.readers.cached import count_bars

    before = arguments.before
    if before is not None:
        judged(parse_day, before, "before")
    symbol, where = _bars(arguments)
    counts = {
        dbps: count_bars(symbol, dbps, before=before, **where) for dbps in _thresholds(arguments)
    }
    if len(counts) == 1:
        emit(f"{next(iter(counts.values()))}\n")
    else:
        emit_frame(pl.DataFrame({"threshold": list(counts), "bars": list(counts.values())}))


def run_export(arguments: argparse.Namespace) -> None:
    """`rangebar cache export`."""
    from rangebar_polars.readers.cached import get_cached_bars
    from rangebar_polars.readers.hints import count_text

    refuse_name("--out", arguments.out, WRITERS)
    span = _span(arguments)
    features = arguments.features or ["microstructure"]
    bars = _by_threshold(
        arguments,
        lambda symbol, dbps, where: get_cached_bars(
            symbol, dbps, *span, features=features, **where
        ),
    )
    say(count_text(bars.height, "bar"))
    if arguments.out:
        write(bars, arguments.out)
    else:
        emit(bars.write_csv())


def _by_threshold(
    arguments: argparse.Namespace, read: Callable[[str, int, dict[str, Any]], pl.DataFrame]
) -> pl.DataFrame:
    """A frame, or with several thresholds one frame of all, with a column `threshold`."""
    symbol, where = _bars(arguments)
    thresholds = _thresholds(arguments)
    frames = [read(symbol, dbps, where) for dbps in thresholds]
    if len(frames) == 1:
        return frames[0]
    named = [
        frame.select(pl.lit(dbps, pl.UInt32).alias("threshold"), pl.all())
        for dbps, frame in zip(thresholds, frames, strict=True)
    ]
    return pl.concat(named)


def run_update(arguments: argparse.Namespace) -> int:
    """`rangebar cache update`; 1 if anything was not done."""
    from rangebar_polars.maintenance.update import update

    symbols = [symbol_of(symbol) for symbol in arguments.symbols]
    if arguments.end is not None:
        judged(parse_day, arguments.end, "end")
    return _upkeep(
        arguments,
        lambda options: update(
            symbols, thresholds=arguments.threshold or (), end_date=arguments.end, **options
        ),
    )


def run_upgrade(arguments: argparse.Namespace) -> int:
    """`rangebar cache upgrade`; 1 if anything was not done."""
    from rangebar_polars.maintenance.update import upgrade

    return _upkeep(arguments, lambda options: upgrade(**options))


def _upkeep(arguments: argparse.Namespace, work: Callable[[dict[str, Any]], UpkeepReport]) -> int:
    options = {
        "notify": not arguments.no_notify,
        "verbose": not arguments.quiet,
        "executor": workers(arguments.workers),
        **cache_arguments(arguments),
    }
    try:
        report = work(options)
    except PopulationError as error:
        say(str(error.report))
        return fail(words_of(error), STOPPED)
    except KeyboardInterrupt:
        say("what was published is kept; the same command goes on from there")
        raise
    say(_said(report))
    if report.unanswered:
        return fail(unanswered(report.unanswered), STOPPED)
    return 0


def _said(report: UpkeepReport) -> str:
    if report.schema_version and not (report.done or report.current or report.left):
        return "nothing to upgrade: the tables and all bars are of this version"
    return str(report)


def _span(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    if arguments.start is not None:
        judged(parse_span, arguments.start, arguments.end or "9998-12-31")
    return arguments.start, arguments.end


def _thresholds(arguments: argparse.Namespace) -> list[int]:
    return list(dict.fromkeys(arguments.threshold or [DEFAULT_THRESHOLD]))


def _bars(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Symbol, and the keywords that say which of its bars are meant."""
    symbol = symbol_of(arguments.symbol)
    judged(reset_mode, arguments.reset)
    source, market = place_of(symbol, arguments.source, arguments.market)
    place = {"ouroboros": arguments.reset, "source": source, "market": market}
    return symbol, {**place, **cache_arguments(arguments)}
