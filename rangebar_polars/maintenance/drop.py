"""Removal of bars that are kept, by what a user knows of them."""

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
    """Which series are to be removed: those for which all of this holds."""

    #: None for every one.
    symbol: str | None = None
    #: None for all.
    thresholds: Sequence[int] | None = None
    #: Only those that another series wholly covers.
    is_superseded: bool = False
    #: Only those that were computed by another rule.
    is_outdated: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == SeriesFilter()

    def among(self, cache: Cache) -> list[BarSeries]:
        """The series of a cache that are meant."""
        chains = read_chains(cache)
        covered = superseded(chains.values()) if self.is_superseded else set(chains)
        return [series for series in chains if series in covered and self._means(series)]

    def _means(self, series: BarSeries) -> bool:
        spec = series.spec
        return (
            self.symbol in (None, spec.symbol)
            and (self.thresholds is None or spec.threshold in self.thresholds)
            and (not self.is_outdated or spec.rules.bar_semantics != BAR_SEMANTICS)
        )


def remove(
    doomed: SeriesFilter,
    *,
    dry_run: bool = False,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> Removed:
    """Remove series wholly; the ticks they were made of stay.

    Parameters
    ----------
    doomed
        Which series.
    dry_run
        Only say what would go.
    cache_dir, dsn
        Which cache.

    Raises
    ------
    LeaseError
        A writer is at work on one of them; nothing is removed.
    CacheWriteError
        The disk is full. To remove everything needs no room.
    CacheSchemaError
        The tables are not those of this version; `remove_tables` removes them all.

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
        found = doomed.among(cache)
        if not found:
            return Removed()
        try:
            return drop(cache, found, dry_run=dry_run)
        except CacheWriteError as error:
            if not (cache.is_embedded and is_disk_full(error)):
                raise
            if not doomed.is_everything:
                raise _no_room(cache) from error
            refuse_if_at_work({one.lease_key for one in found}, dsn, cache_dir=cache_dir)
            removed = drop(cache, found, dry_run=True)
            _drop_tables(cache)
            return removed


def remove_tables(*, cache_dir: Path | str | None = None, dsn: str | None = None) -> None:
    """Remove the tables, of whatever version they are: the cache begins anew.

    Nobody is asked whether a writer is at work, as the leases may not be readable.
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
    """The error of a drop that itself needs room on a full disk, with what can be removed."""
    folder = cache.target.folder
    return CacheWriteError(
        with_hint(
            f"bars cannot be dropped from `{folder}`: its disk is full, and to drop some series "
            "needs room for the others",
            "make a few megabytes of room; or remove all bars, which needs none, with `rangebar "
            f"cache drop`, without a symbol, or by hand: `rm -r {quote(str(folder))}`. Bars can be "
            "populated again from the ticks, which stay",
        )
    )
