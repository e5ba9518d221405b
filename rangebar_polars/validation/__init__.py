"""Validation of bars: of their values, and of the chain of tick ids."""

from __future__ import annotations

from rangebar_polars.validation.continuity import ContinuityReport, validate_continuity
from rangebar_polars.validation.tier1 import Tier1Result, validate_tier1

__all__ = ["ContinuityReport", "Tier1Result", "validate_continuity", "validate_tier1"]
