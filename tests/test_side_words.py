"""The aggressor's side as words: every dtype, spelling and chunking gives the bars of the flag."""

from __future__ import annotations

import polars as pl
import pytest

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import TickDataError

ROWS = 1_003
WORDS = ["buy", "SELL", "Buy", "sell", "B", "s", "bid", "ASK"]
MANY = [f"word {i}" for i in range(70_000)]
DTYPES = {
    "String": pl.String(),
    "Categorical": pl.Categorical(),
    "8 bits": pl.Categorical(pl.Categories("side-8", physical=pl.UInt8)),
    "16 bits": pl.Categorical(pl.Categories("side-16", physical=pl.UInt16)),
    "Enum": pl.Enum([*WORDS, "neither", "a word longer than a view"]),
    "large Enum": pl.Enum([*MANY, *WORDS, "neither", "a word longer than a view"]),
}


def trades() -> pl.DataFrame:
    row = pl.int_range(ROWS, eager=True)
    return pl.DataFrame(
        {
            "timestamp": (row * 1_000).cast(pl.Datetime("us")),
            "price": 100.0 + row // 7 % 5,
            "quantity": 1.0 + row % 3,
            "word": pl.Series(WORDS).gather(row * 7919 % len(WORDS)),
        }
    )


def with_side(dtype: pl.DataType, words: pl.Expr) -> pl.DataFrame:
    return trades().with_columns(side=words.cast(dtype)).drop("word")


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_words_say_what_the_flag_says(dtype: pl.DataType) -> None:
    is_sell = pl.col("word").str.to_lowercase().is_in(["sell", "s", "ask"])
    expected = trades().with_columns(is_buyer_maker=is_sell).drop("word").rangebar.bars(250)
    frame = with_side(dtype, pl.col("word"))
    assert_same_bars(frame.rangebar.bars(250), expected)
    parts = pl.concat([frame[:5], frame[5:18], frame[18:19], frame[19:]], rechunk=False)
    assert_same_bars(parts.rangebar.bars(250), expected)
    made = frame.select(rb.bars("price", 250, side="side")).unnest("bars")
    assert_same_bars(made, expected)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("word", ["neither", "a word longer than a view"])
@pytest.mark.parametrize("row", [0, 8, 777, ROWS - 1])
def test_the_first_other_word_is_named(dtype: pl.DataType, word: str, row: int) -> None:
    wrong = pl.when(pl.int_range(pl.len()).is_in([row, ROWS - 1])).then(pl.lit(word))
    frame = with_side(dtype, wrong.otherwise("word"))
    for chunks in (frame, pl.concat([frame[:3], frame[3:]], rechunk=False)):
        with pytest.raises(TickDataError, match=f"`side` must be .*{word}.* at row {row}\n"):
            chunks.rangebar.bars(250)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_null_has_no_aggressor(dtype: pl.DataType) -> None:
    row = pl.int_range(pl.len())
    words = pl.when(row == 20).then(None)
    frame = with_side(dtype, words.otherwise("word"))
    for chunks in (frame, pl.concat([frame[:13], frame[13:]], rechunk=False)):
        bars = chunks.rangebar.bars(250, incomplete="keep")
        assert bars["buy_volume"].sum() + bars["sell_volume"].sum() == (
            frame["quantity"].sum() - frame["quantity"][20]
        )
        assert bars["volume"].sum() == frame["quantity"].sum()
    later = words.when(row == 21).then(pl.lit("neither")).otherwise("word")
    with pytest.raises(TickDataError, match=r"neither.* at row 21"):
        with_side(dtype, later).rangebar.bars(250)
