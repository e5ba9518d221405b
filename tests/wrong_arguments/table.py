"""Rows of the tables, and the code that hints contain.

A row is source code, so that it stands as a user would type it. It is evaluated with the names of
`names()`. `retry` is the corrected source, with a placeholder for what the hint says to write:
`{value}` for `write 250`, `{keyword}` for `reset="year"`, `{call}` for `pl.from_epoch(...)`.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb

START = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - a time without a zone is UTC
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_STARTS = {
    "value": re.compile(r'write (?=["\d\[])'),
    "keyword": re.compile(r'\b(?=[a-z_]+=["\[{\w])'),
    "call": re.compile(
        r"(?=\b(?:pl|rb|df|lf|trades|builder|bars|plan|trade)\.[a-zA-Z])"
        r"|(?<![\w)\]`])(?=\.[a-z])|(?<=`)(?=\.[a-z])"
    ),
}


@dataclass(frozen=True)
class Wrong:
    """A call that is refused."""

    source: str
    error: type[Exception]
    #: Texts that the message contains.
    words: tuple[str, ...]
    #: Corrected source with a placeholder for the code of the hint; None if the hint has none.
    retry: str | None = None

    def __str__(self) -> str:
        return self.source[:100]


def wrong(source: str, error: type[Exception], *words: str, retry: str | None = None) -> Wrong:
    return Wrong(source, error, words, retry)


def trades(**columns: Any) -> pl.DataFrame:
    """Return six trades that make one bar of 250 dbps; None leaves a column out."""
    base = {
        "timestamp": [START + dt.timedelta(seconds=second) for second in range(6)],
        "price": [100.0, 100.1, 100.2, 100.3, 100.4, 100.5],
        "quantity": [1.0] * 6,
        "is_buyer_maker": [False, True] * 3,
        "agg_trade_id": list(range(1, 7)),
    }
    return pl.DataFrame(
        {name: value for name, value in (base | columns).items() if value is not None}
    )


def at_row_3(column: str, value: object) -> pl.DataFrame:
    """Return trades with another value in one place."""
    frame = trades()
    here = pl.int_range(pl.len()) == 3
    other = pl.lit(value, frame.schema[column])
    return frame.with_columns(pl.when(here).then(other).otherwise(column).alias(column))


@cache
def names() -> dict[str, Any]:
    """Return the names that a row may use."""
    frame = trades()
    day = rb.sample_ticks()
    bars = day.rangebar.bars(250)
    two = pl.concat([frame.with_columns(symbol=pl.lit(name)) for name in ("AAA", "BBB")])
    us = pl.col("timestamp").dt.timestamp("us")
    return {
        "pl": pl,
        "rb": rb,
        "np": np,
        "pd": pd,
        "dt": dt,
        "Decimal": Decimal,
        "Path": Path,
        "make": trades,
        "at_row_3": at_row_3,
        "us": us,
        "df": frame,
        "trades": frame,
        "lf": frame.lazy(),
        "day": day,
        "bars": bars,
        "two": two,
        "pandas": pd.DataFrame({name: frame[name].to_list() for name in frame.columns}),
        "pandas_bars": pd.DataFrame({name: bars[name].to_list() for name in bars.columns}),
        "numbered": frame.with_columns(n=pl.int_range(pl.len()) // 2),
        "records": [
            {"timestamp": 1_704_067_200_000 + 1000 * i, "price": price, "quantity": 1.0}
            for i, price in enumerate([100.0, 100.1, 100.3])
        ],
    }


def run(source: str, **further: object) -> Any:
    # The example of a source is always the whole of it.
    return eval(source, names() | further)


def hint_of(message: str) -> str:
    return message.partition("hint: ")[2]


def code_of(message: str, kind: str) -> str:
    """Return the first code of a kind in the hint of a message."""
    hint = hint_of(message)
    start = _STARTS[kind].search(hint)
    assert start is not None, f"no {kind} in: {hint}"
    rest = hint[start.end() :]
    if hint[: start.end()].endswith("`"):
        return rest.partition("`")[0]
    return rest[: _length(rest)].rstrip(".")


def _length(text: str) -> int:
    """Return the length of the code at the start of a text: up to a blank outside of brackets."""
    open_brackets: list[str] = []
    quote = ""
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        elif not open_brackets and not re.match(r"[\w.=]", letter):
            return index
    return len(text)


def check(row: Wrong, **further: object) -> None:
    """Run a row, compare the error, and run what its hint says to write."""
    with pytest.raises(row.error) as caught:
        run(row.source, **further)
    message = str(caught.value)
    assert type(caught.value) is row.error, message
    missing = [word for word in row.words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert len(message) < 2000
    if row.retry is None:
        return
    kinds = re.findall(r"\{(value|keyword|call)\}", row.retry)
    source = row.retry
    for kind in kinds:
        source = source.replace(f"{{{kind}}}", code_of(message, kind))
    run(source, **further)
