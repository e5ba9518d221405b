r"""Parser of aggTrades files in all published layouts, which names the line of an error.

Prices and quantities are decimal text and become the nearest Float64. A value is accepted only if
that double, formatted with eight places, has the digits of the text. The tail of a double that was
printed with all its digits is cut off (`fetch.decimals`). Any other ninth decimal is an error with
its line, and so is a number with more digits than a double can hold. Two cases that do not change the
double are not noticed: zeros after the eighth place, and below 2^20 digits from the tenth place on.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.csv_lines import first_fault, is_exact, number_of, parsing
from rangebar_polars.fetch.decimals import TELLING_BELOW, has_eight_places, on_grid
from rangebar_polars.fetch.normalise import is_sentinel
from rangebar_polars.fetch.zipped import PARQUET_MAGIC, DamagedFileError
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.trade_layouts.matching import matching
from rangebar_polars.trade_layouts.table import AGG_TRADES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["RawTrades", "parse_trades"]

BLOCK_BYTES = 8 << 20
#: Longest line, and longest run of empty lines. A line of trades has about 100 bytes.
LONGEST_LINE_BYTES = 1 << 20
HINT = "fetch the file again, or remove the line"
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
# Names in headers, and the columns they stand for.
HEADER_NAMES = {"transact_time": "timestamp"}
# Dtypes in the file. Time is a whole number until its unit is known.
FILE_DTYPES: dict[str, pl.DataType] = {
    **TRADES_SCHEMA,
    "timestamp": pl.Int64(),
    "is_best_match": pl.Boolean(),
}
DECIMALS = ("price", "quantity")
TAIL = "has_tail"
# Doubles below this reproduce eight decimals.
EXACT_BELOW = 2**26
# Doubles below this hold every whole number.
WHOLE_BELOW = 2**53
EIGHT_PLACES = r"^[0-9]+(\.[0-9]{0,8}0*)?$"
NO_PLACES = r"^[0-9]+(\.0*)?$"
# In two steps, since one pattern would look at each run of blanks from each of its blanks.
LEADING_BLANKS = re.compile(rb"([,\r\n]|^)[ \t]+")
TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=[,\r\n]|$)")


class RawTrades(NamedTuple):
    """Trades in file order, with time as whole numbers, and the line of the first trade.

    `tails` marks the rows whose price or quantity had the tail of a double; None if none had.
    """

    frame: pl.DataFrame
    first_line: int
    tails: pl.Series | None = None


def parse_trades(pieces: Iterable[bytes], source: str) -> RawTrades:
    r"""Parse the trades of a file from its pieces, reading the next ones meanwhile.

    Raises
    ------
    DamagedFileError
        The file is empty, or neither trades nor a known header.
    TickDataError
        A line is not a valid trade. The message has its number.

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
        for block in chain([head[layout.start :]], read_ahead(blocks)):
            frames.append(parse(block, layout.columns, source, line))
            line += frames[-1].height
    except EndlessLineError as error:
        raise error.in_file(source, line) from None
    frame = pl.concat(frames, how="diagonal")
    if TAIL not in frame.columns:
        return RawTrades(frame, layout.first_line)
    return RawTrades(frame.drop(TAIL), layout.first_line, frame[TAIL].fill_null(value=False))


def whole_lines(pieces: Iterable[bytes], block_bytes: int | None = None) -> Iterator[bytes]:
    r"""Group pieces into blocks of whole lines, leaving out empty lines at the end of the file.

    A block has at least `block_bytes`, by default 8 MiB.

    Raises
    ------
    EndlessLineError
        A line, or a run of empty lines, is too long for a file of trades.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.csv import whole_lines
    >>> list(whole_lines([b"1,2\n3,", b"4\n\n"]))
    [b'1,2\n3,4\n']
    """
    pending: list[bytes] = []
    size, least = 0, block_bytes or BLOCK_BYTES
    tail = Tail()
    for piece in pieces:
        fault = tail.fault_after(piece)
        if fault == Tail.LINE:
            raise EndlessLineError(b"".join(pending).count(b"\n"), fault)
        pending.append(piece)
        if fault == Tail.EMPTY_LINES:
            text = b"".join(pending).rstrip()
            raise EndlessLineError(text.count(b"\n") if text else -1, fault)
        size += len(piece)
        # Hold back empty lines until another line follows.
        end = end_of_text(piece[: piece.rfind(b"\n") + 1]) if size >= least else 0
        if end:
            pending[-1] = piece[:end]
            yield b"".join(pending)
            pending, size = [piece[end:]], len(piece) - end
    rest = b"".join(pending)
    end = end_of_text(rest)
    if end:
        yield rest[:end]


class EndlessLineError(Exception):
    """Raised when a line, or a run of empty lines, is too long for a table."""

    def __init__(self, lines: int, what: str) -> None:
        super().__init__(what)
        #: Its distance in lines from the first line that is in no block yet.
        self.lines = lines

    def in_file(self, source: str, line: int) -> TickDataError:
        """Make the error for a file whose next block starts with this line."""
        return TickDataError(
            with_hint(f"`{source}`, line {max(1, line + self.lines)}: {self}", HINT)
        )


class Tail:
    """Lengths that can grow over pieces: of the last line, and of empty lines at the end."""

    LINE = f"longer than {LONGEST_LINE_BYTES} bytes"
    EMPTY_LINES = f"followed by more than {LONGEST_LINE_BYTES} bytes of empty lines"

    def __init__(self) -> None:
        self._line_bytes = 0
        self._blank_bytes = 0

    def fault_after(self, piece: bytes) -> str | None:
        """Add a piece; describe why the end of the file is too long, if it is."""
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
    """Return the end of the last non-empty line; 0 if all lines are empty."""
    end = len(lines.rstrip())
    return (lines.find(b"\n", end) + 1 or len(lines)) if end else 0


def read_ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks, reading each in a thread while the one before is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="rangebar-unzip") as worker:
        coming = worker.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = worker.submit(next, blocks, None)
            yield block


class Layout(NamedTuple):
    """Columns of a file, and the start of its trades."""

    columns: tuple[str, ...]
    first_line: int
    start: int


def layout_of(block: bytes, source: str) -> Layout:
    """Detect the layout by the names of a header, or by the number of fields."""
    start = len(BYTE_ORDER_MARK) if block.startswith(BYTE_ORDER_MARK) else 0
    end = block.find(b"\n") + 1 or len(block)
    fields = block[start:end].decode("utf-8", "replace").strip().split(",")
    is_row = fields[0].strip().isdigit()
    names = [field.strip().strip('"').lower() for field in fields]
    columns = tuple(HEADER_NAMES.get(name, name) for name in names)
    row = (
        block[end : block.find(b"\n", end) + 1 or None]
        .decode("utf-8", "replace")
        .strip()
        .split(",")
    )
    others = matching(None, names) if is_row else matching(names, row)
    if others and all(other.name != AGG_TRADES for other in others):
        raise other_layout(others[0], source)
    if is_row and len(fields) in (len(FUTURES_COLUMNS), len(SPOT_COLUMNS)):
        return Layout(SPOT_COLUMNS[: len(fields)], 1, start)
    if not is_row and is_known_header(columns):
        return Layout(columns, 2, end)
    sentence = f"`{source}`, line 1: {len(fields)} fields"
    if block[start:].startswith(PARQUET_MAGIC):
        sentence = f"`{source}` is a Parquet file"
    elif not is_row:
        text = ",".join(fields)[:80]
        sentence = f"`{source}`, line 1: neither a trade nor a known header: `{text}`"
    hint = "an aggTrades file has 7 columns (futures) or 8 (spot); rb.scan_trades reads other files"
    raise DamagedFileError(with_hint(sentence, hint))


def other_layout(layout: TradeLayout, source: str) -> DamagedFileError:
    """Return the error for a file of trades that are not the aggregate trades of Binance."""
    kind = "single trades" if layout.name == "binance-trades" else "trades"
    text = " (the archive's `trades`)" if layout.name == "binance-trades" else ""
    return DamagedFileError(
        with_hint(
            f"`{source}` has {kind} of the layout `{layout.name}`{text}, not aggregate trades",
            f'read it with rb.scan_trades(r"{source}")',
        )
    )


def is_known_header(columns: Sequence[str]) -> bool:
    """Return whether a header names the columns of trades, each once."""
    known = set(FUTURES_COLUMNS) <= set(columns) <= set(SPOT_COLUMNS)
    return known and len(set(columns)) == len(columns)


def parse(block: bytes, columns: Sequence[str], source: str, line: int) -> pl.DataFrame:
    """Parse a block of lines, the first of which is line number `line` of the file."""
    schema = {column: FILE_DTYPES[column] for column in columns}
    if not block:
        return pl.DataFrame(schema=schema).select(TRADES_SCHEMA.names())
    cause: pl.exceptions.PolarsError | None = None
    with parsing(source, line, HINT):
        try:
            sound = read_sound(block, schema)
        except pl.exceptions.PolarsError as error:
            sound, cause = None, error
        if sound is None and (plain := without_blanks(block)) != block:
            try:
                sound, block = read_sound(plain, schema), plain
            except pl.exceptions.PolarsError as error:
                block, cause = plain, error
        if sound is not None:
            return sound
        fault = first_fault(block, columns, line)
    fault = fault or f"lines from {line} on cannot be read: {cause}"
    raise TickDataError(with_hint(f"`{source}`, {fault}", HINT)) from cause


def line_count(block: bytes) -> int:
    """Count the lines of a block, including an unterminated last line."""
    return block.count(b"\n") + (not block.endswith(b"\n"))


def without_blanks(block: bytes) -> bytes:
    r"""Return lines without blanks around their values, which programs add.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.csv import without_blanks
    >>> without_blanks(b"1, 0.5 , true\n")
    b'1,0.5,true\n'
    """
    return TRAILING_BLANKS.sub(b"", LEADING_BLANKS.sub(rb"\1", block))


def read_sound(block: bytes, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    """Parse the trades of a block, or return None if a line is not valid.

    If decimals have binary tails, a further column marks them.
    """
    frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
    if frame.height != line_count(block):
        return None
    readable, exact, large = frame.select(
        is_readable().all(),
        exact=pl.all_horizontal(is_large(name) | has_eight_places(name) for name in DECIMALS).all(),
        large=pl.any_horizontal(is_large(name).any() for name in DECIMALS),
    ).row(0)
    if not readable:
        return None
    if exact and not large:
        return frame.select(TRADES_SCHEMA.names())
    if not exact:
        frame = without_tails(frame)
    if large:
        frame = exact_large(frame, block, schema)
    decimals = (is_large(name) | has_eight_places(name) for name in DECIMALS)
    if not frame.select(pl.all_horizontal(is_readable(), *decimals).all()).item():
        return None
    return frame.select(
        *TRADES_SCHEMA.names(), *(name for name in (TAIL,) if name in frame.columns)
    )


def without_tails(frame: pl.DataFrame) -> pl.DataFrame:
    """Cut off the tails that the doubles of a frame show, and mark their rows."""
    parts = [on_grid(frame[name]) for name in DECIMALS]
    tails = parts[0][1].fill_null(value=False) | parts[1][1].fill_null(value=False)
    return frame.with_columns(*(values for values, _ in parts), tails.alias(TAIL))


def is_readable() -> pl.Expr:
    """Return the condition of rows that are a trade or a sentinel, apart from their decimals."""
    price, quantity = pl.col("price"), pl.col("quantity")
    amounts = price.is_finite() & (price > 0) & quantity.is_finite() & (quantity >= 0)
    ids = pl.col("first_trade_id").is_between(0, pl.col("last_trade_id"))
    sound = (amounts & ids & (pl.col("agg_trade_id") >= 0)) | is_sentinel()
    return pl.all_horizontal(pl.all().is_not_null(), sound)


def is_large(name: str) -> pl.Expr:
    """Return the condition of values whose double does not show the decimals of the text."""
    return pl.col(name).abs() >= TELLING_BELOW


def exact_large(
    frame: pl.DataFrame, block: bytes, schema: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """Compare large values with their text, and cut off their tails.

    A value that is not the number of its text becomes null.
    """
    as_text = {name: pl.String() if name in DECIMALS else dtype for name, dtype in schema.items()}
    texts = pl.read_csv(block, has_header=False, schema=as_text, quote_char=None)
    for name in DECIMALS:
        large = frame.select(is_large(name)).to_series()
        if large.any():
            frame = replace_large(frame, name, large, texts[name])
    return frame


def replace_large(
    frame: pl.DataFrame, name: str, large: pl.Series, texts: pl.Series
) -> pl.DataFrame:
    """Replace large values by the numbers in their text, or by null if a Float64 cannot hold them."""
    text, value = texts.filter(large), frame[name].filter(large)
    short = text.str.contains(EIGHT_PLACES) & (value < EXACT_BELOW)
    whole = text.str.contains(NO_PLACES) & (value < WHOLE_BELOW)
    plain = (short | whole).fill_null(value=False)
    rows = large.arg_true().filter(~plain)
    if not len(rows):
        return frame
    others = text.filter(~plain).to_list()
    numbers = pl.Series([number_of(other) for other in others], dtype=pl.Float64)
    tails = rows.filter(
        pl.Series([not is_exact(other) for other in others]) & numbers.is_not_null()
    )
    marks = (
        frame[TAIL] if TAIL in frame.columns else pl.repeat(value=False, n=frame.height, eager=True)
    )
    # Another array than that of the frame: `scatter` writes into its own.
    values, marks = (
        frame[name].clone().scatter(rows, numbers),
        marks.clone().scatter(tails, values=True),
    )
    return (
        frame.with_columns(values)
        if not len(tails)
        else frame.with_columns(values, marks.alias(TAIL))
    )
