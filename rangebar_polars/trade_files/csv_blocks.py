"""Blocks of the text of a file to trades: at the speed of Polars, or else line by line."""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.exceptions import RangeBarError, TickDataError, with_hint
from rangebar_polars.fetch.binance.csv import (
    EXACT_BELOW,
    LONGEST_LINE_BYTES,
    WHOLE_BELOW,
    EndlessLineError,
    Tail,
    line_count,
    whole_lines,
)
from rangebar_polars.fetch.csv_lines import number_of, parsing
from rangebar_polars.fetch.decimals import TELLING_BELOW
from rangebar_polars.fetch.zipped import is_gzip, is_zip, text_pieces
from rangebar_polars.trade_files.line_faults import first_fault
from rangebar_polars.trade_files.opening import fields_of
from rangebar_polars.trade_files.plain_lines import in_columns, plain_lines
from rangebar_polars.trade_files.values import (
    LINE,
    Symbols,
    amounts,
    checked,
    raw_schema,
    schema_of,
)
from rangebar_polars.trade_layouts.table import column_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from rangebar_polars.trade_files.opening import Opened

__all__ = ["BLOCK_BYTES", "blocks_of", "parse_blocks"]

# Small enough that Polars reads a block in one thread, and keeps it in the caches.
BLOCK_BYTES = 2 << 20
MAGIC_BYTES = 4
MOST_WORKERS = 4
HINT = "correct the line, or take it out"
# More than eight decimals, decimals of a number of eight digits or more, or an exponent.
MAY_BE_INEXACT = re.compile(rb"[.][0-9]{8}[0-9]*[1-9]|[0-9]{8}[.][0-9]*[1-9]|[0-9][eE]")


class Parsed(NamedTuple):
    """Trades of a block, and what must be compared with the blocks before."""

    trades: pl.DataFrame
    symbols: list[str]
    lines: int


class TextReader:
    """Reads the blocks of one file."""

    def __init__(self, opened: Opened, symbol: str | None) -> None:
        self.opened = opened
        self.symbols = Symbols(opened, symbol)
        fields = raw_schema(opened)
        keys = [column_key(name) for name in opened.names]
        self.columns = [f"column {at}" for at in range(len(keys))]
        self.fields = {
            field: (keys.index(column_key(name)), dtype) for field, (name, dtype) in fields.items()
        }
        checked_fields = set(self.fields) - {"id" if opened.layout.id_kind == "text" else ""}
        checked_fields -= {"symbol", "side"}
        self.reads_last = len(keys) - 1 in {self.fields[field][0] for field in checked_fields}
        places = {field: at for field, (at, _) in self.fields.items()}
        self.plain = plain_lines(opened, places, len(keys))

    def try_parse(self, block: bytes) -> Parsed | None:
        """Return the trades of clean lines, counted from 0; None if the block needs a closer look."""
        return self.try_plain(block) or self.try_polars(block)

    def try_plain(self, block: bytes) -> Parsed | None:
        """Return the trades of lines that are read in one pass, without their numbers."""
        found = self.plain.read(block) if self.plain else None
        if found is None:
            return None
        frame, symbol = found
        wanted = self.symbols.wanted
        if symbol is None:
            return Parsed(in_columns(frame, self.opened.layout), [], frame.height)
        if wanted is not None and symbol.lower() != wanted.lower():
            return None
        return Parsed(in_columns(frame, self.opened.layout), [symbol], frame.height)

    def try_polars(self, block: bytes) -> Parsed | None:
        """Return the trades of lines that Polars reads as they are."""
        try:
            raw = self.quickly(block, 0)
            if raw is None:
                return None
            own, found = self.symbols.own(raw)
            trades, is_sound = checked(own, self.opened)
            exact = self.exact(trades, block, 0) if is_sound else None
        except (pl.exceptions.PolarsError, TickDataError):
            return None
        return None if exact is None else Parsed(exact, found, raw.height)

    def parse(self, block: bytes, line: int) -> Parsed:
        """Return the trades of a block whose first line has this number.

        Raises
        ------
        TickDataError
            A line is not a valid trade.
        """
        opened = self.opened
        if not block:
            return Parsed(self.empty(), [], 0)
        cause: pl.exceptions.PolarsError | None = None
        with parsing(opened.source, line, HINT):
            for read in (self.quickly, self.line_by_line):
                try:
                    raw = read(block, line)
                    if raw is None:
                        continue
                    own, found = self.symbols.own(raw)
                    trades, is_sound = checked(own, opened)
                except RangeBarError:  # is an error of Polars, too
                    raise
                except pl.exceptions.PolarsError as error:
                    cause = error
                    continue
                exact = self.exact(trades, block, line) if is_sound else None
                if exact is not None:
                    return Parsed(exact, found, line_count(block))
            fault = first_fault(numbered(block, line, opened), opened, self.symbols.wanted)
        fault = fault or f"lines from {line} on cannot be read: {cause}".partition("\n")[0]
        raise TickDataError(with_hint(f"`{opened.source}`, {fault}", HINT)) from cause

    def empty(self) -> pl.DataFrame:
        """Return no trades."""
        schema = {**schema_of(self.opened.layout), "timestamp": pl.Int64(), LINE: pl.Int64()}
        return pl.DataFrame(schema=schema)

    def quickly(self, block: bytes, line: int) -> pl.DataFrame | None:
        """Return the raw fields of a block of clean lines; None if they are not clean."""
        separator = self.opened.separator
        dtypes = dict(self.fields.values())
        frame = pl.read_csv(
            block,
            has_header=False,
            separator=separator,
            schema={name: dtypes.get(at, pl.String()) for at, name in enumerate(self.columns)},
            columns=sorted({at for at, _ in self.fields.values()}),
        )
        if frame.height != line_count(block):
            return None
        # A short line has null in the last column, which goes unnoticed if that column is not read.
        if not self.reads_last and b'"' not in block:
            between = (len(self.columns) - 1) * frame.height
            if block.count(separator.encode()) != between:
                return None
        return self.named(frame).with_columns(pl.int_range(line, line + pl.len()).alias(LINE))

    def named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns under the names of their fields."""
        return frame.select(
            pl.col(self.columns[at]).alias(field) for field, (at, _) in self.fields.items()
        )

    def line_by_line(self, block: bytes, line: int) -> pl.DataFrame | None:
        """Return the raw fields of lines with blanks, quotes or headers; None if some are short."""
        rows, numbers = [], []
        for number, row in numbered(block, line, self.opened):
            values = fields_of(row, self.opened.separator)
            if len(values) != len(self.columns):
                return None
            rows.append([values[at] for at, _ in self.fields.values()])
            numbers.append(number)
        if not rows:
            return (
                self.named(pl.DataFrame(schema=dict.fromkeys(self.columns, pl.String)))
                .cast({field: dtype for field, (_, dtype) in self.fields.items()})
                .with_columns(pl.Series(LINE, [], pl.Int64))
            )
        text = pl.DataFrame(rows, schema=dict.fromkeys(self.fields, pl.String), orient="row")
        columns = [cast(field, dtype) for field, (_, dtype) in self.fields.items()]
        return text.select(columns).with_columns(pl.Series(LINE, numbers, pl.Int64))

    def exact(self, trades: pl.DataFrame, block: bytes, line: int) -> pl.DataFrame | None:
        """Return the trades, if their large amounts are what the text says; doubles do not tell."""
        fields = amounts(self.opened.layout)
        if trades.is_empty():
            return trades
        large = trades.select(
            (pl.col(field) >= TELLING_BELOW).any().alias(field) for field in fields
        )
        for field, is_large in zip(fields, large.row(0), strict=True):
            if is_large and not self.opened.is_scaled:
                values = trades[field]
                rows = ((values >= TELLING_BELOW) & ~is_plain(values, block)).arg_true()
                texts = self.texts(field, trades[LINE].gather(rows), block, line)
                numbers = [number_of(text) for text in texts]
                if None in numbers:
                    return None
                if len(rows):
                    column = trades[field].clone().scatter(rows, pl.Series(numbers))
                    trades = trades.with_columns(column)
        return trades

    def texts(self, field: str, lines: pl.Series, block: bytes, line: int) -> list[str]:
        """Return the text of a field in some lines."""
        at = self.fields[field][0]
        wanted = set(lines)
        text = {
            number: fields_of(text, self.opened.separator)[at]
            for number, text in numbered(block, line, self.opened)
            if number in wanted
        }
        return [text[number] for number in lines]


def is_plain(values: pl.Series, block: bytes) -> pl.Series:
    """Return which large values are exact whatever their texts; none if a text may not be."""
    if MAY_BE_INEXACT.search(block):
        return pl.repeat(value=False, n=len(values), eager=True)
    return (values < EXACT_BELOW) | ((values < WHOLE_BELOW) & (values == values.round()))


def cast(field: str, dtype: pl.DataType) -> pl.Expr:
    """Return text in the type of its field, null where it is not of that type."""
    text = pl.col(field)
    if dtype == pl.Boolean():
        plain = text.str.to_lowercase()
        true, false = plain.is_in(["true", "1"]), plain.is_in(["false", "0"])
        return pl.when(true).then(True).when(false).then(False).alias(field)  # noqa: FBT003
    if dtype == pl.String():
        return text
    return text.str.strip_prefix("+").cast(dtype, strict=False)


def numbered(block: bytes, line: int, opened: Opened) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, without empty ones and repeated lines of names."""
    keys = [column_key(name) for name in opened.names]
    for number, raw in enumerate(block.split(b"\n"), start=line):
        text = raw.decode("utf-8", "replace").strip("\r")
        if not text.strip():
            continue
        if (
            not any(sign.isdigit() for sign in text[:1])
            and column_key(fields_of(text, opened.separator)[0]) == keys[0]
        ):
            continue
        yield number, text


def parse_blocks(
    blocks: Iterator[bytes], opened: Opened, symbol: str | None
) -> Iterator[pl.DataFrame]:
    """Yield the trades of the blocks of a text, each row with its line, and read blocks ahead."""
    reader = TextReader(opened, symbol)
    line = opened.first_line
    try:
        head = next(blocks, b"")
        for block, parsed in in_threads(reader, chain([head[opened.start :]], blocks)):
            done = parsed or reader.parse(block, line)
            reader.symbols.follow(done.symbols, line)
            yield with_lines(done.trades, line) if parsed else done.trades
            line += done.lines
    except EndlessLineError as error:
        raise error.in_file(opened.source, line) from None
    reader.symbols.check()


def with_lines(trades: pl.DataFrame, line: int) -> pl.DataFrame:
    """Return trades with the numbers of their lines, where the first line has this number."""
    if LINE in trades.columns:
        return trades.with_columns(pl.col(LINE) + line)
    return trades.with_columns(pl.int_range(line, line + pl.len()).alias(LINE))


def in_threads(
    reader: TextReader, blocks: Iterator[bytes]
) -> Iterator[tuple[bytes, Parsed | None]]:
    """Parse several blocks at a time, and yield them in order."""
    workers = min(MOST_WORKERS, pl.thread_pool_size())
    with ThreadPoolExecutor(workers, thread_name_prefix="rangebar-parse") as pool:
        coming: deque[tuple[bytes, Future[Parsed | None]]] = deque()
        try:
            for block in blocks:
                coming.append((block, pool.submit(reader.try_parse, block)))
                if len(coming) > workers:
                    first, future = coming.popleft()
                    yield first, future.result()
            while coming:
                first, future = coming.popleft()
                yield first, future.result()
        finally:
            for _, future in coming:
                future.cancel()


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield the text of a file, plain or compressed, in blocks of whole lines."""
    with path.open("rb") as file:
        head = file.read(MAGIC_BYTES)
        if is_zip(head) or is_gzip(head):
            yield from whole_lines(text_pieces(path), BLOCK_BYTES)
            return
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            if not block.endswith(b"\n"):
                block += file.readline(LONGEST_LINE_BYTES)
                if not block.endswith(b"\n") and file.read(1):
                    raise EndlessLineError(block.count(b"\n"), Tail.LINE)
            yield block
