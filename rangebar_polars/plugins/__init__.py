"""Feature plugins: columns of bars that other packages compute.

A plugin is an object that satisfies `FeatureProvider`, named by an entry point of the group
`rangebar_polars.feature_providers`. Its columns are computed when bars are read, and never stored.
"""

from __future__ import annotations

from rangebar_polars.plugins.check import ProviderReport, check_provider
from rangebar_polars.plugins.discovery import discover_providers, reset_provider_cache
from rangebar_polars.plugins.enrich import enrich_bars
from rangebar_polars.plugins.provider import FeatureProvider

__all__ = ["FeatureProvider", "ProviderReport", "check_provider", "discover_providers"]
__all__ += ["enrich_bars", "reset_provider_cache"]
