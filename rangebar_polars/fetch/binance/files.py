"""Files of Binance aggregate trades that a user has, plain or zipped, as one lazy frame."""

from __future__ import annotations

import glob
import warnings
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rangebar_polars._utils.fork import ForkSafeLock, raise_if_forked
from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars.exceptions import with_hint
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.normalise import TradeFileWarning, normalise
from rangebar_polars.fetch.zipped import is_zip, member_pieces
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import polars as pl

__all__ = ["GLOB_CHARACTERS", "read_agg_trades", "resolve_paths", "scan_agg_trades"]

AnyPath: TypeAlias = str | PathLike[str]

SLICE_ROWS = 250_000
PIECE_BYTES = 1 << 20
GLOB_CHARACTERS = "*?["


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
        When the frame is collected: a row that is no trade, or a price or quantity of more than
        eight decimals, with file and line.
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
    warn = once(warn_of_file)

    def frames(_wanted: list[str] | None) -> Iterator[pl.DataFrame]:
        # Slices let go of a file while the next is read.
        return chain.from_iterable(read(path, warn).iter_slices(SLICE_ROWS) for path in paths)

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
    >>> from rangebar_polars.fetch.binance.archive import read_agg_trades
    >>> file = Path(tempfile.mkdtemp()) / "trades.csv"
    >>> _ = file.write_text("1,61837.63,0.02,71,71,1723161255342000,true\n")
    >>> read_agg_trades(file)["timestamp"].dt.to_string().item()
    '2024-08-08 23:54:15.342000+00:00'
    """
    return read(Path(path), warn_of_file)


def read(path: Path, warn: Callable[[str], None]) -> pl.DataFrame:
    """Trades of one file; `warn` is told what was mended in it."""
    raise_if_forked("reading a file of trades")
    source = str(path)
    raw = parse_trades(pieces_of(path), source)
    clean = normalise(raw.frame, source, raw.first_line)
    message = clean.mended.warning(source)
    if message:
        warn(message)
    return clean.ticks


def pieces_of(path: Path) -> Iterator[bytes]:
    """The CSV bytes of a file, or of the one CSV in a zip; its content says which it is."""
    with path.open("rb") as file:
        piece = file.read(PIECE_BYTES)
        if is_zip(piece):
            yield from member_pieces(piece + file.read(), str(path))
            return
        while piece:
            yield piece
            piece = file.read(PIECE_BYTES)


def warn_of_file(message: str) -> None:
    """Say what was changed in a file."""
    warnings.warn(message, TradeFileWarning, stacklevel=2)


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell` that is never told the same twice, whichever thread it is in."""
    told: set[str] = set()
    lock = ForkSafeLock()

    def tell_news(message: str) -> None:
        with lock:
            is_news = message not in told
            told.add(message)
        if is_news:
            tell(message)

    return tell_news
