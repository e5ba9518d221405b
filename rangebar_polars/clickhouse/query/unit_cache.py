"""The visible units of an open cache, stored in memory and read again only after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.clickhouse.query.units import read_chains

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.connection.client import Cache

    _Chains: TypeAlias = Mapping[BarSeries, Chain]

__all__ = ["ChainCache", "cached_chains", "forget_chains"]

#: The most queries whose chains are stored. The chains of a year take a fifth of a megabyte.
_MOST = 16


class ChainCache:
    """Chains by query, each with the state of the tables that they were read from."""

    def __init__(self) -> None:
        #: None after the first query, which stores no chains.
        self._entries: dict[object, tuple[int, _Chains] | None] = {}

    def chains(
        self, cache: Cache, spec: BarSpec, segment_starts: Collection[date] | None
    ) -> _Chains:
        """Return the chains of a spec in some segments, or in all."""
        query = (spec, None if segment_starts is None else frozenset(segment_starts))
        if query not in self._entries:
            # Most processes query once and close the cache: the state would be read for nothing.
            self._store(query, None)
            return read_chains(cache, [spec], segment_starts=segment_starts)
        stored, state = self._entries.get(query), _state(cache)
        if stored is not None and stored[0] == state:
            return stored[1]
        found = read_chains(cache, [spec], segment_starts=segment_starts)
        # The state is older than the chains: after a change in between, the next call reads again.
        self._store(query, (state, found))
        return found

    def _store(self, query: object, entry: tuple[int, _Chains] | None) -> None:
        # A new dictionary, as other threads may be reading the old one.
        self._entries = {**dict(list(self._entries.items())[1 - _MOST :]), query: entry}


#: The cache of each open client, which ends with the client.
_CACHES: WeakKeyDictionary[Cache, ChainCache] = WeakKeyDictionary()


def cached_chains(
    cache: Cache, spec: BarSpec, segment_starts: Collection[date] | None = None
) -> _Chains:
    """Return the current chains of one spec, as `read_chains` does.

    An embedded cache that stays open returns the stored chains as long as no row was added or
    removed. A server is always queried, since it may not show every user the state of its tables.
    """
    if not cache.is_embedded:
        return read_chains(cache, [spec], segment_starts=segment_starts)
    chains = _CACHES.get(cache)
    if chains is None:
        chains = _CACHES.setdefault(cache, ChainCache())
    return chains.chains(cache, spec, segment_starts)


def forget_chains(cache: Cache) -> None:
    """Discard the stored chains of a client, after its tables were removed."""
    _CACHES.pop(cache, None)


def _state(cache: Cache) -> int:
    """Return a number that changes with every change of the tables that define what is visible."""
    part = "path, modification_time, bytes_on_disk, hash_of_all_files"
    return int(
        cache.scalar(
            f"SELECT sum(cityHash64({part})) FROM system.parts "  # noqa: S608
            f"WHERE database = {literal(cache.database)} AND table IN ('units', 'generations') "
            "AND active"
        )
    )
