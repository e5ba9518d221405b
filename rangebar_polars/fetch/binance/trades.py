"""Single trades of Binance from its archive, which has a zip of them per day and month.

A file has the columns id, price, qty, quote_qty or base_qty, time, is_buyer_maker and, on the spot
market, is_best_match; with a header or without. (github.com/binance/binance-public-data)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.binance.archive import BinanceArchive
from rangebar_polars.fetch.binance.archive_days import ArchiveDays
from rangebar_polars.fetch.binance.csv import BYTE_ORDER_MARK, EndlessLineError, whole_lines
from rangebar_polars.fetch.csv_lines import parsing
from rangebar_polars.fetch.zipped import DamagedFileError
from rangebar_polars.sources import TRADES_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["BinanceTradeDays", "TradesArchive", "as_agg_trades"]

HINT = "fetch the file again"
HEADER = b"agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")


class TradesArchive(BinanceArchive):
    """The archive of single trades. The id of a trade is its `agg_trade_id` and its only fill.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch.binance.trades import TradesArchive
    >>> archive = TradesArchive("spot", url=Path(tempfile.mkdtemp()).as_uri())
    >>> list(archive.days("BTCUSDT", "2024-03-01", "2024-03-31"))
    []
    """

    def _path(self, symbol: str, period: str, when: str) -> str:
        path = super()._path(symbol, period, when)
        folder, _, name = path.rpartition("/")
        folder = folder.replace("/aggTrades/", "/trades/", 1)
        return f"{folder}/{name.replace('-aggTrades-', '-trades-')}"

    def _lines(self, pieces: Iterable[bytes], url: str) -> Iterable[bytes]:
        return as_agg_trades(pieces, url)


def as_agg_trades(pieces: Iterable[bytes], source: str) -> Iterator[bytes]:
    r"""Yield the lines of a file of single trades as lines of aggregate trades, one for one.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.trades import as_agg_trades
    >>> b"".join(as_agg_trades([b"7,1.5,2,3.0,1704067200000,true\n"], "day.csv"))
    b'7,1.5,2,7,7,1704067200000,true\n'
    """
    width, line = 0, 1
    try:
        for block in whole_lines(pieces):
            text = block
            if not width:
                text = block.removeprefix(BYTE_ORDER_MARK)
                head, _, rest = text.partition(b"\n")
                width = head.count(b",") + 1
                if not head.split(b",")[0].strip().isdigit():
                    _check_header(head, source)
                    yield HEADER
                    text, line = rest, 2
            if text:
                yield _converted(text, width, source, line)
                line += text.count(b"\n")
    except EndlessLineError as error:
        raise error.in_file(source, line) from None


def _check_header(head: bytes, source: str) -> None:
    names = [
        name.strip(' "') for name in head.decode("utf-8", "replace").strip().lower().split(",")
    ]
    expected = list(COLUMNS[: len(names)])
    if [name.replace("base_qty", "quote_qty") for name in names] != expected or len(names) < 6:  # noqa: PLR2004
        raise DamagedFileError(
            with_hint(
                f"`{source}`, line 1: `{','.join(names)[:80]}` is not the header of a file of trades",
                "a file has id, price, qty, quote_qty or base_qty, time and is_buyer_maker",
            )
        )


def _converted(text: bytes, width: int, source: str, line: int) -> bytes:
    schema = {name: pl.String() for name in COLUMNS[:width]}
    fault = f"`{source}`, lines from {line} on: not the {width} fields of a trade"
    if width not in (len(COLUMNS) - 1, len(COLUMNS)):
        raise DamagedFileError(with_hint(fault, "a file of trades has 6 or 7 columns"))
    with parsing(source, line, HINT):
        try:
            rows = pl.read_csv(text, has_header=False, schema=schema, quote_char=None)
        except pl.exceptions.PolarsError as error:
            raise TickDataError(with_hint(fault, HINT)) from error
    number = pl.col("id")
    columns = (
        number,
        "price",
        "qty",
        number.alias("f"),
        number.alias("l"),
        "time",
        "is_buyer_maker",
    )
    return rows.select(columns).write_csv(include_header=False, quote_style="never").encode()


class BinanceTradeDays(ArchiveDays):
    """Days of single trades of a Binance symbol from the archive. Ids cannot be requested."""

    def __init__(self, symbol: str, market: str) -> None:
        super().__init__(symbol, TradesArchive(market.removesuffix(TRADES_SUFFIX)))

    @property
    def by_id(self) -> None:
        """None: the exchange gives single trades by id only to holders of a key."""
        return
