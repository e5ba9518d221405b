"""The start of a sidecar: locks that are waited for, ports, and the events that it begins with."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import SYMBOL, day_start_of, point_at, tape_of, this_moment, wait_for
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.exceptions import LeaseError, LiveWarning, SettingError
from rangebar_polars.live.engine import LiveEngine
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.live.series import fresh_state
from rangebar_polars.populate.local_checkpoint import LocalCheckpoint, write_live
from rangebar_polars.sidecar import SidecarConfig, run_sidecar_async
from rangebar_polars.sidecar.config import DefaultPort
from rangebar_polars.sidecar.run import _Sidecar
from rangebar_polars.storage.live import writer_lock
from rangebar_polars.storage.live.writer_lock import WriterLock, has_writer
from rangebar_polars.storage.parquet import TickStorage

NOW = this_moment()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    return TickStorage(tmp_path).symbol_dir(SYMBOL, "binance", "spot")


@pytest.fixture
def waits(monkeypatch):
    """Set once a lock is waited for; the wait has no end of its own."""
    begun = threading.Event()

    def wait(_deadline):
        begun.set()
        return True

    monkeypatch.setattr(writer_lock, "wait_a_little", wait)
    return begun


def config(**options):
    options = {"health_port": 0, "cache": False, "notify": "off"} | options
    return SidecarConfig(symbols=SYMBOL, thresholds=[250], **options)


def test_a_stop_ends_the_wait_for_a_lock(folder, waits):
    async def run():
        stop = asyncio.Event()
        task = asyncio.ensure_future(run_sidecar_async(config(), stop=stop))
        await asyncio.to_thread(waits.wait, 60)
        stop.set()
        async with asyncio.timeout(60):
            return await task

    with WriterLock.take(folder):
        report = asyncio.run(run())
    assert (report.exit_code, report.reason, report.trades) == (0, "stop was set", 0)
    assert not has_writer(folder)


def test_a_cancelled_start_takes_no_lock(folder, waits):
    async def run():
        task = asyncio.ensure_future(run_sidecar_async(config()))
        await asyncio.to_thread(waits.wait, 60)
        task.cancel()
        async with asyncio.timeout(60):
            await task

    with WriterLock.take(folder), pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert not has_writer(folder)


def test_a_lock_that_stays_held_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(writer_lock, "wait_a_little", lambda _deadline: False)
    with WriterLock.take(folder), pytest.raises(LeaseError, match=SYMBOL):
        asyncio.run(run_sidecar_async(config()))


def test_a_port_that_somebody_chose_must_be_free(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen, default = (
            _Sidecar(config(health_port=value)) for value in (port, DefaultPort(port))
        )
        for one in (chosen, default):
            one.session.prepare_reports()
        with pytest.raises(SettingError, match=str(port)):
            chosen._open_health()
        with pytest.warns(LiveWarning, match=str(port)):
            assert default._open_health() is None
        for one in (chosen, default):
            one.session.reporter.close()


def test_the_default_port_is_chosen_if_it_is_written(monkeypatch):
    default = SidecarConfig(symbols=SYMBOL).health_port
    assert (default, isinstance(default, DefaultPort)) == (8081, True)
    assert isinstance(SidecarConfig.from_settings(symbols=SYMBOL).health_port, DefaultPort)
    given = SidecarConfig.from_settings(symbols=SYMBOL, health_port=8081).health_port
    assert (given, isinstance(given, DefaultPort)) == (8081, False)
    monkeypatch.setenv("RANGEBAR_HEALTH_PORT", "8081")
    named = SidecarConfig.from_settings(symbols=SYMBOL).health_port
    assert (named, isinstance(named, DefaultPort)) == (8081, False)


def test_what_a_sidecar_says_of_its_start_and_its_end(tmp_path, monkeypatch):
    tape = tape_of(NOW)
    log = tmp_path / "events"
    other = TickStorage(tmp_path / "store").symbol_dir("ETHUSDT", "binance", "spot")
    WriterLock.take(other).release()
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path / "store", monkeypatch)
        monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(log))

        async def run():
            stop = asyncio.Event()
            task = asyncio.ensure_future(run_sidecar_async(config(), stop=stop))
            await asyncio.to_thread(wait_for, lambda: "sidecar_live" in names(log))
            exchange.play(timedelta(minutes=1))
            stop.set()
            return await task

        assert asyncio.run(run()).exit_code == 0
    found = {one["event_type"]: one for one in events(log)}
    started = found["sidecar_started"]
    assert (started["symbol"], started["market"], started["thresholds"]) == (SYMBOL, "spot", [250])
    stopped = found["sidecar_stopped"]
    assert (stopped["symbol"], stopped["reason"]) == (SYMBOL, "stop was set")
    assert found["symbol_coverage_mismatch"]["symbol"] == "ETHUSDT"
    assert names(log)[0] == "sidecar_started"


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def names(log):
    return [one["event_type"] for one in events(log)]


def test_the_size_of_journals_outlives_the_process(tmp_path, monkeypatch):
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        sizes = []
        for _ in range(2):
            with rb.live_bars(SYMBOL) as live:
                exchange.play(timedelta(minutes=5))
                last = int(
                    tape.ticks.filter(tape.ticks["timestamp"] <= exchange.now)[-1, "agg_trade_id"]
                )

                def is_there(live=live, last=last):
                    status = live.status()
                    return bool(status) and status[0]["applied_id"] == last

                wait_for(is_there, live.status)
            stored = sum(path.stat().st_size for path in tmp_path.rglob("*.journal"))
            (state,) = tmp_path.rglob("state.json")
            sizes.append((json.loads(state.read_text())["journal_bytes"], stored))
    assert all(shown == stored for shown, stored in sizes), sizes
    assert 0 < sizes[0][0] < sizes[1][0]


def test_a_trade_that_is_not_valid_is_an_event_for_each_id():
    reported = []
    outputs = SimpleNamespace(event=lambda *words, **fields: reported.append((words, fields)))
    for reason in MissingReason:
        span = MissingIds(7, 8, reason)
        LiveEngine.missing(SimpleNamespace(_outputs=outputs), SimpleNamespace(name=SYMBOL), span)
    assert [words for words, _ in reported].count((SYMBOL, "coverage_gap")) == len(MissingReason)
    invalid = [fields["id"] for words, fields in reported if words == (SYMBOL, "trade_invalid")]
    assert invalid == [7, 8]


def test_a_start_from_a_stored_state_is_an_event(tmp_path, monkeypatch):
    tape = tape_of(NOW)
    log = tmp_path / "events"
    first_id = int(
        tape.ticks.filter(tape.ticks["timestamp"] >= day_start_of(NOW))[0, "agg_trade_id"]
    )
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(log))
        series = BarSpec.of(SYMBOL, 250).series(day_start_of(NOW))
        day = series.first_day - timedelta(days=1)
        state = fresh_state(series.spec)
        write_live(None, LocalCheckpoint(series, day, 0, 0, first_id - 1, "", state, ""))
        with rb.live_bars(SYMBOL):
            wait_for(lambda: "sidecar_live" in names(log))
    (found,) = [one for one in events(log) if one["event_type"] == "sidecar_checkpoint_restored"]
    assert (found["symbol"], found["threshold"], found["day"]) == (SYMBOL, 250, str(day))
    assert found["segment"] == str(day.year)


@pytest.mark.parametrize("verbose", [True, False, None])
def test_a_progress_bar_counts_the_bars_that_are_taken(tmp_path, monkeypatch, verbose):
    shown, counts = [], []

    @contextmanager
    def noted(total, what, unit, *, verbose):
        shown.append((total, what, unit, verbose))
        yield counts.append
        shown.append("closed")

    monkeypatch.setattr("rangebar_polars.live.bars.progress", noted)
    monkeypatch.setenv("RANGEBAR_VERBOSE", "1")
    tape = tape_of(NOW)
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        with rb.live_bars(SYMBOL, since=day_start_of(NOW), verbose=verbose) as live:
            exchange.play(timedelta(minutes=10))
            found = live.collect(3, timeout=60)
            found = pl.concat([found, next(live)]) if found.height < 3 else found
    # Without an argument, the setting decides.
    assert shown == [(None, f"live {SYMBOL}", "bar", verbose is not False), "closed"]
    assert sum(counts) == found.height >= 3
