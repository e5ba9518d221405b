"""The ticks of one day as a source delivers them, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

__all__ = ["DayTicks", "Origin", "is_strictly_increasing"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the ticks of a day came from, and which of their rows were repaired."""

    #: "archive", "rest", "stream" or "user".
    kind: str
    url: str = ""
    #: SHA-256 of the fetched file, in hex.
    sha256: str = ""
    #: The published checksum; empty if there was none.
    checksum: str = ""
    etag: str = ""
    last_modified: str = ""
    #: Unit of time at the source: "ms" or "us".
    unit: str = ""
    #: Rows that were moved into id order, raised in time, dropped as copies, dropped as sentinels.
    moved: int = 0
    raised: int = 0
    doubled: int = 0
    sentinels: int = 0
    #: Rows with a decimal that was put on the grid of 1e-8.
    tails: int = 0
    #: Rows dropped because an earlier one has the same fills and price.
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class DayTicks:
    """Ticks of one UTC day, in id order."""

    day: date
    ticks: pl.DataFrame
    origin: Origin
    #: Spans of ids, both ends included, that do not exist at the source.
    source_absent: tuple[tuple[int, int], ...] = ()
    #: Whether more ticks may follow: in a running month of quotes, on a day not yet archived.
    is_tail: bool = False
    #: Why a day without ticks is complete.
    reason: str = ""


def is_strictly_increasing(values: pl.Series) -> bool:
    """Return whether each value is greater than the one before."""
    return bool((values.diff() > 0).all())
