"""The commands `rangebar fetch` and `rangebar ticks`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._market import MARKETS
from rangebar_polars.cli._words import emit_frame, say

if TYPE_CHECKING:
    import argparse

    from rangebar_polars.cli._words import Verbs
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


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    fetch = verbs.add_parser("fetch", help="ticks into the store", description=FETCH_HELP)
    _span_arguments(fetch)
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch.set_defaults(run=run_fetch)
    ticks = verbs.add_parser("ticks", help="what the tick store holds")
    acts = ticks.add_subparsers(required=True, metavar="ACTION")
    coverage = acts.add_parser("coverage", help="a line for each day: state, rows, ids, gaps")
    _span_arguments(coverage)
    coverage.set_defaults(run=run_coverage)
    verify = acts.add_parser("verify", help="read and check every file; ends with 1 if one is bad")
    verify.add_argument("symbol", nargs="?", metavar="SYMBOL")
    verify.set_defaults(run=run_verify)
    listing = acts.add_parser("list", help="the symbols, or the days of one")
    listing.add_argument("symbol", nargs="?", metavar="SYMBOL")
    _place_arguments(listing)
    listing.set_defaults(run=run_list)
    collect = acts.add_parser("gc", help="remove files that nothing names any more")
    collect.add_argument("--dry-run", action="store_true", help="only say what would go")
    collect.set_defaults(run=run_gc)


def run_fetch(arguments: argparse.Namespace) -> None:
    """`rangebar fetch`."""
    from rangebar_polars.pipeline.download import fetch_ticks

    verbose = False if arguments.quiet else None
    report = fetch_ticks(
        arguments.symbol,
        arguments.start,
        arguments.end,
        source=arguments.source,
        market=arguments.market,
        verbose=verbose,
    )
    say(str(report))


def run_coverage(arguments: argparse.Namespace) -> None:
    """`rangebar ticks coverage`."""
    span = (arguments.symbol, arguments.start, arguments.end)
    emit_frame(_storage().coverage(*span, source=arguments.source, market=arguments.market))


def run_verify(arguments: argparse.Namespace) -> int:
    """`rangebar ticks verify`."""
    found = _storage().verify(arguments.symbol)
    emit_frame(found)
    bad = found.filter(~pl.col("state").is_in(SOUND)).height
    say(f"{found.height:,} files, {bad:,} bad")
    return FAULTS_FOUND if bad else 0


def run_list(arguments: argparse.Namespace) -> None:
    """`rangebar ticks list`."""
    storage = _storage()
    if arguments.symbol is not None:
        place = {"source": arguments.source, "market": arguments.market}
        days = storage.list_days(arguments.symbol, **place)
        emit_frame(pl.DataFrame({"day": days}, schema={"day": pl.Date()}))
        return
    rows = [
        storage.stats(name, source=source, market=market)
        for source, markets in MARKETS.items()
        for market in markets
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


def _span_arguments(command: argparse.ArgumentParser) -> None:
    """Symbol, first and last day."""
    command.add_argument("symbol", metavar="SYMBOL")
    command.add_argument("start", metavar="START", help="first day, as 2024-01-31")
    today = datetime.now(UTC).date().isoformat()
    command.add_argument(
        "end", metavar="END", nargs="?", default=today, help="last day (default: today, UTC)"
    )
    _place_arguments(command)


def _place_arguments(command: argparse.ArgumentParser) -> None:
    """Source and market."""
    command.add_argument("--source", default="binance", help="binance (default) or exness")
    command.add_argument("--market", default="spot", help="spot (default), um or cm")
