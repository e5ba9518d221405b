"""Set damaged parts of the embedded cache aside."""

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

__all__ = ["set_damaged_aside"]


def set_damaged_aside(cache: Cache, days: Iterable[date] | None = None) -> list[str]:
    """Take the parts of `bars` that are damaged out of the months of some days or of all; their names.

    The database keeps their files in the folder `detached` of the table, as it does by itself with
    a part that it cannot load. Whose bars were in there is told by every read of them.
    """
    where = f"active AND table = 'bars' AND database = {literal(cache.database)}"
    if days is not None:
        where += f" AND {among(['partition_id'], [(f'{day:%Y%m}',) for day in days])}"
    parts = cache.query(f"SELECT name FROM system.parts WHERE {where}")  # noqa: S608
    damaged = [name for name in parts.to_series() if not _is_sound(cache, name)]
    for name in damaged:
        cache.command(f"ALTER TABLE {cache.table('bars')} DETACH PART {literal(name)}")
        note = with_hint(
            f"the part `{name}` of the bars at `{cache.target.address}` is damaged and was set aside",
            "where a read of another series finds bars damaged, populate it with "
            "force_refresh=True, too",
        )
        warnings.warn(note, CoverageWarning, stacklevel=2)
    return damaged


def _is_sound(cache: Cache, part: str) -> bool:
    answer = cache.query(f"CHECK TABLE {cache.table('bars')} PART {literal(part)}")
    # A server of old, or one that is set up so, answers with a number only.
    return bool(answer["is_passed" if "is_passed" in answer.columns else "result"].item())
