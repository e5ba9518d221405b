"""What is visible of a cache that is held open, read anew only after it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.clickhouse.query.units import read_chains

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.connection.client import Cache

    _Chains: TypeAlias = Mapping[BarSeries, Chain]

__all__ = ["ChainCache", "recall_chains"]

#: Families, or segments of them, of which the chains are kept; a year takes a fifth of a megabyte.
_MOST = 16


class ChainCache:
    """Chains by what was asked for, each with the state of the tables that they were read from."""

    def __init__(self) -> None:
        self._kept: dict[object, tuple[int, _Chains] | None] = {}

    def chains(
        self, cache: Cache, spec: BarSpec, segment_starts: Collection[date] | None
    ) -> _Chains:
        """The chains of a family in some segments, or in all."""
        asked = (spec, None if segment_starts is None else frozenset(segment_starts))
        if asked not in self._kept:
            # Most calls ask once and close the cache: they would look at its state for nothing.
            self._keep(asked, None)
            return read_chains(cache, [spec], segment_starts=segment_starts)
        kept, state = self._kept.get(asked), _state(cache)
        if kept is not None and kept[0] == state:
            return kept[1]
        found = read_chains(cache, [spec], segment_starts=segment_starts)
        # Of what was there before they were read: a change in between makes the next call read.
        self._keep(asked, (state, found))
        return found

    def _keep(self, asked: object, found: tuple[int, _Chains] | None) -> None:
        self._kept = {**dict(list(self._kept.items())[1 - _MOST :]), asked: found}


def recall_chains(
    cache: Cache, spec: BarSpec, segment_starts: Collection[date] | None = None
) -> _Chains:
    """The chains of one family as they are now, as `read_chains` gives them.

    Who reads from a folder that is held open gets those of the last time for as long as no row
    was added or removed. A server may not show everyone the state of its tables, and is asked.
    """
    if not cache.is_embedded:
        return read_chains(cache, [spec], segment_starts=segment_starts)
    return cache.memory.chains(cache, spec, segment_starts)


def _state(cache: Cache) -> int:
    """A number that is another one after any change of the tables that tell what is visible."""
    part = "path, modification_time, bytes_on_disk, hash_of_all_files"
    return int(
        cache.scalar(
            f"SELECT sum(cityHash64({part})) FROM system.parts "  # noqa: S608
            f"WHERE database = {literal(cache.database)} AND table IN ('units', 'generations') "
            "AND active"
        )
    )
