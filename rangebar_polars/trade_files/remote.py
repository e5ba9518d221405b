"""Files at an address, which Polars fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.io_source import batches
from rangebar_polars.exceptions import SourceError, TickDataError, with_hint
from rangebar_polars.fetch.binance.csv import whole_lines
from rangebar_polars.trade_files.csv_blocks import BLOCK_BYTES, parse_blocks
from rangebar_polars.trade_files.opening import head_of, open_text
from rangebar_polars.trade_files.parquet import ParquetFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars.trade_files.opening import Opened, Request

__all__ = ["RemoteParquet", "RemoteText"]

REMEDY = "check the address and the credentials, or download the file and give its path"


class RemoteParquet(ParquetFile):
    """A Parquet file at an address, or those of a pattern."""

    def plan(self) -> pl.LazyFrame:
        """Return the plan of the file."""
        return pl.scan_parquet(self.source)

    def remedy(self) -> str:
        """Return what to do about a file that cannot be read."""
        return REMEDY


class RemoteText:
    """A CSV file at an address, plain or gzipped."""

    def __init__(self, source: str, request: Request) -> None:
        self.source = source
        self.request = request

    def pieces(self, rows: int | None = None) -> Iterator[bytes]:
        """Yield the text: each line is the one value of a row."""
        plan = pl.scan_csv(
            self.source,
            has_header=False,
            separator="\x01",
            quote_char=None,
            schema={"line": pl.String()},
            encoding="utf8-lossy",
            n_rows=rows,
        )
        try:
            for batch in batches(plan, ["line"]):
                yield ("\n".join(batch.to_series().fill_null("")) + "\n").encode()
        except (pl.exceptions.PolarsError, OSError) as error:
            what = str(error).partition("\n")[0][:200]
            raise SourceError(
                with_hint(f"`{self.source}` cannot be read: {what}", REMEDY), url=self.source
            ) from error

    def opened_or_empty(self) -> Opened | None:
        """Decide the layout; None if the file is empty."""
        head = head_of(self.pieces(rows=4), self.source)
        return None if head is None else open_text(head, self.request)

    def opened(self) -> Opened:
        """Decide the layout; an empty file is an error."""
        opened = self.opened_or_empty()
        if opened is None:
            raise TickDataError(with_hint(f"`{self.source}` is empty", REMEDY))
        return opened

    def blocks(self, opened: Opened) -> Iterator[pl.DataFrame]:
        """Yield the trades, as they stand in the file."""
        return parse_blocks(whole_lines(self.pieces(), BLOCK_BYTES), opened, self.request.symbol)
