"""Commands of the shell that provide what a read misses."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rangebar_polars.readers.hints import MissingBars, MissingTicks, python_call
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from rangebar_polars.readers.hints import Remedied

__all__ = ["command", "shell_text"]


def shell_text(text: str, missing: Remedied) -> str:
    """Return a message with the command in the place of the Python call.

    Examples
    --------
    >>> from rangebar_polars.cli._remedies import shell_text
    >>> from rangebar_polars.readers.hints import StaleBars, python_call
    >>> stale = StaleBars("BTCUSDT")
    >>> shell_text(f"{python_call(stale)} builds them again", stale)
    'rangebar populate with --refresh-stale builds them again'
    """
    return text.replace(python_call(missing), command(missing))


def command(missing: Remedied) -> str:
    """Return the command that provides what a read misses.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.cli._remedies import command
    >>> from rangebar_polars.readers.hints import MissingBars
    >>> spec = BarSpec.of("BTCUSDT", 500, reset="month")
    >>> print(command(MissingBars(spec, date(2024, 1, 1), date(2024, 6, 30))))
    rangebar populate BTCUSDT -s 2024-01-01 -e 2024-06-30 -t 500 --reset month
    """
    match missing:
        case MissingBars(spec, first_day, last_day):
            # No command has an option for the other way of closing.
            if not spec.rules.prevent_same_timestamp_close:
                return python_call(missing)
            days = ["-s", str(first_day), "-e", str(last_day)]
            options = {
                "-t": None if spec.threshold == 250 else str(spec.threshold),  # noqa: PLR2004
                "--reset": None if spec.reset == "year" else spec.reset,
                **_venue(spec.symbol, spec.source, spec.market),
                "--cache-dir": missing.cache_dir,
                "--dsn": missing.address,
            }
            return _line(["populate", spec.symbol, *days], options)
        case MissingTicks(symbol, source, market, first_day, last_day):
            days = [str(first_day), str(last_day)]
            return _line(["fetch", symbol, *days], _venue(symbol, source, market))
    return "rangebar populate with --refresh-stale"


def _venue(symbol: str, source: str, market: str) -> dict[str, str | None]:
    """Return the options of a source and market, which the registry knows for most symbols."""
    entry = get_symbol_entries().get(symbol)
    home = ("binance", "spot") if entry is None else (entry.exchange, entry.market)
    is_home = (source, market) == home
    return {"--source": None if is_home else source, "--market": None if is_home else market}


def _line(words: list[str], options: dict[str, str | None]) -> str:
    given = [(name, value) for name, value in options.items() if value is not None]
    return shlex.join(["rangebar", *words, *(word for pair in given for word in pair)])
