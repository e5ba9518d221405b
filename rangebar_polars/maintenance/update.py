"""Upkeep of the bar cache: what is kept goes on to the newest day, and is built anew for a new rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.span import ONE_DAY, day_start, parse_day
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.open import open_cache, reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.clickhouse.schema.migrate import migrate
from rangebar_polars.exceptions import (
    CacheError,
    CoverageError,
    MissingExtraError,
    PopulationError,
    RangeBarError,
    nearest,
    with_hint,
)
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.maintenance.tasks import errands_of_update, errands_of_upgrade
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.sources import canonical_symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor
    from datetime import date
    from pathlib import Path

    from rangebar_polars._utils.span import When
    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.ingest.newest_day import Clamp
    from rangebar_polars.maintenance.tasks import PopulateTask
    from rangebar_polars.populate.report import PopulateReport

__all__ = ["UpkeepReport", "update", "upgrade"]


@dataclass(slots=True)
class UpkeepReport:
    """What an upkeep did, errand by errand."""

    #: Version that the tables had; None where they were not looked at.
    schema_version: int | None = None
    done: list[PopulateReport] = field(default_factory=list)
    #: Errands for which there is no day to do.
    current: list[PopulateTask] = field(default_factory=list)
    #: By symbol, the newest day that is known, where the source gave no answer and the day asked
    #: for, or yesterday, is not reached.
    unanswered: dict[str, Clamp] = field(default_factory=dict)
    failed: list[tuple[PopulateTask, RangeBarError]] = field(default_factory=list)
    #: Series that cannot be built anew, and why.
    left: list[tuple[BarSeries, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """Lines for a person."""
        lines = [str(report) for report in self.done]
        lines += [self._words_of(errand) for errand in self.current]
        lines += [f"{series}: left as it is, {reason}" for series, reason in self.left]
        lines += [f"{errand}: failed, {_sentence(error)}" for errand, error in self.failed]
        return "\n".join(lines) or "nothing is kept"

    def _words_of(self, errand: PopulateTask) -> str:
        if errand.symbol in self.unanswered:
            clamp = self.unanswered[errand.symbol]
            return f"{errand.symbol}: nothing newer to go on with ({clamp.why})"
        return f"{errand.symbol}: up to date"


def update(
    symbols: Sequence[str] = (),
    *,
    thresholds: Sequence[int] = (),
    end_date: When | None = None,
    notify: bool = True,
    verbose: bool = True,
    executor: Executor | Callable[[], Executor] | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> UpkeepReport:
    """Go on with what is kept to the newest day there is.

    Of each symbol, threshold, reset mode and configuration, the earliest-anchored series at the
    furthest frontier of the newest segment goes on, through resets. Older segments are left alone.

    Parameters
    ----------
    symbols, thresholds
        Only these; all that are kept by default.
    end_date
        The last day; the newest whole one by default.
    notify, verbose, executor
        As for `populate_cache_resumable`.
    cache_dir, dsn
        Which cache.

    Raises
    ------
    CoverageError
        Nothing is kept of one of the symbols.
    PopulationError
        Something could not be done; the rest was, and `report` says what.
    CacheUnavailableError
        The cache cannot be reached.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.update import update
    >>> print(update(cache_dir=mkdtemp()))
    nothing is kept
    """
    chains = _kept(symbols, thresholds, cache_dir=cache_dir, dsn=dsn)
    last_day = None if end_date is None else parse_day(end_date, "end_date")
    report = UpkeepReport()
    places = {"cache_dir": cache_dir, "dsn": dsn}
    options = {"notify": notify, "verbose": verbose, "executor": executor, **places}
    newest = _Newest(last_day, cache_dir)

    def populate(errand: PopulateTask) -> None:
        clamp = newest.of(errand)
        day = clamp.day
        if not clamp.is_certain and errand.start <= day_start(newest.wanted):
            report.unanswered[errand.symbol] = clamp
        if day_start(day) < errand.start:
            report.current.append(errand)
        else:
            report.done.append(_populate(errand, day, options))

    _run(report, errands_of_update(chains), populate)
    return report


def upgrade(
    *,
    notify: bool = True,
    verbose: bool = True,
    executor: Executor | Callable[[], Executor] | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> UpkeepReport:
    """Bring the tables to this version, and build series anew that were computed by another rule.

    What is built anew stands beside the old series, which only `drop` removes.

    Parameters
    ----------
    notify, verbose, executor
        As for `populate_cache_resumable`.
    cache_dir, dsn
        Which cache.

    Raises
    ------
    CacheSchemaError
        The tables are of a newer version than this package.
    PopulationError
        Something could not be done; the rest was, and `report` says what.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.update import upgrade
    >>> print(upgrade(cache_dir=mkdtemp()))
    nothing is kept
    """
    target = resolve(dsn, cache_dir)
    report = UpkeepReport()
    if target.folder is not None and not target.folder.is_dir():
        return report
    with open_cache(dsn, cache_dir=cache_dir) as cache:
        report.schema_version = migrate(cache)
        chains = read_chains(cache)
    errands, report.left = errands_of_upgrade(chains.values())
    places = {"cache_dir": cache_dir, "dsn": dsn}
    options = {"notify": notify, "verbose": verbose, "executor": executor, **places}

    def populate(errand: PopulateTask) -> None:
        assert errand.last_day is not None  # noqa: S101
        report.done.append(_populate(errand, errand.last_day, options))

    _run(report, errands, populate)
    return report


def _kept(
    symbols: Sequence[str],
    thresholds: Sequence[int],
    *,
    cache_dir: Path | str | None,
    dsn: str | None,
) -> list[Chain]:
    """Chains that are kept of some symbols and thresholds, or of all."""
    with reading(dsn, cache_dir=cache_dir) as cache:
        chains = [] if cache is None else [c for c in read_chains(cache).values() if c.units]
    names = {canonical_symbol(symbol) for symbol in symbols}
    kept = {chain.series.spec.symbol for chain in chains}
    for name in sorted(names - kept):
        near = nearest(name, kept)
        hint = f"did you mean `{near}`?" if near else f"rangebar populate {name} --start 2024-01-01"
        raise CoverageError(with_hint(f"the cache keeps no bars of `{name}`", hint), symbol=name)
    return [
        chain
        for chain in chains
        if (not names or chain.series.spec.symbol in names)
        and (not thresholds or chain.series.spec.threshold in thresholds)
    ]


class _Newest:
    """The newest day of each symbol, asked for once."""

    def __init__(self, last_day: date | None, cache_dir: Path | str | None) -> None:
        self.last_day = last_day
        self.cache_dir = cache_dir
        self.known: dict[tuple[str, str, str], Clamp] = {}
        yesterday = datetime.now(UTC).date() - ONE_DAY
        #: The last day that may be there.
        self.wanted = yesterday if last_day is None else min(last_day, yesterday)

    def of(self, errand: PopulateTask) -> Clamp:
        """The last day to do."""
        key = (errand.source, errand.market, errand.symbol)
        if key not in self.known:
            self.known[key] = newest_day(
                errand.symbol,
                self.last_day,
                source=errand.source,
                market=errand.market,
                cache_dir=self.cache_dir,
            )
        return self.known[key]


def _populate(errand: PopulateTask, last_day: date, options: dict[str, Any]) -> PopulateReport:
    return populate_cache_resumable(
        errand.symbol,
        errand.start,
        last_day,
        threshold_decimal_bps=list(errand.thresholds),
        ouroboros=errand.reset,
        prevent_same_timestamp_close=errand.prevent_same_timestamp_close,
        source=errand.source,
        market=errand.market,
        **options,
    )


def _run(
    report: UpkeepReport, errands: Sequence[PopulateTask], act: Callable[[PopulateTask], None]
) -> None:
    """Do every errand; one that fails does not keep the others from being done."""
    for errand in errands:
        try:
            act(errand)
        except (CacheError, MissingExtraError):
            raise
        except RangeBarError as error:
            report.failed.append((errand, error))
    if report.failed:
        failed, cause = report.failed[0]
        raise PopulationError(
            with_hint(
                f"{len(report.failed)} of {len(errands)} populations failed, the first of "
                f"`{failed.symbol}`: {_sentence(cause)}",
                "what was published is kept; the same call goes on from there",
            ),
            report=report,
            symbol=failed.symbol,
            days=getattr(cause, "days", ()),
        ) from cause


def _sentence(error: RangeBarError) -> str:
    return str(error).partition("\n")[0]
