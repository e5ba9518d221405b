"""Arguments that commands share: symbol, venue, thresholds and cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import either, most_similar
from rangebar_polars.cli._output import UsageError
from rangebar_polars.exceptions import ThresholdError, with_hint
from rangebar_polars.sources import (
    DEFAULT_MARKET,
    DEFAULT_SOURCE,
    SOURCES,
    Venue,
    canonical_market,
    canonical_symbol,
    market_names,
)
from rangebar_polars.symbol_registry import get_symbol_entries
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from rangebar_polars.cli._output import Verbs

__all__ = [
    "DEFAULT_THRESHOLD",
    "INCOMPLETE",
    "THRESHOLD_HELP",
    "add_action",
    "add_cache_arguments",
    "add_cache_dir_argument",
    "add_feature_arguments",
    "add_quiet_argument",
    "add_threshold_argument",
    "add_venue_arguments",
    "cache_arguments",
    "check_source",
    "misspelt_source",
    "parsed",
    "symbol_of",
    "threshold",
    "venue_of",
    "venues_of",
]


if TYPE_CHECKING:
    ValueT = TypeVar("ValueT")


#: Exit status of a command that has not done everything.
INCOMPLETE = 1


DEFAULT_THRESHOLD = 250


#: How similar a name must be to that of a source to be taken for a misspelling.
SIMILAR_SOURCE = 0.8


THRESHOLD_HELP = "250 (decimal basis points), 0.25%%, 25bp or a preset"


def parsed(parse: Callable[..., ValueT], *arguments: Any) -> ValueT:  # noqa: ANN401
    """Parse arguments with a function; turn a ValueError into a usage error."""
    try:
        return parse(*arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error


def threshold(text: str) -> int:
    """Parse a threshold."""
    number: Any = text  # the error for a fraction suggests the number of dbps
    if text.replace(".", "", 1).isdecimal():
        number = float(text) if "." in text else int(text)
    try:
        return parse_threshold(number)
    except ThresholdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _thresholds(text: str) -> list[int]:
    """Parse thresholds separated by commas."""
    return [threshold(part.strip()) for part in text.split(",")]


def symbol_of(text: str) -> str:
    """Return a symbol in upper case."""
    return parsed(canonical_symbol, text)


def venue_of(symbol: str, source: str | None, market: str | None) -> Venue:
    """Return the venue that the options name, by default that of the registry."""
    entry = get_symbol_entries().get(symbol)
    name = source or (entry.exchange if entry else DEFAULT_SOURCE)
    is_registered = entry is not None and name.lower() == entry.exchange
    default = entry.market if entry is not None and is_registered else DEFAULT_MARKET
    return parsed(canonical_market, name, market or default)


def venues_of(source: str | None, market: str | None, stored: Sequence[Venue] = ()) -> list[Venue]:
    """Return all venues, or those of a source, a market or both. `stored` adds user sources."""
    if source is not None:
        # Checks a market that another source may have.
        venue = parsed(canonical_market, source, market or DEFAULT_MARKET)
        if market is not None:
            return [venue]
        source = venue.source
    known = [Venue(name, of_name) for name, row in SOURCES.items() for of_name in row.market_names]
    venues = [*known, *(venue for venue in stored if venue not in known)]
    if market is not None and market.lower() not in {venue.market for venue in venues}:
        market = parsed(canonical_market, source or DEFAULT_SOURCE, market).market
    return [
        venue
        for venue in venues
        if source in (None, venue.source) and (market is None or market.lower() == venue.market)
    ]


def add_venue_arguments(command: argparse._ActionsContainer) -> None:
    """Add the options for source and market."""
    command.add_argument(
        "--source", help=f"{either(SOURCES)}, or one of your own (default: from the registry)"
    )
    command.add_argument(
        "--market",
        help=f"{either(market_names())}, or one of your own source (default: from the registry)",
    )
    command.add_argument(
        "--own-source",
        action="store_true",
        help="--source is your own, although its name is nearly that of another one",
    )


def check_source(arguments: argparse.Namespace) -> None:
    """Refuse the name of a user source that is probably a misspelling of a source of the package.

    A source that has ticks in the store, or a symbol in the registry, is not asked about.
    """
    name = getattr(arguments, "source", None)
    if name is None:
        return
    near = misspelt_source(name)
    if near is None or arguments.own_source or _is_used(name.lower(), arguments.cache_dir):
        return
    sentence = f"there is no source `{name}`; did you mean `{near}`?"
    hint = f"--source {near}; or, if `{name}` is a source of your own, add --own-source once"
    raise UsageError(with_hint(sentence, hint))


def misspelt_source(name: str) -> str | None:
    """Return the source of the package that a name is probably a misspelling of.

    A longer name that contains it, such as `binance-us`, is not a misspelling.

    Examples
    --------
    >>> from rangebar_polars.cli._arguments import misspelt_source
    >>> [misspelt_source(name) for name in ("exnes", "Binanec", "kraken", "binance-us", "exness")]
    ['exness', 'binance', None, None, None]
    """
    text = name.strip().lower()
    if text in SOURCES or any(known in text and len(text) > len(known) + 1 for known in SOURCES):
        return None
    return most_similar(text, SOURCES, SIMILAR_SOURCE)


def _is_used(source: str, cache_dir: Path | None) -> bool:
    """Return whether a user source is known from the registry or from the tick store."""
    from rangebar_polars.storage.parquet import TickStorage

    if any(entry.exchange == source for entry in get_symbol_entries().values()):
        return True
    return any(venue.source == source for venue in TickStorage(cache_dir).list_venues())


def add_threshold_argument(command: argparse._ActionsContainer, *, default: str) -> None:
    """Add the option for thresholds; `default` describes its default in the help text."""
    command.add_argument(
        "-t", "--threshold",
        action="extend",
        type=_thresholds,
        metavar="T",
        help=f"{THRESHOLD_HELP}; separate several with commas, or repeat the option "
        f"(default: {default})",
    )  # fmt: skip


def add_feature_arguments(command: argparse._ActionsContainer, text: str) -> None:
    """Add the options for feature groups and the window of look-back columns."""
    command.add_argument("--features", action="append", metavar="NAME", help=text)
    command.add_argument(
        "--lookback",
        metavar="WINDOW",
        help="window of look-back columns: records (200), bars (3bars) or time (5m) (default: that "
        "of the cached bars, else 200)",
    )


def add_cache_arguments(command: argparse._ActionsContainer) -> None:
    """Add the options for the address of the cache and the cache folder."""
    command.add_argument(
        "--dsn",
        metavar="URL",
        help="address of the bar cache, such as http://host:8123 (default: "
        "RANGEBAR_CLICKHOUSE_DSN, else a local folder)",
    )
    add_cache_dir_argument(command)


def add_cache_dir_argument(command: argparse._ActionsContainer) -> None:
    """Add the option for the cache folder."""
    command.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder of the tick store and of an embedded bar cache (default: RANGEBAR_CACHE_DIR, "
        "else the platform's cache folder)",
    )


def add_action(
    actions: Verbs, name: str, text: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    """Add an action with its help text and the function that runs it."""
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    action.set_defaults(run=run)
    return action


def add_quiet_argument(command: argparse._ActionsContainer) -> None:
    """Add the option that holds messages back unless the command fails."""
    command.add_argument("--quiet", action="store_true", help="print nothing on success")


def cache_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options for the cache as keyword arguments."""
    return {"cache_dir": arguments.cache_dir, "dsn": arguments.dsn}
