"""The last day that a population can have: the newest whole one that there is."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rangebar_polars._utils.span import ONE_DAY, Span, day_start
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    ClockSkewError,
    NoAnswerError,
    with_hint,
)
from rangebar_polars.fetch.registry import archive_probe
from rangebar_polars.sources import canonical_market, canonical_symbol
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.read_plan import covered_days, entries_around
from rangebar_polars.storage.snapshot import SEALED
from rangebar_polars.storage.verify import kept_days

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from rangebar_polars.fetch.source import ArchiveProbe
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["Clamp", "ClampWarning", "newest_day"]

_KEPT = "the tick store holds it"


class ClampWarning(UserWarning):
    """The source could not be asked what its newest day is; the store's is taken."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """The newest whole day up to the one asked for, and why it is that one."""

    day: date
    #: None where the newest of all was asked for.
    requested: date | None
    why: str
    #: False where the source gave no answer, so that there may be a newer day.
    is_certain: bool = True

    @property
    def is_earlier(self) -> bool:
        """Whether the day asked for is not to be had."""
        return self.requested is not None and self.day < self.requested


def newest_day(
    symbol: str,
    last_day: date | None,
    *,
    source: str = "binance",
    market: str = "spot",
    cache_dir: Path | str | None = None,
    now: Callable[[], float] = time.time,
) -> Clamp:
    """The newest whole day up to a day: of the tick store, else of the source's archive.

    The source is asked only where the store does not hold the day asked for, nor yesterday. It is
    asked of one day after another, ten at most, and a day on the way that the store holds will do.

    Parameters
    ----------
    symbol
        A symbol that has passed the gate.
    last_day
        The day asked for; None for the newest of all.
    source, market
        Where it is traded.
    cache_dir
        Folder of the tick store.
    now
        Seconds since 1970 by the clock of this machine; read once for the day it is.

    Raises
    ------
    ArchiveMissingError
        There is no whole day among those that were looked for.
    ClockSkewError
        The answer depends on what day it is, and the source says that the clock is wrong.
    TransientSourceError
        The source gives no answer: with a connection; or without one, and the store holds nothing.
    MissingExtraError
        The source is to be asked, and the extra `fetch` is not installed.

    Examples
    --------
    >>> from datetime import date
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.ingest.newest_day import newest_day
    >>> from rangebar_polars.storage.parquet import TickStorage
    >>> folder = mkdtemp()
    >>> report = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    >>> newest_day("ETHUSDT", date(2024, 8, 8), cache_dir=folder).why
    'the tick store holds it'
    """
    origin, place = canonical_market(source, market)
    name = canonical_symbol(symbol)
    started = now()
    symbol_dir = TickStorage(cache_dir).symbol_dir(name, origin, place)
    yesterday = _day_before(started)
    latest = yesterday if last_day is None else min(last_day, yesterday)
    if _holds(symbol_dir, latest):
        return Clamp(latest, last_day, _KEPT)
    return _Search(
        symbol_dir, archive_probe(name, origin, place, now=now), last_day, started
    ).found()


def _day_before(seconds: float) -> date:
    """Yesterday, UTC, of an instant."""
    return datetime.fromtimestamp(seconds, UTC).date() - ONE_DAY


def _holds(symbol_dir: SymbolDir, day: date) -> bool:
    """Whether the store holds a day to which nothing is to come."""
    span = Span(day_start(day), day_start(day + ONE_DAY))
    return covered_days(symbol_dir, span, entries_around(symbol_dir, span))[0].state in SEALED


@dataclass(frozen=True, slots=True)
class _Search:
    """One search for the newest day, by the time that it was at its start."""

    symbol_dir: SymbolDir
    probe: ArchiveProbe
    requested: date | None
    started: float

    @property
    def latest(self) -> date:
        """The day to begin with."""
        yesterday = _day_before(self.started)
        return yesterday if self.requested is None else min(self.requested, yesterday)

    def found(self) -> Clamp:
        """The newest day."""
        try:
            return self._of_archive()
        except NoAnswerError as error:
            return self._of_store(error)

    def _of_archive(self) -> Clamp:
        """The newest day of the archive, or on the way to it of the store."""
        day = self.latest
        while (self.latest - day).days <= self.probe.patience:
            if _holds(self.symbol_dir, day):
                return Clamp(day, self.requested, _KEPT)
            is_there = self.probe.has(day)
            self._judge_clock()
            if is_there:
                return Clamp(day, self.requested, "the archive has it")
            day = self.probe.before(day)
        raise self._none_error()

    def _judge_clock(self) -> None:
        """Refuse an answer that depends on what day it is, where the clocks may not agree."""
        transport = self.probe.transport
        skew = transport.clock_skew_s
        if skew is None or not transport.is_skewed:
            return
        if self.requested is None or self.requested > self.latest:
            sentence = (
                f"the clock of this machine is `{abs(skew):.0f}` s "
                f"{'ahead of' if skew > 0 else 'behind'} that of `{transport.url}`, so that the "
                "newest day is not certain"
            )
            hint = "let the system set its clock, or ask for an earlier end_date"
            raise ClockSkewError(with_hint(sentence, hint))

    def _of_store(self, error: NoAnswerError) -> Clamp:
        """The newest day that is kept, where nobody can be asked for a newer one."""
        kept = self._newest_kept()
        if kept is None:
            error.add_note(f"the tick store holds no whole day of {self.symbol_dir.label} either")
            raise error
        reason = f"{error}".partition("\n")[0]
        message = with_hint(
            f"the newest day of {self.symbol_dir.label} is taken to be `{kept}`, the newest that the "
            f"tick store holds: {reason}",
            "run it again with a connection for what has come since",
        )
        warnings.warn(message, ClampWarning, stacklevel=2)
        why = f"{_KEPT}; the source gave no answer"
        return Clamp(kept, self.requested, why, is_certain=False)

    def _newest_kept(self) -> date | None:
        """The newest whole day of the store up to the latest that may be."""
        days = (
            day
            for day, entry in kept_days(self.symbol_dir).items()
            if entry.state in SEALED and day <= self.latest
        )
        return max(days, default=None)

    def _none_error(self) -> ArchiveMissingError:
        symbol_dir, kept = self.symbol_dir, self._newest_kept()
        earliest = self.latest - timedelta(days=self.probe.patience)
        sentence = f"the archive has no whole day of {symbol_dir.label} from `{earliest}` to `{self.latest}`"
        hint = "is that its source and market, and is it traded still?"
        if kept is not None:
            hint += f' the tick store holds days up to {kept}: end_date="{kept}"'
        return ArchiveMissingError(
            with_hint(sentence, hint),
            symbol=symbol_dir.symbol,
            day=self.latest,
            url=self.probe.transport.url,
        )
