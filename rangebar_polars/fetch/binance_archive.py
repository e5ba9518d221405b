"""Trade files of the Binance archive: CSV or zip, every layout they have had."""

from __future__ import annotations

import glob
import zlib
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from zipfile import BadZipFile, ZipFile

import polars as pl

from rangebar_polars._stream import lazy_frame
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.csv_lines import first_fault
from rangebar_polars.fetch.normalise import TRADES_SCHEMA, is_sentinel, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

__all__ = ["read_agg_trades", "scan_agg_trades"]

AnyPath: TypeAlias = str | PathLike[str]

BLOCK_BYTES = 16 << 20
SLICE_ROWS = 250_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ZIP_MAGIC = b"PK"
ENCRYPTED = 1  # bit 0 of the flags of a member
GLOB_CHARACTERS = "*?["

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


def scan_agg_trades(source: AnyPath | Iterable[AnyPath]) -> pl.LazyFrame:
    r"""Binance aggregate trades as a lazy frame, one file in memory at a time.

    Reads spot files (8 columns, no header) and futures files (7 columns, header or none), plain or
    zipped, with times in milliseconds or microseconds. Each file is put in the order of
    `agg_trade_id`; a time that then runs back by at most a second is raised to that of the trade
    before; sentinel rows (price 0, trade id -1) and exact copies are dropped. What was changed is
    counted and warned of once a file. Files follow one another in the order given, those of a
    pattern by name.

    Parameters
    ----------
    source
        A path, a pattern such as `"data/BTCUSDT-*.zip"`, or several of them.

    Raises
    ------
    FileNotFoundError
        A file is missing, or a pattern matches none; at the call.
    TickDataError
        When the frame is collected: a row that is no trade, with file and line.
    TickOrderError
        When the frame is collected: time runs back by more than a second.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import rangebar_polars as rb
    >>> folder = Path(tempfile.mkdtemp())
    >>> file = folder / "BTCUSDT-aggTrades-2024-08-08.csv"
    >>> _ = file.write_text("1,61837.63,0.02,71,71,1723161255342,True,True\n")
    >>> rb.scan_agg_trades(folder / "*.csv").collect().row(0)[1:]
    (61837.63, 0.02, 1, 71, 71, True)
    """
    paths = resolve_paths(source)

    def frames(_wanted: list[str] | None) -> Iterator[pl.DataFrame]:
        # Slices let go of a file while the next is read.
        return chain.from_iterable(read_agg_trades(path).iter_slices(SLICE_ROWS) for path in paths)

    detail = f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} files from {paths[0]}"
    return lazy_frame(frames, schema=TRADES_SCHEMA, name="AGG_TRADES", detail=detail)


def resolve_paths(source: AnyPath | Iterable[AnyPath]) -> list[Path]:
    """Files that a path, a pattern or several of them stand for, in order."""
    if isinstance(source, (str, PathLike)) or not hasattr(source, "__iter__"):
        return expand(source)
    paths = [path for one in source for path in expand(one)]
    if not paths:
        raise ValueError(
            with_hint("no file was given", "give a path, a pattern, or a list of them")
        )
    return paths


def expand(source: object) -> list[Path]:
    """Files of one path or pattern."""
    if not isinstance(source, (str, PathLike)):
        raise TypeError(
            with_hint(f"`{source!r}` is no path", "give a path, a pattern, or a list of them")
        )
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise IsADirectoryError(
            with_hint(f"`{path}` is a folder", f'give its files: "{path}/*.zip"')
        )
    if not any(character in str(path) for character in GLOB_CHARACTERS):
        raise FileNotFoundError(f"there is no file `{path}`")
    # Unlike `Path.glob`, this takes absolute patterns.
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    files = [name for name in found if name.is_file()]
    if not files:
        raise FileNotFoundError(f"no file matches `{path}`")
    return files


def read_agg_trades(path: AnyPath) -> pl.DataFrame:
    r"""Trades of one file, in the order of their ids.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch.binance_archive import read_agg_trades
    >>> file = Path(tempfile.mkdtemp()) / "trades.csv"
    >>> _ = file.write_text("1,61837.63,0.02,71,71,1723161255342000,true\n")
    >>> read_agg_trades(file)["timestamp"].dt.to_string().item()
    '2024-08-08 23:54:15.342000+00:00'
    """
    path = Path(path)
    source = str(path)
    with open_csv(path) as file:
        blocks = whole_lines(file)
        head = next(blocks, None)
        if head is None:
            raise TickDataError(with_hint(f"`{source}` is empty", "fetch the file anew"))
        layout = layout_of(head, source)
        line = layout.first_line
        frames = []
        for block in chain([head[layout.start :]], blocks):
            frames.append(parse(block, layout.columns, source, line))
            line += block.count(b"\n")
    return normalise(pl.concat(frames), source, layout.first_line)


@contextmanager
def open_csv(path: Path) -> Iterator[IO[bytes]]:
    """The CSV bytes of a file, or of the one CSV in a zip."""
    with path.open("rb") as file:
        zipped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        file.seek(0)
        if not zipped:
            yield file
            return
        try:
            with ZipFile(file) as archive, archive.open(only_member(archive, path)) as member:
                yield member
        except (BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
            raise TickDataError(
                with_hint(f"`{path}` is a damaged zip file: {error}", "fetch the file anew")
            ) from error


def only_member(archive: ZipFile, path: Path) -> str:
    """Name of the CSV in the archive."""
    names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
    if len(names) != 1:
        raise TickDataError(
            with_hint(f"`{path}` holds {len(names)} CSV files", "an archive holds one")
        )
    if archive.getinfo(names[0]).flag_bits & ENCRYPTED:
        raise TickDataError(with_hint(f"`{path}` is encrypted", "an archive is not"))
    return names[0]


def whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    r"""Blocks of whole lines; empty lines at the end of the file belong to none.

    Examples
    --------
    >>> import io
    >>> from rangebar_polars.fetch.binance_archive import whole_lines
    >>> list(whole_lines(io.BytesIO(b"1,2\n3,4\n\n")))
    [b'1,2\n3,4\n']
    """
    rest = b""
    while block := file.read(BLOCK_BYTES):
        text = rest + block
        # Empty lines after the last full one wait until it is known whether another follows.
        end = len(text[: text.rfind(b"\n") + 1].rstrip())
        end = text.find(b"\n", end) + 1 if end else 0
        if end:
            yield text[:end]
        rest = text[end:]
    if rest.strip():
        yield rest


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
        if set(FUTURES_COLUMNS) <= set(columns) <= set(SPOT_COLUMNS):
            return Layout(columns, 2, end)
        sentence = f"`{source}`, line 1: neither a trade nor a known header: `{','.join(fields)}`"
    raise TickDataError(
        with_hint(sentence, "an aggTrades file has 7 columns (futures) or 8 (spot)")
    )


def parse(block: bytes, columns: Sequence[str], source: str, line: int) -> pl.DataFrame:
    """Trades of a block of lines, the first of which is line number `line` of the file."""
    schema = {column: FILE_DTYPES[column] for column in columns}
    if not block:
        return pl.DataFrame(schema=schema).select(TRADES_SCHEMA.names())
    cause: pl.exceptions.PolarsError | None = None
    try:
        frame = pl.read_csv(block, has_header=False, schema=schema, quote_char=None)
        if frame.select(is_readable().all()).item():
            return frame.select(TRADES_SCHEMA.names())
    except pl.exceptions.PolarsError as error:
        cause = error
    fault = first_fault(block, columns, line) or f"lines from {line} on cannot be read: {cause}"
    hint = "fetch the file anew, or take the line out"
    raise TickDataError(with_hint(f"`{source}`, {fault}", hint)) from cause


def is_readable() -> pl.Expr:
    """Rows that are a trade, or a sentinel that stands for none."""
    price, quantity = pl.col("price"), pl.col("quantity")
    amounts = price.is_finite() & (price > 0) & quantity.is_finite() & (quantity >= 0)
    ids = pl.col("first_trade_id").is_between(0, pl.col("last_trade_id"))
    sound = (amounts & ids & (pl.col("agg_trade_id") >= 0)) | is_sentinel()
    return pl.all_horizontal(pl.all().is_not_null(), sound)
