"""Checks of this machine: installation, settings, folders, tick store, bar cache and network."""

from __future__ import annotations

from rangebar_polars.maintenance.doctor.examine import examine
from rangebar_polars.maintenance.doctor.findings import Finding

__all__ = ["Finding", "examine"]
