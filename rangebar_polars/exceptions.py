"""The errors of this package, and the helpers that word them.

Each derives from `RangeBarError` and from the builtin or Polars error that callers already catch.
A message is one sentence with the value in backticks, a blank line, and a hint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

__all__ = [
    "ArchiveMissingError",
    "BarDataError",
    "BuilderForkedError",
    "CacheError",
    "CacheForkedError",
    "CacheQueryError",
    "CacheSchemaError",
    "CacheUnavailableError",
    "CacheWriteError",
    "CheckpointError",
    "ClockSkewError",
    "ConfirmedAbsentError",
    "CorruptSourceError",
    "CoverageError",
    "ForkedProcessError",
    "LeaseError",
    "LeaseLostError",
    "ManifestError",
    "MissingColumnError",
    "MissingExtraError",
    "NoAnswerError",
    "NotYetPublishedError",
    "ParquetCorruptionError",
    "PopulationError",
    "RangeBarError",
    "SettingError",
    "SnapshotExpiredError",
    "SourceError",
    "StateLimitError",
    "StorageError",
    "SymbolNotRegisteredError",
    "ThresholdError",
    "TickDataError",
    "TickOrderError",
    "TicksNotCachedError",
    "TransientSourceError",
    "ValidationError",
    "WorkerLostError",
]

_Error = TypeVar("_Error", bound="RangeBarError")


class RangeBarError(Exception):
    """Base of all errors that this package raises on its own account.

    Each comes whole out of another process, with its attributes and notes.
    """

    #: What the caller misses, as data that a command of the shell can be made from; else None.
    remedy: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way calls the class with the message alone, which some cannot be made of.
        return _revived, (type(self), self.args, vars(self).copy())


def _revived(kind: type[_Error], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> _Error:
    """An error as it was pickled."""
    # Of several builtin bases, the one that the memory of the object is laid out for.
    base: type = kind
    while base.__module__ != "builtins":
        base = base.__base__ or object
    error: _Error = base.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(attributes)
    return error


class ThresholdError(RangeBarError, ValueError):
    """A threshold that is none, out of range, or below a symbol's minimum.

    The attributes are None unless the threshold is below a minimum.
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
    """Trades that cannot be turned into bars: a null, a NaN, a price of 0, and so on."""


class TickOrderError(TickDataError, RuntimeError):
    """Trades whose time runs back, or whose id does not increase."""


class StateLimitError(RangeBarError, pl.exceptions.ComputeError, ValueError):
    """More keys times thresholds than one builder may hold in memory."""


class BuilderForkedError(RangeBarError, RuntimeError):
    """Use of a builder that another thread was using when this process was forked."""


class BarDataError(RangeBarError, ValueError):
    """Bars that cannot be drawn or exported: a null, a NaN, a time beyond the calendar."""


class CheckpointError(RangeBarError, ValueError):
    """Bytes that are not a checkpoint of this package, or not any more."""


class SettingError(RangeBarError, ValueError):
    """A setting, from wherever it came, that cannot be meant."""


class SymbolNotRegisteredError(RangeBarError, ValueError):
    """A symbol that the registry does not know, or that is not enabled there."""

    def __init__(self, message: str, *, symbol: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.symbol = symbol
        self.operation = operation


class SourceError(RangeBarError, RuntimeError):
    """A source of ticks did not give what it was asked for."""

    def __init__(
        self, message: str, *, symbol: str = "", day: date | None = None, url: str = ""
    ) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.day = day
        self.url = url


class ArchiveMissingError(SourceError):
    """The archive has no file of a day that others should have filled by now."""


class NotYetPublishedError(ArchiveMissingError):
    """The archive has no file of a day so recent that it may still come."""


class ConfirmedAbsentError(SourceError):
    """The source says for certain that there is nothing: the only answer that may be passed over."""


class TransientSourceError(SourceError, ConnectionError):
    """No answer, or one that a later try may better; nothing is known about the day."""


class NoAnswerError(TransientSourceError):
    """No connection, or one that ended before an answer: nothing is known about the file."""


class ClockSkewError(RangeBarError, RuntimeError):
    """The clocks of this machine and of the source are too far apart to agree what day it is."""


class CorruptSourceError(SourceError):
    """Bytes that are not what the source says they are, after another try."""


class StorageError(RangeBarError, OSError):
    """The tick store could not be read or written; what it held before is intact."""


class ManifestError(StorageError):
    """A manifest of the tick store that cannot be read; it is neither skipped nor built on."""


class ParquetCorruptionError(StorageError):
    """A stored file whose bytes are not those that were written."""

    def __init__(self, message: str, *, path: Path, reason: str) -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class TicksNotCachedError(RangeBarError, FileNotFoundError):
    """Days that the tick store does not hold."""

    def __init__(self, message: str, *, symbol: str = "", days: Sequence[date] = ()) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.days = tuple(days)


class SnapshotExpiredError(RangeBarError, RuntimeError):
    """A plan was made from files or stored bars that have been replaced and removed since."""


class CoverageError(RangeBarError, ValueError):
    """Data that are wanted and are not there."""

    def __init__(self, message: str, *, symbol: str = "", days: Sequence[date] = ()) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.days = tuple(days)


class PopulationError(CoverageError):
    """A population stopped before its end; what it published is kept.

    `report` says what was done, what was not, and why.
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
    """Bars that are kept and are not what they should be; `result` says what is wrong with them."""

    def __init__(self, message: str, *, result: Any) -> None:  # noqa: ANN401
        super().__init__(message)
        self.result = result


class WorkerLostError(RangeBarError, RuntimeError):
    """A process that was at work on a job has been killed; what was published is kept."""


class ForkedProcessError(RangeBarError, RuntimeError):
    """Raised in a forked child for work that needs threads, which only the parent has."""


class CacheError(RangeBarError, ConnectionError):
    """The bar cache did not do what it was asked for."""


class CacheUnavailableError(CacheError):
    """The cache cannot be reached: a server that is away, a folder that another process holds.

    `holder` is the process id of the holder of the folder, where it is known.
    """

    def __init__(self, message: str, *, holder: int | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class CacheForkedError(CacheUnavailableError, ForkedProcessError):
    """The embedded cache was asked for in a forked child of a process that has used it."""


class CacheQueryError(CacheError):
    """The database answered a query with an error.

    `code` is ClickHouse's number of the error, where it is known.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class CacheWriteError(CacheError):
    """A write that the cache has not been proved to hold; nothing of it is visible."""


class CacheLostError(CacheWriteError, CacheUnavailableError):
    """The cache went away during a write, which it has not been proved to hold."""


class CacheSchemaError(RangeBarError, RuntimeError):
    """The tables of the cache are not those of this version of the package."""


class LeaseError(RangeBarError, RuntimeError):
    """A series that another writer is at work on.

    `holder` says who it is, as far as it is known.
    """

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class LeaseLostError(LeaseError):
    """Another writer has taken the series over; what this one published does not count."""


class MissingColumnError(RangeBarError, pl.exceptions.ColumnNotFoundError, ValueError):
    """A column that the frame does not have."""

    @classmethod
    def of(
        cls, name: str, present: Iterable[str], *, used_for: str, renamed_by: str | None = None
    ) -> MissingColumnError:
        """Error for the column `name` in a frame with the columns `present`.

        `used_for` is what the column is wanted for; `renamed_by` the field of `columns=` that
        names another column, if there is one.

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
        wanted = f" for `{used_for}`" if used_for != name else ""
        sentence = f"the frame has no column `{name}`{wanted}; it has {listed}"
        near = nearest(name, columns)
        hints = [f"did you mean `{near}`?"] if near else []
        if renamed_by is not None:
            hints.append(f'name your column: columns={{"{renamed_by}": "{near or "your_column"}"}}')
        return cls(with_hint(sentence, " ".join(hints)) if hints else sentence)


class MissingExtraError(RangeBarError, ImportError):
    """An optional library that is not installed."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtraError:
        """Error for `library`, which the extra `extra` installs.

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


def with_hint(sentence: str, hint: str) -> str:
    """Message of a sentence and the remedy."""
    return f"{sentence}\n\nhint: {hint}"


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """The choice that looks most like the value, if any does."""
    from difflib import get_close_matches

    folded = {choice.casefold(): choice for choice in choices}
    found = get_close_matches(value.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def unknown_choice(what: str, value: str, choices: Sequence[str]) -> str:
    """Message for a value that is none of the choices, with the one that was probably meant.

    Examples
    --------
    >>> from rangebar_polars.exceptions import unknown_choice
    >>> print(unknown_choice("incomplete", "kep", ["drop", "keep"]))
    `incomplete` does not know `kep`; choose from `drop`, `keep`
    <BLANKLINE>
    hint: did you mean `keep`?
    """
    listed = ", ".join(f"`{choice}`" for choice in choices)
    sentence = f"`{what}` does not know `{value}`; choose from {listed}"
    near = nearest(value, choices)
    return with_hint(sentence, f"did you mean `{near}`?") if near else sentence
