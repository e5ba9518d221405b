"""The Parquet encoding of day files, and a hash of their rows."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import ParquetCorruptionError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["ENCODING", "LONGEST_TEXT", "content_hash", "decode", "decode_slices", "encode"]

#: Parquet options of day files.
ENCODING = {"compression": "zstd", "compression_level": 3, "row_group_size": 131_072}
#: Rows that are decoded at a time: a whole number of row groups.
SLICE_ROWS = 4 * 131_072

# Odd numbers without a pattern, one for each column of a frame.
_FACTORS = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
    0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3,
    0xEB44ACCAB455D165,
    0x589965CC75374CC3,
)
#: Longest text of a column, in bytes.
LONGEST_TEXT = 128
_ID, _ROW = "agg_trade_id", "row"
_FEW_ROWS = 100_000
_NULL_BITS = 0x94D049BB133111EB


def encode(ticks: pl.DataFrame) -> memoryview:
    """Encode rows as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    ticks.write_parquet(buffer, **ENCODING)  # type: ignore[arg-type]
    return buffer.getbuffer()


def decode(data: bytes, schema: Mapping[str, pl.DataType], path: Path) -> pl.DataFrame:
    """Decode some columns of a file from its bytes.

    Raises
    ------
    ParquetCorruptionError
        The bytes are not a Parquet file with these columns.
    """
    with _decoding(path):
        return _checked(pl.read_parquet(data, columns=list(schema)), schema)


def decode_slices(
    data: bytes, rows: int, schema: Mapping[str, pl.DataType], path: Path, *, whole: bool
) -> Iterator[pl.DataFrame]:
    """Decode some columns of a file, as a whole or a limited number of rows at a time.

    Raises
    ------
    ParquetCorruptionError
        The bytes are not a Parquet file with these columns.
    """
    if whole or rows <= SLICE_ROWS:
        yield decode(data, schema, path)
        return
    with _decoding(path):
        plan = pl.scan_parquet(io.BytesIO(data)).select(list(schema))
    for start in range(0, rows, SLICE_ROWS):
        with _decoding(path):
            frame = _checked(plan.slice(start, SLICE_ROWS).collect(), schema)
        yield frame


def _checked(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    if frame.schema != schema:
        raise pl.exceptions.SchemaError(f"its columns are `{dict(frame.schema)}`")
    return frame


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn a decoding error into one that names the file.

    The bytes match the manifest, so the file was written by something else.
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise ParquetCorruptionError(
            with_hint(
                f"`{path}` is not a file of ticks: {reason}",
                "another program wrote it; fetch the day again, or delete it (`delete_ticks`)",
            ),
            path=path,
            reason=reason,
        ) from error


def content_hash(ticks: pl.DataFrame) -> str:
    """Return a hash of the rows in hex, independent of their encoding.

    It does not depend on the order of the rows where they have numbers as ids, which order them.

    It uses integer arithmetic only, so that it is the same in every version of Polars.

    Examples
    --------
    >>> import polars as pl
    >>> from rangebar_polars.storage.files.codec import content_hash
    >>> ticks = pl.DataFrame({"price": [1.5, 2.0], "agg_trade_id": [1, 2]})
    >>> content_hash(ticks) == content_hash(ticks.reverse())
    True
    """
    if _ID not in ticks.columns:
        ticks = ticks.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_ROW))
    row = pl.lit(len(ticks.columns), pl.UInt64)
    for factor, (name, dtype) in zip(_FACTORS, ticks.schema.items(), strict=False):
        bits = _text_bits(ticks.get_column(name)) if dtype == pl.String() else _bits(name, dtype)
        row += bits.fill_null(_NULL_BITS) * pl.lit(factor, pl.UInt64)
    row = (row ^ (row // 2**32)) * pl.lit(_FACTORS[0], pl.UInt64)
    row ^= row // 2**29
    # The streaming engine works on blocks that stay in the CPU cache, but starts threads for them.
    is_long = ticks.height > _FEW_ROWS
    plan = ticks.lazy().select(row.sum())
    total = plan.collect(engine="streaming" if is_long else "in-memory").item()
    return f"{total:016x}"


def _bits(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Boolean():
        return column.cast(pl.UInt64)
    if dtype.is_float():
        return column.reinterpret(dtype=pl.UInt64)
    return column.to_physical().reinterpret(signed=False)


def _text_bits(texts: pl.Series) -> pl.Expr:
    """Combine the length and the bytes of texts, eight bytes at a time."""
    data = pl.col(texts.name).cast(pl.Binary)
    bits = data.bin.size().cast(pl.UInt64)
    longest = int(texts.str.len_bytes().cast(pl.Int64).max() or 0)  # type: ignore[arg-type]
    factor = _FACTORS[1]
    for start in range(0, longest, 8):
        word = (data.bin.slice(start, 8) + pl.lit(bytes(8))).bin.slice(0, 8)
        bits += word.bin.reinterpret(dtype=pl.UInt64, endianness="little") * pl.lit(
            factor, pl.UInt64
        )
        factor = factor * _FACTORS[0] % 2**64
    return bits
