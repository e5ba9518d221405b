"""The command `rangebar populate`."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import parse_day
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.segments import reset_mode
from rangebar_polars.cli._arguments import (
    DEFAULT_THRESHOLD,
    add_cache_arguments,
    add_place_arguments,
    add_threshold_argument,
    judged,
    place_of,
    symbol_of,
)
from rangebar_polars.cli._output import UsageError, fail, say, words_of
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import CacheError, PopulationError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from rangebar_polars.cli._output import Verbs

__all__ = ["add_parser", "add_work_arguments", "unanswered", "workers"]

STOPPED = 1
BY_PLACE = ("start", "end")

POPULATE_HELP = """\
compute the bars of symbols and keep them

Ticks that are missing are fetched. Bars are kept a day at a time, and only once they are proved to
be stored: a population that was stopped, however it was, goes on from there when it is run again.
"""
POPULATE_EXAMPLES = """\
examples:
  rangebar populate BTCUSDT 2023-01-01              to the newest whole day
  rangebar populate BTCUSDT ETHUSDT -s 2024-01-01 -e 2024-12-31 -t 100,250,500 --workers 2
  rangebar populate EURUSD 2024-01-01 2024-03-31 -t 50      quotes of Exness, as the registry says
"""


def add_parser(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    populate = verbs.add_parser(
        "populate",
        help="compute the bars of symbols and keep them",
        usage="%(prog)s SYMBOL [SYMBOL ...] [START [END]] [options]",
        description=POPULATE_HELP,
        epilog=POPULATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    populate.add_argument(
        "words",
        nargs="+",
        metavar="SYMBOL... [START [END]]",
        help="symbols (`rangebar symbols` lists them); first and last day, unless -s and -e name them",
    )
    populate.add_argument("-s", "--start", metavar="DAY", help="first day (UTC), as 2024-01-31")
    populate.add_argument(
        "-e", "--end", metavar="DAY", help="last day (default: the newest whole day)"
    )
    add_threshold_argument(populate, default=str(DEFAULT_THRESHOLD))
    populate.add_argument(
        "--reset",
        default="year",
        metavar="R",
        help="start anew each year, month, week or day, UTC, or none (default: year)",
    )
    populate.add_argument(
        "--force-refresh",
        action="store_true",
        help="build anew from the first day on; readers see the old bars until the new ones are "
        "complete",
    )
    populate.add_argument(
        "--refresh-stale",
        action="store_true",
        help="build anew from the first day whose ticks changed",
    )
    add_place_arguments(populate)
    add_work_arguments(populate)
    populate.set_defaults(run=run_populate)


def add_work_arguments(command: argparse.ArgumentParser) -> None:
    """How to work, and which cache to write to."""
    command.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that compute at the same time (default: 1)",
    )
    command.add_argument(
        "--notify",
        action="store_false",
        default=False,
        dest="no_notify",
        help="send events of the work to the event log, hooks and alerts that are set (default)",
    )
    command.add_argument("--no-notify", action="store_true", help="send no events")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_cache_arguments(command)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not `{text}`")
    return int(text)


def run_populate(arguments: argparse.Namespace) -> int:
    """`rangebar populate`; 1 if anything was not done."""
    take_words(arguments)
    judge(arguments)
    by_place: dict[tuple[str, str], list[str]] = {}
    for symbol in dict.fromkeys(map(symbol_of, arguments.symbols)):
        place = place_of(symbol, arguments.source, arguments.market)
        by_place.setdefault(place, []).append(symbol)
    status = 0
    for place, symbols in by_place.items():
        with kept_so_far(arguments, place, symbols):
            status = max(status, populate(arguments, place, symbols))
    return status


def take_words(arguments: argparse.Namespace) -> None:
    """Tell symbols from days, which come last; each day may be given once, there or by its name."""
    words: list[str] = arguments.words
    count = next((n for n, word in enumerate(words) if is_day(word)), len(words))
    arguments.symbols, days = words[:count], words[count:]
    if not arguments.symbols:
        raise UsageError(with_hint(f"no SYMBOL before `{days[0]}`", "SYMBOL... [START [END]]"))
    if len(days) > len(BY_PLACE):
        hint = "SYMBOL... [START [END]]: symbols first, then at most two days"
        raise UsageError(with_hint(f"after the symbols stand {' '.join(days)}", hint))
    for name, day in zip(BY_PLACE, days, strict=False):
        named = getattr(arguments, name)
        if named is not None:
            sentence = f"{name.upper()} is given twice: `{day}` and `--{name} {named}`"
            raise UsageError(
                with_hint(sentence, f"leave one out; `{day}` is {name.upper()} by its place")
            )
        setattr(arguments, name, day)
    if arguments.start is None:
        symbols = " ".join(arguments.symbols)
        hint = f"rangebar populate {symbols} 2024-01-01, or --start 2024-01-01"
        raise UsageError(with_hint("there is no first day, START", hint))


def is_day(word: str) -> bool:
    """Whether a word is meant as a day: no symbol has a `-` after four digits."""
    return word[:4].isdecimal() and word[4:5] == "-"


def judge(arguments: argparse.Namespace) -> None:
    """Refuse a wrong call before any work is done."""
    resolve(arguments.dsn, arguments.cache_dir)
    judged(reset_mode, arguments.reset)
    first = judged(parse_day, arguments.start, "start")
    if arguments.end is not None and judged(parse_day, arguments.end, "end") < first:
        raise UsageError(f"`end` ({arguments.end}) is before `start` ({arguments.start})")


def populate(arguments: argparse.Namespace, place: tuple[str, str], symbols: list[str]) -> int:
    """Populate symbols of one market; 1 if anything was not done."""
    from rangebar_polars.populate.populate import populate_cache_resumable

    try:
        report = populate_cache_resumable(
            symbols,
            arguments.start,
            arguments.end,
            threshold_decimal_bps=thresholds(arguments),
            force_refresh=arguments.force_refresh,
            refresh_stale=arguments.refresh_stale,
            ouroboros=arguments.reset,
            notify=not arguments.no_notify,
            verbose=not arguments.quiet,
            executor=workers(arguments.workers),
            source=place[0],
            market=place[1],
            cache_dir=arguments.cache_dir,
            dsn=arguments.dsn,
        )
    except PopulationError as error:
        say(str(error.report))
        return fail(words_of(error), STOPPED)
    say(str(report))
    if report.unanswered:
        return fail(unanswered(report.unanswered), STOPPED)
    return 0


def unanswered(symbols: Iterable[str]) -> str:
    """What is to be said of symbols whose newest day is not known."""
    sentence = f"no source could be asked for newer days of {', '.join(symbols)}"
    return with_hint(sentence, "run it again with a connection; what is kept is gone on with")


def thresholds(arguments: argparse.Namespace) -> list[int]:
    """Thresholds that were asked for, each once."""
    return list(dict.fromkeys(arguments.threshold or [DEFAULT_THRESHOLD]))


def workers(count: int) -> Callable[[], Executor] | None:
    """A way to make so many processes to work in; None for this one alone.

    They are started afresh: a fork could not use the embedded cache.
    """
    if count == 1:
        return None
    from rangebar_polars.populate.workers.executors import end_with_parent

    # From the start: one that has not had a job yet does not know of it by itself.
    context = multiprocessing.get_context("spawn")
    return partial(ProcessPoolExecutor, count, mp_context=context, initializer=end_with_parent)


@contextmanager
def kept_so_far(
    arguments: argparse.Namespace, place: tuple[str, str], symbols: list[str]
) -> Iterator[None]:
    """Let an interruption say how far the bars are kept."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            for words in frontiers(arguments, place, symbols):
                say(words)
            say("the same command goes on from there")
        except CacheError as error:
            # The interruption is what ends the command; what is kept, is kept.
            say(words_of(error))
        raise


def frontiers(
    arguments: argparse.Namespace, place: tuple[str, str], symbols: list[str]
) -> Iterator[str]:
    """For each symbol and threshold the last day that is kept of what was asked for."""
    from rangebar_polars.clickhouse.open import reading
    from rangebar_polars.clickhouse.query.units import read_chains

    source, market = place
    specs = [
        BarSpec.of(name, dbps, source=source, market=market, reset=arguments.reset)
        for name in symbols
        for dbps in thresholds(arguments)
    ]
    with reading(arguments.dsn, cache_dir=arguments.cache_dir) as cache:
        chains = {} if cache is None else read_chains(cache, specs)
    first = parse_day(arguments.start)
    for spec in specs:
        mine = [chain for series, chain in chains.items() if series.spec == spec]
        days = [u.day for chain in mine for u in chain.units if u.day >= first]
        what = f"{spec.symbol} at {spec.threshold} dbps"
        if days:
            yield f"kept of {what}: {len(set(days)):,} days, the last is {max(days)}"
        else:
            yield f"nothing is kept of {what} yet"
