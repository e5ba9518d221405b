"""The tick store: ticks on disk, in one Parquet file per day."""

from rangebar_polars._files.locks import LockWaitWarning
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage, WriteReport

__all__ = ["CoverageWarning", "LockWaitWarning", "TickStorage", "WriteReport"]
