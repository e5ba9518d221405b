"""Quotes as the archive of Exness holds them: one CSV a month, bid and ask as decimal text.

Prices stand on a grid of 1e-8. What is derived from them is computed in whole numbers of the
grid, so that the mid of two prices is exact to the last bit of its double.
"""

from __future__ import annotations

import csv
import io
import re
from calendar import monthrange
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, day_start
from rangebar_polars.exceptions import TickDataError, TickOrderError, with_hint
from rangebar_polars.fetch.binance.csv import (
    BYTE_ORDER_MARK,
    EndlessLineError,
    line_count,
    read_ahead,
    whole_lines,
)
from rangebar_polars.fetch.csv_lines import lines_of, parsing
from rangebar_polars.fetch.decimals import is_near_grid, on_grid
from rangebar_polars.fetch.zipped import DamagedFileError
from rangebar_polars.sources import IDS_PER_MONTH, QUOTES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MonthFile", "first_id", "grid_units", "is_price", "is_quote", "mid_price", "quotient"]
__all__ += ["read_month"]

PER_UNIT = 1e8
LARGEST_PRICE = 2**53 / PER_UNIT  # above this, a double cannot distinguish the points of the grid
LEAST_PRICE = 1 / PER_UNIT - 1e-10
LONGEST_STEP_BACK = timedelta(seconds=1)
# Tolerance of times outside the month. They belong to the nearest day.
SLACK = timedelta(seconds=1)

HEADER = ("exness", "symbol", "timestamp", "bid", "ask")
FILE_SCHEMA: dict[str, pl.DataType] = {
    "exness": pl.String(),
    "symbol": pl.String(),
    "timestamp": pl.String(),
    "bid": pl.Float64(),
    "ask": pl.Float64(),
}
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z$"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S%.fZ"
# The type of account follows the symbol: EURUSDm, EURUSD_Raw_Spread.
DEFAULT_ACCOUNT = "_Raw_Spread"
ACCOUNT = r"([a-z]|_[A-Za-z_]+)?"
DECIMAL_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
HINT = "fetch the file again, or remove the line"


class MonthFile(NamedTuple):
    """A monthly file of the archive, and its name in messages."""

    symbol: str
    year: int
    month: int
    source: str = ""
    #: The symbol with its type of account, as the archive writes it. Raw_Spread if empty.
    archive_name: str = ""
    #: Whether the quotes are those of a year, of which the month is a part.
    is_of_year: bool = False

    @property
    def path(self) -> str:
        """The path below the address of the archive."""
        return self._path(f"{self.year:04}/{self.month:02}")

    @property
    def path_of_year(self) -> str:
        """The path of the file of the whole year, which some years have instead."""
        return self._path(f"{self.year:04}")

    def path_of_day(self, day: date) -> str:
        """Return the path of the file of a day."""
        return self._path(f"{day:%Y/%m/%d}")

    def _path(self, when: str) -> str:
        name = self.archive_name or f"{self.symbol}{DEFAULT_ACCOUNT}"
        return f"ticks/{name}/{when}/Exness_{name}_{when.replace('/', '_')}.zip"

    def is_spelled(self, text: str) -> bool:
        """Return whether a text is the symbol as the file may spell it."""
        if self.archive_name:
            return text == self.archive_name
        return re.fullmatch(re.escape(self.symbol) + ACCOUNT, text) is not None

    @property
    def first_day(self) -> date:
        """The first UTC day of the month."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """The last UTC day of the month."""
        return date(self.year, self.month, monthrange(self.year, self.month)[1])

    @property
    def times(self) -> tuple[datetime, datetime]:
        """The allowed range of times: the month or the year, with a tolerance of a second."""
        first, last = self.first_day, self.last_day
        if self.is_of_year:
            first, last = date(self.year, 1, 1), date(self.year, 12, 31)
        return day_start(first) - SLACK, day_start(last) + ONE_DAY + SLACK


def first_id(year: int, month: int) -> int:
    """Return the id of the first quote of a month.

    Examples
    --------
    >>> from rangebar_polars.fetch.exness.csv import first_id
    >>> first_id(2024, 3)
    20240300000000
    """
    return (year * 100 + month) * IDS_PER_MONTH


def grid_units(values: pl.Series) -> pl.Series:
    """Convert doubles to units of 1e-8."""
    return (values * PER_UNIT).round().cast(pl.Int64, strict=False)


def quotient(units: pl.Series, divisor: float) -> pl.Series:
    """Divide whole numbers with a single, correct rounding.

    Polars replaces division by a scalar with a product with its reciprocal, which is off by one bit
    for every seventh price.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.exness.csv import quotient
    >>> units = pl.Series([85042000])
    >>> quotient(units, 1e8).item(), (units / 1e8).item()
    (0.85042, 0.8504200000000001)
    """
    return units / pl.Series([divisor]).new_from_index(0, len(units))


def mid_price(bid: pl.Series, ask: pl.Series) -> pl.Series:
    """Compute the mid of bid and ask in units of 1e-8, as their exact sum divided once.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.fetch.exness.csv import mid_price
    >>> mid_price(pl.Series([85043000]), pl.Series([85044000])).item()
    0.850435
    """
    return quotient(bid + ask, 2 * PER_UNIT).alias("price")


def is_price(name: str) -> pl.Expr:
    """Return the condition of values that are a price, above 0 and in the range of the grid."""
    return pl.col(name).is_between(1 / PER_UNIT, LARGEST_PRICE, closed="left")


def is_quote() -> pl.Expr:
    """Return the condition of rows with a valid bid and ask, where the bid is not above the ask."""
    return is_price("bid") & is_price("ask") & (pl.col("bid") <= pl.col("ask"))


def read_month(
    pieces: Iterable[bytes], file: MonthFile, *, after: datetime | None = None
) -> pl.DataFrame:
    r"""Parse the quotes of a month in file order, with the columns `raised` and `tails` added.

    A time that runs back by at most a second is raised to the highest before it. `after` is the
    time of the quote before the first.

    Raises
    ------
    DamagedFileError
        The file does not start with the header of a file of quotes.
    TickDataError
        A line is not a valid quote of this symbol and month.
    TickOrderError
        Time runs back by more than a second.

    Examples
    --------
    >>> from rangebar_polars.fetch.exness.csv import MonthFile, read_month
    >>> text = b"Exness,Symbol,Timestamp,Bid,Ask\nexness,EURUSD,2024-01-15T00:00:00Z,1.25,1.27\n"
    >>> file = MonthFile("EURUSD", 2024, 1, "Exness_EURUSD_Raw_Spread_2024_01.zip")
    >>> read_month([text], file).drop("timestamp").row(0)
    (1.26, 1.25, 1.27, 20240100000000, False, False)
    """
    line, spelled, frames = 2, "", []
    try:
        for block in body(whole_lines(pieces), file):
            frame, spelled = parse(block, line, spelled, file)
            frames.append(frame.filter(of_month(file)) if file.is_of_year else frame)
            line += frame.height
    except EndlessLineError as error:
        raise error.in_file(file.source, line if frames else 1) from None
    schema = {name: QUOTES_SCHEMA[name] for name in ("timestamp", "bid", "ask")}
    empty = pl.DataFrame(schema=schema | {"tails": pl.Boolean()})
    quotes = in_order(pl.concat([empty, *frames]), file, after)
    numbers = pl.int_range(pl.len(), dtype=pl.Int64) + first_id(file.year, file.month)
    price = mid_price(*(grid_units(quotes[name]) for name in ("bid", "ask")))
    quotes = quotes.with_columns(price, numbers.alias("agg_trade_id"))
    return quotes.select(*QUOTES_SCHEMA, "raised", "tails")


def of_month(file: MonthFile) -> pl.Expr:
    """Return the condition of the quotes of a year that belong to the month."""
    start, end = file.times
    if file.month > 1:
        start = day_start(file.first_day)
    if file.month < 12:  # noqa: PLR2004
        end = day_start(file.last_day) + ONE_DAY
    return pl.col("timestamp").is_between(start, end, closed="left")


def body(blocks: Iterator[bytes], file: MonthFile) -> Iterator[bytes]:
    """Check the header, and yield the blocks without it."""
    head = next(blocks, b"").removeprefix(BYTE_ORDER_MARK)
    end = head.find(b"\n") + 1 or len(head)
    text = head[:end].decode("utf-8", "replace").strip()
    if tuple(name.strip(' "').lower() for name in text.split(",")) != HEADER:
        raise DamagedFileError(
            with_hint(
                f"`{file.source}`, line 1: `{text[:80]}` is not the header of a file of quotes",
                'a file starts with "Exness","Symbol","Timestamp","Bid","Ask"',
            )
        )
    if end < len(head):
        yield head[end:]
    yield from read_ahead(blocks)


def parse(block: bytes, line: int, spelled: str, file: MonthFile) -> tuple[pl.DataFrame, str]:
    """Parse a block that starts at this line, and return the symbol as the file spells it."""
    cause: pl.exceptions.PolarsError | None = None
    with parsing(file.source, line, HINT):
        try:
            raw = pl.read_csv(block, has_header=False, schema=FILE_SCHEMA, quote_char='"')
            spelled = spelled or str(raw["symbol"][0])
            quotes = without_tails(raw.with_columns(times()))
            whole = quotes.height == line_count(block) and is_on_grid(quotes)
            if whole and quotes.select(is_valid(spelled, file).all()).item():
                return quotes.select("timestamp", "bid", "ask", "tails"), spelled
        except pl.exceptions.PolarsError as error:
            cause = error
        fault = first_fault(block, line, spelled, file)
    fault = fault or f"lines from {line} on cannot be read: {cause}"
    raise TickDataError(with_hint(f"`{file.source}`, {fault}", HINT)) from cause


def times() -> pl.Expr:
    """Parse times with a blank or a `T` between date and time; null where the text is not valid."""
    text = pl.col("timestamp")
    plain = text.str.replace("T", " ", literal=True)
    parsed = plain.str.to_datetime(TIME_FORMAT, time_unit="us", time_zone="UTC", strict=False)
    return pl.when(text.str.contains(TIME_PATTERN)).then(parsed)


def is_valid(spelled: str, file: MonthFile) -> pl.Expr:
    """Return the condition of rows that are a quote of the symbol and month of the file."""
    return pl.all_horizontal(
        pl.all().is_not_null(),
        pl.lit(file.is_spelled(spelled)),
        pl.col("symbol") == spelled,
        pl.col("timestamp").is_between(*file.times, closed="left"),
        is_quote(),
    )


def is_on_grid(quotes: pl.DataFrame) -> bool:
    """Return whether every price has at most 8 decimals."""
    prices = (quotes[name] for name in ("bid", "ask"))
    return all((quotient(grid_units(price), PER_UNIT) == price).all() for price in prices)


def without_tails(quotes: pl.DataFrame) -> pl.DataFrame:
    """Cut off the tails of prices, and mark their rows in a column `tails`."""
    if is_on_grid(quotes):
        return quotes.with_columns(tails=pl.lit(value=False))
    bid, ask = (on_grid(quotes[name]) for name in ("bid", "ask"))
    return quotes.with_columns(bid[0], ask[0], (bid[1] | ask[1]).alias("tails"))


def in_order(quotes: pl.DataFrame, file: MonthFile, after: datetime | None) -> pl.DataFrame:
    """Raise times that run back by at most a second, and mark them in the column `raised`.

    `after` is the time of the quote before the first.
    """
    highest = quotes["timestamp"].cum_max()
    if after is not None:
        highest = highest.clip(lower_bound=after)
    behind = highest - quotes["timestamp"]
    far = (behind > LONGEST_STEP_BACK).arg_true()
    if len(far):
        row = int(far[0])
        raise TickOrderError(
            with_hint(
                f"`{file.source}`, line {row + 2}: the time runs back by more than a second, from "
                f"`{highest[row]}` to `{quotes['timestamp'][row]}`",
                "fetch the file again",
            )
        )
    return quotes.with_columns(highest, (behind > timedelta(0)).alias("raised"))


def first_fault(block: bytes, line: int, spelled: str, file: MonthFile) -> str | None:
    """Describe the first line of a block that is not a valid quote; None if all are valid."""
    for number, text in enumerate(lines_of(block), start=line):
        try:
            fields = next(csv.reader(io.StringIO(text)), [])
        except csv.Error as error:
            return f"line {number}: {error}"
        fault = fault_of(fields, spelled, file)
        if fault:
            return f"line {number}: {fault}"
    return None


def fault_of(fields: list[str], spelled: str, file: MonthFile) -> str | None:
    """Describe why the fields of a line are not a valid quote, if they are not."""
    if not any(field.strip() for field in fields):
        return "the line is empty"
    if len(fields) != len(HEADER):
        return f"{len(fields)} fields instead of {len(HEADER)}: `{','.join(fields)[:80]}`"
    _, symbol, time, bid, ask = fields
    if not file.is_spelled(symbol):
        return f"the symbol is `{symbol[:40]}`, not `{file.archive_name or file.symbol}`"
    if spelled and symbol != spelled:
        return f"the symbol is `{symbol[:40]}`, not `{spelled}` as in the first line"
    fault = wrong_time(time, file) or wrong_price("bid", bid) or wrong_price("ask", ask)
    if fault is None and float(bid) > float(ask):
        return f"the quote is crossed: bid `{bid[:40]}` is above ask `{ask[:40]}`"
    return fault


def wrong_time(text: str, file: MonthFile) -> str | None:
    """Describe why a text is not a time of the month, if it is not."""
    try:
        time = datetime.fromisoformat(text) if re.search(TIME_PATTERN, text) else None
    except ValueError:
        time = None
    if time is None:
        return f"the time `{text[:40]}` is not like `2024-01-15 00:00:00.032Z`"
    start, end = file.times
    if not start <= time < end:
        return f"the time `{text[:40]}` is not in {file.year}-{file.month:02}"
    return None


def wrong_price(name: str, text: str) -> str | None:
    """Describe why a text is not a price, if it is not."""
    if not DECIMAL_NUMBER.fullmatch(text.strip(" ")):
        return f"`{name}` is `{text[:40]}`, not a number"
    value = float(text)
    if value <= 0:
        return f"`{name}` is `{text[:40]}`, not above 0"
    if value < LEAST_PRICE or not is_near_grid(text.strip(" ")):
        return f"`{name}` is `{text[:40]}`, with more than 8 decimals"
    return None if value < LARGEST_PRICE else f"`{name}` is `{text[:40]}`, too large for a price"
