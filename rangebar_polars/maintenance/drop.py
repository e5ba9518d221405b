"""Remove cached series by symbol, threshold and state."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from rangebar_polars.bar_series.identity import BAR_SEMANTICS
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.commit.leases import refuse_if_at_work
from rangebar_polars.clickhouse.connection.driver import is_disk_full
from rangebar_polars.clickhouse.drop import drop, drop_tables
from rangebar_polars.clickhouse.gc import Removed
from rangebar_polars.clickhouse.open import open_cache, reading
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import CacheWriteError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rangebar_polars.bar_series.identity import BarSeries
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["SeriesFilter", "remove", "remove_tables"]


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Selects the series to remove: those that meet every condition."""

    #: None for every symbol.
    symbol: str | None = None
    #: None for every threshold.
    thresholds: Sequence[int] | None = None
    #: Only series that another one wholly covers.
    is_superseded: bool = False
    #: Only series that another rule computed.
    is_outdated: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether every series is selected."""
        return self == SeriesFilter()

    def select(self, cache: Cache) -> list[BarSeries]:
        """Return the selected series of a cache."""
        chains = read_chains(cache)
        covered = superseded(chains.values()) if self.is_superseded else set(chains)
        return [series for series in chains if series in covered and self._matches(series)]

    def _matches(self, series: BarSeries) -> bool:
        spec = series.spec
        return (
            self.symbol in (None, spec.symbol)
            and (self.thresholds is None or spec.threshold in self.thresholds)
            and (not self.is_outdated or spec.rules.bar_semantics != BAR_SEMANTICS)
        )


def remove(
    series_filter: SeriesFilter,
    *,
    dry_run: bool = False,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> Removed:
    """Remove whole series. The ticks that they were computed from stay.

    Parameters
    ----------
    series_filter
        Selects the series.
    dry_run
        Count what would be removed, and remove nothing.
    cache_dir, dsn
        The cache to remove from.

    Raises
    ------
    LeaseError
        A population is writing one of the series; nothing is removed.
    CacheWriteError
        The disk is full. Removing everything needs no disk space.
    CacheSchemaError
        Another version of the package made the tables; `remove_tables` removes all of them.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.drop import SeriesFilter, remove
    >>> remove(SeriesFilter("BTCUSDT"), cache_dir=mkdtemp()).series
    ()
    """
    with reading(dsn, cache_dir=cache_dir) as cache:
        if cache is None:
            return Removed()
        selected = series_filter.select(cache)
        if not selected:
            return Removed()
        try:
            return drop(cache, selected, dry_run=dry_run)
        except CacheWriteError as error:
            if not (cache.is_embedded and is_disk_full(error)):
                raise
            if not series_filter.is_everything:
                raise _no_room(cache) from error
            refuse_if_at_work({series.lease_key for series in selected}, dsn, cache_dir=cache_dir)
            removed = drop(cache, selected, dry_run=True)
            _drop_tables(cache)
            return removed


def remove_tables(*, cache_dir: Path | str | None = None, dsn: str | None = None) -> None:
    """Remove all tables, whatever their version, so that the cache is empty.

    Leases are not checked, as they may not be readable.
    """
    with open_cache(dsn, cache_dir=cache_dir) as cache:
        _drop_tables(cache)


def _drop_tables(cache: Cache) -> None:
    """Drop all tables, and say what can be done if the disk is full."""
    try:
        drop_tables(cache)
    except CacheWriteError as error:
        if cache.is_embedded and is_disk_full(error):
            raise _no_room(cache) from error
        raise


def _no_room(cache: Cache) -> CacheWriteError:
    """Build the error for a full disk, which names what can still be removed."""
    folder = cache.target.folder
    return CacheWriteError(
        with_hint(
            f"cannot drop bars from `{folder}`: its disk is full, and dropping some of the series "
            "needs disk space",
            "free a few megabytes; or remove all bars, which needs no space: `rangebar cache drop` "
            f"without a symbol, or `rm -r {quote(str(folder))}`. The ticks stay, so that the bars "
            "can be populated again",
        )
    )
