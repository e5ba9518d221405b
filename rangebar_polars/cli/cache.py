"""The commands `rangebar cache`."""

from __future__ import annotations

import argparse
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.span import parse_day, parse_span
from rangebar_polars.bar_series.segments import reset_mode
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    INCOMPLETE,
    add_action,
    add_cache_arguments,
    add_quiet_argument,
    add_threshold_argument,
    add_venue_arguments,
    cache_arguments,
    parsed,
    symbol_of,
    venue_of,
)
from rangebar_polars.cli._output import csv_text, emit, emit_frame, error_text, fail, report, say
from rangebar_polars.cli.bars import SUFFIXES, check_output_path, write
from rangebar_polars.cli.cache_drop import add_removal
from rangebar_polars.cli.cache_status import add_status
from rangebar_polars.cli.populate import (
    add_work_arguments,
    reporting_interrupt,
    split_symbols,
    unanswered,
    workers,
)
from rangebar_polars.exceptions import PopulationError, SymbolNotRegisteredError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.maintenance.update import UpdateReport

__all__ = ["add_parser"]


CACHE_HELP = """\
List, export and maintain the cached bars.

The cache is the ClickHouse server that RANGEBAR_CLICKHOUSE_DSN names, by default a folder in the
cache folder. Lists go to stdout: as a table on a terminal, as CSV otherwise.
"""


CACHE_EXAMPLES = """\
examples:
  rangebar cache status
  rangebar cache update                             extend cached bars to the newest day
  rangebar cache export BTCUSDT 2024-01-01 2024-06-30 -t 250 --out bars.parquet
"""


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    cache = verbs.add_parser(
        "cache",
        help="list, export and maintain the cached bars",
        description=CACHE_HELP,
        epilog=CACHE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    _add_reading(actions)
    _add_work(actions)
    add_removal(actions)


def _add_reading(actions: Verbs) -> None:
    """Add the commands that read cached bars."""
    add_status(actions)
    coverage = add_action(
        actions,
        "coverage",
        "list the days of a symbol, cached or missing",
        run_coverage,
    )
    _add_bars_arguments(coverage, span=True)
    count = add_action(
        actions,
        "count",
        "count the cached closed bars, from the newest back to the first missing day",
        run_count,
    )
    _add_bars_arguments(count, span=False)
    count.add_argument("--before", metavar="TIME", help="only bars that close before this time")
    export = add_action(actions, "export", "write cached bars to a file", run_export)
    _add_bars_arguments(export, span=True)
    export.add_argument(
        "--features",
        action="append",
        metavar="NAME",
        help="a feature group or column beyond the core; may be repeated (default: the groups that "
        "all exported days have)",
    )
    export.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write to this .parquet or .csv file (default: CSV to stdout)",
    )
    add_quiet_argument(export)


def _add_bars_arguments(command: argparse.ArgumentParser, *, span: bool) -> None:
    command.add_argument("symbol", metavar="SYMBOL", help="see `rangebar cache status` for a list")
    if span:
        command.add_argument(
            "start",
            nargs="?",
            metavar="START",
            help="first day (UTC; default: the first cached one)",
        )
        command.add_argument(
            "end", nargs="?", metavar="END", help="last day (default: the last cached one)"
        )
    add_threshold_argument(command, default=str(DEFAULT_THRESHOLD))
    command.add_argument(
        "--reset", default="year", metavar="MODE", help="reset mode of the bars (default: year)"
    )
    add_venue_arguments(command)
    add_cache_arguments(command)


def _add_work(actions: Verbs) -> None:
    """Add the commands that write bars."""
    update = add_action(actions, "update", "extend cached bars to the newest day", run_update)
    update.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", help="only these symbols (default: all)"
    )
    add_threshold_argument(update, default="all that are cached")
    update.add_argument(
        "-e", "--end", metavar="DAY", help="last day (default: the newest whole day)"
    )
    add_work_arguments(update)
    upgrade = add_action(
        actions,
        "upgrade",
        "migrate the tables to this version, and rebuild bars of an older rule",
        run_upgrade,
    )
    add_work_arguments(upgrade)


def run_coverage(arguments: argparse.Namespace) -> None:
    """Run `rangebar cache coverage`."""
    from rangebar_polars.readers.cached import coverage

    span = _span(arguments)
    emit_frame(
        _by_threshold(
            arguments, lambda symbol, dbps, options: coverage(symbol, dbps, *span, **options)
        )
    )


def _ends_with_1_if_unknown(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Let an unregistered symbol end a command as one without cached bars does."""

    @wraps(run)
    def wrapped(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except SymbolNotRegisteredError as error:
            return fail(error_text(error), INCOMPLETE)

    return wrapped


@_ends_with_1_if_unknown
def run_count(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache count`; return 1 if there are no bars."""
    from rangebar_polars.readers.cached import count_bars

    before = arguments.before
    if before is not None:
        parsed(parse_day, before, "before")
    symbol, options = _bar_options(arguments)
    counts = {
        dbps: count_bars(symbol, dbps, before=before, **options) for dbps in _thresholds(arguments)
    }
    if len(counts) == 1:
        emit(f"{next(iter(counts.values()))}\n")
    else:
        emit_frame(pl.DataFrame({"threshold": list(counts), "bars": list(counts.values())}))
    return 0 if any(counts.values()) else fail(f"no bars of {symbol} are cached", INCOMPLETE)


@_ends_with_1_if_unknown
def run_export(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache export`; return 1 if there are no bars."""
    from rangebar_polars._text import count_text
    from rangebar_polars.readers.cached import cached_groups, get_cached_bars

    check_output_path("--out", arguments.out, SUFFIXES)
    span = _span(arguments)
    features = arguments.features
    if features is None:
        symbol, options = _bar_options(arguments)
        groups, others = cached_groups(symbol, _thresholds(arguments), *span, **options)
        features = list(groups)
        if others:
            say(f"not all of these days have {' and '.join(others)}: left out")
    bars = _by_threshold(
        arguments,
        lambda symbol, dbps, options: get_cached_bars(
            symbol, dbps, *span, features=features, **options
        ),
    )
    if bars.is_empty():
        symbol, dbps = symbol_of(arguments.symbol), ", ".join(map(str, _thresholds(arguments)))
        sentence = f"no bars of {symbol} at {dbps} dbps are cached for these days"
        hint = "`rangebar cache status` lists the cached series"
        return fail(with_hint(sentence, hint), INCOMPLETE)
    say(count_text(bars.height, "bar"))
    if arguments.out:
        write(bars, arguments.out)
    else:
        emit(csv_text(bars))
    return 0


def _by_threshold(
    arguments: argparse.Namespace, read: Callable[[str, int, dict[str, Any]], pl.DataFrame]
) -> pl.DataFrame:
    """Read a frame for each threshold; stack several of them under a column `threshold`."""
    symbol, options = _bar_options(arguments)
    thresholds = _thresholds(arguments)
    frames = [read(symbol, dbps, options) for dbps in thresholds]
    if len(frames) == 1:
        return frames[0]
    named = [
        frame.select(pl.lit(dbps, pl.UInt32).alias("threshold"), pl.all())
        for dbps, frame in zip(thresholds, frames, strict=True)
    ]
    return pl.concat(named)


def run_update(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache update`; return 1 if it is incomplete."""
    from rangebar_polars.maintenance.update import update

    symbols = [symbol_of(symbol) for symbol in split_symbols(arguments.symbols)]
    if arguments.end is not None:
        parsed(parse_day, arguments.end, "end")
    return _run_maintenance(
        arguments,
        lambda options: update(
            symbols, thresholds=arguments.threshold or (), end_date=arguments.end, **options
        ),
    )


def run_upgrade(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache upgrade`; return 1 if it is incomplete."""
    from rangebar_polars.maintenance.update import upgrade

    return _run_maintenance(arguments, lambda options: upgrade(**options))


def _run_maintenance(
    arguments: argparse.Namespace, run: Callable[[dict[str, Any]], UpdateReport]
) -> int:
    """Run an update or an upgrade, and report its outcome."""
    options = {
        "notify": not arguments.no_notify,
        "verbose": not arguments.quiet,
        "executor": workers(arguments.workers),
        **cache_arguments(arguments),
    }
    try:
        with reporting_interrupt():
            outcome = run(options)
    except PopulationError as error:
        report(error.report)
        # The report has the reasons.
        sentence = f"{count_text(len(error.report.failed), 'population')} failed"
        hint = "published days are stored; the same command resumes from there"
        return fail(with_hint(sentence, hint), INCOMPLETE)
    report(_describe(outcome))
    if outcome.unanswered:
        return fail(unanswered(outcome.unanswered), INCOMPLETE)
    return 0


def _describe(outcome: UpdateReport) -> str:
    if outcome.schema_version and not (outcome.done or outcome.current or outcome.skipped):
        return "nothing to upgrade: the tables and all bars are up to date with this version"
    return str(outcome)


def _span(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the checked start and end."""
    if arguments.start is not None:
        parsed(parse_span, arguments.start, arguments.end or "9998-12-31")
    return arguments.start, arguments.end


def _thresholds(arguments: argparse.Namespace) -> list[int]:
    return list(dict.fromkeys(arguments.threshold or [DEFAULT_THRESHOLD]))


def _bar_options(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the symbol, and the keyword arguments that select its bars."""
    symbol = symbol_of(arguments.symbol)
    parsed(reset_mode, arguments.reset)
    venue = venue_of(symbol, arguments.source, arguments.market)
    return symbol, {
        "ouroboros": arguments.reset,
        "source": venue.source,
        "market": venue.market,
        **cache_arguments(arguments),
    }
