"""The command `rangebar ticks import`: trade files into the tick store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.cli._arguments import (
    add_cache_dir_argument,
    add_quiet_argument,
    add_venue_arguments,
    symbol_of,
    venue_of,
)
from rangebar_polars.cli._output import UsageError, report
from rangebar_polars.cli._trades import (
    TradeInput,
    add_file_arguments,
    is_file_name,
    is_trade_file,
    opened_trades,
)
from rangebar_polars.exceptions import TickDataError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from rangebar_polars.cli._output import Verbs

__all__ = ["add_import"]

IMPORT_HELP = """\
Import trade files into the tick store.

The files are those that `rangebar bars` reads. They are read in blocks and stored day by day, so
files of any size fit. Ticks that are stored already are skipped.
"""
IMPORT_EXAMPLES = """\
examples:
  rangebar ticks import 'BTCUSDT-aggTrades-*.zip' BTCUSDT
  rangebar ticks import kraken/*.csv --source kraken BTC-USD
  rangebar ticks import fills.csv --columns price=px,quantity=sz --time-unit ms --source mine ABC
"""
TIME = "timestamp"


def add_import(actions: Verbs) -> None:
    """Add the command to those of `rangebar ticks`."""
    command = actions.add_parser(
        "import",
        help="import trade files of any venue into the tick store",
        usage="%(prog)s FILES... [--source NAME] SYMBOL [options]",
        description=IMPORT_HELP,
        epilog=IMPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "words",
        nargs="+",
        metavar="FILES... SYMBOL",
        help="files, folders, quoted patterns or `-`, then the symbol to store them under",
    )
    add_venue_arguments(command)
    add_file_arguments(command)
    command.add_argument(
        "--symbol",
        "--only",
        dest="symbol",
        metavar="NAME",
        help="the name of the symbol in files that hold several",
    )
    add_quiet_argument(command)
    add_cache_dir_argument(command)
    command.set_defaults(run=run_import, group_by=None)


def run_import(arguments: argparse.Namespace) -> None:
    """Run `rangebar ticks import`."""
    from rangebar_polars._text import count_text
    from rangebar_polars.storage.parquet import TickStorage

    *names, name = arguments.words
    if not names or is_trade_file(name):
        hint = "rangebar ticks import FILES --source NAME SYMBOL"
        missing = (
            "the symbol is missing after the files" if is_file_name(name) else "a file is missing"
        )
        raise UsageError(with_hint(missing, hint))
    symbol = symbol_of(name)
    venue = venue_of(symbol, arguments.source, arguments.market)
    storage = TickStorage(arguments.cache_dir)
    rows = duplicates = 0
    days: set[date] = set()
    with opened_trades(names, TradeInput.of(arguments)) as trades:
        for batch in whole_days(trades):
            written = storage.write_ticks(symbol, batch, source=venue.source, market=venue.market)
            rows, duplicates = rows + written.rows_added, duplicates + written.duplicates
            days.update(written.days)
    if not rows + duplicates:
        raise TickDataError(with_hint("the files have no trades", "check the files"))
    stored = f", {duplicates:,} already stored" if duplicates else ""
    new = f"{count_text(rows, 'tick')} of {count_text(len(days), 'day')}"
    report(f"{symbol} ({venue}): {new} imported{stored}")


def whole_days(trades: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the trades in batches that end with a day, with at most some days in memory."""
    from rangebar_polars._utils.io_source import batches

    names = trades.collect_schema().names()
    held: list[pl.DataFrame] = []
    for numbered in batches(trades, names):
        batch = numbered.rename(dict(zip(numbered.columns, names, strict=True)))
        if batch.is_empty():
            continue
        last = batch[TIME].dt.date()[-1]
        is_last = pl.col(TIME).dt.date() == last
        before, after = batch.filter(~is_last), batch.filter(is_last)
        if before.height:
            yield pl.concat([*held, before])
            held = []
        held.append(after)
    if held:
        yield pl.concat(held)
