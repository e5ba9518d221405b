"""The command `rangebar symbols`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.cli._output import emit_frame, say

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs

__all__ = ["add_parser"]

ASSET_CLASSES = ("crypto", "forex", "equities")
COLUMNS = pl.Schema(
    {
        "symbol": pl.String(),
        "enabled": pl.Boolean(),
        "asset_class": pl.String(),
        "exchange": pl.String(),
        "market": pl.String(),
        "tier": pl.Int64(),
        "min_threshold": pl.Int64(),
        "listing_date": pl.Date(),
        "effective_start": pl.Date(),
    }
)


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    symbols = verbs.add_parser(
        "symbols",
        help="list the registered symbols",
        description="List the registered symbols: a table on a terminal, CSV otherwise. "
        "min_threshold is the smallest threshold that is accepted, in decimal basis points. To add "
        "symbols, point RANGEBAR_SYMBOLS at a file.",
    )
    symbols.add_argument("--asset-class", choices=ASSET_CLASSES, help="only this asset class")
    symbols.add_argument(
        "--tier", type=int, metavar="N", help="only this tier; 1 is the most liquid"
    )
    symbols.add_argument("--all", action="store_true", help="include disabled symbols")
    # Every command takes the option, so that a script may pass it to all of them.
    symbols.add_argument("--cache-dir", help=argparse.SUPPRESS)
    symbols.set_defaults(run=run_symbols)


def run_symbols(arguments: argparse.Namespace) -> None:
    """Run `rangebar symbols`."""
    from rangebar_polars.symbol_registry import get_registered_symbols, get_symbol_entries
    from rangebar_polars.symbol_registry._minimum import minimum_threshold

    entries = get_symbol_entries()
    names = get_registered_symbols(
        asset_class=arguments.asset_class,
        tier=arguments.tier,
        enabled_only=not arguments.all,
    )
    fields = [name for name in COLUMNS if name != "symbol"]
    rows = [(name, *(getattr(entries[name], field) for field in fields)) for name in names]
    # The entry has a minimum only where the registry sets one.
    minimums = [minimum_threshold(name, entries[name].asset_class) for name in names]
    listed = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    emit_frame(listed.with_columns(pl.Series("min_threshold", minimums, pl.Int64)))
    if not names:
        say("no registered symbol matches")
