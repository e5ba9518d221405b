"""Commands that remove stored bars: `rangebar cache drop` and `rangebar cache gc`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.cli._arguments import (
    STOPPED,
    add_action,
    add_cache_arguments,
    add_threshold_argument,
    cache_arguments,
    symbol_of,
)
from rangebar_polars.cli._output import UsageError, emit_frame, fail, say, words_of
from rangebar_polars.exceptions import CacheError, CacheQueryError, CacheSchemaError, with_hint

if TYPE_CHECKING:
    import argparse

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.clickhouse.gc import Removed
    from rangebar_polars.maintenance.drop import SeriesFilter

__all__ = ["add_removal"]


def add_removal(actions: Verbs) -> None:
    """Add the commands that remove stored bars."""
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


def run_gc(arguments: argparse.Namespace) -> None:
    """`rangebar cache gc`."""
    from rangebar_polars.clickhouse.gc import Removed, gc
    from rangebar_polars.clickhouse.open import reading

    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        found = Removed() if cache is None else gc(cache, dry_run=arguments.dry_run)
    emit_frame(_rows(found))
    say("these rows would go" if arguments.dry_run else "these rows are gone")


def _rows(removed: Removed) -> pl.DataFrame:
    counts = {name: getattr(removed, name) for name in ("bars", "units", "leases", "checkpoints")}
    return pl.DataFrame({"table": list(counts), "rows": list(counts.values())})


def run_drop(arguments: argparse.Namespace) -> int:
    """`rangebar cache drop`; 1 if it was not confirmed."""
    from rangebar_polars.clickhouse.connection.driver import is_damage
    from rangebar_polars.maintenance.drop import SeriesFilter, remove, remove_tables
    from rangebar_polars.readers.hints import count_text

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    doomed = SeriesFilter(symbol, arguments.threshold, arguments.superseded, arguments.outdated)
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
    rows = f"({count_text(found.units, 'day')}, {count_text(found.bars, 'row')} of bars)"
    count = f"{len(found.series):,} series"
    what = f"this series {rows}" if len(found.series) == 1 else f"these {count} {rows}"
    if not confirmed(arguments, listed, what):
        return fail("nothing was removed", STOPPED)
    _remove(doomed, cache_arguments(arguments))
    say(f"{count} {'is' if len(found.series) == 1 else 'are'} gone {rows}")
    return 0


def _remove(doomed: SeriesFilter, place: dict[str, Any]) -> None:
    """Remove series, although bars may be damaged: such parts are set aside, but not a server's."""
    from rangebar_polars.clickhouse.connection.driver import is_damage
    from rangebar_polars.clickhouse.damage import set_damaged_aside
    from rangebar_polars.clickhouse.open import open_cache
    from rangebar_polars.maintenance.drop import remove, remove_tables

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
