"""Long texts where a name is expected: an error of a few lines, and no work for each character."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars._text import LONGEST_NAME, most_similar
from rangebar_polars.cli._arguments import misspelt_source
from rangebar_polars.exceptions import nearest
from rangebar_polars.installation.variables import nearest_variables
from rangebar_polars.threshold import parse_threshold, parse_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 200_000
TRADES = pl.DataFrame({"timestamp": [datetime(2024, 1, 1, tzinfo=UTC)], "price": [1.0]})
DAYS = ("2024-01-01", "2024-01-02")
#: Calls of functions, of Python and of C. A loop over the characters makes some for each of them.
MOST_CALLS = LENGTH // 4
LONGEST_MESSAGE = 3_000

TEXTS = {
    "letters": "a" * LENGTH,
    "digits": "9" * LENGTH,
    "blanks": "1" + " " * LENGTH + "x",
    "words": "ab " * (LENGTH // 3),
    "underscores": "_" * LENGTH,
    "decimals": "0." + "0" * LENGTH,
    "colons": ":" * LENGTH,
    "foreign": "µ" * LENGTH,
}
REFUSED: dict[str, Callable[[str], object]] = {
    "threshold": parse_threshold,
    "thresholds": lambda text: parse_thresholds([text]),
    "distance": rb.Distance,
    "reset": lambda text: TRADES.rangebar.bars(250, reset=text),
    "max_gap": lambda text: TRADES.rangebar.bars(250, max_gap=text),
    "features": lambda text: TRADES.rangebar.bars(250, features=text),
    "incomplete": lambda text: TRADES.rangebar.bars(250, incomplete=text),
    "group_by": lambda text: TRADES.rangebar.bars(250, group_by=text),
    "column": lambda text: TRADES.rangebar.bars(250, columns={"quantity": text}),
    "side_is": lambda text: TRADES.rangebar.bars(250, side_is=text),
    "keyword": lambda text: TRADES.rangebar.bars(250, **{text: 1}),
    "symbol": lambda text: rb.scan_ticks(text, *DAYS),
    "symbol of bars": lambda text: rb.get_range_bars(text, *DAYS),
    "start": lambda text: rb.scan_ticks("BTCUSDT", text, "2024-01-02"),
    "source": lambda text: rb.scan_ticks("BTCUSDT", *DAYS, source=text),
    "market": lambda text: rb.scan_ticks("BTCUSDT", *DAYS, market=text),
    "layout": lambda text: rb.scan_trades("trades.csv", layout=text),
    "time_unit": lambda text: rb.scan_trades("trades.csv", time_unit=text),
    "attribute": lambda text: getattr(rb, text),
    "quote": rb.tier1_pairs,
}


def calls_of(work: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("argument", REFUSED)
def test_a_long_text_is_refused_without_a_look_at_each_character(argument: str, text: str) -> None:
    messages: list[str] = []

    def call(given: str) -> None:
        try:
            REFUSED[argument](given)
        except (ValueError, TypeError, AttributeError, LookupError, OSError) as error:
            messages.append(str(error))

    call("?")  # imports what it needs
    calls = calls_of(lambda: call(text))
    assert len(messages) == 2
    assert len(messages[1]) <= LONGEST_MESSAGE
    assert calls <= MOST_CALLS


@pytest.mark.parametrize("text", [*TEXTS.values(), "RANGEBAR_" * (LENGTH // 9), "r_" * LENGTH])
def test_no_name_is_similar_to_a_long_text(text: str) -> None:
    known = ["RANGEBAR_CACHE_DIR", "binance"]

    def compare() -> None:
        assert nearest(text, known) is None
        assert misspelt_source(text) is None
        assert not any(nearest_variables([text, f"RANGEBAR_{text}"], known).values())

    assert calls_of(compare) <= MOST_CALLS


def test_names_up_to_the_longest_are_compared() -> None:
    name = "a" * LONGEST_NAME
    assert most_similar(name[:-1] + "b", ["b", name], 0.9) == name
    assert most_similar(name + "a", [name], 0.9) is None
    assert most_similar("ab", ["a" * LENGTH, "aab"], 0.5) == "aab"
