"""The command `rangebar populate`."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import parse_day
from rangebar_polars._utils.terminal import positive_count
from rangebar_polars.bar_series.segments import reset_mode
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    INCOMPLETE,
    add_cache_arguments,
    add_feature_arguments,
    add_quiet_argument,
    add_threshold_argument,
    add_venue_arguments,
    parsed,
    symbol_of,
    venue_of,
)
from rangebar_polars.cli._output import UsageError, error_text, fail, report, say
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.compute._options import parse_options
from rangebar_polars.exceptions import PopulationError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.sources import Venue

__all__ = ["add_parser", "add_work_arguments", "is_day", "reporting_interrupt", "split_symbols"]
__all__ += ["unanswered", "workers"]

DAY_ARGUMENTS = ("start", "end")

POPULATE_HELP = """\
Compute the bars of symbols, and store them in the cache.

Missing ticks are fetched first. Bars are published in groups of days, each after a read-back check.
An interrupted run resumes when repeated.
"""
POPULATE_EXAMPLES = """\
examples:
  rangebar populate BTCUSDT 2023-01-01              to the newest whole day
  rangebar populate BTCUSDT ETHUSDT -s 2024-01-01 -e 2024-12-31 -t 250,500,1000 --workers 2
  rangebar populate BTCUSDT,ETHUSDT 2024-01-01      symbols may be separated by commas
  rangebar populate EURUSD 2024-01-01 2024-03-31 -t 50      Exness quotes, by the registry
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    populate = verbs.add_parser(
        "populate",
        help="compute the bars of symbols, and store them in the cache",
        usage="%(prog)s SYMBOL [SYMBOL ...] [START [END]] [options]",
        description=POPULATE_HELP,
        epilog=POPULATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    populate.add_argument(
        "words",
        nargs="+",
        metavar="SYMBOL... [START [END]]",
        help="symbols (see `rangebar symbols`), then the first and the last day, unless -s and -e "
        "set them",
    )
    populate.add_argument(
        "-s", "--start", metavar="DAY", help="first day (UTC), such as 2024-01-31"
    )
    populate.add_argument(
        "-e", "--end", metavar="DAY", help="last day (default: the newest whole day)"
    )
    add_threshold_argument(populate, default=str(DEFAULT_THRESHOLD))
    populate.add_argument(
        "--reset",
        default="year",
        metavar="MODE",
        help="restart the bars each year, month, week or day (UTC), or none (default: year)",
    )
    add_feature_arguments(
        populate,
        "a feature group to store: lookback, intrabar, extended or all; may be repeated. Cached bars "
        "without it are rebuilt with it (default: the groups of the cached bars)",
    )
    populate.add_argument(
        "--force-refresh",
        action="store_true",
        help="rebuild from the first day; readers see the old bars until the new ones are complete",
    )
    populate.add_argument(
        "--refresh-stale",
        action="store_true",
        help="rebuild from the first day whose ticks have changed",
    )
    add_venue_arguments(populate)
    add_work_arguments(populate)
    populate.set_defaults(run=run_populate)


def add_work_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options for workers, events, progress and the cache."""
    command.add_argument(
        "--workers",
        type=positive_count,
        default=1,
        metavar="N",
        help="number of processes that compute in parallel (default: 1)",
    )
    command.add_argument(
        "--notify",
        action="store_false",
        default=False,
        dest="no_notify",
        help="send events to the configured event log, hooks and alerts (default)",
    )
    command.add_argument("--no-notify", action="store_true", help="do not send events")
    add_quiet_argument(command)
    add_cache_arguments(command)


def run_populate(arguments: argparse.Namespace) -> int:
    """Run `rangebar populate`; return 1 if it is incomplete."""
    split_words(arguments)
    check_arguments(arguments)
    by_venue: dict[Venue, list[str]] = {}
    for symbol in dict.fromkeys(map(symbol_of, arguments.symbols)):
        venue = venue_of(symbol, arguments.source, arguments.market)
        by_venue.setdefault(venue, []).append(symbol)
    status = 0
    for venue, symbols in by_venue.items():
        with reporting_interrupt():
            status = max(status, populate(arguments, venue, symbols))
    return status


def split_words(arguments: argparse.Namespace) -> None:
    """Split the positional arguments into symbols and days; refuse a day that an option sets too."""
    words = split_symbols(arguments.words)
    count = next((n for n, word in enumerate(words) if is_day(word)), len(words))
    arguments.symbols, days = words[:count], words[count:]
    if not arguments.symbols:
        raise UsageError(with_hint(f"no SYMBOL before `{days[0]}`", "SYMBOL... [START [END]]"))
    if len(days) > len(DAY_ARGUMENTS):
        hint = "SYMBOL... [START [END]]: symbols first, then at most two days"
        raise UsageError(with_hint(f"too many arguments after the symbols: {' '.join(days)}", hint))
    for name, day in zip(DAY_ARGUMENTS, days, strict=False):
        named = getattr(arguments, name)
        if named is not None:
            sentence = f"{name.upper()} is given twice: `{day}` and `--{name} {named}`"
            raise UsageError(
                with_hint(sentence, f"remove one; `{day}` is {name.upper()} by its position")
            )
        setattr(arguments, name, day)
    if arguments.start is None:
        symbols = " ".join(arguments.symbols)
        hint = f"rangebar populate {symbols} 2024-01-01, or --start 2024-01-01"
        raise UsageError(with_hint("START, the first day, is missing", hint))


def split_symbols(words: Iterable[str]) -> list[str]:
    """Split arguments at commas.

    Examples
    --------
    >>> from rangebar_polars.cli.populate import split_symbols
    >>> split_symbols(["BTCUSDT,ETHUSDT", "2024-01-01"])
    ['BTCUSDT', 'ETHUSDT', '2024-01-01']
    """
    return [part.strip() for word in words for part in word.split(",") if part.strip()] or [*words]


def is_day(word: str) -> bool:
    """Return whether an argument is a day: four digits and a separator, or eight digits.

    Examples
    --------
    >>> from rangebar_polars.cli.populate import is_day
    >>> [is_day(word) for word in ("2024-03-01", "2024/3/1", "20240301", "BTCUSDT", "BRK.B")]
    [True, True, True, False, False]
    """
    is_digits = word.isdecimal() and len(word) == 8  # noqa: PLR2004
    return word[:4].isdecimal() and (word[4:5] in ("-", "/", ".") or is_digits)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check all arguments before any work is done."""
    resolve(arguments.dsn, arguments.cache_dir)
    names = arguments.features or ()
    parsed(partial(parse_options, features=names, lookback=arguments.lookback), DEFAULT_THRESHOLD)
    parsed(reset_mode, arguments.reset)
    first = parsed(parse_day, arguments.start, "start")
    if arguments.end is not None and parsed(parse_day, arguments.end, "end") < first:
        raise UsageError(f"`end` ({arguments.end}) is before `start` ({arguments.start})")


def populate(arguments: argparse.Namespace, venue: Venue, symbols: list[str]) -> int:
    """Populate symbols of one venue; return 1 if the population is incomplete."""
    from rangebar_polars.populate.populate import populate_cache_resumable

    try:
        outcome = populate_cache_resumable(
            symbols,
            arguments.start,
            arguments.end,
            threshold_decimal_bps=thresholds(arguments),
            force_refresh=arguments.force_refresh,
            refresh_stale=arguments.refresh_stale,
            features=arguments.features or "microstructure",
            lookback=arguments.lookback,
            ouroboros=arguments.reset,
            notify=not arguments.no_notify,
            verbose=not arguments.quiet,
            executor=workers(arguments.workers),
            source=venue.source,
            market=venue.market,
            cache_dir=arguments.cache_dir,
            dsn=arguments.dsn,
        )
    except PopulationError as error:
        report(error.report)
        return fail(error_text(error), INCOMPLETE)
    report(outcome)
    if outcome.unanswered:
        return fail(unanswered(outcome.unanswered), INCOMPLETE)
    return 0


def unanswered(symbols: Iterable[str]) -> str:
    """Describe symbols whose newest day is unknown, with the remedy."""
    sentence = f"no source could be asked for newer days of {', '.join(symbols)}"
    return with_hint(sentence, "run it again with a connection to add them")


def thresholds(arguments: argparse.Namespace) -> list[int]:
    """Return the thresholds without duplicates."""
    return list(dict.fromkeys(arguments.threshold or [DEFAULT_THRESHOLD]))


def workers(count: int) -> Callable[[], Executor] | None:
    """Return a function that makes a pool of processes; None for this process alone.

    The processes are spawned, since a forked one cannot use the embedded cache.
    """
    if count == 1:
        return None
    from rangebar_polars.populate.workers.executors import end_with_parent

    # As the initializer, since a process without a job would not notice the end of its parent.
    context = multiprocessing.get_context("spawn")
    return partial(ProcessPoolExecutor, count, mp_context=context, initializer=end_with_parent)


@contextmanager
def reporting_interrupt() -> Iterator[None]:
    """On an interruption, report what a population has stored, which its notes say."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ()):
            say(note)
        raise
