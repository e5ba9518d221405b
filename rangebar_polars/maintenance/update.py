"""Extend cached bars to the newest day, and rebuild bars of another rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
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
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.ingest.newest_day import newest_day
from rangebar_polars.maintenance.tasks import update_tasks, upgrade_tasks
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
    from rangebar_polars.sources import Venue

__all__ = ["UpdateReport", "update", "upgrade"]


@dataclass(slots=True)
class UpdateReport:
    """The outcome of an update or an upgrade, task by task."""

    #: Version that the tables had; None for an update, which does not check it.
    schema_version: int | None = None
    done: list[PopulateReport] = field(default_factory=list)
    #: Tasks without a day to populate.
    current: list[PopulateTask] = field(default_factory=list)
    #: By symbol, the newest known day, if the source gave no answer and that day is earlier than
    #: the requested one or yesterday.
    unanswered: dict[str, Clamp] = field(default_factory=dict)
    failed: list[tuple[PopulateTask, RangeBarError]] = field(default_factory=list)
    #: Series that cannot be rebuilt, and why.
    skipped: list[tuple[BarSeries, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        counts = f"{len(self.done):,} updated, {len(self.current):,} up to date"
        return f"<{type(self).__name__}: {counts}, {len(self.failed):,} failed>"

    def __str__(self) -> str:
        lines = [str(report) for report in self.done]
        lines += [self._describe_current(task) for task in self.current]
        lines += [f"{series}: skipped, {reason}" for series, reason in self.skipped]
        lines += [f"{task}: failed, {first_line(error)}" for task, error in self.failed]
        return "\n".join(lines) or "no bars are cached"

    def _describe_current(self, task: PopulateTask) -> str:
        if task.symbol in self.unanswered:
            clamp = self.unanswered[task.symbol]
            return f"{task.symbol}: no newer day is known ({clamp.why})"
        return f"{task.symbol}: up to date"


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
) -> UpdateReport:
    """Extend cached bars to the newest day.

    For each venue, symbol, threshold, reset mode and configuration, the earliest-anchored series
    at the furthest frontier of its newest segment is extended, through resets. Older segments are
    left alone.

    Parameters
    ----------
    symbols, thresholds
        Only these; by default everything that is cached.
    end_date
        The last day; by default the newest whole day.
    notify, verbose, executor
        As for `populate_cache_resumable`.
    cache_dir, dsn
        The cache to update.

    Raises
    ------
    CoverageError
        The cache has no bars of one of the symbols.
    PopulationError
        A population failed. All others were run; `report` lists the outcome.
    CacheUnavailableError
        The cache cannot be reached.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.update import update
    >>> print(update(cache_dir=mkdtemp()))
    no bars are cached
    """
    chains = _stored_chains(symbols, thresholds, cache_dir=cache_dir, dsn=dsn)
    last_day = None if end_date is None else parse_day(end_date, "end_date")
    report = UpdateReport()
    options = {
        "notify": notify,
        "verbose": verbose,
        "executor": executor,
        "cache_dir": cache_dir,
        "dsn": dsn,
    }
    newest = _NewestDays(last_day, cache_dir)

    def populate(task: PopulateTask) -> None:
        clamp = newest.of(task)
        if not clamp.is_certain and task.start <= day_start(newest.latest):
            report.unanswered[task.symbol] = clamp
        if day_start(clamp.day) < task.start:
            report.current.append(task)
        else:
            report.done.append(_populate(task, clamp.day, options))

    _run(report, update_tasks(chains), populate)
    return report


def upgrade(
    *,
    notify: bool = True,
    verbose: bool = True,
    executor: Executor | Callable[[], Executor] | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> UpdateReport:
    """Migrate the tables to this version, and rebuild outdated series.

    Series of another bar rule stay beside the rebuilt ones until `drop` removes them. A series of
    which some days lack an optional feature group of the others is rebuilt with it.

    Parameters
    ----------
    notify, verbose, executor
        As for `populate_cache_resumable`.
    cache_dir, dsn
        The cache to upgrade.

    Raises
    ------
    CacheSchemaError
        A newer version of the package made the tables.
    PopulationError
        A population failed. All others were run; `report` lists the outcome.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.update import upgrade
    >>> print(upgrade(cache_dir=mkdtemp()))
    no bars are cached
    """
    target = resolve(dsn, cache_dir)
    report = UpdateReport()
    if target.folder is not None and not target.folder.is_dir():
        return report
    with open_cache(dsn, cache_dir=cache_dir) as cache:
        report.schema_version = migrate(cache)
        chains = read_chains(cache)
    tasks, report.skipped = upgrade_tasks(chains.values())
    options = {
        "notify": notify,
        "verbose": verbose,
        "executor": executor,
        "cache_dir": cache_dir,
        "dsn": dsn,
    }

    def populate(task: PopulateTask) -> None:
        assert task.last_day is not None  # noqa: S101
        report.done.append(_populate(task, task.last_day, options))

    _run(report, tasks, populate)
    return report


def _stored_chains(
    symbols: Sequence[str],
    thresholds: Sequence[int],
    *,
    cache_dir: Path | str | None,
    dsn: str | None,
) -> list[Chain]:
    """Read the chains of some symbols and thresholds, or of all."""
    with reading(dsn, cache_dir=cache_dir) as cache:
        chains = [] if cache is None else [c for c in read_chains(cache).values() if c.units]
    names = {canonical_symbol(symbol) for symbol in symbols}
    stored = {chain.series.spec.symbol for chain in chains}
    for name in sorted(names - stored):
        near = nearest(name, stored)
        hint = f"did you mean `{near}`?" if near else f"rangebar populate {name} --start 2024-01-01"
        raise CoverageError(with_hint(f"the cache has no bars of `{name}`", hint), symbol=name)
    return [
        chain
        for chain in chains
        if (not names or chain.series.spec.symbol in names)
        and (not thresholds or chain.series.spec.threshold in thresholds)
    ]


class _NewestDays:
    """The newest day of each symbol; each is looked up once."""

    def __init__(self, last_day: date | None, cache_dir: Path | str | None) -> None:
        self._last_day = last_day
        self._cache_dir = cache_dir
        self._known: dict[tuple[Venue, str], Clamp] = {}
        yesterday = clock.utc_now().date() - ONE_DAY
        #: The latest day that can exist.
        self.latest = yesterday if last_day is None else min(last_day, yesterday)

    def of(self, task: PopulateTask) -> Clamp:
        """Return the last day of a task."""
        key = (task.venue, task.symbol)
        if key not in self._known:
            self._known[key] = newest_day(
                task.symbol,
                self._last_day,
                # The day before is cached: if there is no newer one, the bars are up to date.
                first_day=task.start.date() - ONE_DAY,
                venue=task.venue,
                cache_dir=self._cache_dir,
            )
        return self._known[key]


def _populate(task: PopulateTask, last_day: date, options: dict[str, Any]) -> PopulateReport:
    return populate_cache_resumable(
        task.symbol,
        task.start,
        last_day,
        threshold_decimal_bps=list(task.thresholds),
        ouroboros=task.reset,
        prevent_same_timestamp_close=task.prevent_same_timestamp_close,
        features=list(task.features.groups),
        lookback=None if task.features.window is None else str(task.features.window),
        source=task.venue.source,
        market=task.venue.market,
        **options,
    )


def _run(
    report: UpdateReport, tasks: Sequence[PopulateTask], run: Callable[[PopulateTask], None]
) -> None:
    """Run every task, also after one has failed; raise an error at the end if any has."""
    for task in tasks:
        try:
            run(task)
        except (CacheError, MissingExtraError):
            raise
        except RangeBarError as error:
            report.failed.append((task, error))
    if report.failed:
        failed, cause = report.failed[0]
        raise PopulationError(
            with_hint(
                f"{len(report.failed)} of {len(tasks)} populations failed, the first for "
                f"`{failed.symbol}`: {first_line(cause)}",
                "published days are stored; the same call resumes from there",
            ),
            report=report,
            symbol=failed.symbol,
            days=getattr(cause, "days", ()),
        ) from cause
