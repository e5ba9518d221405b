"""Warnings of this package; `rangebar_polars.exceptions` is their public module."""

from __future__ import annotations

__all__ = [
    "CacheOpeningsWarning",
    "ClampWarning",
    "ClockSkewWarning",
    "CoverageWarning",
    "DoubleFillWarning",
    "FeatureWarning",
    "LiveWarning",
    "LocalCheckpointWarning",
    "LockWaitWarning",
    "MissingFileWarning",
    "PluginWarning",
    "RangeBarWarning",
    "RepeatedFillsWarning",
    "StartDateClampedWarning",
    "SymbolNotRegisteredWarning",
    "TradeFileWarning",
    "UnboundColumnWarning",
    "UnknownVariableWarning",
    "UnverifiedFileWarning",
    "ValidationWarning",
]


class RangeBarWarning(UserWarning):
    """Base of all warnings of this package."""


class UnboundColumnWarning(RangeBarWarning):
    """No column is recognised as the quantity or the side, though one could be it."""


class FeatureWarning(RangeBarWarning):
    """A feature is not computed as requested, such as over a window that was cut."""


class DoubleFillWarning(RangeBarWarning):
    """The trade ids of two records overlap, so that fills are counted twice."""


class CoverageWarning(RangeBarWarning):
    """Ticks or bars are returned although others of the span are missing or have changed."""

    #: What the caller misses, as data that a command of the shell can be made from; else None.
    remedy: object = None


class ClampWarning(RangeBarWarning):
    """Warns that the source did not answer, so the newest stored day is used instead."""


class StartDateClampedWarning(RangeBarWarning):
    """Warns that a start before the symbol's effective start was moved to it."""


class SymbolNotRegisteredWarning(RangeBarWarning):
    """Warns that a symbol is not registered, if the gate is set to warn."""


class TradeFileWarning(RangeBarWarning):
    """Warns that rows of a file of trades were moved, raised or dropped."""


class MissingFileWarning(TradeFileWarning):
    """Warns that trades are missing between two files; a file of a folder may be missing."""


class RepeatedFillsWarning(TradeFileWarning):
    """Warns that two records hold the same fills, which count twice."""


class UnknownVariableWarning(RangeBarWarning):
    """Warns that an environment variable resembles a setting but has no effect."""


class UnverifiedFileWarning(RangeBarWarning):
    """Warns that a file is used without a matching checksum, as `RANGEBAR_CHECKSUM=warn` allows."""


class ClockSkewWarning(RangeBarWarning):
    """Warns that the clocks of this machine and of the exchange differ."""


class LockWaitWarning(RangeBarWarning):
    """Another process or thread holds a lock that this one waits for."""


class LocalCheckpointWarning(RangeBarWarning):
    """Warns that a local copy of a state could not be written, or is not usable."""


class PluginWarning(RangeBarWarning):
    """Warns that a plugin could not be loaded or failed, so that its columns are missing or null."""


class LiveWarning(RangeBarWarning):
    """Warns that live bars run without something that was asked for."""


class ValidationWarning(RangeBarWarning):
    """Warns that stored bars failed validation, or that no bars are stored."""


class CacheOpeningsWarning(RangeBarWarning, RuntimeWarning):
    """Warns that the embedded cache was opened and closed so often that it uses up memory."""
