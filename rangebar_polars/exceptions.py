"""Exceptions of this package, and helpers that format their messages.

Each exception derives from `RangeBarError` and from the builtin or Polars exception that callers
already catch. A message is one sentence with the value in backticks, a blank line and a hint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from rangebar_polars._text import most_similar, shown
from rangebar_polars._warnings import (
    CacheOpeningsWarning,
    ClampWarning,
    ClockSkewWarning,
    CoverageWarning,
    DoubleFillWarning,
    FeatureWarning,
    LiveWarning,
    LocalCheckpointWarning,
    LockWaitWarning,
    MissingFileWarning,
    PluginWarning,
    RangeBarWarning,
    RepeatedFillsWarning,
    StartDateClampedWarning,
    SymbolNotRegisteredWarning,
    TradeFileWarning,
    UnboundColumnWarning,
    UnknownVariableWarning,
    UnverifiedFileWarning,
    ValidationWarning,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

__all__ = [
    "ArchiveMissingError",
    "BarDataError",
    "BrokenExtraError",
    "BuilderForkedError",
    "CacheError",
    "CacheForkedError",
    "CacheOpeningsWarning",
    "CacheQueryError",
    "CacheSchemaError",
    "CacheUnavailableError",
    "CacheWriteError",
    "CheckpointError",
    "ClampWarning",
    "ClockSkewError",
    "ClockSkewWarning",
    "ConfirmedAbsentError",
    "CorruptSourceError",
    "CoverageError",
    "CoverageWarning",
    "DamagedFileError",
    "DoubleFillWarning",
    "FeatureWarning",
    "ForkedProcessError",
    "LeaseError",
    "LeaseLostError",
    "LiveWarning",
    "LocalCheckpointWarning",
    "LockWaitWarning",
    "ManifestError",
    "MissingColumnError",
    "MissingExtraError",
    "MissingFileWarning",
    "NoAnswerError",
    "NotYetPublishedError",
    "ParquetCorruptionError",
    "PluginError",
    "PluginWarning",
    "PopulationError",
    "RangeBarError",
    "RangeBarWarning",
    "RepeatedFillsWarning",
    "SettingError",
    "SnapshotExpiredError",
    "SourceError",
    "StartDateClampedWarning",
    "StateLimitError",
    "StorageError",
    "SymbolNotRegisteredError",
    "SymbolNotRegisteredWarning",
    "ThresholdError",
    "TickDataError",
    "TickOrderError",
    "TicksNotCachedError",
    "TradeFileWarning",
    "TransientSourceError",
    "UnboundColumnWarning",
    "UnknownVariableWarning",
    "UnverifiedFileWarning",
    "ValidationError",
    "ValidationWarning",
    "WorkerLostError",
]

#: What stands between the sentence and the hint of a message.
_HINT = "\n\nhint: "
#: Letters of the shortest beginning of a name that stands for the name.
_SHORTEST_PREFIX = 3

_Error = TypeVar("_Error", bound="RangeBarError")


class RangeBarError(Exception):
    """Base class of all exceptions of this package.

    Exceptions can be pickled, so an error in a worker process arrives with its attributes and notes.
    """

    #: What the caller misses, as data that a command of the shell can be made from; else None.
    remedy: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message alone, and some need more arguments.
        return _revived, (type(self), self.args, vars(self).copy())


def _revived(kind: type[_Error], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> _Error:
    """Restore a pickled error."""
    # With several builtin bases, take the one that defines the memory layout of the object.
    base: type = kind
    while base.__module__ != "builtins":
        base = base.__base__ or object
    error: _Error = base.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(attributes)
    return error


class ThresholdError(RangeBarError, ValueError):
    """Raised when a threshold is malformed, out of range, or below the symbol's minimum.

    The attributes are set if the threshold is below a minimum, and None otherwise.
    """

    def __init__(
        self,
        message: str,
        *,
        threshold: int | None = None,
        min_threshold: int | None = None,
        symbol: str | None = None,
        asset_class: str | None = None,
    ) -> None:
        super().__init__(message)
        self.threshold = threshold
        self.min_threshold = min_threshold
        self.symbol = symbol
        self.asset_class = asset_class


class TickDataError(RangeBarError, pl.exceptions.ComputeError, ValueError):
    """Raised when a row is not a valid tick, such as one with a null, a NaN or a price of 0."""


class DamagedFileError(TickDataError):
    """Raised when a file is incomplete or not the expected one. A new copy may be right."""


class TickOrderError(TickDataError, RuntimeError):
    """Raised when the time of ticks runs back, or their id does not increase."""


class StateLimitError(RangeBarError, pl.exceptions.ComputeError, ValueError):
    """Raised when keys times thresholds exceed what one builder may hold in memory."""


class BuilderForkedError(RangeBarError, RuntimeError):
    """Raised in a forked child that uses a builder which was in use at the fork."""


class BarDataError(RangeBarError, ValueError):
    """Raised when bars cannot be plotted, exported or enriched, as with a null or several series."""


class CheckpointError(RangeBarError, ValueError):
    """Raised when bytes are not a checkpoint that this version can read."""


class SettingError(RangeBarError, ValueError):
    """Raised when a setting is not valid, whether from an argument, the environment or a file."""


class SymbolNotRegisteredError(RangeBarError, ValueError):
    """Raised when a symbol is not registered, or not enabled in the registry."""

    def __init__(self, message: str, *, symbol: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.symbol = symbol
        self.operation = operation


class SourceError(RangeBarError, RuntimeError):
    """Raised when a source does not deliver the requested ticks."""

    def __init__(
        self, message: str, *, symbol: str = "", day: date | None = None, url: str = ""
    ) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.day = day
        self.url = url


class ArchiveMissingError(SourceError):
    """Raised when the archive has no file of a day that should be published by now."""


class NotYetPublishedError(ArchiveMissingError):
    """Raised when the archive has no file of a recent day, which may still be published."""


class ConfirmedAbsentError(SourceError):
    """Raised when the source confirms that there is no data. Only this answer may be ignored."""


class TransientSourceError(SourceError, ConnectionError):
    """Raised when a source does not answer, or with an error that a retry may resolve."""


class NoAnswerError(TransientSourceError):
    """Raised when a connection fails, or ends before an answer."""


class ClockSkewError(RangeBarError, RuntimeError):
    """Raised when the clocks of this machine and of the source may disagree about the date."""


class CorruptSourceError(SourceError):
    """Raised when downloaded bytes do not match their checksum or format, after a retry."""


class StorageError(RangeBarError, OSError):
    """Raised when the tick store cannot be read or written. Ticks already stored are intact."""


class ManifestError(StorageError):
    """Raised when a manifest of the tick store cannot be read. It is neither skipped nor replaced."""


class ParquetCorruptionError(StorageError):
    """Raised when a stored file no longer has the bytes that were written."""

    def __init__(self, message: str, *, path: Path, reason: str) -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class TicksNotCachedError(RangeBarError, FileNotFoundError):
    """Raised when requested days are missing from the tick store."""

    def __init__(self, message: str, *, symbol: str = "", days: Sequence[date] = ()) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.days = tuple(days)


class SnapshotExpiredError(RangeBarError, RuntimeError):
    """Raised when files or stored bars of a query plan have been replaced and removed."""


class CoverageError(RangeBarError, ValueError):
    """Raised when requested data are incomplete."""

    def __init__(self, message: str, *, symbol: str = "", days: Sequence[date] = ()) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.days = tuple(days)


class PopulationError(CoverageError):
    """Raised when a population did not complete. Bars that it published stay in the cache.

    `report` lists what is done, what is missing, and why.
    """

    def __init__(
        self,
        message: str,
        *,
        report: Any,  # noqa: ANN401
        symbol: str = "",
        days: Sequence[date] = (),
    ) -> None:
        super().__init__(message, symbol=symbol, days=days)
        self.report = report


class ValidationError(RangeBarError, ValueError):
    """Raised when stored bars fail validation. `result` lists the findings."""

    def __init__(self, message: str, *, result: Any) -> None:  # noqa: ANN401
        super().__init__(message)
        self.result = result


class PluginError(RangeBarError, RuntimeError):
    """Raised when a plugin cannot be loaded or fails, if `RANGEBAR_PLUGINS` is `strict`.

    `__cause__` is the exception of the plugin, if there is one. `provider` is the name of the plugin.
    """

    def __init__(self, message: str, *, provider: str = "") -> None:
        super().__init__(message)
        self.provider = provider


class WorkerLostError(RangeBarError, RuntimeError):
    """Raised when a worker process was killed during a job. Published bars stay in the cache."""


class ForkedProcessError(RangeBarError, RuntimeError):
    """Raised in a forked child for work that needs threads, which a fork does not copy."""


class CacheError(RangeBarError, ConnectionError):
    """Base class of the exceptions of the bar cache."""


class CacheUnavailableError(CacheError):
    """Raised when the cache cannot be reached: the server is down, or another process has the folder.

    `holder` is the id of that process, if it is known.
    """

    def __init__(self, message: str, *, holder: int | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class CacheForkedError(CacheUnavailableError, ForkedProcessError):
    """Raised in a forked child that opens the embedded cache after its parent did."""


class CacheQueryError(CacheError):
    """Raised when the database answers a query with an error.

    `code` is the ClickHouse error code, if it is known.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class CacheWriteError(CacheError):
    """Raised when a write to the cache could not be verified. Readers see none of it."""


class CacheLostError(CacheWriteError, CacheUnavailableError):
    """Raised when the connection to the cache was lost during a write."""


class CacheSchemaError(RangeBarError, RuntimeError):
    """Raised when the tables of the cache do not have the schema of this version."""


class LeaseError(RangeBarError, RuntimeError):
    """Raised when another writer holds the lease of a series.

    `holder` describes that writer, as far as it is known.
    """

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class LeaseLostError(LeaseError):
    """Raised when another writer has taken over the lease of a series."""


class MissingColumnError(RangeBarError, pl.exceptions.ColumnNotFoundError, ValueError):
    """Raised when a frame does not have a required column."""

    @classmethod
    def of(
        cls, name: str, present: Iterable[str], *, used_for: str, renamed_by: str | None = None
    ) -> MissingColumnError:
        """Make the error for a frame with the columns `present` and without the column `name`.

        `used_for` is the field that reads the column. `renamed_by` is the key of `columns=` that
        can name another column, if there is one.

        Examples
        --------
        >>> from rangebar_polars.exceptions import MissingColumnError
        >>> present = ["timestamp", "prize"]
        >>> print(MissingColumnError.of("price", present, used_for="price", renamed_by="price"))
        the frame has no column `price`; it has `timestamp`, `prize`
        <BLANKLINE>
        hint: did you mean `prize`? name your column: columns={"price": "prize"}
        """
        columns = list(present)
        listed = ", ".join(f"`{column}`" for column in columns) or "none"
        wanted = f" for `{shown(used_for)}`" if used_for != name else ""
        sentence = f"the frame has no column `{shown(name)}`{wanted}; it has {listed}"
        near = nearest(name, columns) or nearest(renamed_by or name, columns)
        if near is None:
            return cls(
                with_hint(sentence, "pass the name of one of these") if columns else sentence
            )
        hint = f"did you mean `{near}`?"
        if renamed_by is not None:
            hint += f' name your column: columns={{"{renamed_by}": "{near}"}}'
        return cls(with_hint(sentence, hint))


class MissingExtraError(RangeBarError, ImportError):
    """Raised when an optional library is not installed."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtraError:
        """Make the error for `library`, which the extra `extra` installs.

        Examples
        --------
        >>> from rangebar_polars.exceptions import MissingExtraError
        >>> print(MissingExtraError.of("pandas", "pandas"))
        `pandas` is not installed
        <BLANKLINE>
        hint: pip install 'rangebar-polars[pandas]'
        """
        return cls(
            with_hint(f"`{library}` is not installed", f"pip install 'rangebar-polars[{extra}]'")
        )


class BrokenExtraError(RangeBarError, ImportError):
    """Raised when an optional library is installed, and cannot be imported."""


def with_hint(sentence: str, hint: str) -> str:
    """Format a message of a sentence and a hint."""
    return f"{sentence}{_HINT}{hint}"


def split_hint(message: object) -> tuple[str, str]:
    """Return the sentence of a message, and its hint, which is empty if there is none.

    Examples
    --------
    >>> from rangebar_polars.exceptions import split_hint, with_hint
    >>> split_hint(with_hint("there are no bars", "lower the threshold"))
    ('there are no bars', 'lower the threshold')
    """
    sentence, _, hint = str(message).partition(_HINT)
    return sentence, hint


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most similar to the value, or the one that begins with it.

    Examples
    --------
    >>> from rangebar_polars.exceptions import nearest
    >>> nearest("Yaer", ["year", "month"]), nearest("micro", ["core", "microstructure"])
    ('year', 'microstructure')
    """
    folded = {choice.casefold(): choice for choice in choices}
    text = value.strip().casefold()
    found = most_similar(text, folded, 0.6)
    if found is None and len(text) >= _SHORTEST_PREFIX:
        begun = [choice for choice in folded if choice.startswith(text)]
        found = begun[0] if len(begun) == 1 else None
    return None if found is None else folded[found]


def unknown_choice(what: str, value: str, choices: Sequence[str]) -> str:
    """Format a message for a value that is not among the choices, with the most similar one.

    Examples
    --------
    >>> from rangebar_polars.exceptions import unknown_choice
    >>> print(unknown_choice("incomplete", "kep", ["drop", "keep"]))
    `incomplete`: unknown value `kep`; choose from `drop`, `keep`
    <BLANKLINE>
    hint: did you mean `keep`?
    """
    listed = ", ".join(f"`{choice}`" for choice in choices)
    sentence = f"`{what}`: unknown value `{shown(value)}`; choose from {listed}"
    near = nearest(value, choices)
    return with_hint(sentence, f"did you mean `{near}`?") if near else sentence
