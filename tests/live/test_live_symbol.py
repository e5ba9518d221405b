"""A symbol whose journal cannot be written: no builder sees a trade that is not stored."""

from __future__ import annotations

import errno
from datetime import UTC, date, datetime
from typing import Any

import pytest

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.live_builders import LiveBuilders
from rangebar_polars.live.protocol.exchange_time import ExchangeTime
from rangebar_polars.live.protocol.sequencing import Start
from rangebar_polars.live.protocol.states import Reason
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.live.series import SeriesGroup, fresh_state
from rangebar_polars.live.symbol import LiveSymbol
from rangebar_polars.live.symbol_parts import SymbolOptions, SymbolRun
from rangebar_polars.storage.live.journal import LiveJournal, encode_columns
from rangebar_polars.storage.parquet import TickStorage

DAY = date(2026, 11, 2)
NOON_US = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000


class Silent:
    """Takes every report and every request."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class FailingJournal:
    """A journal of which some writes fail."""

    def __init__(self, journal: LiveJournal, failures: int) -> None:
        self._journal, self.failures = journal, failures
        self.written: list[int] = []

    def append_trades(self, day: date, trades: Any) -> bytes:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "no space left on device")
        self.written += list(trades.ids)
        return self._journal.append_trades(day, trades)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_no_builder_sees_a_trade_before_it_is_written(tmp_path, failures):
    folder = TickStorage(tmp_path).symbol_dir("BTCUSDT", "binance", "spot")
    spec = BarSpec.of("BTCUSDT", 250)
    group = SeriesGroup([spec.series(DAY)], LiveBuilders([fresh_state(spec)]))
    seen: list[bytes] = []
    push = group.push

    def noted(day: date, record: bytes) -> Any:
        seen.append(record)
        return push(day, record)

    group.push = noted
    symbol = LiveSymbol("BTCUSDT", SymbolOptions(), Silent(), ExchangeTime(), Silent())
    journal = FailingJournal(LiveJournal(folder, day=DAY, applied_id=0), failures)
    symbol.begin(SymbolRun(Start(0), group, journal, DAY, DAY))
    prices = [100.0, 100.1, 100.3, 100.2, 99.9, 100.2]
    trades = [
        Trade(NOON_US + at, price, 1.0, at, at, at, True) for at, price in enumerate(prices, 1)
    ]
    for trade in trades:
        symbol.take(trade)
    for attempt in range(failures):
        symbol._offer(0.0)
        assert not symbol._apply(float(attempt))
        assert seen == [], "a builder has trades that are not stored"
        assert symbol.sequencing.applied_id == 0
        assert Reason.DISK_FULL in symbol._reasons
    symbol.finish()
    assert journal.written == list(range(1, 7))
    (record,) = seen
    assert record == encode_columns(TradeColumns(trades))
    assert Reason.DISK_FULL not in symbol._reasons
    assert symbol.counters.bars == {250: 2}
