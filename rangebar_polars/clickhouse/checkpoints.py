"""Copies of the newest units for other programs and for a look; nothing is decided by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.ddl import table
from rangebar_polars.clickhouse.steps import Step, reach
from rangebar_polars.clickhouse.units import where_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.clickhouse.client import Cache
    from rangebar_polars.clickhouse.units import Unit

__all__ = ["write_checkpoints"]


def write_checkpoints(cache: Cache, units: Sequence[Unit]) -> None:
    """Copy units, at most one of a series, to `population_checkpoints`, the database by itself."""
    if not units:
        return
    columns = ", ".join(name for name in table("population_checkpoints").types)
    copied = columns.removesuffix("updated_us")
    for where in where_units(units):
        cache.command(
            f"INSERT INTO {cache.table('population_checkpoints')} ({columns}) "  # noqa: S608
            f"SELECT {copied}toUnixTimestamp64Micro(now64(6)) FROM {cache.table('units')} "
            f"WHERE {where}"
        )
    reach(Step.CHECKPOINTS_WRITTEN)
