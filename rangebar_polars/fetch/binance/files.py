"""Reading of a user's files of Binance aggregate trades as one LazyFrame."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.io_source import Origin, lazy_frame
from rangebar_polars.exceptions import with_hint
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.binance.file_chain import FileChain, Once
from rangebar_polars.fetch.binance.file_fills import FileFills, FillChain
from rangebar_polars.fetch.normalise import (
    MissingFileWarning,
    RepeatedFillsWarning,
    normalise,
    warn_of_file,
)
from rangebar_polars.fetch.zipped import text_pieces
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import polars as pl

__all__ = ["GLOB_CHARACTERS", "read_agg_trades", "resolve_paths", "scan_agg_trades"]

AnyPath: TypeAlias = str | PathLike[str]

SLICE_ROWS = 250_000
PIECE_BYTES = 1 << 20
ID = "agg_trade_id"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
GLOB_CHARACTERS = "*?["


@checked_keywords
def scan_agg_trades(source: AnyPath | Iterable[AnyPath]) -> pl.LazyFrame:
    r"""Scan files of Binance aggregate trades, with one file in memory at a time.

    The files may be of spot (8 columns, no header) or futures markets (7 columns, header or none),
    plain, zipped or gzipped, with times in milliseconds or microseconds. Each file is sorted by
    `agg_trade_id`. A time that then runs back by at most a second is raised to that of the trade
    before. Sentinel rows (price 0, trade id -1) and exact copies are dropped. The tail of a binary
    fraction (`1.1375899999999999`) is rounded to eight decimals. One warning per file counts the
    changes. Ids that are missing between files, and fills that a record repeats, are warned of as
    well. Files are read in the order of the argument, those of a pattern by name. `scan_trades`
    reads files of other layouts.

    Parameters
    ----------
    source
        A path, a pattern such as `"data/BTCUSDT-*.zip"`, or several of them.

    Raises
    ------
    FileNotFoundError
        A file is missing, or a pattern matches no file. Raised at the call.
    TickDataError
        A row is not a valid trade, or a price or quantity has more than eight decimals. Raised
        with file and line when the frame is collected.
    TickOrderError
        Time runs back by more than a second. Raised when the frame is collected.

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
    detail = f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} files from {paths[0]}"
    frames = AggTradeFiles(tuple(paths), Once(warn_of_file))
    origin = Origin("given", f"binance-agg-trades; {detail}", {})
    return lazy_frame(frames, schema=TRADES_SCHEMA, name="AGG_TRADES", detail=detail, origin=origin)


@dataclass(frozen=True)
class AggTradeFiles:
    """Frames of files of aggregate trades, one file in memory at a time; it can be pickled."""

    paths: tuple[Path, ...]
    warn: Once

    def __call__(self, _wanted: list[str] | None) -> Iterator[pl.DataFrame]:
        """Read the files in order."""
        chain, fills = FileChain(), FillChain()
        for path in self.paths:
            # Slices free the memory of a file while the next one is read.
            yield from read(path, self.warn, chain, fills).iter_slices(SLICE_ROWS)
        if message := chain.missing():
            self.warn(message, MissingFileWarning)
        if message := fills.misplaced():
            self.warn(message)


def resolve_paths(source: AnyPath | Iterable[AnyPath]) -> list[Path]:
    """Return the files that a path, a pattern or several of them stand for, in order."""
    if isinstance(source, (str, PathLike)) or not hasattr(source, "__iter__"):
        return expand(source)
    paths = [path for item in source for path in expand(item)]
    if not paths:
        raise no_files()
    return paths


def no_files() -> ValueError:
    """Return the error for an empty list of files."""
    return ValueError(
        with_hint("the list of files is empty", "pass a path, a pattern, or a list of them")
    )


def expand(source: object) -> list[Path]:
    """Return the files of one path or pattern."""
    if not isinstance(source, (str, PathLike)):
        raise TypeError(
            with_hint(f"`{source!r}` is not a path", "pass a path, a pattern, or a list of them")
        )
    if ADDRESS.match(str(source)):
        raise ValueError(
            with_hint(
                f"`{source}` is an address, not a path",
                "download the file; `rb.scan_trades` reads an address of a CSV or Parquet file",
            )
        )
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise IsADirectoryError(
            with_hint(f"`{path}` is a folder", f'pass its files: "{path}/*.zip"')
        )
    if not any(character in str(path) for character in GLOB_CHARACTERS):
        raise FileNotFoundError(f"there is no file `{path}`")
    # Unlike `Path.glob`, this supports absolute patterns.
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    files = [name for name in found if name.is_file()]
    if not files:
        raise FileNotFoundError(f"no file matches `{path}`")
    return files


def read_agg_trades(path: AnyPath) -> pl.DataFrame:
    r"""Read the trades of one file, in id order.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch.binance.archive import read_agg_trades
    >>> file = Path(tempfile.mkdtemp()) / "trades.csv"
    >>> _ = file.write_text("1,61837.63,0.02,71,71,1723161255342000,true\n")
    >>> read_agg_trades(file)["timestamp"].dt.to_string().item()
    '2024-08-08 23:54:15.342000+00:00'
    """
    return read(Path(path), warn_of_file, FileChain(), FillChain())


def read(
    path: Path, warn: Callable[..., None], chain: FileChain, fill_chain: FillChain
) -> pl.DataFrame:
    """Read the trades of one file, and pass descriptions of repairs and repeated fills to `warn`."""
    raise_if_forked("reading a file of trades")
    source = str(path)
    raw = parse_trades(text_pieces(path, PIECE_BYTES), source)
    clean = normalise(raw.frame, source, raw.first_line, tails=raw.tails)
    if message := clean.repairs.warning(source):
        warn(message)
    ticks = clean.ticks
    if ticks.height:
        chain.follow_ids(source, ticks[ID][0], ticks[ID][-1])
    fills = FileFills(source, fill_chain)
    fills.add(ticks)
    line = raw.frame[ID].index_of(fills.repeated[ID]) if fills.repeated else None
    for words in fills.warnings("" if line is None else f"line {line + raw.first_line}"):
        warn(words, RepeatedFillsWarning)
    return ticks
