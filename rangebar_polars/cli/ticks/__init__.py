"""The commands `rangebar fetch` and `rangebar ticks`."""

from __future__ import annotations

import argparse
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils import clock
from rangebar_polars._utils.span import parse_day, parse_span
from rangebar_polars.cli._arguments import (
    add_cache_dir_argument,
    add_quiet_argument,
    add_venue_arguments,
    parsed,
    symbol_of,
    venue_of,
    venues_of,
)
from rangebar_polars.cli._output import emit_frame, fail, report, say
from rangebar_polars.cli.cache_drop import confirmed
from rangebar_polars.cli.ticks.imports import add_import
from rangebar_polars.cli.ticks.prune import add_prune
from rangebar_polars.exceptions import TicksNotCachedError, nearest, with_hint
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["add_parser"]

FAULTS_FOUND = NOT_CONFIRMED = 1
SOUND = ["ok", "unreferenced", "quarantined"]
LISTED = pl.Schema(
    {
        "source": pl.String(),
        "market": pl.String(),
        "symbol": pl.String(),
        "days": pl.Int64(),
        "first_day": pl.Date(),
        "last_day": pl.Date(),
        "rows": pl.Int64(),
        "bytes": pl.Int64(),
    }
)
FETCH_HELP = """\
Download the ticks of a symbol into the tick store.

Whole days come from the exchange's archive, and anything missing there from its REST interface.
Days that are already stored are not fetched again, so an interrupted fetch resumes when repeated.
"""
FETCH_EXAMPLES = """\
examples:
  rangebar fetch BTCUSDT 2024-01-01 2024-01-31
  rangebar fetch BTCUSDT 2024-01-01 --market um     to today, perpetual futures
  rangebar fetch EURUSD 2024-01-01 2024-03-31       Exness quotes, by the registry
"""
TICKS_HELP = """\
List, import, verify, remove and clean up the ticks of the store.

The store lies in the folder that --cache-dir or RANGEBAR_CACHE_DIR names, by default the platform's
cache folder. Lists go to stdout: as a table on a terminal, as CSV otherwise.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    fetch = verbs.add_parser(
        "fetch",
        help="download the ticks of a symbol into the tick store",
        description=FETCH_HELP,
        epilog=FETCH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _span_arguments(fetch)
    fetch.add_argument(
        "--refresh",
        action="store_true",
        help="fetch stored days again, in case their archive was republished",
    )
    add_quiet_argument(fetch)
    fetch.set_defaults(run=run_fetch)
    ticks = verbs.add_parser(
        "ticks",
        help="list, import, verify, remove and clean up the ticks of the store",
        description=TICKS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_actions(ticks.add_subparsers(required=True, metavar="ACTION"))


def _add_actions(actions: Verbs) -> None:
    coverage = _action(actions, "coverage", "list each day with its state, rows, ids and gaps")
    _span_arguments(coverage)
    coverage.set_defaults(run=run_coverage)
    verify = _action(actions, "verify", "read and check every file; exit with 1 if one is damaged")
    verify.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this symbol")
    add_quiet_argument(verify)
    add_cache_dir_argument(verify)
    verify.set_defaults(run=run_verify)
    listing = _action(actions, "list", "list the stored symbols, or the stored days of one symbol")
    listing.add_argument("symbol", nargs="?", metavar="SYMBOL", help="list the days of this symbol")
    add_venue_arguments(listing)
    add_cache_dir_argument(listing)
    listing.set_defaults(run=run_list)
    collect = _action(actions, "gc", "delete files that no manifest has named for a week")
    collect.add_argument(
        "--dry-run", action="store_true", help="list what would be deleted, and delete nothing"
    )
    add_quiet_argument(collect)
    add_cache_dir_argument(collect)
    collect.set_defaults(run=run_gc)
    add_import(actions)
    add_prune(actions)
    drop = _action(actions, "drop", "remove stored ticks of a symbol; cached bars stay")
    drop.add_argument("symbol", metavar="SYMBOL", help="see `rangebar ticks list` for a list")
    drop.add_argument(
        "--before", metavar="DAY", help="only days before this one (UTC; default: all days)"
    )
    drop.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    add_venue_arguments(drop)
    add_quiet_argument(drop)
    add_cache_dir_argument(drop)
    drop.set_defaults(run=run_drop)


def _action(actions: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def run_fetch(arguments: argparse.Namespace) -> None:
    """Run `rangebar fetch`."""
    from rangebar_polars.ingest.fetch import fetch_ticks
    from rangebar_polars.ingest.spans import span_to_now

    symbol = symbol_of(arguments.symbol)
    venue = venue_of(symbol, arguments.source, arguments.market)
    parsed(span_to_now, arguments.start, arguments.end)
    outcome = fetch_ticks(
        symbol,
        arguments.start,
        arguments.end,
        source=venue.source,
        market=venue.market,
        cache_dir=arguments.cache_dir,
        refresh=arguments.refresh,
        verbose=False if arguments.quiet else None,
    )
    report(outcome)


def run_coverage(arguments: argparse.Namespace) -> None:
    """Run `rangebar ticks coverage`."""
    symbol = symbol_of(arguments.symbol)
    venue = venue_of(symbol, arguments.source, arguments.market)
    span = parsed(parse_span, arguments.start, arguments.end)
    emit_frame(
        _storage(arguments).coverage(
            symbol, span.start, span.end, source=venue.source, market=venue.market
        )
    )


def run_verify(arguments: argparse.Namespace) -> int:
    """Run `rangebar ticks verify`; return 1 if a file is damaged."""
    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    found = _storage(arguments).verify(symbol)
    if symbol is not None and found.is_empty():
        raise _not_stored(symbol)
    # The reason is set while the day waits to be fetched again, and empty once it was.
    is_lost = (pl.col("state") == "quarantined") & pl.col("reason").is_not_null()
    bad = found.filter(~pl.col("state").is_in(SOUND) | is_lost)
    if bad.height or not arguments.quiet:
        emit_frame(bad if arguments.quiet else found)
    say(f"{count_text(found.height, 'file')}, {bad.height:,} bad")
    return FAULTS_FOUND if bad.height else 0


def run_list(arguments: argparse.Namespace) -> None:
    """Run `rangebar ticks list`."""
    if arguments.symbol is None:
        _list_symbols(arguments)
        return
    symbol = symbol_of(arguments.symbol)
    venue = venue_of(symbol, arguments.source, arguments.market)
    days = _storage(arguments).list_days(symbol, source=venue.source, market=venue.market)
    if not days:
        raise _not_stored(symbol, f" ({venue})")
    emit_frame(pl.DataFrame({"day": days}, schema={"day": pl.Date()}))


def _list_symbols(arguments: argparse.Namespace) -> None:
    storage = _storage(arguments)
    rows = [
        storage.stats(name, source=venue.source, market=venue.market)
        for venue in venues_of(arguments.source, arguments.market, storage.list_venues())
        for name in storage.list_symbols(source=venue.source, market=venue.market)
    ]
    emit_frame(pl.DataFrame([[row[name] for name in LISTED] for row in rows], LISTED, orient="row"))


def run_gc(arguments: argparse.Namespace) -> None:
    """Run `rangebar ticks gc`."""
    files = _storage(arguments).gc(dry_run=arguments.dry_run)
    if not arguments.quiet:
        emit_frame(files)
    done = "would be deleted" if arguments.dry_run else "deleted"
    say(f"{count_text(files.height, 'file')} {done}")


def run_drop(arguments: argparse.Namespace) -> int:
    """Run `rangebar ticks drop`; return 1 if nothing is stored, or if it was not confirmed."""
    symbol = symbol_of(arguments.symbol)
    venue = venue_of(symbol, arguments.source, arguments.market)
    before = date.max if arguments.before is None else parsed(parse_day, arguments.before, "before")
    storage = _storage(arguments)
    stored = storage.list_days(symbol, source=venue.source, market=venue.market)
    if not stored:
        raise _not_stored(symbol, f" ({venue})")
    days = [day for day in stored if day < before]
    if not days:
        say(f"nothing to remove: the first stored day is {stored[0]}")
        return 0
    span = f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
    what = f"{count_text(len(days), 'day')} of ticks of {symbol} ({venue})"
    if not confirmed(arguments, f"{what}: {span}", what):
        return fail("nothing was removed", NOT_CONFIRMED)
    storage.delete_ticks(symbol, days[0], days[-1], source=venue.source, market=venue.market)
    report(f"removed {what}; `rangebar ticks gc` frees their space after a week")
    return 0


def _storage(arguments: argparse.Namespace) -> TickStorage:
    from rangebar_polars.storage.parquet import TickStorage

    return TickStorage(arguments.cache_dir)


def _not_stored(symbol: str, where: str = "") -> TicksNotCachedError:
    """Build the error for a symbol without any stored day."""
    near = None if symbol in get_symbol_entries() else nearest(symbol, get_symbol_entries())
    hint = f"did you mean `{near}`?" if near else "`rangebar ticks list` lists the stored symbols"
    sentence = f"the tick store has no day of `{symbol}`{where}"
    return TicksNotCachedError(with_hint(sentence, hint), symbol=symbol)


def _span_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments for a symbol, its first and its last day, and its venue."""
    command.add_argument("symbol", metavar="SYMBOL", help="see `rangebar symbols` for a list")
    command.add_argument("start", metavar="START", help="first day (UTC), such as 2024-01-31")
    today = clock.utc_now().date().isoformat()
    command.add_argument(
        "end", metavar="END", nargs="?", default=today, help="last day (default: today)"
    )
    add_venue_arguments(command)
    add_cache_dir_argument(command)
