"""The command `rangebar status`: what is streamed into a cache folder, and how it does."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING

from rangebar_polars._text import shown
from rangebar_polars._utils import clock
from rangebar_polars.cli._arguments import INCOMPLETE, add_cache_dir_argument, symbol_of
from rangebar_polars.cli._output import emit, fail, say
from rangebar_polars.exceptions import nearest, with_hint
from rangebar_polars.sources import DEFAULT_SOURCE
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.live.health.stored import StoredStatus

__all__ = ["add_status", "status_table"]

STATUS_HELP = """\
Show the symbols that are or were streamed into the cache folder, with their state.

It reads files only: it asks no port and opens no bar cache. The exit status is 0 if all symbols are
live, and 1 otherwise.
"""
STATUS_EXAMPLES = """\
examples:
  rangebar status
  rangebar status BTCUSDT --watch                  redraw every 2 seconds
  rangebar status --json
"""
WATCH_S = 2.0
LONGEST_WATCH_S = 86_400.0
#: Move to the upper left, and clear the screen.
CLEAR = "\x1b[H\x1b[2J\x1b[3J"
NOTHING = "-"
LONGEST_CELL = 60

COLUMNS: tuple[str, ...] = ("symbol", "market", "state", "reason", "applied", "age", "lag", "gaps")
COLUMNS += ("bars today", "finalized through", "pid")
#: Columns of numbers, which are aligned on the right.
NUMBERS = frozenset({"applied", "age", "lag", "gaps", "pid"})

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def add_status(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    status = verbs.add_parser(
        "status",
        help="show what is streamed into the cache folder",
        description=STATUS_HELP,
        epilog=STATUS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    status.add_argument("symbols", nargs="*", metavar="SYMBOL", help="only these (default: all)")
    status.add_argument(
        "--watch",
        nargs="?",
        const=WATCH_S,
        type=_interval,
        metavar="SECONDS",
        help=f"show it again and again, at this interval (default: {WATCH_S:g})",
    )
    status.add_argument(
        "--json", action="store_true", help="write JSON; with --watch, a line each time"
    )
    add_cache_dir_argument(status)
    status.set_defaults(run=run_status)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"`{text}` is no number of seconds; write symbols before --watch"
        ) from None
    if not 0 < seconds <= LONGEST_WATCH_S:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds above 0, at most {LONGEST_WATCH_S:g}; it is `{text}`"
        )
    return seconds


def run_status(arguments: argparse.Namespace) -> int:
    """Run `rangebar status`; return 1 unless all symbols are live."""
    from rangebar_polars.live.health.stored import stored_statuses
    from rangebar_polars.storage.parquet import TickStorage

    names = list(dict.fromkeys(symbol_of(name) for name in arguments.symbols))
    root = TickStorage(arguments.cache_dir).root

    def look() -> int:
        found = stored_statuses(root)
        chosen = [one for one in found if one.symbol in names] if names else found
        _show(chosen, arguments)
        missing = [name for name in names if name not in {one.symbol for one in chosen}]
        return _report(chosen, missing, found, root)

    if arguments.watch is None:
        return look()
    while True:
        look()
        clock.sleep(arguments.watch)


def _show(found: Sequence[StoredStatus], arguments: argparse.Namespace) -> None:
    """Write the table or JSON to stdout."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    is_watched = arguments.watch is not None
    if arguments.json:
        document = {
            "all_live": _all_live(found),
            "symbols": [one.to_dict() for one in found],
        }
        emit(json.dumps(document, indent=None if is_watched else 2, allow_nan=False) + "\n")
        return
    text = status_table(found)
    if is_watched:
        now = f"{clock.utc_now():%Y-%m-%d %H:%M:%S} UTC"
        # Tables of a file or a pipe are told apart by an empty line.
        text = f"{CLEAR}{now}\n{text}" if is_terminal else f"{now}\n{text}\n"
    emit(text)


def _report(
    found: Sequence[StoredStatus], missing: list[str], known: Sequence[StoredStatus], root: Path
) -> int:
    """Say what the table has no room for, and return the exit status."""
    for one in found:
        if one.detail:
            say(f"{one.symbol}: {one.detail}")
    for name in missing:
        # A symbol of the registry is not misspelt.
        is_known = name in get_symbol_entries()
        near = None if is_known else nearest(name, {one.symbol for one in known})
        hint = f"did you mean `{near}`?" if near else f"stream it: rangebar sidecar {name}"
        say(with_hint(f"{name} is not streamed into `{root}`", hint))
    if not found and not missing:
        hint = "stream one: rangebar sidecar BTCUSDT; or name its folder: --cache-dir DIR"
        return fail(with_hint(f"no symbol is streamed into `{root}`", hint), INCOMPLETE)
    return 0 if _all_live(found) and not missing else INCOMPLETE


def _all_live(found: Sequence[StoredStatus]) -> bool:
    return bool(found) and all(one.is_live for one in found)


def status_table(found: Sequence[StoredStatus]) -> str:
    """Return a table with a row for each symbol; nothing without any.

    Examples
    --------
    >>> from rangebar_polars.cli.live.status import status_table
    >>> from rangebar_polars.live.health.stored import StoredStatus
    >>> one = StoredStatus("BTCUSDT", "binance", "spot", "live", applied_id=7, last_trade_age_s=0.26)
    >>> print(status_table([one]), end="")
    symbol   market  state  reason  applied   age  lag  gaps  bars today  finalized through  pid
    BTCUSDT  spot    live   -             7  0.3s    -     -  -           -                    -
    """
    if not found:
        return ""
    rows = [COLUMNS, *(tuple(shown(cell, LONGEST_CELL) for cell in _row(one)) for one in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    return "".join(f"{_line(row, widths)}\n" for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if name in NUMBERS else text.ljust(width)
        for name, text, width in zip(COLUMNS, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _row(one: StoredStatus) -> tuple[str, ...]:
    values = (
        one.symbol,
        one.market if one.source == DEFAULT_SOURCE else f"{one.source}/{one.market}",
        one.state,
        one.reason,
        one.applied_id,
        _span_text(one.last_trade_age_s),
        _span_text(one.lag_s),
        one.gaps_open,
        " ".join(f"{threshold}:{bars}" for threshold, bars in one.bars_today),
        one.finalized_through,
        one.pid,
    )
    return tuple(NOTHING if value is None or value == "" else str(value) for value in values)


def _span_text(seconds: float | None) -> str:
    """Return a number of seconds with few digits.

    Examples
    --------
    >>> from rangebar_polars.cli.live.status import _span_text
    >>> [_span_text(seconds) for seconds in (0.04, 59.96, 3599, 7200, 400_000, -0.5, None)]
    ['0.0s', '60.0s', '59m', '2h', '4d', '-0.5s', '']
    """
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    unit, name = next(
        pair
        for pair in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"))
        if seconds >= (pair[0] if pair[0] != _DAY else 2 * _DAY)
    )
    return f"{math.floor(seconds / unit)}{name}"
