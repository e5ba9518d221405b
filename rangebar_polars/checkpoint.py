"""Public module of the resumable population."""

from __future__ import annotations

from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.populate.report import PopulateReport

__all__ = ["PopulateReport", "populate_cache_resumable"]
