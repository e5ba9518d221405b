"""The commands `rangebar cache drop` and `rangebar cache gc`, which remove cached bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.cli._arguments import (
    INCOMPLETE,
    add_action,
    add_cache_arguments,
    add_quiet_argument,
    add_threshold_argument,
    cache_arguments,
    symbol_of,
)
from rangebar_polars.cli._output import UsageError, emit_frame, error_text, fail, say
from rangebar_polars.exceptions import CacheError, CacheQueryError, CacheSchemaError, with_hint

if TYPE_CHECKING:
    import argparse

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.clickhouse.gc import Removed
    from rangebar_polars.maintenance.drop import SeriesFilter

__all__ = ["add_removal"]


def add_removal(actions: Verbs) -> None:
    """Add the commands that remove cached bars."""
    collect = add_action(
        actions, "gc", "delete rows of unfinished writes older than one day", run_gc
    )
    collect.add_argument(
        "--dry-run", action="store_true", help="count what would be deleted, and delete nothing"
    )
    add_quiet_argument(collect)
    add_cache_arguments(collect)
    drop = add_action(actions, "drop", "remove cached bars; ticks stay", run_drop)
    drop.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this symbol (default: all)")
    add_threshold_argument(drop, default="all")
    drop.add_argument(
        "--superseded",
        action="store_true",
        help="only series that one with an earlier anchor wholly covers",
    )
    drop.add_argument(
        "--outdated", action="store_true", help="only series that another rule computed"
    )
    drop.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    add_cache_arguments(drop)


def run_gc(arguments: argparse.Namespace) -> None:
    """Run `rangebar cache gc`."""
    from rangebar_polars.clickhouse.gc import Removed, gc
    from rangebar_polars.clickhouse.open import reading

    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        removed = Removed() if cache is None else gc(cache, dry_run=arguments.dry_run)
    if not arguments.quiet:
        emit_frame(_rows(removed))
    say("these rows would be deleted" if arguments.dry_run else "deleted these rows")


def _rows(removed: Removed) -> pl.DataFrame:
    counts = {name: getattr(removed, name) for name in ("bars", "units", "leases", "checkpoints")}
    return pl.DataFrame({"table": list(counts), "rows": list(counts.values())})


def run_drop(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache drop`; return 1 if it was not confirmed."""
    from rangebar_polars._text import count_text
    from rangebar_polars.clickhouse.connection.driver import is_damage
    from rangebar_polars.maintenance.drop import SeriesFilter, remove, remove_tables

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    series_filter = SeriesFilter(
        symbol, arguments.threshold, arguments.superseded, arguments.outdated
    )
    try:
        selected = remove(series_filter, dry_run=True, **cache_arguments(arguments))
    except (CacheSchemaError, CacheQueryError) as error:
        if not series_filter.is_everything or not (
            isinstance(error, CacheSchemaError) or is_damage(error)
        ):
            raise
        if not confirmed(arguments, error_text(error), "all tables of the cache"):
            return fail("nothing was removed", INCOMPLETE)
        remove_tables(**cache_arguments(arguments))
        say("the cache is empty")
        return 0
    if not selected:
        if symbol is not None and not _is_cached(symbol, arguments):
            return _not_cached(symbol)
        say("nothing to remove")
        return 0
    listed = "\n".join(str(series) for series in selected.series)
    rows = f"({count_text(selected.units, 'day')}, {count_text(selected.bars, 'row')} of bars)"
    count = f"{len(selected.series):,} series"
    what = f"this series {rows}" if len(selected.series) == 1 else f"these {count} {rows}"
    if not confirmed(arguments, listed, what):
        return fail("nothing was removed", INCOMPLETE)
    _remove(series_filter, cache_arguments(arguments))
    say(f"removed {count} {rows}")
    return 0


def _is_cached(symbol: str, arguments: argparse.Namespace) -> bool:
    """Return whether any bars of a symbol are cached, whatever the filter selects."""
    from rangebar_polars.maintenance.drop import SeriesFilter, remove

    every = SeriesFilter(symbol, None, False, False)  # noqa: FBT003
    return bool(remove(every, dry_run=True, **cache_arguments(arguments)))


def _not_cached(symbol: str) -> int:
    return fail(
        with_hint(f"no bars of {symbol} are cached", "`rangebar cache status` lists the series"),
        INCOMPLETE,
    )


def _remove(series_filter: SeriesFilter, cache_options: dict[str, Any]) -> None:
    """Remove series, even if bars are damaged: an embedded cache sets damaged parts aside."""
    from rangebar_polars.clickhouse.connection.driver import is_damage
    from rangebar_polars.clickhouse.damage import set_damaged_aside
    from rangebar_polars.clickhouse.open import open_cache
    from rangebar_polars.maintenance.drop import remove, remove_tables

    try:
        remove(series_filter, **cache_options)
    except CacheError as error:
        if not is_damage(error):
            raise
        if series_filter.is_everything:
            remove_tables(**cache_options)
            return
        with open_cache(cache_options["dsn"], cache_dir=cache_options["cache_dir"]) as cache:
            if not cache.is_embedded:
                raise
            set_damaged_aside(cache)
        remove(series_filter, **cache_options)


def confirmed(arguments: argparse.Namespace, shown: str, what: str) -> bool:
    """Show what would be removed; return whether the user confirms it, now or by `--yes`."""
    if arguments.yes:
        return True
    say(shown)
    if sys.stdin is None or not sys.stdin.isatty():
        sentence = f"refusing to remove {what} without confirmation: stdin is not a terminal"
        raise UsageError(with_hint(sentence, "--yes"))
    print(f"remove {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
