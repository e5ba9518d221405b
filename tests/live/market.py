"""A market around now, and the bars that its trades give."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from exchange import Tape
from rangebar_polars.compute.builder import RangeBarBuilder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from exchange import Exchange

WAIT_S = 120.0
SYMBOL = "BTCUSDT"
HOUR = timedelta(hours=1)
IDS = "last_agg_trade_id"


def this_moment() -> datetime:
    """Now, at least ten minutes away from midnight: a test of one day needs them."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now.replace(hour=0, minute=0, second=0)
    earliest, latest = start + timedelta(minutes=90), start + timedelta(hours=22)
    return min(max(now, earliest), latest)


def tape_of(now: datetime, symbol: str = SYMBOL, **options: object) -> Tape:
    """Trades from an hour before now to an hour after it."""
    options = {"before": HOUR, "after": HOUR, "per_minute": 60, "volatility": 0.5} | options
    return Tape.around(now, symbol=symbol, **options)  # type: ignore[arg-type]


def point_at(exchange: Exchange, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in exchange.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(cache))


def wait_for(condition: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    """Wait until a condition holds; a test never judges how long it takes."""
    tries = threading.Event()
    for _ in range(int(WAIT_S / 0.02)):
        if condition():
            return
        tries.wait(0.02)
    raise TimeoutError(f"it never came true: {what()}")


def truth(
    tape: Tape, threshold: int, anchor: datetime, through_id: int | None = None
) -> pl.DataFrame:
    """The bars of a builder over the trades from an anchor on."""
    ticks = tape.ticks.filter(pl.col("timestamp") >= anchor)
    if through_id is not None:
        ticks = ticks.filter(pl.col("agg_trade_id") <= through_id)
    builder = RangeBarBuilder(threshold, features="microstructure")
    return builder.push(ticks)


def assert_same_bars(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """All columns that both have are the same, bit for bit."""
    names = [name for name in expected.columns if name in found.columns]
    assert IDS in names
    assert found.select(names).equals(expected.select(names))


def day_start_of(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def pages_asked(exchange: Exchange) -> list[str]:
    """The first ids of the pages that were requested from REST so far."""
    found = exchange.asked(lambda request: "fromId" in request.query)
    return [one.query["fromId"] for one in found]
