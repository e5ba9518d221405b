"""Trade files of a command: any known layout, a table with keys, or standard input."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.cli._output import UsageError, say
from rangebar_polars.compute._columns import bind
from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.binance.archive import GLOB_CHARACTERS
from rangebar_polars.fetch.zipped import PARQUET_MAGIC, is_gzip, is_zip, text_pieces
from rangebar_polars.trade_files.inputs import SUFFIXES, in_folder, inputs_of
from rangebar_polars.trade_layouts.matching import unit_of_time
from rangebar_polars.trade_layouts.table import TIME_UNITS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["STDIN", "TradeInput", "add_file_arguments", "is_file_name", "is_trade_file"]
__all__ += ["opened_trades"]

STDIN = "-"
COPIED_BYTES = 1 << 20
INFERRED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class TradeInput:
    """What the options say about trade files."""

    layout: str = "auto"
    symbol: str | None = None
    columns: dict[str, str | None] | None = None
    time_unit: str | None = None
    group_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> TradeInput:
        """Read the options of a command."""
        group_by = [name for text in arguments.group_by or () for name in text.split(",")]
        if group_by and (arguments.symbol or arguments.layout != "auto"):
            raise UsageError("--group-by reads plain tables; leave out --symbol and --layout")
        return cls(
            arguments.layout,
            arguments.symbol,
            columns_of(arguments.columns or ()),
            arguments.time_unit,
            tuple(name.strip() for name in group_by if name.strip()),
        )


def columns_of(texts: Sequence[str]) -> dict[str, str | None] | None:
    """Parse `price=px,quantity=sz`; a field without a column is absent.

    Examples
    --------
    >>> from rangebar_polars.cli._trades import columns_of
    >>> columns_of(["price=px, quantity=sz", "side="])
    {'price': 'px', 'quantity': 'sz', 'side': None}
    """
    columns: dict[str, str | None] = {}
    for part in (part for text in texts for part in text.split(",") if part.strip()):
        field, equals, name = part.partition("=")
        if not equals or not field.strip():
            sentence = f"--columns takes fields with their columns, not `{part.strip()}`"
            raise UsageError(with_hint(sentence, "--columns price=px,quantity=sz"))
        columns[field.strip()] = name.strip() or None
    return columns or None


def add_file_arguments(group: argparse._ActionsContainer) -> None:
    """Add the options for trade files."""
    group.add_argument(
        "--layout",
        default="auto",
        metavar="NAME",
        help="the layout of the files, such as binance-trades, bybit or csv (default: recognised "
        "by names and values)",
    )
    group.add_argument(
        "--columns",
        action="append",
        metavar="FIELD=NAME,...",
        help="which column is which field, such as price=px,quantity=sz; `side=` says that there is "
        "none",
    )
    group.add_argument(
        "--time-unit", choices=tuple(TIME_UNITS), help="the unit of times that are numbers"
    )


def is_file_name(text: str) -> bool:
    """Return whether an argument names files: it exists, is a path or pattern, or has a suffix.

    Examples
    --------
    >>> from rangebar_polars.cli._trades import is_file_name
    >>> [is_file_name(text) for text in ("trades.csv", "data/*", "-", "BTCUSDT")]
    [True, True, True, False]
    """
    path = Path(text)
    return is_trade_file(text) or len(path.parts) > 1 or bool(path.suffix) or path.exists()


def is_trade_file(text: str) -> bool:
    """Return whether an argument names trade files even where a symbol may stand.

    Symbols may have dots and slashes, and folders may be named like symbols.

    Examples
    --------
    >>> from rangebar_polars.cli._trades import is_trade_file
    >>> [is_trade_file(text) for text in ("trades.csv", "data/*", "-", "BRK.B", "EUR/USD")]
    [True, True, True, False, False]
    """
    return (
        text == STDIN
        or any(character in text for character in GLOB_CHARACTERS)
        or text.lower().endswith(SUFFIXES)
        or Path(text).is_file()
    )


@contextmanager
def opened_trades(
    names: Sequence[str], wanted: TradeInput, written: Sequence[Path | None] = ()
) -> Iterator[pl.LazyFrame]:
    """Scan the trades of files, and say which layout they have; none of them may be `written`."""
    with ExitStack() as stack:
        if names.count(STDIN) > 1:
            raise UsageError(f"`{STDIN}` (standard input) can be read once")
        paths = [stack.enter_context(_standard_input()) if n == STDIN else n for n in names]
        files = list(_local_files(paths))
        for path in written:
            if path is not None and path.exists() and any(path.samefile(f) for f in files):
                raise UsageError(f"`{path}` is among the trades; write to another file")
        if not wanted.group_by:
            yield _layout(paths, wanted)
            return
        tables = _tables(files, wanted, stack)
        try:
            yield pl.concat([_timed(plan, path, wanted) for path, plan in tables])
        except pl.exceptions.PolarsError as error:
            faults = (_time_fault(plan, path, wanted) for path, plan in tables)
            fault = next(filter(None, faults), None)
            if fault is None:
                raise
            raise fault from error


def _layout(paths: Sequence[str | Path], wanted: TradeInput) -> pl.LazyFrame:
    """Scan files of a known layout."""
    from rangebar_polars.trade_files.scan import parse_request, scan_trades

    request = parse_request(wanted.layout, wanted.symbol, wanted.columns, wanted.time_unit)
    first = inputs_of(paths, request)[0].opened()
    say(f"layout: {first.note}")
    return scan_trades(
        paths,
        layout=wanted.layout,
        symbol=wanted.symbol,
        columns=wanted.columns,
        time_unit=wanted.time_unit,
    )


@contextmanager
def _standard_input() -> Iterator[Path]:
    """Copy standard input to a file, since a layout is recognised before the trades are read."""
    if sys.stdin is None or sys.stdin.isatty():
        sentence = "standard input is a terminal; `-` reads trades that another command writes"
        raise UsageError(with_hint(sentence, "zcat trades.csv.gz | rangebar bars -"))
    with TemporaryDirectory(prefix="rangebar-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, COPIED_BYTES)
        yield path


def _local_files(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Yield the files of paths, patterns and folders; addresses have none."""
    from rangebar_polars.fetch.binance.files import resolve_paths

    for path in paths:
        if "://" in str(path):
            continue
        if Path(path).is_dir():
            yield from in_folder(Path(path))
        else:
            yield from resolve_paths(path)


def _tables(
    files: Sequence[Path], wanted: TradeInput, stack: ExitStack
) -> list[tuple[Path, pl.LazyFrame]]:
    """Scan tables with their key columns, which the frame methods group."""
    if not files:
        sentence = "--group-by reads files of this machine"
        raise UsageError(with_hint(sentence, "download the file first, and give its path"))
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="rangebar-")))
    tables = []
    for number, path in enumerate(files):
        frame = _table(path, folder / f"{number}.csv")
        missing = [name for name in wanted.group_by if name not in frame.collect_schema()]
        if missing:
            names = ", ".join(f"`{name}`" for name in frame.collect_schema())
            raise TickDataError(
                f"`{path}` has no column `{missing[0]}` to group by; it has {names}"
            )
        tables.append((path, frame))
    say(f"layout: table with {', '.join(wanted.group_by)}")
    return tables


def _table(path: Path, unpacked: Path) -> pl.LazyFrame:
    """Scan a Parquet or CSV file; a compressed one is unpacked first."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET_MAGIC))
        if magic == PARQUET_MAGIC:
            plan = pl.scan_parquet(path)
        else:
            is_packed = is_zip(magic) or is_gzip(magic)
            if is_packed:
                with unpacked.open("wb") as file:
                    file.writelines(text_pieces(path))
            text = unpacked if is_packed else path
            plan = pl.scan_csv(text, infer_schema_length=INFERRED_ROWS)
        plan.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).partition("\n")[0][:200]
        raise TickDataError(f"`{path}` cannot be read as a table: {what}") from error
    return plan


def _time_column(plan: pl.LazyFrame, wanted: TradeInput) -> tuple[str, pl.DataType]:
    schema = plan.collect_schema()
    name = bind(schema, wanted.columns or {}, keys=wanted.group_by).of("timestamp")
    return name, schema[name]


def _time_fault(plan: pl.LazyFrame, path: Path, wanted: TradeInput) -> TickDataError | None:
    """Return the error for the first text that is not a time, or None."""
    name, dtype = _time_column(plan, wanted)
    if dtype != pl.String:
        return None
    time = pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    columns = plan.select(pl.col(name).alias("text"), time.alias("time")).with_row_index("row")
    is_fault = pl.col("text").is_not_null() & pl.col("time").is_null()
    found = columns.filter(is_fault).head(1).collect()
    if found.is_empty():
        return None
    row, text, _ = found.row(0)
    sentence = f"`{path}`, row {row}: `{shown(text)}` in `{name}` is not a time"
    return TickDataError(
        with_hint(sentence, "write all times in one form, such as 2024-01-31T12:00:00Z")
    )


def _timed(plan: pl.LazyFrame, path: Path, wanted: TradeInput) -> pl.LazyFrame:
    """Convert the column of times, which may be numbers or text."""
    name, dtype = _time_column(plan, wanted)
    time = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return plan
    if dtype == pl.String:
        return plan.with_columns(time.str.to_datetime(time_unit="us", time_zone="UTC"))
    if not dtype.is_numeric():
        return plan
    unit = wanted.time_unit
    first = next(iter(plan.select(time).drop_nulls().head(1).collect()[name]), None)
    likely = None if first is None else unit_of_time(first)
    if unit is None:
        sentence = (
            f"`{path}`: the times in `{name}`, such as `{first}`, are numbers without a known unit"
        )
        raise TickDataError(with_hint(sentence, f"--time-unit {likely or 'ms'}"))
    if first is not None and likely != unit:
        sentence = f"`{path}`: the time `{first}` in `{name}` is outside 2000 to 2100 in `{unit}`"
        hint = "correct the times" if likely is None else f"--time-unit {likely}"
        raise TickDataError(with_hint(sentence, hint))
    if dtype.is_float():
        return plan.with_columns(_from_float(time, unit))
    return plan.with_columns(_from_integer(time, unit).dt.replace_time_zone("UTC"))


def _from_integer(time: pl.Expr, unit: str) -> pl.Expr:
    if unit == "s":
        return (time.cast(pl.Int64) * 1_000).cast(pl.Datetime("ms"))
    return time.cast(pl.Int64).cast(pl.Datetime(unit))  # type: ignore[arg-type]


def _from_float(time: pl.Expr, unit: str) -> pl.Expr:
    """Return times that are floats, to the microsecond."""
    us = (time * (1_000_000 / TIME_UNITS[unit])).round().cast(pl.Int64)
    return pl.from_epoch(us, time_unit="us").dt.replace_time_zone("UTC")
