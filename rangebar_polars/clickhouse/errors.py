"""The errors of the bar cache."""

from __future__ import annotations

from rangebar_polars.exceptions import RangeBarError

__all__ = [
    "CacheError",
    "CacheForkedError",
    "CacheQueryError",
    "CacheSchemaError",
    "CacheUnavailableError",
    "CacheWriteError",
    "LeaseError",
    "LeaseLostError",
]


class CacheError(RangeBarError, ConnectionError):
    """The bar cache did not do what it was asked for."""


class CacheUnavailableError(CacheError):
    """The cache cannot be reached: a server that is away, a folder that another process holds.

    `holder` is the process id of the holder of the folder, where it is known.
    """

    def __init__(self, message: str, *, holder: int | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class CacheForkedError(CacheUnavailableError):
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
