"""What `paths=` stands for: files of a folder, pattern or list, and addresses."""

from __future__ import annotations

from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.binance.files import ADDRESS, GLOB_CHARACTERS, expand, no_files
from rangebar_polars.fetch.zipped import PARQUET_MAGIC, text_pieces
from rangebar_polars.trade_files.csv_blocks import blocks_of, parse_blocks
from rangebar_polars.trade_files.file_symbols import of_symbol
from rangebar_polars.trade_files.opening import head_of, open_text
from rangebar_polars.trade_files.parquet import ParquetFile
from rangebar_polars.trade_files.remote import RemoteParquet, RemoteText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

    from rangebar_polars.fetch.binance.files import AnyPath
    from rangebar_polars.trade_files.opening import Opened, Request

__all__ = ["Input", "TextFile", "inputs_of"]

SUFFIXES = (".csv", ".csv.gz", ".zip", ".parquet", ".pq")


class Input(Protocol):
    """One file, wherever it is."""

    @property
    def source(self) -> str:
        """Its name, for messages."""
        ...

    def opened(self) -> Opened:
        """Decide its layout; an empty file is an error."""
        ...

    def opened_or_empty(self) -> Opened | None:
        """Decide its layout; None if it is empty."""
        ...

    def blocks(self, opened: Opened) -> Iterator[pl.DataFrame]:
        """Yield its trades, as they stand in it."""
        ...


class TextFile:
    """A file of text, plain or compressed."""

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        self.request = request

    @property
    def source(self) -> str:
        """Its name, for messages."""
        return str(self.path)

    def pieces(self) -> Iterator[bytes]:
        """Yield its text."""
        return text_pieces(self.path)

    def opened_or_empty(self) -> Opened | None:
        """Decide its layout; None if it is empty."""
        pieces = self.pieces()
        head = head_of(pieces, self.source)
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
        return None if head is None else open_text(head, self.request)

    def opened(self) -> Opened:
        """Decide its layout.

        Raises
        ------
        TickDataError
            It is empty, or of no known layout.
        """
        opened = self.opened_or_empty()
        if opened is None:
            raise TickDataError(with_hint(f"`{self.source}` is empty", "fetch the file again"))
        return opened

    def blocks(self, opened: Opened) -> Iterator[pl.DataFrame]:
        """Yield its trades, as they stand in it."""
        return parse_blocks(blocks_of(self.path), opened, self.request.symbol)


def inputs_of(paths: AnyPath | Iterable[AnyPath], request: Request) -> list[Input]:
    """Return the files that a path, folder, pattern, address or several of them stand for."""
    if isinstance(paths, (str, PathLike)) or not hasattr(paths, "__iter__"):
        found = places_of(paths)
    else:
        found = list(chain.from_iterable(map(places_of, paths)))
    if not found:
        raise no_files()
    return [
        remote(place, request) if isinstance(place, str) else of_file(place, request)
        for place in of_symbol(found, request.symbol)
    ]


def places_of(path: object) -> list[Path | str]:
    """Return the files of one path, folder or pattern, or an address."""
    if isinstance(path, (str, PathLike)):
        if ADDRESS.match(str(path)):
            return [str(path)]
        if Path(path).is_dir():
            return [*in_folder(Path(path))]
    return [*expand(path)]


def of_file(path: Path, request: Request) -> Input:
    """Return a file by what its content is."""
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    if is_parquet:
        return ParquetFile(str(path), request)
    if request.layout == "parquet":
        raise TickDataError(
            with_hint(f"`{path}` is not a Parquet file", "leave out `layout`, or name another")
        )
    return TextFile(path, request)


def in_folder(folder: Path) -> list[Path]:
    """Return the trade files of a folder and those in it, by name."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.lower().endswith(SUFFIXES)
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        listed = ", ".join(f"`{suffix}`" for suffix in SUFFIXES)
        raise FileNotFoundError(
            with_hint(f"the folder `{folder}` has no trade files", f"their names end in {listed}")
        )
    return found


def remote(address: str, request: Request) -> Input:
    """Return the file at an address.

    Raises
    ------
    ValueError
        Polars does not read files of this kind from an address.
    """
    path = address.partition("?")[0].lower()
    if path.endswith((".parquet", ".pq")):
        return RemoteParquet(address, request)
    is_one = not any(sign in path for sign in GLOB_CHARACTERS)
    if is_one and path.endswith((".csv", ".csv.gz", ".gz")):
        return RemoteText(address, request)
    raise ValueError(
        with_hint(
            f"`{address}` is not the address of one CSV or Parquet file",
            "download it first and give its path",
        )
    )
