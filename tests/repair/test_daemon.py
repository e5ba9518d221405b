"""`rangebar repair --daemon` beside a sidecar, while REST is away and then back (A17)."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from exchange import Exchange, faults
from live.commands import Command, Program
from live.market import SYMBOL, point_at, tape_of, wait_for
from rangebar_polars.readers.cached import get_cached_bars
from rangebar_polars.storage.parquet import TickStorage
from repair.processes import Repair
from repetitions import IS_LONG

#: Archives are expected ten hours after a day.
NOW = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0) - timedelta(days=1)
LAST = NOW.date() - timedelta(days=2)
FIRST = LAST - timedelta(days=2)
HOLED = LAST - timedelta(days=1)
ID = "agg_trade_id"
ACTIVE_S, RETRY_S = 900, 3_600
#: The passes that find REST away, that come before the time of the second attempt, and all of them.
AWAY, EARLY = 1, RETRY_S // ACTIVE_S
#: Lets the clocks of a process run ahead by a signal, as far as the next pass.
LEAP = f"""
import time
def leap(*_):
    global ahead_s
    clock.install(offset_s=offset_s + ahead_s, rate=100_000.0)
    time.sleep({ACTIVE_S + 5} / 100_000.0)
    ahead_s += {ACTIVE_S + 5}
    clock.install(offset_s=offset_s + ahead_s)
ahead_s = 0.0
signal.signal(signal.SIGUSR1, leap)
"""


@pytest.fixture(scope="module")
def tape():
    return tape_of(NOW, before=timedelta(days=5), per_minute=0.5, volatility=1.5)


@pytest.fixture
def exchange(tape, tmp_path, monkeypatch):
    with Exchange(tape, now=NOW) as found:
        point_at(found, tmp_path / "none", monkeypatch)
        yield found


def rangebar(exchange, cache, folder, *words):
    with Program(["-m", "rangebar_polars", *words], exchange, cache, folder) as program:
        assert program.ended() == 0, program.said()


def populate(exchange, cache, folder):
    span = str(FIRST), str(LAST)
    rangebar(exchange, cache, folder, "populate", SYMBOL, *span, "-t", "250", "--quiet")


def tries(cache):
    """Lines of the ledger for the missing ids."""
    path = cache / "kintsugi" / "ledger.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [one for one in map(json.loads, lines) if one["kind"] == "tick_gap"]


class Daemon(Repair):
    """The command; by default its clocks leap over the time between two passes."""

    def __init__(self, exchange, cache, folder):
        offset_s = (exchange.now - datetime.now(UTC)).total_seconds()
        site = f"offset_s = {offset_s}\n{LEAP}"
        super().__init__(exchange, cache, folder, "--daemon", site=site)

    def passes(self, count):
        """Wait until there are so many passes, and return the report of the last one."""
        while (number := len(self.texts)) < count:
            if number and not IS_LONG:
                self.process.send_signal(signal.SIGUSR1)
            self.wait_longer_than(number)
        return self.read()[count - 1]

    def wait_longer_than(self, number):
        """Wait for one more line; a long run waits for as long as the daemon does."""
        for _ in range(30 if IS_LONG else 1):
            with suppress(TimeoutError):
                wait_for(lambda: len(self.texts) > number or self.process.poll() is not None)
                break
        assert len(self.texts) > number, self.said()


def test_a_hole_is_healed_once_rest_is_back(tape, exchange, tmp_path, monkeypatch):
    cache, clean = tmp_path / "cache", tmp_path / "clean"
    populate(exchange, cache, tmp_path)
    populate(exchange, clean, tmp_path)
    # Only REST has the ids.
    exchange.put(exchange.path(HOLED), None)
    gone = tape.day(HOLED)[ID].slice(200, 60)
    storage = TickStorage(cache)
    storage.delete_ticks(SYMBOL, HOLED, HOLED)
    storage.write_ticks(SYMBOL, tape.day(HOLED).filter(~pl.col(ID).is_in(gone.implode())))

    def requests():
        """Requests for the missing ids."""
        asked = exchange.asked(lambda one: "fromId" in one.query)
        return [one for one in asked if int(one.query["fromId"]) in gone]

    with ExitStack() as stack:
        stack.enter_context(exchange.live())
        sidecar = Command(exchange, cache, tmp_path, symbols=[SYMBOL], thresholds=[250])
        stack.enter_context(sidecar)
        sidecar.wait_ready()
        rule = exchange.fail("/api/v3/aggTrades", faults.drop(), times=None)
        daemon = stack.enter_context(Daemon(exchange, cache, tmp_path))
        first = daemon.passes(1)
        assert first["status"] in ("open", "unknown")
        assert [one["action"] for one in tries(cache)] == ["failed"]
        assert rule.met >= 1
        daemon.passes(1 + AWAY)
        rule.cancel()
        waiting = daemon.passes(EARLY)
        (task,) = [one for one in waiting["tasks"] if one["kind"] == "tick_gap"]
        assert (task["action"], task["attempts"]) == ("skipped", 1)
        assert requests() == []
        healed = daemon.passes(EARLY + 1)
        assert healed["status"] == "healed", (healed["failures"], *map(str, healed["tasks"]))
        assert requests() != []
        exchange.play(timedelta(minutes=5))
        sidecar.wait_applied(exchange)
        assert daemon.ended(signal.SIGTERM) == 0, daemon.said()
        assert sidecar.ended(signal.SIGTERM) == 0, sidecar.said()
        for program in (daemon, sidecar):
            assert "Traceback" not in program.said()
    lines = tries(cache)
    assert [(one["action"], one["attempts"]) for one in lines] == [("failed", 1), ("repaired", 2)]
    assert lines[1]["at_s"] - lines[0]["at_s"] >= RETRY_S
    assert (lines[0]["first_id"], lines[0]["last_id"]) == (gone[0], gone[-1])
    assert storage.get_ticks(SYMBOL, HOLED, HOLED)[ID].to_list() == tape.day(HOLED)[ID].to_list()
    found, expected = (
        get_cached_bars(SYMBOL, 250, FIRST, LAST, cache_dir=folder) for folder in (cache, clean)
    )
    assert found.height > 10
    assert found.equals(expected)
