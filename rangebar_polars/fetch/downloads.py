"""Events and errors of a download."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rangebar_polars.events import DownloadCompleted, DownloadFailed, DownloadStarted, emit
from rangebar_polars.exceptions import ArchiveMissingError, SourceError, TickDataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

__all__ = ["Receipt", "download"]


@dataclass(slots=True)
class Receipt:
    """The size of a download, which the downloading code fills in."""

    rows: int = 0
    size_bytes: int = 0


@contextmanager
def download(symbol: str, day: date, url: str) -> Iterator[Receipt]:
    """Emit the events of a download, and add its symbol and day to errors of the transport.

    A missing file is an answer, not a failure.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.fetch.downloads import download
    >>> with download("BTCUSDT", date(2024, 3, 1), "https://host/day.zip") as receipt:
    ...     receipt.rows, receipt.size_bytes = 2, 100
    """
    emit(DownloadStarted(symbol, day, url))
    receipt = Receipt()
    try:
        yield receipt
    except ArchiveMissingError:
        raise
    except (SourceError, TickDataError) as error:
        if isinstance(error, SourceError):
            error.symbol, error.day, error.url = symbol, day, error.url or url
        emit(DownloadFailed(symbol, day, url, str(error).partition("\n")[0]))
        raise
    emit(DownloadCompleted(symbol, day, url, receipt.rows, receipt.size_bytes))
