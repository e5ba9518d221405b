"""The content of the cache: its series, and the size of its tables on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.bar_series.identity import is_other_semantics
from rangebar_polars.bar_series.selection import superseded
from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.clickhouse.query.units import read_chains

if TYPE_CHECKING:
    from typing import Any

    from rangebar_polars.bar_series.units import Chain
    from rangebar_polars.clickhouse.connection.client import Cache

__all__ = ["STORED_SCHEMA", "sizes", "stored_series"]

#: Columns and dtypes of `stored_series`.
STORED_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "source": pl.String(),
        "market": pl.String(),
        "threshold": pl.UInt32(),
        "reset": pl.String(),
        "gate": pl.Boolean(),
        "bar_semantics": pl.UInt32(),
        "segment": pl.String(),
        "anchor": pl.Datetime("us", "UTC"),
        "first_day": pl.Date(),
        "last_day": pl.Date(),
        "units": pl.Int64(),
        "bars": pl.Int64(),
        "orphans": pl.Int64(),
        "feature_groups": pl.List(pl.String()),
        "open_rebuilds": pl.Int64(),
        "superseded": pl.Boolean(),
        "other_semantics": pl.Boolean(),
    }
)


def stored_series(cache: Cache | None) -> pl.DataFrame:
    """Return a row for each series: its identity, days and bars, and whether it is still read.

    Parameters
    ----------
    cache
        An open cache; None without one.

    Returns
    -------
    DataFrame
        `gate` is `prevent_same_timestamp_close`. `bars` counts closed bars, `orphans` the bars that
        a reset or a gap ended, `open_rebuilds` interrupted rebuilds. A series is `superseded` if
        another one covers it wholly, and has `other_semantics` if it follows another version of
        the bar rule. Neither is read.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.clickhouse.open import reading
    >>> from rangebar_polars.clickhouse.query.status import stored_series
    >>> with reading(cache_dir=mkdtemp()) as cache:
    ...     stored_series(cache).height
    0
    """
    chains = {} if cache is None else read_chains(cache)
    hidden = superseded(chains.values())
    rows = [_row(chain) | {"superseded": chain.series in hidden} for chain in chains.values()]
    return pl.DataFrame(rows, schema=STORED_SCHEMA).sort(
        "symbol", "source", "market", "threshold", "reset", "gate", "bar_semantics", "anchor"
    )


def _row(chain: Chain) -> dict[str, Any]:
    series, spec = chain.series, chain.series.spec
    orphans = sum(unit.orphan_rows for unit in chain.units)
    return {
        "symbol": spec.symbol,
        "source": spec.source,
        "market": spec.market,
        "threshold": spec.threshold,
        "reset": spec.reset,
        "gate": spec.rules.prevent_same_timestamp_close,
        "bar_semantics": spec.rules.bar_semantics,
        "segment": series.segment.name,
        "anchor": series.anchor,
        "first_day": chain.units[0].day if chain.units else None,
        "last_day": chain.units[-1].day if chain.units else None,
        "units": len(chain.units),
        "bars": sum(unit.rows for unit in chain.units) - orphans,
        "orphans": orphans,
        "feature_groups": sorted(chain.feature_groups),
        "open_rebuilds": len(chain.open_generations),
        "other_semantics": is_other_semantics(spec),
    }


def sizes(cache: Cache | None) -> pl.DataFrame:
    """Return the rows, parts and bytes of every table on disk, the largest first."""
    if cache is None:
        schema = {"table": pl.String, "rows": pl.Int64, "parts": pl.Int64, "bytes": pl.Int64}
        return pl.DataFrame(schema=schema)
    return cache.query(
        "SELECT table, toInt64(sum(rows)) AS rows, toInt64(count()) AS parts, "  # noqa: S608
        "toInt64(sum(bytes_on_disk)) AS bytes FROM system.parts "
        f"WHERE active AND database = {literal(cache.database)} GROUP BY table "
        "ORDER BY bytes DESC, table"
    )
