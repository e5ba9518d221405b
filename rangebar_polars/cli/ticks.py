"""The commands `rangebar fetch` and `rangebar ticks`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._market import MARKETS, canonical_market, canonical_symbol
from rangebar_polars._span import parse_span
from rangebar_polars.cli._words import UsageError, emit_frame, say
from rangebar_polars.exceptions import TicksNotCachedError, nearest, with_hint
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from rangebar_polars.cli._words import Verbs
    from rangebar_polars.storage.parquet import TickStorage

    ValueT = TypeVar("ValueT")

__all__ = ["add_parser"]

FAULTS_FOUND = 1
DEFAULT_SOURCE, DEFAULT_MARKET = "binance", "spot"
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
    _place_arguments(listing)
    listing.set_defaults(run=run_list)
    collect = _action(actions, "gc", "remove files that nothing has named for a week")
    collect.add_argument("--dry-run", action="store_true", help="only say what would go")
    collect.set_defaults(run=run_gc)


def _action(actions: Verbs, name: str, does: str) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=does, description=does)


def run_fetch(arguments: argparse.Namespace) -> None:
    """`rangebar fetch`."""
    from rangebar_polars.pipeline.download import fetch_ticks, span_to_now

    symbol = _symbol(arguments)
    source, market = _place(arguments, symbol)
    _judged(span_to_now, arguments.start, arguments.end)
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
    symbol = _symbol(arguments)
    source, market = _place(arguments, symbol)
    span = _judged(parse_span, arguments.start, arguments.end)
    emit_frame(_storage().coverage(symbol, span.start, span.end, source=source, market=market))


def run_verify(arguments: argparse.Namespace) -> int:
    """`rangebar ticks verify`."""
    symbol = None if arguments.symbol is None else _symbol(arguments)
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
    symbol = _symbol(arguments)
    source, market = _place(arguments, symbol)
    days = _storage().list_days(symbol, source=source, market=market)
    if not days:
        raise _nothing_of(symbol, f" ({source} {market})")
    emit_frame(pl.DataFrame({"day": days}, schema={"day": pl.Date()}))


def _list_symbols(arguments: argparse.Namespace) -> None:
    storage = _storage()
    rows = [
        storage.stats(name, source=source, market=market)
        for source, market in _judged(_places, arguments.source, arguments.market)
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


def _judged(judge: Callable[..., ValueT], *words: str | None) -> ValueT:
    """What a function makes of the words of the call; what it refuses is a wrong call."""
    try:
        return judge(*words)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _symbol(arguments: argparse.Namespace) -> str:
    return _judged(canonical_symbol, arguments.symbol)


def _place(arguments: argparse.Namespace, symbol: str) -> tuple[str, str]:
    """Source and market that were given, else those of the registry."""
    entry = get_symbol_entries().get(symbol)
    source = arguments.source or (entry.exchange if entry else DEFAULT_SOURCE)
    is_at_home = entry is not None and source.lower() == entry.exchange
    own = entry.market if entry is not None and is_at_home else DEFAULT_MARKET
    return _judged(canonical_market, source, arguments.market or own)


def _places(source: str | None, market: str | None) -> list[tuple[str, str]]:
    """All markets, or those of a source, or those of a name."""
    if source is not None:
        source, _ = canonical_market(source, DEFAULT_MARKET)
    if market is not None:
        _, market = canonical_market(source or DEFAULT_SOURCE, market)
    every = [(origin, place) for origin, places in MARKETS.items() for place in places]
    return [(a, b) for a, b in every if source in (None, a) and market in (None, b)]


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
    _place_arguments(command)


def _place_arguments(command: argparse.ArgumentParser) -> None:
    """Source and market."""
    command.add_argument("--source", help="binance or exness (default: that of the registry)")
    command.add_argument("--market", help="spot, um or cm (default: that of the registry)")
