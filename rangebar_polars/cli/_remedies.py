"""Commands of the shell that provide what a read misses."""

from __future__ import annotations

import ast
import re
import shlex
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import split_hint, with_hint
from rangebar_polars.readers.hints import MissingBars, MissingTicks, python_call
from rangebar_polars.sources import DEFAULT_MARKET, DEFAULT_SOURCE, is_user_source
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from rangebar_polars.readers.hints import Remedied

__all__ = ["command", "shell_text", "with_options"]

#: Arguments of Python calls that hints name, and the options of the commands.
OPTIONS = {
    "cache_dir": "--cache-dir",
    "end": "--end",
    "end_date": "--end",
    "features": "--features",
    "group_by": "--group-by",
    "layout": "--layout",
    "lookback": "--lookback",
    "market": "--market",
    "source": "--source",
    "start": "--start",
    "start_date": "--start",
    "symbol": "--symbol",
    "time_unit": "--time-unit",
}
SWITCHES = {
    "force_refresh=True": "--force-refresh",
    "refresh_stale=True": "--refresh-stale",
    "use_cache=False": "--no-cache",
    "the same call": "the same command",
}
#: Functions whose names stand behind a message, which a command does not have.
OPERATION = re.compile(
    r" \((scan_range_bars|get_range_bars|fetch_ticks|write_ticks|populate_cache_resumable|coverage"
    r"|count_bars|get_cached_bars|get_ticks|scan_ticks)\)"
)
FROM_EPOCH = re.compile(r"""`?pl\.from_epoch\([^`\n]*?time_unit=["'](s|ms|us|ns)["']\)`?""")
COLUMNS = re.compile(r"columns=(\{[^{}]*\})")
ARGUMENT = re.compile(rf"""\b({"|".join(OPTIONS)})=["']([^"'\n]*)["']""")


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


def with_options(text: str) -> str:
    r"""Return a message whose hint names options in the place of arguments of Python calls.

    Examples
    --------
    >>> from rangebar_polars.cli._remedies import with_options
    >>> print(with_options('the times are numbers\n\nhint: pl.from_epoch("t", time_unit="us")'))
    the times are numbers
    <BLANKLINE>
    hint: --time-unit us
    >>> print(with_options('unbound\n\nhint: silence: columns={"quantity": None}'))
    unbound
    <BLANKLINE>
    hint: silence: --columns quantity=
    """
    sentence, hint = split_hint(OPERATION.sub("", text))
    for call, option in SWITCHES.items():
        hint = hint.replace(call, option)
    hint = FROM_EPOCH.sub(r"--time-unit \1", hint)
    hint = COLUMNS.sub(_columns_option, hint)
    hint = ARGUMENT.sub(lambda found: shlex.join([OPTIONS[found[1]], found[2]]), hint)
    return with_hint(sentence, hint) if hint else sentence


def _columns_option(found: re.Match[str]) -> str:
    """Return the option `--columns` for a mapping of fields to columns."""
    try:
        pairs = ast.literal_eval(found[1]).items()
    except (ValueError, SyntaxError, AttributeError):
        return found[0]
    return shlex.join(["--columns", ",".join(f"{field}={name or ''}" for field, name in pairs)])


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
                "--lookback": None
                if missing.features.window is None
                else str(missing.features.window),
            }
            groups = [word for group in missing.features.groups for word in ("--features", group)]
            return _line(["populate", spec.symbol, *days, *groups], options)
        case MissingTicks(symbol, source, market, first_day, last_day):
            if is_user_source(source):
                options = {
                    "--source": source,
                    "--market": None if market == DEFAULT_MARKET else market,
                    "--cache-dir": missing.cache_dir,
                }
                return _line(["ticks", "import", "FILES", symbol], options)
            days = [str(first_day), str(last_day)]
            options = _venue(symbol, source, market) | {"--cache-dir": missing.cache_dir}
            return _line(["fetch", symbol, *days], options)
    return "rangebar populate with --refresh-stale"


def _venue(symbol: str, source: str, market: str) -> dict[str, str | None]:
    """Return the options of a source and market, which the registry knows for most symbols."""
    entry = get_symbol_entries().get(symbol)
    home = (DEFAULT_SOURCE, DEFAULT_MARKET) if entry is None else (entry.exchange, entry.market)
    is_home = (source, market) == home
    return {"--source": None if is_home else source, "--market": None if is_home else market}


def _line(words: list[str], options: dict[str, str | None]) -> str:
    given = [(name, value) for name, value in options.items() if value is not None]
    return shlex.join(["rangebar", *words, *(word for pair in given for word in pair)])
