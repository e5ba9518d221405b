"""What the streams of some symbols say about their connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from rangebar_polars._utils import clock
from rangebar_polars.fetch.binance.stream import StreamTrade
from rangebar_polars.live.network.connection import Lost, LostReason
from rangebar_polars.live.network.connector import Connected, Disconnected, NotConnected
from rangebar_polars.live.network.streams import Streams
from rangebar_polars.live.protocol.exchange_time import ExchangeTime
from rangebar_polars.live.protocol.states import Reason

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


class Symbol:
    """What streams ask of a symbol."""

    name = "BTCUSDT"
    sequencing = None

    def __init__(self):
        self.applied_at = None
        self.reasons = set()

    def take(self, trade):
        pass

    def note(self, reason, *, applies):
        (self.reasons.add if applies else self.reasons.discard)(reason)


class Connections:
    """A connector whose connections are those of the test."""

    def __init__(self):
        self.connections = []
        self.replaced, self.applied = [], 0
        self.has_wrong_unit = False

    def replace(self, connection, reason):
        self.replaced.append((connection, reason))

    def trades_applied(self):
        self.applied += 1


class Setting:
    """Streams of one symbol, and a time that the test sets."""

    def __init__(self, monkeypatch):
        self.now = 1_000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        self.symbol, time = Symbol(), ExchangeTime()
        time.answered(NOON, self.now)
        self.said = []
        reports = SimpleNamespace(
            wake=lambda _symbol: None,
            reconnected=lambda *_: None,
            not_connected=lambda *words: self.said.append(words),
        )
        self.streams = Streams("spot", {"BTCUSDT": self.symbol}, time, 10.0, reports)
        self.connector = self.streams.connector = Connections()

    def connect(self, *replaces):
        connection = SimpleNamespace(has_waiting=False)
        self.connector.connections.append(connection)
        self.streams._changed(Connected(connection, replaces))
        return connection

    def lose(self, connection):
        self.connector.connections.remove(connection)
        lost = Lost(LostReason.CLOSED, "closed")
        is_last = not self.connector.connections
        self.streams._changed(Disconnected(connection, lost, is_last))

    def deliver(self, connection, seconds, late_s):
        """A message a second, each so late."""
        for number in range(seconds):
            self.now += 1.0
            sent = NOON + timedelta(seconds=self.now - 1_000.0 - late_s)
            self.streams._take(connection, trade(number, int(sent.timestamp() * 1e6)))
        self.streams.check()


def trade(number, event_us):
    return StreamTrade(event_us, 1.0, 1.0, number, number, number, False, "BTCUSDT", event_us)


@pytest.fixture
def setting(monkeypatch):
    return Setting(monkeypatch)


def test_applied_trades_end_a_series_of_failed_connects(setting):
    setting.streams.check()
    assert setting.connector.applied == 0
    setting.now += 1.0
    setting.symbol.applied_at = setting.now - 0.5
    setting.streams.check()
    assert setting.connector.applied == 1
    setting.now += 1.0
    setting.streams.check()
    assert setting.connector.applied == 1


def test_why_no_connection_is_open_is_said_once(setting):
    old = setting.connect()
    new = setting.connect(old)
    setting.lose(old)
    assert setting.said == []
    setting.lose(new)
    assert setting.said == [("closed", "closed")]
    lost = Lost(LostReason.DNS, "`wss://a.invalid/stream` cannot be reached")
    setting.streams._changed(NotConnected("wss://a.invalid/stream", lost, setting.now + 1.0))
    assert setting.said[1:] == [("dns", lost.text)]
    setting.streams.is_stopping = True
    setting.lose(setting.connect())
    assert len(setting.said) == 2


@pytest.mark.parametrize("end", ["the old one ends first", "both end"])
def test_a_lag_ends_with_the_connection_that_was_behind(setting, end):
    old = setting.connect()
    setting.deliver(old, 12, late_s=60.0)
    assert Reason.LAGGING in setting.symbol.reasons
    ((replaced, _),) = setting.connector.replaced
    assert replaced is old
    new = setting.connect(old)
    setting.lose(old)
    if end == "both end":
        setting.lose(new)
        assert setting.symbol.reasons == {Reason.DISCONNECTED}
        setting.connect()
    assert setting.symbol.reasons == set()
    setting.deliver(setting.connector.connections[0], 12, late_s=0.1)
    assert setting.symbol.reasons == set()
