"""Files of the public archives: their names, their text, when they appear, their checksums."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import polars as pl

from exchange.quotes import next_month
from exchange.tape import unit_of
from rangebar_polars._utils.span import day_start, parse_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date, datetime

    from exchange.quotes import QuoteTape
    from exchange.tape import Tape
    from rangebar_polars._utils.span import When

__all__ = [
    "Published",
    "archive_path",
    "checksum_text",
    "exness_path",
    "quotes_csv",
    "trades_csv",
    "zip_of",
]

FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
#: An archive appears so long after the end of its last day.
DELAY = timedelta(hours=10)
MEMBER_TIME = (2020, 1, 1, 0, 0, 0)
SPOT_DIGITS = 8


def archive_path(tape: Tape, day: When, *, monthly: bool = False) -> str:
    """Path of the archive of a day, or of its month."""
    moment = parse_day(day)
    when = f"{moment:%Y-%m}" if monthly else f"{moment:%Y-%m-%d}"
    period = "monthly" if monthly else "daily"
    name = f"{tape.symbol}-aggTrades-{when}.zip"
    return f"/data/{FOLDERS[tape.market]}/{period}/aggTrades/{tape.symbol}/{name}"


def exness_path(symbol: str, year: int, month: int) -> str:
    """Path of the quotes of a month."""
    name = f"Exness_{symbol}_Raw_Spread_{year}_{month:02}.zip"
    return f"/ticks/{symbol}_Raw_Spread/{year}/{month:02}/{name}"


def decimal_text(column: str, digits: int, *, padded: bool) -> pl.Expr:
    """Exact decimal text of a column of whole multiples of 10⁻ᵈⁱᵍⁱᵗˢ."""
    scaled = (pl.col(column) * 10**digits).round().cast(pl.Int64)
    whole = (scaled // 10**digits).cast(pl.String)
    if not padded and not digits:
        return whole
    part = (scaled % 10**digits).cast(pl.String).str.zfill(digits) if digits else pl.lit("")
    text = pl.concat_str(whole, pl.lit("."), part)
    if padded:
        return pl.concat_str(text, pl.lit("0" * (SPOT_DIGITS - digits)))
    return text.str.strip_chars_end("0").str.strip_chars_end(".")


def trades_csv(ticks: pl.DataFrame, tape: Tape, *, header: bool = False) -> bytes:
    """Text of an archive: eight columns of a spot market, seven of a future's.

    The unit of time is that of the first trade's day.
    """
    spot = tape.market == "spot"
    words = ("True", "False") if spot else ("true", "false")
    unit = unit_of(tape.market, ticks["timestamp"].item(0).date()) if len(ticks) else "ms"
    columns = [
        pl.col("agg_trade_id"),
        decimal_text("price", tape.price_digits, padded=spot),
        decimal_text("quantity", tape.quantity_digits, padded=spot).alias("quantity"),
        pl.col("first_trade_id", "last_trade_id"),
        pl.col("timestamp").dt.epoch(unit),
        pl.when("is_buyer_maker").then(pl.lit(words[0])).otherwise(pl.lit(words[1])).alias("maker"),
    ]
    if spot:
        columns.append(pl.lit("True").alias("best"))
    text = ticks.select(columns).write_csv(include_header=False, quote_style="never")
    return ((HEADER if header else "") + text).encode()


def quotes_csv(ticks: pl.DataFrame, symbol: str, digits: int = 5, *, between: str = " ") -> bytes:
    """Text of a month of quotes; `between` stands between date and time: a space or `T`."""
    stamp = pl.col("timestamp").dt.strftime(f'"%Y-%m-%d{between}%H:%M:%S%.3fZ"')
    columns = [
        pl.lit('"exness"').alias("Exness"),
        pl.lit(f'"{symbol}"').alias("Symbol"),
        stamp,
        decimal_text("bid", digits, padded=False),
        decimal_text("ask", digits, padded=False),
    ]
    text = ticks.select(columns).write_csv(include_header=False, quote_style="never")
    return ('"Exness","Symbol","Timestamp","Bid","Ask"\n' + text).encode()


def zip_of(members: dict[str, bytes]) -> bytes:
    """A zip with these files; the same files, the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, MEMBER_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content, compresslevel=1)
    return out.getvalue()


def checksum_text(name: str, content: bytes) -> bytes:
    """Text of the checksum of a file."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


@dataclass(frozen=True, eq=False)
class Published:
    """A file of the archive: where, since when, and what, once somebody asks."""

    path: str
    since: datetime
    make: Callable[[], bytes]

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def member(self) -> str:
        return self.name.removesuffix(".zip") + ".csv"

    @cached_property
    def text(self) -> bytes:
        """The CSV inside."""
        return self.make()

    @cached_property
    def content(self) -> bytes:
        return zip_of({self.member: self.text})

    @cached_property
    def checksum(self) -> bytes:
        return checksum_text(self.name, self.content)


def trade_archives(tape: Tape, *, header: bool = False) -> Iterator[Published]:
    """Daily and monthly files of a tape; a day without a trade has none, nor has a running month."""
    day_after = timedelta(days=1)
    has_header = header and tape.market != "spot"

    def published(path: str, start: date, end: date) -> Published:
        return Published(
            path,
            day_start(end) + DELAY,
            lambda: trades_csv(tape.archived(start, end), tape, header=has_header),
        )

    days = [day for day in tape.days if tape.archived(day, day + day_after).height]
    for day in days:
        yield published(archive_path(tape, day), day, day + day_after)
    for month in sorted({day.replace(day=1) for day in days}):
        yield published(archive_path(tape, month, monthly=True), month, next_month(month))


def quote_archive(
    tape: QuoteTape, month: date, now: datetime, *, between: str = " "
) -> Published | None:
    """Quotes of a month up to the last midnight; none before its second day."""
    end = min(next_month(month), now.astimezone(UTC).date())
    if end <= month:
        return None
    return Published(
        exness_path(tape.symbol, month.year, month.month),
        day_start(end),
        lambda: quotes_csv(tape.between(month, end), tape.symbol, tape.digits, between=between),
    )
