"""The command `rangebar ticks prune`: remove ticks that stored bars have made dispensable."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rangebar_polars._text import count_text
from rangebar_polars.cli._arguments import (
    add_cache_arguments,
    add_quiet_argument,
    add_venue_arguments,
    cache_arguments,
    parsed,
    symbol_of,
)
from rangebar_polars.cli._output import emit_frame, say
from rangebar_polars.sources import DEFAULT_MARKET, canonical_market

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs

__all__ = ["add_prune"]

PRUNE_HELP = """\
Remove old ticks that stored bars have made dispensable. Without --yes, only list them.

A day is removed if it is final, older than --keep-days, and covered by stored bars of every
threshold and reset mode of its symbol. Reads of these bars return the same as before. A removed day
is no gap, and `rangebar fetch` fetches it again.
"""
PRUNE_EXAMPLES = """\
examples:
  rangebar ticks prune --keep-days 90               list the days
  rangebar ticks prune --keep-days 90 --yes         remove them
  rangebar ticks prune BTCUSDT --market um --keep-days 30
"""


def add_prune(actions: Verbs) -> None:
    """Add the command to those of `rangebar ticks`."""
    command = actions.add_parser(
        "prune",
        help="remove old ticks under stored bars; by default, list them",
        description=PRUNE_HELP,
        epilog=PRUNE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", help="only these symbols (default: all)"
    )
    command.add_argument(
        "--keep-days",
        type=_days,
        required=True,
        metavar="N",
        help="days before today (UTC) whose ticks stay",
    )
    command.add_argument("--yes", action="store_true", help="remove the days")
    add_venue_arguments(command)
    add_quiet_argument(command)
    add_cache_arguments(command)
    command.set_defaults(run=run_prune)


def _days(text: str) -> int:
    """Parse a number of days."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of days, such as 90")
    return int(text)


def run_prune(arguments: argparse.Namespace) -> None:
    """Run `rangebar ticks prune`."""
    from rangebar_polars.maintenance.prune import prune

    symbols = [symbol_of(symbol) for symbol in arguments.symbols]
    source, market = arguments.source, arguments.market
    if source is not None:
        source = parsed(canonical_market, source, market or DEFAULT_MARKET).source
    outcome = prune(
        arguments.keep_days,
        symbols,
        source=source,
        market=market,
        dry_run=not arguments.yes,
        **cache_arguments(arguments),
    )
    if not arguments.quiet:
        emit_frame(outcome.to_frame())
    what = f"{count_text(outcome.days, 'day')} of ticks ({outcome.bytes:,} bytes)"
    if not outcome.days:
        say("nothing to remove")
    elif outcome.is_dry:
        say(f"{what} would be removed; --yes removes them")
    else:
        say(f"removed {what}; `rangebar ticks gc` frees their space after a week")
