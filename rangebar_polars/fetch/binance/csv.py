r"""Text of an aggTrades file to a frame: every layout there has been, each line read or named.

Prices and quantities are decimal text and become Float64, which holds all of what the file says:
a value is the double nearest to its text, and is accepted only if that double, written with eight
places, gives back the digits of the text. A ninth decimal is an error with its line, as is a
number that is too large for the digits it has. What goes unnoticed is what no reader of doubles
could see: zeros behind the eighth place, and below 2^20 digits from the tenth place on that leave
the nearest double what it is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.csv_lines import first_fault, is_exact, parsing
from rangebar_polars.fetch.normalise import is_sentinel
from rangebar_polars.fetch.zipped import DamagedFileError
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["RawTrades", "parse_trades"]

BLOCK_BYTES = 8 << 20
#: Longest line, and longest run of empty lines: a line of trades has some 100 bytes.
LONGEST_LINE_BYTES = 1 << 20
HINT = "fetch the file again, or take the line out"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

FUTURES_COLUMNS = (
    "agg_trade_id",
    "price",
    "quantity",
    "first_trade_id",
    "last_trade_id",
    "timestamp",
    "is_buyer_maker",
)
SPOT_COLUMNS = (*FUTURES_COLUMNS, "is_best_match")
# Headers name the time of a trade so.
HEADER_NAMES = {"transact_time": "timestamp"}
# As the file holds them; time is a whole number until its unit is known.
FILE_DTYPES: dict[str, pl.DataType] = {
    **TRADES_SCHEMA,
    "timestamp": pl.Int64(),
    "is_best_match": pl.Boolean(),
}
DECIMALS = ("price", "quantity")
GRID = 100_000_000  # units of the eighth place
# Doubles below lie so close that one of nine decimals is not one of eight.
TELLING_BELOW = 2**20
# Doubles below lie close enough to give back eight decimals.
EXACT_BELOW = 2**26
# Doubles below hold every whole number.
WHOLE_BELOW = 2**53
EIGHT_PLACES = r"^[0-9]+(\.[0-9]{0,8}0*)?$"
NO_PLACES = r"^[0-9]+(\.0*)?$"


class RawTrades(NamedTuple):
    """Trades in the order of the file, time as whole numbers; and the line of the first."""

    frame: pl.DataFrame
    first_line: int


def parse_trades(pieces: Iterable[bytes], source: str) -> RawTrades:
    r"""Trades of a file that comes in pieces; the next ones are made while one is parsed.

    Raises
    ------
    DamagedFileError
        The file is empty, or neither trades nor a known header.
    TickDataError
        A line that is no trade, with its number.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.csv import parse_trades
    >>> pieces = [b"1,61837.63,0.02,71,71,1723161", b"255342,True,True\n"]
    >>> parse_trades(pieces, "day.csv").frame["timestamp"].item()
    1723161255342
    """
    blocks = whole_lines(pieces)
    try:
        head = next(blocks, None)
    except EndlessLineError as error:
        raise error.in_file(source, 1) from None
    if head is None:
        raise DamagedFileError(with_hint(f"`{source}` is empty", "fetch the file again"))
    layout = layout_of(head, source)
    line = layout.first_line
    frames = []
    try:
        for block in chain([head[layout.start :]], one_ahead(blocks)):
            frames.append(parse(block, layout.columns, source, line))
            line += frames[-1].height
    except EndlessLineError as error:
        raise error.in_file(source, line) from None
    return RawTrades(pl.concat(frames), layout.first_line)


def whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""Blocks of whole lines; empty lines at the end of the file belong to none.

    Raises
    ------
    EndlessLineError
        A line, or a run of empty lines, is longer than any in a file of trades.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.csv import whole_lines
    >>> list(whole_lines([b"1,2\n3,", b"4\n\n"]))
    [b'1,2\n3,4\n']
    """
    held: list[bytes] = []
    size = 0
    tail = Tail()
    for piece in pieces:
        fault = tail.fault_after(piece)
        if fault == Tail.LINE:
            raise EndlessLineError(b"".join(held).count(b"\n"), fault)
        held.append(piece)
        if fault == Tail.EMPTY_LINES:
            text = b"".join(held).rstrip()
            raise EndlessLineError(text.count(b"\n") if text else -1, fault)
        size += len(piece)
        # Empty lines after the last full one wait until it is known whether another follows.
        end = end_of_text(piece[: piece.rfind(b"\n") + 1]) if size >= BLOCK_BYTES else 0
        if end:
            held[-1] = piece[:end]
            yield b"".join(held)
            held, size = [piece[end:]], len(piece) - end
    rest = b"".join(held)
    end = end_of_text(rest)
    if end:
        yield rest[:end]


class EndlessLineError(Exception):
    """A line, or a run of empty lines, that is too long to be one of a table."""

    def __init__(self, lines: int, what: str) -> None:
        super().__init__(what)
        #: How many lines it stands behind the first that no block holds yet.
        self.lines = lines

    def in_file(self, source: str, line: int) -> TickDataError:
        """Error for a file whose next block would have begun with this line."""
        return TickDataError(
            with_hint(f"`{source}`, line {max(1, line + self.lines)}: {self}", HINT)
        )


class Tail:
    """What may grow without end from piece to piece: the last line, and empty lines at the end."""

    LINE = f"longer than {LONGEST_LINE_BYTES} bytes"
    EMPTY_LINES = f"followed by more than {LONGEST_LINE_BYTES} bytes of empty lines"

    def __init__(self) -> None:
        self._line_bytes = 0
        self._blank_bytes = 0

    def fault_after(self, piece: bytes) -> str | None:
        """Follow the file by one piece; why its end is too long, if it is."""
        first, last = piece.find(b"\n"), piece.rfind(b"\n")
        if self._line_bytes + (len(piece) if first < 0 else first) > LONGEST_LINE_BYTES:
            return self.LINE
        self._line_bytes = len(piece) - last - 1 + (self._line_bytes if last < 0 else 0)
        text = len(piece) if piece[-1:].strip() else len(piece.rstrip())
        self._blank_bytes = len(piece) - text + (0 if text else self._blank_bytes)
        if self._blank_bytes > LONGEST_LINE_BYTES:
            return self.EMPTY_LINES
        return None


def end_of_text(lines: bytes) -> int:
    """Where the last line ends that is not empty; 0 if each is."""
    end = len(lines.rstrip())
    return (lines.find(b"\n", end) + 1 or len(lines)) if end else 0


def one_ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, each made while the one before is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="rangebar-unzip") as worker:
        coming = worker.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = worker.submit(next, blocks, None)
            yield block


class Layout(NamedTuple):
    """Columns of a file, and where its trades begin."""

    columns: tuple[str, ...]
    first_line: int
    start: int


def layout_of(block: bytes, source: str) -> Layout:
    """Layout by the first line: its names where it is a header, else its number of fields."""
    start = len(BYTE_ORDER_MARK) if block.startswith(BYTE_ORDER_MARK) else 0
    end = block.find(b"\n") + 1 or len(block)
    fields = block[start:end].decode("utf-8", "replace").strip().split(",")
    if fields[0].strip().isdigit():
        columns = SPOT_COLUMNS[: len(fields)]
        if len(fields) in (len(FUTURES_COLUMNS), len(SPOT_COLUMNS)):
            return Layout(columns, 1, start)
        sentence = f"`{source}`, line 1: {len(fields)} fields"
    else:
        names = [field.strip().strip('"').lower() for field in fields]
        columns = tuple(HEADER_NAMES.get(name, name) for name in names)
        if is_known_header(columns):
            return Layout(columns, 2, end)
        text = ",".join(fields)[:80]
        sentence = f"`{source}`, line 1: neither a trade nor a known header: `{text}`"
    raise DamagedFileError(
        with_hint(sentence, "an aggTrades file has 7 columns (futures) or 8 (spot)")
    )


def is_known_header(columns: Sequence[str]) -> bool:
    """Whether a header names the columns of trades, each once."""
    known = set(FUTURES_COLUMNS) <= set(columns) <= set(SPOT_COLUMNS)
    return known and len(set(columns)) == len(columns)


def parse(block: bytes, columns: Sequence[str], source: str, line: int) -> pl.DataFrame:
    """Trades of a block of lines, the first of which is line number `line` of the file."""
    schema = {column: FILE_DTYPES[column] for column in columns}
    if not block:
        return pl.DataFrame(schema=schema).select(TRADES_SCHEMA.names())
    cause: pl.exceptions.PolarsError | None = None
    with parsing(source, line, HINT):
        try:
            frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
            if frame.height == line_count(block) and is_sound(frame, block, columns):
                return frame.select(TRADES_SCHEMA.names())
        except pl.exceptions.PolarsError as error:
            cause = error
        fault = first_fault(block, columns, line)
    fault = fault or f"lines from {line} on cannot be read: {cause}"
    raise TickDataError(with_hint(f"`{source}`, {fault}", HINT)) from cause


def line_count(block: bytes) -> int:
    """Lines of a block, whether or not the last one ends."""
    return block.count(b"\n") + (not block.endswith(b"\n"))


def is_sound(frame: pl.DataFrame, block: bytes, columns: Sequence[str]) -> bool:
    """Whether each line is a trade, and each decimal what the file says."""
    readable, large = frame.select(
        is_readable().all(), large=pl.any_horizontal(is_large(name).any() for name in DECIMALS)
    ).row(0)
    return bool(readable) and not (large and loses_digits(frame, block, columns))


def is_readable() -> pl.Expr:
    """Rows that are a trade, or a sentinel that stands for none."""
    price, quantity = pl.col("price"), pl.col("quantity")
    amounts = price.is_finite() & (price > 0) & quantity.is_finite() & (quantity >= 0)
    ids = pl.col("first_trade_id").is_between(0, pl.col("last_trade_id"))
    sound = (amounts & ids & (pl.col("agg_trade_id") >= 0)) | is_sentinel()
    decimals = (is_large(name) | has_eight_places(name) for name in DECIMALS)
    return pl.all_horizontal(pl.all().is_not_null(), sound, *decimals)


def is_large(name: str) -> pl.Expr:
    """Values of which the double alone does not tell how many places the text had."""
    return pl.col(name).abs() >= TELLING_BELOW


def has_eight_places(name: str) -> pl.Expr:
    """Values that are the double nearest to a decimal number of at most eight places."""
    value = pl.col(name)
    # Polars divides by a scalar as it multiplies by the reciprocal, which is not the same number.
    grid = value * 0 + GRID
    return (value * GRID).round() / grid == value


def loses_digits(frame: pl.DataFrame, block: bytes, columns: Sequence[str]) -> bool:
    """Whether the double of a large value is another number than its text."""
    schema = {name: pl.String if name in DECIMALS else FILE_DTYPES[name] for name in columns}
    texts = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
    for name in DECIMALS:
        large = frame.select(is_large(name)).to_series()
        text, value = texts[name].filter(large), frame[name].filter(large)
        short = text.str.contains(EIGHT_PLACES) & (value < EXACT_BELOW)
        whole = text.str.contains(NO_PLACES) & (value < WHOLE_BELOW)
        if not all(map(is_exact, text.filter(~(short | whole)))):
            return True
    return False
