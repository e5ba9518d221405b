"""What is said when a read asks for more than may be computed, or for what has changed."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import words_of_days
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.readers.coverage import stale_units
from rangebar_polars.sources import DEFAULT_MARKET, DEFAULT_SOURCE
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.units import Unit
    from rangebar_polars.readers.request import ReadOptions, ReadRequest

__all__ = [
    "absence_note",
    "commands",
    "counted",
    "hole_note",
    "populate_line",
    "populate_line_of",
    "stale_notes",
    "stale_notes_of",
]


def populate_line_of(spec: BarSpec, access: ReadOptions, first: date, last: date) -> str:
    """The call that keeps bars of these days where a read looks for them.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.readers.request import ReadOptions
    >>> from rangebar_polars.readers.hints import populate_line_of
    >>> spec = BarSpec.of("BTCUSDT", 500, reset="month")
    >>> print(populate_line_of(spec, ReadOptions(), date(2024, 1, 1), date(2024, 6, 30)))
    rb.populate_cache_resumable("BTCUSDT", "2024-01-01", "2024-06-30", \
threshold_decimal_bps=500, ouroboros="month")
    """
    return populate_line(spec, first, last, cache_dir=access.cache_dir, dsn=access.dsn)


def hole_note(wanted: ReadRequest, days: Sequence[date]) -> str:
    """What is to be said of days between bars that are not kept; they are in order."""
    access = wanted.access
    return absence_note(wanted.asked.spec, days, cache_dir=access.cache_dir, dsn=access.dsn)


def stale_notes_of(wanted: ReadRequest, units: Sequence[Unit]) -> list[str]:
    """What is to be said of units whose ticks have changed since."""
    return stale_notes(wanted.asked.spec, units, wanted.access.cache_dir)


# Not a variable of a context: a plan may be carried out by threads that do not have it.
_names_commands = False


@contextmanager
def commands() -> Iterator[None]:
    """Have remedies name commands of the shell, as long as it lasts, and not calls of Python."""
    global _names_commands  # noqa: PLW0603
    before, _names_commands = _names_commands, True
    try:
        yield
    finally:
        _names_commands = before


def counted(count: int, noun: str) -> str:
    """A number with what is counted.

    Examples
    --------
    >>> from rangebar_polars.readers.hints import counted
    >>> counted(1, "day"), counted(2_000, "day")
    ('1 day', '2,000 days')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def populate_line(
    spec: BarSpec,
    first: date,
    last: date,
    *,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> str:
    """The call that keeps bars of these days where a read looks for them.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.readers.hints import commands, populate_line
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> spec = BarSpec.of("BTCUSDT", 500, reset="month")
    >>> print(populate_line(spec, date(2024, 1, 1), date(2024, 6, 30)))
    rb.populate_cache_resumable("BTCUSDT", "2024-01-01", "2024-06-30", \
threshold_decimal_bps=500, ouroboros="month")
    >>> with commands():
    ...     print(populate_line(spec, date(2024, 1, 1), date(2024, 6, 30)))
    rangebar populate BTCUSDT -s 2024-01-01 -e 2024-06-30 -t 500 --reset month
    """
    places = {
        "cache_dir": None if cache_dir is None else str(cache_dir),
        # Not what it says of a user and a password.
        "dsn": None if dsn is None else resolve(dsn).address,
    }
    # No command has an option for the other way of closing.
    if _names_commands and spec.rules.prevent_same_timestamp_close:
        return _command(spec, first, last, places)
    given = {
        "threshold_decimal_bps": (spec.threshold, 250),
        "ouroboros": (spec.reset, "year"),
        "prevent_same_timestamp_close": (spec.rules.prevent_same_timestamp_close, True),
        "source": (spec.source, DEFAULT_SOURCE),
        "market": (spec.market, DEFAULT_MARKET),
        **{name: (place, None) for name, place in places.items()},
    }
    words = [_word(value) for value in (spec.symbol, str(first), str(last))]
    words += [f"{name}={_word(value)}" for name, (value, usual) in given.items() if value != usual]
    return f"rb.populate_cache_resumable({', '.join(words)})"


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _command(spec: BarSpec, first: date, last: date, places: dict[str, str | None]) -> str:
    words = ["rangebar", "populate", spec.symbol, "-s", str(first), "-e", str(last)]
    entry = get_symbol_entries().get(spec.symbol)
    # A command takes what the registry says of the symbol.
    home = (DEFAULT_SOURCE, DEFAULT_MARKET) if entry is None else (entry.exchange, entry.market)
    is_home = (spec.source, spec.market) == home
    given = {
        "-t": (str(spec.threshold), "250"),
        "--reset": (spec.reset, "year"),
        "--source": (None if is_home else spec.source, None),
        "--market": (None if is_home else spec.market, None),
        "--cache-dir": (places["cache_dir"], None),
        "--dsn": (places["dsn"], None),
    }
    for option, (value, usual) in given.items():
        if value is not None and value != usual:
            words += [option, value]
    return shlex.join(words)


def absence_note(
    spec: BarSpec,
    days: Sequence[date],
    *,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> str:
    """What is to be said of days that are not kept; they are in order."""
    are = "is" if len(days) == 1 else "are"
    sentence = (
        f"bars of {spec.symbol} at {spec.threshold} dbps: {counted(len(days), 'day')} {are} not "
        f"kept: {words_of_days(days)}"
    )
    line = populate_line(spec, days[0], days[-1], cache_dir=cache_dir, dsn=dsn)
    return with_hint(sentence, line)


def stale_notes(
    spec: BarSpec, units: Sequence[Unit], cache_dir: Path | str | None = None
) -> list[str]:
    """What is to be said of units of a family whose ticks have changed since."""
    place = f"bars of {spec.symbol} at {spec.threshold} dbps"
    try:
        stale = stale_units(units, cache_dir)
    except StorageError as error:
        return [f"{place}: nobody knows whether their ticks have changed: {error}"]
    if not stale:
        return []
    days = words_of_days(unit.day for unit in stale)
    sentence = f"{place}: the store has other ticks by now of {counted(len(stale), 'day')}: {days}"
    remedy = "populate_cache_resumable(..., refresh_stale=True) builds them again"
    return [with_hint(sentence, remedy)]
