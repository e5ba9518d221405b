"""The store takes the sides that frames take, and keeps trades without an aggressor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["buy", "S", "none", None, "ASK", "Bid", "", "unknown", "1", "-1"]
FLAGS = [False, True, None, None, True, False, None, None, False, True]
COLUMNS = {
    "String": pl.Series("side", WORDS),
    "Categorical": pl.Series("side", WORDS, dtype=pl.Categorical),
    "integers": pl.Series("side", [1, -1, 0, None, -1, 1, 0, None, 1, -1], dtype=pl.Int8),
    "flags": pl.Series("is_buyer_maker", FLAGS),
}
PLACES = [("BTCUSDT", {}), ("BTCUSDT", {"source": "my-venue"})]


def trades(side: pl.Series) -> pl.DataFrame:
    first = rb.sample_ticks().head(len(side) * 500).drop("is_buyer_maker")
    return first.with_columns(pl.concat([side] * 500))


@pytest.mark.parametrize(("symbol", "place"), PLACES, ids=["binance", "a source of one's own"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_sides_are_kept_and_give_the_bars_of_the_frame(
    kind: str, symbol: str, place: dict[str, str], tmp_path: Path
) -> None:
    frame = trades(COLUMNS[kind])
    storage = TickStorage(tmp_path)
    storage.write_ticks(symbol, frame, **place)
    stored = storage.get_ticks(symbol, "2024-08-08", "2024-08-08", **place)
    assert stored["is_buyer_maker"].to_list() == FLAGS * 500
    bars = frame.rangebar.bars(100, features="microstructure")
    assert bars.height > 3
    assert stored.rangebar.bars(100, features="microstructure").equals(bars)
    assert (bars["buy_volume"] + bars["sell_volume"] < bars["volume"]).all()


@pytest.mark.parametrize(("symbol", "place"), PLACES, ids=["binance", "a source of one's own"])
def test_a_word_that_is_not_a_side_is_named(
    symbol: str, place: dict[str, str], tmp_path: Path
) -> None:
    frame = trades(pl.Series("side", ["buy", None, "hold", "buyish"]))
    with pytest.raises(TickDataError, match="row 2: `side` is `hold`, which is not a side"):
        TickStorage(tmp_path).write_ticks(symbol, frame, **place)
    with pytest.raises(TypeError, match="`side` is of type `Float64`"):
        TickStorage(tmp_path).write_ticks(symbol, trades(pl.Series("side", [1.0])), **place)
