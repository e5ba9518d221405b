"""What commands are asked for: symbols, markets, days, thresholds, and which cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import either
from rangebar_polars.cli._output import UsageError
from rangebar_polars.exceptions import ThresholdError
from rangebar_polars.sources import (
    DEFAULT_MARKET,
    DEFAULT_SOURCE,
    SOURCES,
    canonical_market,
    canonical_symbol,
    market_names,
)
from rangebar_polars.symbol_registry import get_symbol_entries
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from rangebar_polars.cli._output import Verbs

__all__ = [
    "DEFAULT_THRESHOLD",
    "STOPPED",
    "THRESHOLD_HELP",
    "add_action",
    "add_cache_arguments",
    "add_place_arguments",
    "add_threshold_argument",
    "cache_arguments",
    "judged",
    "place_of",
    "places_of",
    "symbol_of",
    "threshold",
]


if TYPE_CHECKING:
    ValueT = TypeVar("ValueT")


DEFAULT_THRESHOLD = 250


THRESHOLD_HELP = "250 (decimal basis points), 0.25%%, 25bp or a preset"


def judged(judge: Callable[..., ValueT], *words: Any) -> ValueT:  # noqa: ANN401
    """What a function makes of the words of the call; what it refuses is a wrong call."""
    try:
        return judge(*words)
    except ValueError as error:
        raise UsageError(str(error)) from error


def threshold(text: str) -> int:
    """Threshold as it was typed."""
    number: Any = text  # a fraction is refused with the whole number that is meant
    if text.replace(".", "", 1).isdecimal():
        number = float(text) if "." in text else int(text)
    try:
        return parse_threshold(number)
    except ThresholdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _thresholds(text: str) -> list[int]:
    """Thresholds of a list with commas."""
    return [threshold(part.strip()) for part in text.split(",")]


def symbol_of(text: str) -> str:
    """Symbol in its usual letter case."""
    return judged(canonical_symbol, text)


def place_of(symbol: str, source: str | None, market: str | None) -> tuple[str, str]:
    """Source and market that were given, else those of the registry."""
    entry = get_symbol_entries().get(symbol)
    origin = source or (entry.exchange if entry else DEFAULT_SOURCE)
    is_at_home = entry is not None and origin.lower() == entry.exchange
    own = entry.market if entry is not None and is_at_home else DEFAULT_MARKET
    return judged(canonical_market, origin, market or own)


def places_of(source: str | None, market: str | None) -> list[tuple[str, str]]:
    """All markets, or those of a source, or those of a name."""
    if source is not None:
        source, _ = judged(canonical_market, source, DEFAULT_MARKET)
    if market is not None:
        _, market = judged(canonical_market, source or DEFAULT_SOURCE, market)
    every = [(origin, place) for origin, row in SOURCES.items() for place in row.market_names]
    return [(a, b) for a, b in every if source in (None, a) and market in (None, b)]


def add_place_arguments(command: argparse._ActionsContainer) -> None:
    """Source and market."""
    command.add_argument("--source", help=f"{either(SOURCES)} (default: that of the registry)")
    command.add_argument(
        "--market", help=f"{either(market_names())} (default: that of the registry)"
    )


def add_threshold_argument(command: argparse._ActionsContainer, *, default: str) -> None:
    """Thresholds; `default` says what holds where none is given."""
    command.add_argument(
        "-t", "--threshold",
        action="extend",
        type=_thresholds,
        metavar="T",
        help=f"{THRESHOLD_HELP}; several with commas or repeated (default: {default})",
    )  # fmt: skip


def add_cache_arguments(command: argparse._ActionsContainer) -> None:
    """Which cache, and the folder of both caches."""
    command.add_argument(
        "--dsn",
        metavar="URL",
        help="ClickHouse server that keeps the bars (default: RANGEBAR_CLICKHOUSE_DSN, else a "
        "folder of this machine)",
    )
    command.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="folder of the ticks, and of the bars without a server (default: RANGEBAR_CACHE_DIR)",
    )


STOPPED = 1


def add_action(
    actions: Verbs, name: str, does: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    action.set_defaults(run=run)
    return action


def cache_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"cache_dir": arguments.cache_dir, "dsn": arguments.dsn}
