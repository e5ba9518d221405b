"""Days that end while the command `rangebar sidecar` runs: archives that differ, resets, kills."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from datetime import timedelta

import polars as pl
import pytest

from exchange import Exchange, Tape
from exchange.archive import trades_csv, zip_of
from live.commands import Command, last_ids
from live.followers import Follower, Reader, as_read
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
MIDNIGHT = day_start_of(this_moment())
DAY = MIDNIGHT - timedelta(days=1)
#: Seconds after midnight at which the process is killed.
KILLED_AT = repeated([0.3], [-0.7, -0.1, 0.0, 0.1, 0.4, 0.9])
SPAN = {"before": timedelta(minutes=20), "after": timedelta(minutes=30)}


@pytest.fixture
def tape():
    return Tape.around(MIDNIGHT, per_minute=600, volatility=0.15, **SPAN)


def with_quantity(tape, row):
    """The trades of the day, one with another quantity."""
    ticks = tape.day(DAY)
    quantity = pl.col("quantity") + pl.when(pl.int_range(pl.len()) == row).then(1.0).otherwise(0.0)
    return ticks.with_columns(quantity.round(tape.quantity_digits))


def differences(path):
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    return [one for one in events if one["event_type"] == "archive_differs"]


def test_an_archive_with_another_quantity(tape, tmp_path):
    """A09."""
    pytest.importorskip("chdb")
    cache, events = tmp_path / "cache", tmp_path / "events.jsonl"
    row = tape.day(DAY).height // 2
    archived = with_quantity(tape, row)
    final = Tape(SYMBOL, pl.concat([archived, tape.between(MIDNIGHT, MIDNIGHT + SPAN["after"])]))
    with Exchange(tape, now=MIDNIGHT - timedelta(seconds=20)) as exchange, ExitStack() as stack:
        path = exchange.path(DAY.date())
        exchange.put(path, None)
        options = {
            "symbols": [SYMBOL],
            "thresholds": THRESHOLDS,
            "rate": repeated(10.0, 1.0),
            "environment": {"RANGEBAR_EVENT_LOG": str(events)},
            "options": ["--finalize-interval", "20"],
        }
        command = stack.enter_context(Command(exchange, cache, tmp_path, **options))
        command.wait_ready()
        follower = Follower(exchange, cache, tmp_path, "plain", DAY, THRESHOLDS)
        live = stack.enter_context(follower)
        exchange.play(timedelta(seconds=40), speed=repeated(10.0, 1.0))
        command.wait_applied(exchange)
        live.wait_all()
        before = last_ids(exchange)[SYMBOL]
        member = path.rpartition("/")[2].replace(".zip", ".csv")
        exchange.put(path, zip_of({member: trades_csv(archived, tape)}))
        wait_for(lambda: differences(events), lambda: (command.health(), command.said()))
        finalized = lambda: command.health()[0]["finalized_through"]  # noqa: E731
        wait_for(lambda: finalized() == str(DAY.date()), lambda: (command.health(), command.said()))
        command.wait_ready()
        exchange.play(timedelta(minutes=1))
        command.wait_applied(exchange)
        truths = {one: Truth.of(final, one, [DAY], until=exchange.now) for one in THRESHOLDS}
        for threshold, true in truths.items():
            wait_for(
                lambda t=threshold, end=true.last_ids[-1]: end in ids_of(live, t),
                lambda: (live.status(), live.said()),
            )
        reader = stack.enter_context(Reader(exchange, cache, tmp_path, DAY))
        for threshold, true in truths.items():
            found = reader.bars(exchange.now + SPAN["after"], threshold, use_cache=False)
            assert found["rows"] == as_read(true)
        assert command.ended(signal.SIGTERM) == 0, command.said()
        for threshold, true in truths.items():
            found = reader.bars(exchange.now + SPAN["after"], threshold, use_cache=True)
            assert found["rows"] == as_read(true)
        live.close()
    (reported,) = differences(events)
    assert reported["ids"] == [int(archived["agg_trade_id"][row])]
    assert "Traceback" not in command.said()
    for threshold, true in truths.items():
        first = Truth.of(tape, threshold, [DAY])
        later = true.since(before + 1)
        for program in (command, live):
            lines = program.lines(SYMBOL, threshold)
            old = [line for line in lines if line["last_agg_trade_id"] <= before]
            assert [line["is_revised"] for line in old] == [False] * len(old)
            first.since(old[0]["last_agg_trade_id"]).through(before).assert_equals(old)
            new = lines[len(old) :]
            assert [line["is_revised"] for line in new] == [True] + [False] * (len(new) - 1)
            later.assert_equals(new)


def ids_of(program, threshold):
    return {line["last_agg_trade_id"] for line in program.lines(SYMBOL, threshold)}


@pytest.mark.parametrize("after_s", KILLED_AT)
def test_a_reset_at_midnight_and_a_kill_beside_it(after_s, tape, tmp_path):
    """A10. A clock that is behind the exchange's decides nothing."""
    cache = tmp_path / "cache"
    options = {"symbols": [SYMBOL], "thresholds": THRESHOLDS}
    options["options"] = ["--reset", "day", "--include-orphans", "--no-cache"]
    with Exchange(tape, now=MIDNIGHT - timedelta(seconds=3)) as exchange, ExitStack() as stack:

        def start():
            command = stack.enter_context(Command(exchange, cache, tmp_path, **options))
            command.wait_ready()
            return command

        runs = [start()]
        end = MIDNIGHT + timedelta(seconds=after_s)
        with exchange.live():
            wait_for(lambda: exchange.now >= end)
            runs[0].ended(signal.SIGKILL)
            runs.append(start())
        exchange.play(MIDNIGHT + timedelta(seconds=60))
        runs[1].wait_applied(exchange)
        assert runs[1].ended(signal.SIGTERM) == 0, runs[1].said()
        for run in runs:
            assert "Traceback" not in run.said()
        for threshold in THRESHOLDS:
            days = [DAY, MIDNIGHT]
            true = Truth.of(tape, threshold, days, orphans=True, until=exchange.now)
            assert_first_lines(runs, threshold, true)
    assert TickStorage(cache).list_days(SYMBOL) == [DAY.date(), MIDNIGHT.date()]


def assert_first_lines(runs, threshold, true):
    """First lines of each bar are the truth; a repeated line is marked, and is the same bar."""
    found = {}
    for run in runs:
        for line in run.lines(SYMBOL, threshold):
            key = line["anchor"], line["last_agg_trade_id"], line["is_closed"]
            assert key not in found or line["is_replay"]
            found.setdefault(key, line)
    first = next(iter(found.values()))
    assert first["anchor"] == true.bars[0]["anchor"]
    due = true.since(first["last_agg_trade_id"])
    due.assert_equals(list(found.values()))
    assert [bar["is_closed"] for bar in due.bars].count(False) == 1
    assert due.bars[-1]["anchor"] > first["anchor"]
