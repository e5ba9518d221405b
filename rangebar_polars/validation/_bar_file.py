"""Bars in a Parquet or CSV file, as this package or pandas writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._text import shown
from rangebar_polars.exceptions import BarDataError, with_hint
from rangebar_polars.validation._frames import catalogue, catalogue_names

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_bars"]

_PARQUET = b"PAR1"
#: Names of the index of close times in files of pandas.
_INDEX = ("timestamp", "__index_level_0__", "close_time", "")


def read_bars(path: Path) -> pl.DataFrame:
    """Read all bars of a file, under the names of the catalogue where it knows the columns.

    Raises
    ------
    BarDataError
        The file cannot be read, or is neither Parquet nor CSV.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> import rangebar_polars as rb
    >>> from rangebar_polars.validation._bar_file import read_bars
    >>> file = Path(mkdtemp()) / "bars.csv"
    >>> rb.sample_ticks().rangebar.bars(250).write_csv(file)
    >>> read_bars(file).columns[:3]
    ['bar_id', 'open_time', 'close_time']
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        if is_parquet:
            bars = pl.read_parquet(path, hive_partitioning=False, glob=False)
        else:
            bars = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        sentence = f"`{shown(str(path))}` cannot be read as bars: {shown(reason)}"
        hint = "give a Parquet or CSV file of bars, such as bars.write_parquet writes"
        raise BarDataError(with_hint(sentence, hint)) from error
    return _typed(bars.rename(_new_names(bars.columns)))


def _new_names(names: list[str]) -> dict[str, str]:
    """Return new names for the columns of pandas that hold a column of the catalogue."""
    found = catalogue_names(names)
    index = next((name for name in _INDEX if name in names), None)
    if index is not None and "close_time" not in names:
        found[index] = "close_time"
    return found


def _typed(bars: pl.DataFrame) -> pl.DataFrame:
    """Convert columns of numbers that a CSV file yields as texts.

    It yields texts if all values are missing, or one is `inf`.
    """
    texts = [
        name
        for name, dtype in bars.schema.items()
        if dtype == pl.String and name in catalogue() and catalogue()[name].is_number
    ]
    return bars.with_columns(
        converted
        for name in texts
        if (converted := bars[name].cast(pl.Float64, strict=False)).null_count()
        == bars[name].null_count()
    )
