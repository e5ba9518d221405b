"""Whether bars are what they should be: their values, and the chain of ids they were made of."""

from __future__ import annotations

from rangebar_polars.validation.continuity import ContinuityReport, validate_continuity
from rangebar_polars.validation.tier1 import Tier1Result, validate_tier1

__all__ = ["ContinuityReport", "Tier1Result", "validate_continuity", "validate_tier1"]
