"""The commands `rangebar fetch` and `rangebar ticks`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import parse_span
from rangebar_polars.cli._arguments import (
    add_place_arguments,
    judged,
    place_of,
    places_of,
    symbol_of,
)
from rangebar_polars.cli._output import emit_frame, say
from rangebar_polars.exceptions import TicksNotCachedError, nearest, with_hint
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["add_parser"]

FAULTS_FOUND = 1
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
fetch the ticks of a symbol into the store

Takes whole days from the archive, and what the archive lacks from the exchange's interface. Days
that are kept already are not fetched again; a fetch that was stopped goes on where it was.
"""
FETCH_EXAMPLES = """\
examples:
  rangebar fetch BTCUSDT 2024-01-01 2024-01-31
  rangebar fetch BTCUSDT 2024-01-01 --market um     to today, perpetual futures
  rangebar fetch EURUSD 2024-01-01 2024-03-31       quotes of Exness, as the registry says
"""
TICKS_HELP = """\
what the tick store holds

The store is in the folder that RANGEBAR_CACHE_DIR names, else in the platform's cache folder.
What is listed goes to stdout: a table for a terminal, else CSV.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    fetch = verbs.add_parser(
        "fetch",
        help="ticks of a symbol into the store",
        description=FETCH_HELP,
        epilog=FETCH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _span_arguments(fetch)
    fetch.add_argument(
        "--refresh",
        action="store_true",
        help="fetch days again that are kept, as an archive may have been published anew",
    )
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch.set_defaults(run=run_fetch)
    ticks = verbs.add_parser(
        "ticks",
        help="what the tick store holds",
        description=TICKS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_actions(ticks.add_subparsers(required=True, metavar="ACTION"))


def _add_actions(actions: Verbs) -> None:
    coverage = _action(actions, "coverage", "a line for each day: its state, rows, ids, gaps")
    _span_arguments(coverage)
    coverage.set_defaults(run=run_coverage)
    verify = _action(actions, "verify", "read and check every file; ends with 1 if one is bad")
    verify.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this one")
    verify.set_defaults(run=run_verify)
    listing = _action(actions, "list", "the symbols in the store, or the days of one")
    listing.add_argument("symbol", nargs="?", metavar="SYMBOL", help="the days of this one")
    add_place_arguments(listing)
    listing.set_defaults(run=run_list)
    collect = _action(actions, "gc", "remove files that nothing has named for a week")
    collect.add_argument("--dry-run", action="store_true", help="only say what would go")
    collect.set_defaults(run=run_gc)


def _action(actions: Verbs, name: str, does: str) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=does, description=does)


def run_fetch(arguments: argparse.Namespace) -> None:
    """`rangebar fetch`."""
    from rangebar_polars.ingest.fetch import fetch_ticks, span_to_now

    symbol = symbol_of(arguments.symbol)
    source, market = place_of(symbol, arguments.source, arguments.market)
    judged(span_to_now, arguments.start, arguments.end)
    report = fetch_ticks(
        symbol,
        arguments.start,
        arguments.end,
        source=source,
        market=market,
        refresh=arguments.refresh,
        verbose=False if arguments.quiet else None,
    )
    say(str(report))


def run_coverage(arguments: argparse.Namespace) -> None:
    """`rangebar ticks coverage`."""
    symbol = symbol_of(arguments.symbol)
    source, market = place_of(symbol, arguments.source, arguments.market)
    span = judged(parse_span, arguments.start, arguments.end)
    emit_frame(_storage().coverage(symbol, span.start, span.end, source=source, market=market))


def run_verify(arguments: argparse.Namespace) -> int:
    """`rangebar ticks verify`."""
    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    found = _storage().verify(symbol)
    if symbol is not None and found.is_empty():
        raise _nothing_of(symbol)
    emit_frame(found)
    # A day that waits to be fetched anew has a reason; a file of one that was has none.
    is_lost = (pl.col("state") == "quarantined") & pl.col("reason").is_not_null()
    bad = found.filter(~pl.col("state").is_in(SOUND) | is_lost).height
    say(f"{found.height:,} files, {bad:,} bad")
    return FAULTS_FOUND if bad else 0


def run_list(arguments: argparse.Namespace) -> None:
    """`rangebar ticks list`."""
    if arguments.symbol is None:
        _list_symbols(arguments)
        return
    symbol = symbol_of(arguments.symbol)
    source, market = place_of(symbol, arguments.source, arguments.market)
    days = _storage().list_days(symbol, source=source, market=market)
    if not days:
        raise _nothing_of(symbol, f" ({source} {market})")
    emit_frame(pl.DataFrame({"day": days}, schema={"day": pl.Date()}))


def _list_symbols(arguments: argparse.Namespace) -> None:
    storage = _storage()
    rows = [
        storage.stats(name, source=source, market=market)
        for source, market in places_of(arguments.source, arguments.market)
        for name in storage.list_symbols(source=source, market=market)
    ]
    emit_frame(pl.DataFrame([[row[name] for name in LISTED] for row in rows], LISTED, orient="row"))


def run_gc(arguments: argparse.Namespace) -> None:
    """`rangebar ticks gc`."""
    gone = _storage().gc(dry_run=arguments.dry_run)
    emit_frame(gone)
    say(f"{gone.height:,} files {'would go' if arguments.dry_run else 'are gone'}")


def _storage() -> TickStorage:
    from rangebar_polars.storage.parquet import TickStorage

    return TickStorage()


def _nothing_of(symbol: str, where: str = "") -> TicksNotCachedError:
    """The error for a symbol of which the store holds no day."""
    near = None if symbol in get_symbol_entries() else nearest(symbol, get_symbol_entries())
    hint = f"did you mean `{near}`?" if near else "`rangebar ticks list` says what it holds"
    sentence = f"the store holds no day of `{symbol}`{where}"
    return TicksNotCachedError(with_hint(sentence, hint), symbol=symbol)


def _span_arguments(command: argparse.ArgumentParser) -> None:
    """Symbol, first and last day."""
    command.add_argument("symbol", metavar="SYMBOL", help="`rangebar symbols` lists them")
    command.add_argument("start", metavar="START", help="first day (UTC), as 2024-01-31")
    today = datetime.now(UTC).date().isoformat()
    command.add_argument(
        "end", metavar="END", nargs="?", default=today, help="last day (default: today)"
    )
    add_place_arguments(command)
