"""`scan_trades`: trades of any known layout as one lazy frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import count_text
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.io_source import lazy_frame
from rangebar_polars.compute._columns import parse_columns
from rangebar_polars.exceptions import TickDataError, unknown_choice, with_hint
from rangebar_polars.fetch.binance.file_chain import FileChain, Once
from rangebar_polars.fetch.binance.file_fills import FileFills, FillChain
from rangebar_polars.fetch.normalise import (
    MissingFileWarning,
    RepeatedFillsWarning,
    warn_of_file,
)
from rangebar_polars.trade_files.inputs import inputs_of
from rangebar_polars.trade_files.opening import Request
from rangebar_polars.trade_files.origin import origin_of_files
from rangebar_polars.trade_files.sequence import Sequence
from rangebar_polars.trade_files.values import LINE, schema_of
from rangebar_polars.trade_layouts.table import NAMES, TIME_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rangebar_polars._typing import ColumnMap
    from rangebar_polars.fetch.binance.files import AnyPath
    from rangebar_polars.trade_files.inputs import Input
    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["scan_trades"]

ID = "agg_trade_id"
TIME = "timestamp"


@checked_keywords
def scan_trades(
    paths: AnyPath | Iterable[AnyPath],
    *,
    layout: str = "auto",
    symbol: str | None = None,
    columns: ColumnMap | None = None,
    time_unit: str | None = None,
) -> pl.LazyFrame:
    r"""Scan the trade files of exchanges and data vendors as one lazy frame.

    Files are `.csv`, `.csv.gz`, `.zip` or `.parquet`, plain or compressed as their content says,
    and are read a block at a time. The columns are `timestamp` (UTC, microseconds), `price`,
    `quantity`, ids, and `is_buyer_maker`, which is null where nobody was the aggressor; a layout
    without a field leaves out its column. Single trades with whole-number ids are records of one
    fill: `agg_trade_id`, `first_trade_id` and `last_trade_id` are the id. Text ids are `trade_id`.
    Quotes give `bid`, `ask` and their mid as `price`. Coin-margined futures have `contracts` beside
    `quantity` in coins.

    Every value is checked: decimals are exact to eight places, rows are put in order, exact copies
    are dropped, and a time that runs back by at most a second is raised. What was changed is warned
    of once a file; so are trades that are missing between files. `docs/reference/layouts.md` lists
    the layouts. `plan.rangebar.binding()` and `explain()` say which one was taken. The plan can be
    pickled.

    Parameters
    ----------
    paths
        A path, a folder, a pattern such as `"data/BTCUSDT-*.zip"`, an address of a CSV or Parquet
        file (`https://`, `s3://`), or several of them. Files follow one another in the order given,
        those of a folder or pattern by name.
    layout
        Name of the layout; by default it is recognised by the names and values of each file.
    symbol
        The symbol to read. Of several files, those are read whose names contain it, if any does; of
        a file with a column of symbols, the rows of the symbol. A file without either is an error.
    columns
        Which column is which field, such as `{"quantity": "sz"}`, for files without known names.
    time_unit
        `"s"`, `"ms"`, `"us"` or `"ns"`, for times that are numbers in files of no known layout.

    Raises
    ------
    FileNotFoundError
        A file is missing, or a folder or pattern has none; at the call.
    TickDataError
        The layout is unknown; at the call. A row is not a valid trade, with file and line; when the frame is
        collected.
    TickOrderError
        When the frame is collected: time runs back by more than a second.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import rangebar_polars as rb
    >>> file = Path(tempfile.mkdtemp()) / "BTCUSDT-trades-2024-01-01.csv"
    >>> _ = file.write_text("7,42313.9,0.02,846.278,1704067200047,true\n")
    >>> rb.scan_trades(file).collect().drop("timestamp").row(0)
    (42313.9, 0.02, 7, 7, 7, True)
    """
    raise_if_forked("scan_trades")
    request = parse_request(layout, symbol, columns, time_unit)
    inputs = inputs_of(paths, request)
    opened = inputs[0].opened()
    schema = schema_of(opened.layout)
    detail = f"{count_text(len(inputs), 'file')} from {inputs[0].source} ({opened.note})"
    frames = TradeFiles(
        tuple(inputs), tuple(schema.items()), opened.layout.title, Once(warn_of_file)
    )
    origin = origin_of_files(inputs, opened, is_given=layout != "auto")
    return lazy_frame(frames, schema=schema, name="TRADES", detail=detail, origin=origin)


def parse_request(
    layout: str, symbol: str | None, columns: ColumnMap | None, time_unit: str | None
) -> Request:
    """Check the arguments that do not need a file."""
    for name, value in (("layout", layout), ("symbol", symbol), ("time_unit", time_unit)):
        if not isinstance(value, str) and (name == "layout" or value is not None):
            raise TypeError(f"`{name}` must be text; it is of type `{type(value).__name__}`")
    if layout not in {"auto", *NAMES}:
        raise ValueError(unknown_choice("layout", layout, ("auto", *NAMES)))
    if time_unit is not None and time_unit not in TIME_UNITS:
        raise ValueError(unknown_choice("time_unit", time_unit, list(TIME_UNITS)))
    given = parse_columns(columns)
    return Request(layout, symbol or None, tuple(given.items()), time_unit)


@dataclass(frozen=True)
class TradeFiles:
    """Frames of trade files, a block in memory at a time; it can be pickled."""

    inputs: tuple[Input, ...]
    columns: tuple[tuple[str, pl.DataType], ...]
    title: str
    warn: Once

    def __call__(self, _wanted: list[str] | None) -> Iterator[pl.DataFrame]:
        """Read the files in order."""
        raise_if_forked("reading trade files")
        chain, fills = FileChain(), FillChain()
        for one in self.inputs:
            yield from self.read(one, chain, fills)
        if message := chain.missing():
            self.warn(message, MissingFileWarning)
        if message := fills.misplaced():
            self.warn(message)

    def read(self, one: Input, chain: FileChain, fill_chain: FillChain) -> Iterator[pl.DataFrame]:
        """Read one file."""
        opened = one.opened_or_empty()
        if opened is None:
            self.warn(f"`{one.source}` is empty")
            return
        self.check_schema(one, opened.layout)
        sequence = Sequence(one.source, opened.counted)
        ends = Ends(opened.layout)
        fills = FileFills(one.source, fill_chain)
        for block in sequence.ordered(one.blocks(opened)):
            ends.follow(block)
            if "first_trade_id" in block.columns:
                fills.add(block)
            yield block.drop(LINE).select(pl.col(name).cast(dtype) for name, dtype in self.columns)
        if message := sequence.warning:
            self.warn(message)
        place = f"{opened.counted} {fills.repeated[LINE]}" if fills.repeated else ""
        for words in fills.warnings(place):
            self.warn(words, RepeatedFillsWarning)
        ends.tell(chain, one.source)

    def check_schema(self, one: Input, layout: TradeLayout) -> None:
        """Refuse a file whose trades have other columns than those of the first file."""
        if tuple(schema_of(layout).items()) != self.columns:
            raise TickDataError(
                with_hint(
                    f"`{one.source}` has the layout `{layout.title}`, and the files before it "
                    f"`{self.title}`, which gives other columns",
                    "scan the files of each layout apart, and join the frames with "
                    '`pl.concat([...], how="diagonal")`',
                )
            )


class Ends:
    """First and last trade of one file."""

    def __init__(self, layout: TradeLayout) -> None:
        self._layout = layout
        self._first: tuple[int, int] | None = None
        self._last = (0, 0)

    def follow(self, block: pl.DataFrame) -> None:
        """Take a block of the file in."""
        ids = block[ID] if ID in block.columns else block[TIME]
        if self._first is None:
            self._first = (ids[0], block[TIME][0])
        self._last = (ids[-1], block[TIME][-1])

    def tell(self, chain: FileChain, source: str) -> None:
        """Tell what the file holds."""
        if self._first is None:
            return
        if self._layout.id_kind == "consecutive":
            chain.follow_ids(source, self._first[0], self._last[0])
        elif self._layout.never_closes:
            chain.follow_times(source, self._first[1], self._last[1])
