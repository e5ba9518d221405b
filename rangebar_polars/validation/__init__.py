"""Validation of bars: of their values, of what they predict, and of the chain of tick ids."""

from __future__ import annotations

from rangebar_polars.validation.continuity import ContinuityReport, validate_continuity
from rangebar_polars.validation.tier1 import Tier1Result, validate_tier1
from rangebar_polars.validation.tier2 import Tier2Result, validate_tier2

__all__ = [
    "ContinuityReport",
    "Tier1Result",
    "Tier2Result",
    "validate_continuity",
    "validate_tier1",
    "validate_tier2",
]
