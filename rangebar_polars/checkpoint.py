"""The resumable population, by the name under which it is looked for."""

from __future__ import annotations

from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.populate.report import PopulateReport

__all__ = ["PopulateReport", "populate_cache_resumable"]
