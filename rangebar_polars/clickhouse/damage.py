"""Damaged parts of the embedded cache."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from rangebar_polars.clickhouse.connection.sql import among, literal
from rangebar_polars.exceptions import with_hint
from rangebar_polars.storage.coverage import CoverageWarning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["is_sound", "set_damaged_aside"]


def set_damaged_aside(cache: Cache, days: Iterable[date] | None = None) -> list[str]:
    """Detach damaged parts of `bars`, and return their names.

    The database moves their files to the folder `detached` of the table, as it does with a part
    that it cannot load. Every read of bars that were in such a part reports them as damaged.

    Parameters
    ----------
    days
        Check only the months of these days; by default all months.
    """
    where = f"active AND table = 'bars' AND database = {literal(cache.database)}"
    if days is not None:
        where += f" AND {among(['partition_id'], [(f'{day:%Y%m}',) for day in days])}"
    parts = cache.query(f"SELECT name FROM system.parts WHERE {where}")  # noqa: S608
    damaged = [name for name in parts.to_series() if not is_sound(cache, "bars", name)]
    for name in damaged:
        cache.command(f"ALTER TABLE {cache.table('bars')} DETACH PART {literal(name)}")
        note = with_hint(
            f"the part `{name}` of the bars at `{cache.target.address}` is damaged and was set aside",
            "if a read of another series reports damaged bars, populate that series with "
            "force_refresh=True as well",
        )
        warnings.warn(note, CoverageWarning, stacklevel=2)
    return damaged


def is_sound(cache: Cache, table: str, part: str) -> bool:
    """Return whether the files of a part of a table have the checksums that were written."""
    answer = cache.query(f"CHECK TABLE {cache.table(table)} PART {literal(part)}")
    # An old server, or one with such a setting, answers with a number only.
    return bool(answer["is_passed" if "is_passed" in answer.columns else "result"].item())
