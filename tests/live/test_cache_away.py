"""A bar cache that is away when live bars begin: trades are stored, and bars come once it is back."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from datetime import timedelta

import polars as pl
import pytest

from clickhouse.places import Bridge
from exchange import Exchange
from live.market import (
    SYMBOL,
    assert_same_bars,
    day_start_of,
    point_at,
    tape_of,
    this_moment,
    truth,
    wait_for,
)
from rangebar_polars.live import engine
from rangebar_polars.live.bars import live_bars
from rangebar_polars.storage.live.live_days import live_view
from rangebar_polars.storage.parquet import TickStorage

pytest.importorskip("chdb")
pytest.importorskip("clickhouse_connect")

NOW = this_moment()
START = day_start_of(NOW)


class Relay(socketserver.ThreadingTCPServer):
    """The address of a server that is away until `begin`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchanged)
        self.port = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def begin(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])


class Exchanged(socketserver.BaseRequestHandler):
    """A connection, both ways. It ends at once while the server is away."""

    def handle(self) -> None:
        if not self.server.port:
            return
        with socket.create_connection(("127.0.0.1", self.server.port)) as other:
            back = threading.Thread(target=self._pass, args=(other, self.request), daemon=True)
            back.start()
            self._pass(self.request, other)
            back.join()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # the other side has ended
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    one = Bridge(tmp_path_factory.mktemp("bridge"))
    yield one
    one.stop()


@pytest.fixture
def relay():
    with Relay() as one:
        yield one
        one.shutdown()


@pytest.fixture
def market(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "DELAY_S", 0.1)
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange, tape


def status(live):
    return next(iter(live.status()), {"state": "", "reason": "", "applied_id": None, "detail": ""})


def wait_applied(live, exchange, tape):
    last = int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])
    wait_for(lambda: (status(live)["applied_id"] or -1) >= last, live.status)
    return last


@pytest.mark.parametrize("since", [START, None])
def test_trades_are_stored_meanwhile_and_their_bars_come_afterwards(
    market, relay, bridge, tmp_path, since
):
    exchange, tape = market
    dsn = f"http://127.0.0.1:{relay.server_address[1]}/away_{'since' if since else 'now'}"
    until = NOW + timedelta(seconds=300)
    with live_bars(SYMBOL, [250, 500], since=since, until=until, dsn=dsn) as live:
        wait_for(lambda: status(live)["reason"] == "cache_unavailable", live.status)
        exchange.play(timedelta(seconds=600))
        first = wait_applied(live, exchange, tape)
        found = status(live)
        assert (found["state"], found["reason"]) == ("degraded", "cache_unavailable")
        assert str(relay.server_address[1]) in found["detail"]
        # Although `until` has passed, no bar and no end has come.
        assert live.collect(1, timeout=0).is_empty()
        assert live.partial().is_empty()
        folder = TickStorage(tmp_path).symbol_dir(SYMBOL, "binance", "spot")
        view = live_view(folder, START.date(), NOW.date() + timedelta(days=1))
        assert max(int(day.trades["agg_trade_id"].max()) for day in view.days()) == first
        relay.begin(bridge.url)
        bars = pl.concat([live.schema.to_frame(), *live])
    if since is None:  # the symbol has become live after all trades of the exchange
        assert bars.is_empty()
        return
    for dbps in (250, 500):
        own = bars.filter(pl.col("threshold") == dbps)
        assert own.height > 3
        assert_same_bars(own, truth(tape, dbps, START).filter(pl.col("close_time") < until))


def test_trades_that_arrive_while_the_cache_comes_back_are_not_lost(market, relay, bridge):
    exchange, tape = market
    dsn = f"http://127.0.0.1:{relay.server_address[1]}/back"
    with live_bars(SYMBOL, 250, since=START, dsn=dsn) as live:
        wait_for(lambda: status(live)["reason"] == "cache_unavailable", live.status)
        exchange.play(timedelta(seconds=300))
        wait_applied(live, exchange, tape)
        relay.begin(bridge.url)
        for _ in range(6):
            exchange.play(timedelta(seconds=100))
        wait_for(lambda: status(live)["state"] == "live", live.status)
        last = wait_applied(live, exchange, tape)
        expected = truth(tape, 250, START, last)
        assert_same_bars(live.collect(expected.height, timeout=60), expected)
