"""Small distributions with entry points, installed in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.plugins.discovery import GROUP

if TYPE_CHECKING:
    from pathlib import Path

#: A provider that works, as source.
MOMENTUM = """
import polars as pl

class Momentum:
    name = "momentum"
    version = "2.1.0"
    columns = ("momentum_2",)
    min_bars = 2

    def enrich(self, bars, symbol, threshold_decimal_bps):
        return bars.with_columns(momentum_2=pl.col("close") / pl.col("close").shift(2) - 1)

momentum = Momentum()
"""


def install(
    folder: Path, name: str, points: dict[str, str], source: str, *, version: str = "1.0"
) -> None:
    """Write the module `name`, and the metadata of a distribution with these entry points."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    listed = "".join(f"{point} = {target}\n" for point, target in points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{listed}")


def provider(name: str, body: str, *, columns: str = "", min_bars: int = 0) -> str:
    """Return the source of the class `Provider`, whose method has this body."""
    return f"""
import polars as pl

class Provider:
    name = "{name}"
    version = "0.3"
    columns = ({columns or f'"{name}_x"'},)
    min_bars = {min_bars}

    def enrich(self, bars, symbol, threshold_decimal_bps):
        {body}
"""
