"""The command `rangebar cache status`: cached series and running populations."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars.bar_series.identity import BarRules
from rangebar_polars.bar_series.segments import EARLIEST, segment_of
from rangebar_polars.cli._arguments import (
    INCOMPLETE,
    add_action,
    add_cache_arguments,
    cache_arguments,
    symbol_of,
)
from rangebar_polars.cli._output import csv_text, emit, fail, say, text_table
from rangebar_polars.exceptions import nearest, with_hint

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rangebar_polars.bar_series.identity import LeaseKey
    from rangebar_polars.bar_series.segments import Segment
    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.clickhouse.commit.leases import RunningWriter

__all__ = ["add_status"]

#: Columns of a terminal, of which a table fills as many as it needs.
TERMINAL_COLUMNS = 80
LONGEST_SYMBOL = 14
DEFAULT_VENUE = "binance/spot"


def add_status(actions: Verbs) -> None:
    """Add the command to those of `rangebar cache`."""
    status = add_action(actions, "status", "list cached series and running populations", run_status)
    status.add_argument("symbol", nargs="?", metavar="SYMBOL", help="only this symbol")
    status.add_argument("--wide", action="store_true", help="show all columns")
    status.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        help="how to write the list; csv and json have all columns (default: a table on a terminal, "
        "csv otherwise)",
    )
    add_cache_arguments(status)


def run_status(arguments: argparse.Namespace) -> int:
    """Run `rangebar cache status`; return 1 if nothing of the symbol is cached."""
    from rangebar_polars.clickhouse.commit.leases import running_writers
    from rangebar_polars.clickhouse.connection.dsn import resolve
    from rangebar_polars.clickhouse.open import engine_use, reading
    from rangebar_polars.clickhouse.query.status import sizes, stored_series

    symbol = None if arguments.symbol is None else symbol_of(arguments.symbol)
    folder = resolve(arguments.dsn, arguments.cache_dir).folder
    with reading(**cache_arguments(arguments)) as cache:
        series, disk = stored_series(cache), sizes(cache)
        running = [] if cache is None else running_writers(cache, folder)
        is_embedded = cache is not None and cache.is_embedded
    known = series["symbol"].unique().to_list()
    if symbol is not None:
        series = series.filter(pl.col("symbol") == symbol)
        running = [writer for writer in running if writer.key.symbol == symbol]
    _write(series, arguments)
    for writer in running:
        say(_progress(writer, series, arguments.cache_dir))
    if series.is_empty() and not running:
        if symbol is not None:
            return _none_of(symbol, known)
        say("no bars are cached")
    else:
        say(f"{float(disk['bytes'].sum()) / 1e6:,.1f} MB on disk")
        _say_notes(series)
    if is_embedded and arguments.wide:
        say(str(engine_use()))
    return 0


def _none_of(symbol: str, known: list[str]) -> int:
    near = nearest(symbol, known)
    hint = f"did you mean `{near}`?" if near else "`rangebar cache status` lists the series"
    return fail(with_hint(f"no bars of {symbol} are cached", hint), INCOMPLETE)


def _write(series: pl.DataFrame, arguments: argparse.Namespace) -> None:
    """Write the list in the requested format, or the default for stdout."""
    whole = series.with_columns(pl.col("feature_groups").list.join(" "))
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    kind = arguments.format or ("table" if is_terminal else "csv")
    if kind == "json":
        emit(json.dumps(series.to_dicts(), default=_json_value, indent=2) + "\n")
    elif kind == "csv":
        emit(csv_text(whole))
    else:
        emit(text_table(whole if arguments.wide else _narrow(series), rows=-1) + "\n")


def _json_value(value: object) -> str:
    """Return a day or an instant as text; instants are in UTC."""
    return str(value).replace(" ", "T").replace("+00:00", "Z")


def _narrow(series: pl.DataFrame) -> pl.DataFrame:
    """Return the main columns, which fit a terminal.

    Examples
    --------
    >>> from rangebar_polars.cli.cache_status import _narrow
    >>> from rangebar_polars.clickhouse.query.status import STORED_SCHEMA
    >>> _narrow(STORED_SCHEMA.to_frame()).columns
    ['symbol', 'dbps', 'segment', 'first_day', 'last_day', 'days', 'bars']
    """
    venue = pl.concat_str("source", "market", separator="/")
    symbol = pl.col("symbol")
    cut = pl.when(symbol.str.len_chars() > LONGEST_SYMBOL).then(
        symbol.str.head(LONGEST_SYMBOL - 1) + "…"
    )
    has_venues = bool(series.select((venue != DEFAULT_VENUE).any()).item())
    return series.select(
        cut.otherwise(symbol).alias("symbol"),
        # The segment is the year or month of the days beside it.
        *([venue.alias("venue")] if has_venues else []),
        pl.col("threshold").alias("dbps"),
        *([] if has_venues else [pl.col("segment")]),
        "first_day",
        "last_day",
        pl.col("units").alias("days"),
        "bars",
    )


def _say_notes(series: pl.DataFrame) -> None:
    """Say what is to be done about series that are not read."""
    counts = series.select("superseded", "other_semantics").sum().row(0, named=True)
    rebuilds = int(series["open_rebuilds"].sum())
    if counts["superseded"]:
        say(
            f"{counts['superseded']:,} series are covered by one with an earlier anchor; "
            "`rangebar cache drop --superseded` removes them"
        )
    if counts["other_semantics"]:
        say(
            f"{counts['other_semantics']:,} series follow another version of the bar rule; "
            "`rangebar cache upgrade` rebuilds them"
        )
    if rebuilds:
        are = "is" if rebuilds == 1 else "are"
        unfinished = f"{count_text(rebuilds, 'rebuild')} {are} unfinished"
        say(f"{unfinished}; repeat the command that began them")


def _progress(writer: RunningWriter, series: pl.DataFrame, cache_dir: Path | None) -> str:
    """Describe how far a running population has stored one series."""
    key = writer.key
    of_key = _of_writer(key, series).sort("first_day")
    days = int(of_key["units"][0]) if of_key.height else 0
    last = f", the last is {of_key['last_day'][0]}" if days else ""
    stored = f"{count_text(days, 'day')} of bars stored{last}"
    ticks = f"{count_text(_ticks(writer, cache_dir), 'day')} of ticks"
    return f"running: {key}: {stored}; {ticks} (process {writer.process} on {writer.host})"


def _of_writer(key: LeaseKey, series: pl.DataFrame) -> pl.DataFrame:
    """Return the series of the segment and of the rules that a writer is writing."""
    of_segment = series.filter(
        pl.col("symbol") == key.symbol,
        pl.col("source") == key.source,
        pl.col("market") == key.market,
        pl.col("threshold") == key.threshold,
        pl.col("reset") == key.reset,
        pl.col("segment") == _segment(key).name,
        pl.col("first_day").is_not_null(),
    )
    rules = zip(of_segment["gate"], of_segment["bar_semantics"], strict=True)
    of_rules = [
        BarRules(prevent_same_timestamp_close=gate, bar_semantics=semantics).id == key.config_id
        for gate, semantics in rules
    ]
    return of_segment.filter(pl.Series(of_rules, dtype=pl.Boolean))


def _segment(key: LeaseKey) -> Segment:
    """Return the segment that a writer is writing."""
    return segment_of(max(key.segment_start, EARLIEST), key.reset)


def _ticks(writer: RunningWriter, cache_dir: Path | None) -> int:
    """Count the stored days of ticks in the segment."""
    from rangebar_polars.storage.parquet import TickStorage

    key = writer.key
    segment = _segment(key)
    days = TickStorage(cache_dir).list_days(key.symbol, source=key.source, market=key.market)
    return sum(segment_of(day, key.reset) == segment for day in days)
