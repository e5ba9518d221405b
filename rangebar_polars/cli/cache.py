"""The commands `rangebar cache`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._span import parse_day, parse_span
from rangebar_polars.cli._asked import (
    DEFAULT_THRESHOLD,
    add_cache_arguments,
    add_place_arguments,
    add_threshold_argument,
    judged,
    place_of,
    symbol_of,
)
from rangebar_polars.cli._words import UsageError, emit, emit_frame, fail, say, words_of
from rangebar_polars.cli.bars import WRITERS, refuse_name, write
from rangebar_polars.cli.populate import add_work_arguments, unanswered, workers
from rangebar_polars.clickhouse.series import reset_mode
from rangebar_polars.exceptions import (
    CacheError,
    CacheQueryError,
    CacheSchemaError,
    PopulationError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.cli._words import Verbs
    from rangebar_polars.clickhouse.removal import Removed
    from rangebar_polars.pipeline.removing import Doomed
    from rangebar_polars.pipeline.upkeep import UpkeepReport

__all__ = ["add_parser"]

STOPPED = 1
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


def add_action(
    actions: Verbs, name: str, does: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    action.set_defaults(run=run)
    return action


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


def add_removal(actions: Verbs) -> None:
    collect = add_action(
        actions, "gc", "remove rows of writes that were never published, a day old", run_gc
    )
    collect.add_argument("--dry-run", action="store_true", help="only say what would go")
    add_cache_arguments(collect)
    drop = add_action(actions, "drop", "remove bars that are kept; ticks stay", run_drop)
    drop.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this one (default: all)")
    add_threshold_argument(drop, default="all")
    drop.add_argument(
        "--superseded",
        action="store_true",
        help="only series that one of an earlier anchor wholly covers",
    )
    drop.add_argument(
        "--outdated", action="store_true", help="only series that were computed by another rule"
    )
    drop.add_argument("--yes", action="store_true", help="do not ask")
    add_cache_arguments(drop)


def run_status(arguments: argparse.Namespace) -> None:
    """`rangebar cache status`."""
    from rangebar_polars.clickhouse.client import engine_use, reading
    from rangebar_polars.clickhouse.status import kept, sizes

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        listed, taken = kept(cache), sizes(cache)
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
    from rangebar_polars.clickhouse.cache import coverage

    span = _span(arguments)
    emit_frame(
        _by_threshold(arguments, lambda symbol, dbps, where: coverage(symbol, dbps, *span, **where))
    )


def run_count(arguments: argparse.Namespace) -> None:
    """`rangebar cache count`."""
    from rangebar_polars.clickhouse.cache import count_bars

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
    from rangebar_polars.clickhouse.cache import get_cached_bars
    from rangebar_polars.clickhouse.remedy import commands, counted

    refuse_name("--out", arguments.out, WRITERS)
    span = _span(arguments)
    features = arguments.features or ["microstructure"]
    with commands():
        bars = _by_threshold(
            arguments,
            lambda symbol, dbps, where: get_cached_bars(
                symbol, dbps, *span, features=features, **where
            ),
        )
    say(counted(bars.height, "bar"))
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
    from rangebar_polars.pipeline.upkeep import update

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
    from rangebar_polars.pipeline.upkeep import upgrade

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


def run_gc(arguments: argparse.Namespace) -> None:
    """`rangebar cache gc`."""
    from rangebar_polars.clickhouse.client import reading
    from rangebar_polars.clickhouse.removal import Removed, gc

    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        found = Removed() if cache is None else gc(cache, dry_run=arguments.dry_run)
    emit_frame(_rows(found))
    say("these rows would go" if arguments.dry_run else "these rows are gone")


def _rows(removed: Removed) -> pl.DataFrame:
    counts = {name: getattr(removed, name) for name in ("bars", "units", "leases", "checkpoints")}
    return pl.DataFrame({"table": list(counts), "rows": list(counts.values())})


def run_drop(arguments: argparse.Namespace) -> int:
    """`rangebar cache drop`; 1 if it was not confirmed."""
    from rangebar_polars.clickhouse.driver import is_damage
    from rangebar_polars.clickhouse.remedy import counted
    from rangebar_polars.pipeline.removing import Doomed, remove, remove_tables

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    doomed = Doomed(symbol, arguments.threshold, arguments.superseded, arguments.outdated)
    try:
        found = remove(doomed, dry_run=True, **cache_arguments(arguments))
    except (CacheSchemaError, CacheQueryError) as error:
        if not doomed.is_everything or not (
            isinstance(error, CacheSchemaError) or is_damage(error)
        ):
            raise
        if not confirmed(arguments, words_of(error), "all tables of the cache"):
            return fail("nothing was removed", STOPPED)
        remove_tables(**cache_arguments(arguments))
        say("the cache is empty")
        return 0
    if not found:
        say("nothing is kept that would go")
        return 0
    listed = "\n".join(str(series) for series in found.series)
    rows = f"({counted(found.units, 'day')}, {counted(found.bars, 'row')} of bars)"
    count = f"{len(found.series):,} series"
    what = f"this series {rows}" if len(found.series) == 1 else f"these {count} {rows}"
    if not confirmed(arguments, listed, what):
        return fail("nothing was removed", STOPPED)
    _remove(doomed, cache_arguments(arguments))
    say(f"{count} {'is' if len(found.series) == 1 else 'are'} gone {rows}")
    return 0


def _remove(doomed: Doomed, place: dict[str, Any]) -> None:
    """Remove series, although bars may be damaged: such parts are set aside, but not a server's."""
    from rangebar_polars.clickhouse.client import open_cache
    from rangebar_polars.clickhouse.driver import is_damage
    from rangebar_polars.clickhouse.remedy import set_damaged_aside
    from rangebar_polars.pipeline.removing import remove, remove_tables

    try:
        remove(doomed, **place)
    except CacheError as error:
        if not is_damage(error):
            raise
        if doomed.is_everything:
            remove_tables(**place)
            return
        with open_cache(place["dsn"], cache_dir=place["cache_dir"]) as cache:
            if not cache.is_embedded:
                raise
            set_damaged_aside(cache)
        remove(doomed, **place)


def confirmed(arguments: argparse.Namespace, shown: str, what: str) -> bool:
    """Whether the user, who is shown what would go, has said yes, or says so now."""
    if arguments.yes:
        return True
    say(shown)
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(with_hint(f"nobody can be asked whether to remove {what}", "--yes"))
    print(f"remove {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


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


def cache_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"cache_dir": arguments.cache_dir, "dsn": arguments.dsn}
