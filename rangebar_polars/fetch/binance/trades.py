"""Single trades of Binance from its archive, which has a zip of them per day and month.

A file has the columns id, price, qty, quote_qty or base_qty, time, is_buyer_maker and, on the spot
market, is_best_match; with a header or without. (github.com/binance/binance-public-data)
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.contracts import with_coins
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    NotYetPublishedError,
    TickDataError,
    with_hint,
)
from rangebar_polars.fetch.binance.archive import BinanceArchive
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.csv_lines import parsing
from rangebar_polars.fetch.normalise import FileTimes, normalise
from rangebar_polars.fetch.prefetch import prefetch
from rangebar_polars.fetch.zipped import DamagedFileError, member_pieces
from rangebar_polars.sources import TRADES_SUFFIX, has_contracts
from rangebar_polars.symbol_registry import get_contract_size

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from datetime import date

    from rangebar_polars.day_ticks import DayTicks
    from rangebar_polars.fetch.binance.archive import ArchiveFile
    from rangebar_polars.fetch.normalise import Clean
    from rangebar_polars.fetch.transport import Fetched

__all__ = ["BinanceTradeDays", "TradesArchive", "as_agg_trades"]

HINT = "fetch the file again"
COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
_AHEAD = 2


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

    def _parse(self, fetched: Fetched, file: ArchiveFile, url: str) -> Clean:
        times = FileTimes.of_days(file.first, file.last, file.unit)
        try:
            pieces = member_pieces(fetched.content, url, file.member)
            raw = parse_trades(as_agg_trades(pieces, url), url)
        except TickDataError:
            # An invalid line may come from damaged data, which only shows at their end.
            for _piece in member_pieces(fetched.content, url, file.member):
                pass
            raise
        return normalise(raw.frame, url, raw.first_line, times)


def as_agg_trades(pieces: Iterable[bytes], source: str) -> Iterator[bytes]:
    r"""Yield the lines of a file of single trades as lines of aggregate trades, one for one.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.trades import as_agg_trades
    >>> b"".join(as_agg_trades([b"7,1.5,2,3.0,1704067200000,true\n"], "day.csv"))
    b'7,1.5,2,7,7,1704067200000,true\n'
    """
    width, line = 0, 1
    for block in _blocks(pieces):
        text = block
        if not width:
            head, _, rest = block.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
            width = head.count(b",") + 1
            if not head.split(b",")[0].strip().isdigit():
                _check_header(head, source)
                yield (
                    b"agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,"
                    b"is_buyer_maker\n"
                )
                text, line = rest, 2
        if text:
            yield _converted(text, width, source, line)
            line += text.count(b"\n")


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


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Group pieces into blocks of whole lines."""
    rest = b""
    for piece in pieces:
        rest += piece
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


class BinanceTradeDays:
    """Days of single trades of a Binance symbol from the archive. Ids cannot be requested."""

    def __init__(self, symbol: str, market: str) -> None:
        self._symbol = symbol
        self._archive = TradesArchive(market.removesuffix(TRADES_SUFFIX))
        is_in_contracts = has_contracts(self._archive.source, self._archive.market)
        self._contract_size = get_contract_size(symbol) if is_in_contracts else None
        self._month: tuple[tuple[int, int], dict[date, DayTicks]] | None = None
        self._of_one_month = Lock()

    @property
    def by_id(self) -> None:
        """None: the exchange gives single trades by id only to holders of a key."""
        return

    def days(self, wanted: Sequence[date]) -> Generator[list[DayTicks]]:
        """Yield the published days in order, prefetching the next ones."""
        for day in prefetch(self._day, wanted, count=_AHEAD):
            if day is not None:
                yield [day]

    def close(self) -> None:
        """Do nothing: no connection stays open between files."""

    def _day(self, day: date) -> DayTicks | None:
        try:
            found = self._archive.fetch_day(self._symbol, day)
        except NotYetPublishedError:
            return None
        except ArchiveMissingError:
            of_month = self._of_month(day)
            if of_month is None:
                raise
            found = of_month
        if self._contract_size is None:
            return found
        return replace(found, ticks=with_coins(found.ticks, self._contract_size))

    def _of_month(self, day: date) -> DayTicks | None:
        """Return the day from the archive of its month, if that has it."""
        month = (day.year, day.month)
        with self._of_one_month:  # days in progress at the same time share the file
            if self._month is None or self._month[0] != month:
                found = self._archive.fetch_month(self._symbol, *month)
                self._month = (month, {item.day: item for item in found})
            return self._month[1].get(day)
