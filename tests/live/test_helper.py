"""The helper: series and states of units, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import SYMBOL, assert_same_bars, point_at, tape_of, truth, wait_for
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.live_builders import bars_digest, bars_state
from rangebar_polars.exceptions import CoverageError, RangeBarError, WorkerLostError
from rangebar_polars.live.bars import live_bars
from rangebar_polars.live.helper.client import Helper
from rangebar_polars.live.helper.messages import (
    Message,
    error_of,
    error_values,
    read_message,
    series_of,
    series_values,
    spec_values,
    write_message,
)
from rangebar_polars.live.helper.states import UnitStates
from rangebar_polars.storage.parquet import TickStorage

#: Noon of a day: the archive of the day before is published.
NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
TODAY = NOW.date()
DAY = timedelta(days=1)
FIRST = TODAY - 3 * DAY
#: An empty cache folder, and a tape of four days; one for all tests, which do not change them.
OPTIONS = {"before": timedelta(days=3, hours=12), "per_minute": 3, "volatility": 1.0}


def midnight(day) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.fixture(scope="module")
def tape():
    return tape_of(NOW, **OPTIONS)


@pytest.fixture
def market(tmp_path, monkeypatch, tape):
    with Exchange(tape, now=NOW) as exchange:
        point_at(exchange, tmp_path, monkeypatch)
        yield exchange, tape


@pytest.fixture(scope="module")
def stored(tmp_path_factory, tape):
    """A folder with the units of two days: of two series by year, of one by day.

    A process of its own makes it: this one never opens the cache.
    """
    folder = tmp_path_factory.mktemp("stored")
    script = (
        "import sys, rangebar_polars as rb\n"
        "symbol, *days, folder = sys.argv[1:]\n"
        "for thresholds, reset in (([250, 500], 'year'), (250, 'day')):\n"
        "    rb.populate_cache_resumable(\n"
        "        symbol, *days, threshold_decimal_bps=thresholds, ouroboros=reset, cache_dir=folder,\n"
        "        verbose=False)\n"
    )
    with Exchange(tape, now=NOW) as exchange:
        command = [sys.executable, "-c", script, SYMBOL, str(FIRST), str(FIRST + DAY), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, **exchange.environment})
    return folder


@pytest.fixture
def units(market, stored, tmp_path):
    """Put the units into the cache folder of the test."""
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True, symlinks=True)


@pytest.fixture
def helper(tmp_path):
    found = Helper(tmp_path)
    yield found
    found.close()


@pytest.fixture
def states(helper, tmp_path):
    storage = TickStorage(tmp_path)
    return UnitStates(helper, tmp_path, lambda name: storage.symbol_dir(name, "binance", "spot"))


# Messages and the process


def test_a_message_comes_back_with_its_parts():
    stream = BytesIO()
    sent = [Message({"number": 1}, (b"\n{", b"")), Message({"text": "é\n"})]
    for message in sent:
        write_message(stream, message)
    stream.write(b'{"number":3,"parts":[9]}\nshort')
    stream.seek(0)
    assert [read_message(stream), read_message(stream)] == sent
    assert read_message(stream) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CoverageError("no", days=[TODAY]), CoverageError),
        (rb.exceptions.PopulationError("no", report=None), CoverageError),
        (
            rb.exceptions.CacheUnavailableError("held", holder=4),
            rb.exceptions.CacheUnavailableError,
        ),
        (rb.exceptions.NoAnswerError("away"), rb.exceptions.TransientSourceError),
        (rb.exceptions.SnapshotExpiredError("gone"), RangeBarError),
        (KeyError("x"), WorkerLostError),
    ],
)
def test_an_error_comes_back_typed(error, kind):
    found = error_of(error_values(error))
    assert type(found) is kind
    assert str(error) in str(found)


def test_a_series_comes_back():
    spec = BarSpec.of(SYMBOL, 250, reset=None)
    series = spec.series(midnight(TODAY) + timedelta(microseconds=1))
    assert series_of(series_values(series)) == series


def choose(helper):
    specs = [spec_values(BarSpec.of(SYMBOL, 250))]
    return helper.call("choose", {"specs": specs, "day": str(TODAY), "since_us": None}).values[
        "series"
    ]


def test_it_starts_when_it_is_asked_and_again_after_a_kill(helper):
    assert helper.process_id is None
    assert choose(helper) == [None]
    first = helper.process_id
    assert first not in (None, os.getpid())
    assert choose(helper) == [None]
    assert helper.process_id == first
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: helper.process_id is None)
    assert choose(helper) == [None]
    assert helper.process_id not in (None, first)


def test_a_call_that_waits_when_it_is_killed_raises(helper):
    choose(helper)
    suspend(helper.process_id)
    raised = []

    def ask():
        try:
            choose(helper)
        except WorkerLostError as error:
            raised.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: helper._child.pending)
    os.kill(helper.process_id, signal.SIGKILL)
    thread.join()
    assert raised == ["the helper ended with status -9 before it answered `choose`"]
    assert helper.facts.last_error == raised[0]


def test_an_interrupt_ends_calls_and_a_close_ends_all(helper):
    choose(helper)
    suspend(helper.process_id)
    raised = []

    def ask():
        with pytest.raises(WorkerLostError) as caught:
            choose(helper)
        raised.append(str(caught.value))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: helper._child.pending)
    helper.interrupt()
    thread.join()
    assert raised == ["the helper was stopped before it answered `choose`"]
    assert choose(helper) == [None]
    child = helper.process_id
    helper.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    with pytest.raises(WorkerLostError, match="closed"):
        choose(helper)


def test_the_end_of_the_parent_ends_it(tmp_path):
    script = (
        "import sys, time\n"
        "from rangebar_polars.live.helper.client import Helper\n"
        f"helper = Helper({str(tmp_path)!r})\n"
        "helper.call('choose', {'specs': [], 'day': '2026-11-02', 'since_us': None})\n"
        "print(helper.process_id, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert os.getpriority(os.PRIO_PROCESS, child) >= 10
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not is_running(child))


def suspend(process):
    """Stop all threads of a process; the signal alone reaches them at different times."""
    os.kill(process, signal.SIGSTOP)
    wait_for(
        lambda: all(
            (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
            for task in Path(f"/proc/{process}/task").iterdir()
        )
    )


def is_running(process):
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc").is_dir()
    return "State:\tZ" not in status


def test_an_unknown_command_is_an_error_and_not_the_end(helper):
    with pytest.raises(WorkerLostError, match="KeyError"):
        helper.call("dance", {})
    first = helper.process_id
    assert choose(helper) == [None]
    assert helper.process_id == first


# Series and states


def spec(threshold, **options):
    return BarSpec.of(SYMBOL, threshold, **options)


def test_the_series_of_an_update_is_chosen_and_brought_up_to_yesterday(units, states, tape):
    specs = [spec(250), spec(500), spec(750)]
    chosen = states.chosen(specs, TODAY)
    assert chosen == [[spec(250).series(FIRST)], [spec(500).series(FIRST)], None]
    series = [spec(250).series(FIRST), spec(500).series(FIRST)]
    bases = states.bases(series, TODAY, fills=True)
    ticks = tape.between(FIRST, TODAY)
    for base, one in zip(bases, series, strict=True):
        assert base.first_day == TODAY
        assert base.last_id == ticks["agg_trade_id"][-1]
        assert bars_digest(base.state) == digest_of(ticks, one.spec.threshold)
    # The local copies are those of the newest units: a start does not need the helper then.
    assert states._local(series, TODAY) == bases


def digest_of(ticks, threshold):
    builder = rb.RangeBarBuilder(threshold, features="microstructure", incomplete="keep")
    builder.push(ticks)
    return bars_digest(bars_state(builder.checkpoint()))


def test_without_filling_missing_days_are_an_error(units, states):
    with pytest.raises(CoverageError, match="rangebar cache update BTCUSDT"):
        states.bases([spec(250).series(FIRST)], TODAY + DAY, fills=False)


def test_since_takes_the_series_that_a_read_takes(units, states):
    since = midnight(FIRST + DAY) + timedelta(hours=5)
    assert states.chosen([spec(250)], TODAY, since) == [[spec(250).series(FIRST)]]
    before = midnight(FIRST) - timedelta(hours=5)
    assert states.chosen([spec(250)], TODAY, before) == [[spec(250).series(before)]]


def test_past_a_reset_the_series_begins_there(units, states):
    day = spec(250, reset="day")
    assert states.chosen([day], TODAY) == [[day.series(TODAY)]]
    since = midnight(FIRST) + timedelta(hours=5)
    chosen = [day.series(FIRST), *(day.series(FIRST + n * DAY) for n in (1, 2, 3))]
    assert states.chosen([day], TODAY, since) == [chosen]


def test_bars_of_units_come_in_parts(units, states, tape):
    ticks = tape.between(FIRST, FIRST + 2 * DAY)
    bars = truth(tape, 250, midnight(FIRST), ticks["agg_trade_id"][-1])
    after_id = bars["last_agg_trade_id"][4]
    for limit in (1, 7, 1_000_000):
        parts, base = [], None
        work = states.bars_after(spec(250).series(FIRST), after_id, limit)
        while base is None:
            try:
                parts.append(next(work))
            except StopIteration as end:
                base = end.value
        assert all(part.bars.height <= limit for part in parts)
        through = [part.through_id for part in parts]
        assert through == sorted(through)
        assert_same_bars(pl.concat([part.bars for part in parts]), bars[5:])
        assert (base.first_day, base.last_id) == (FIRST + 2 * DAY, ticks["agg_trade_id"][-1])
        assert bars_digest(base.state) == digest_of(ticks, 250)


# Live bars


def applied_id(live):
    statuses = live.status()
    return -1 if not statuses else statuses[0]["applied_id"] or -1


def test_live_bars_continue_the_units(market, units):
    exchange, tape = market
    with live_bars(SYMBOL, 250, since=midnight(FIRST + DAY)) as live:
        exchange.play(timedelta(seconds=900))
        last = int(tape.ticks.filter(pl.col("timestamp") <= exchange.now)["agg_trade_id"][-1])
        wait_for(lambda: applied_id(live) >= last, live.status)
        bars = truth(tape, 250, midnight(FIRST), last)
        bars = bars.filter(pl.col("close_time") >= midnight(FIRST + DAY))
        assert bars.height > 10
        found = live.collect(bars.height, timeout=60)
        assert_same_bars(found, bars)
        assert found["anchor"].unique().to_list() == [midnight(FIRST)]
    # What was missing is stored, and this process has not touched the engine.
    script = "import sys; from rangebar_polars.clickhouse.cache import count_bars; print(count_bars(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, SYMBOL], check=True, capture_output=True, text=True
    )
    whole = truth(tape, 250, midnight(FIRST), tape.between(FIRST, TODAY)["agg_trade_id"][-1])
    assert int(done.stdout) == whole.height


def test_the_live_process_imports_no_engine(units):
    script = (
        "import sys\n"
        "from rangebar_polars.live.bars import live_bars\n"
        f"with live_bars({SYMBOL!r}, 250) as live:\n"
        "    while not live.status() or live.status()[0]['state'] != 'live':\n"
        "        live.collect(1, timeout=0.1)\n"
        "    print(live.status()[0]['series'][0]['anchor'])\n"
        "assert 'chdb' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(FIRST))


def test_a_process_with_the_cache_open_does_the_work_itself(units):
    script = (
        "import rangebar_polars as rb\n"
        "from rangebar_polars.live.helper.client import Helper\n"
        "from rangebar_polars.live.helper.messages import spec_values\n"
        "from rangebar_polars.bar_series.identity import BarSpec\n"
        "with rb.open_cache():\n"
        "    helper = Helper()\n"
        f"    specs = [spec_values(BarSpec.of({SYMBOL!r}, 250))]\n"
        f"    found = helper.call('choose', {{'specs': specs, 'day': '{TODAY}', 'since_us': None}})\n"
        "    assert helper.process_id is None\n"
        "    print(found.values['series'][0][0]['threshold'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "250\n", "")


def test_it_imports_the_package_of_its_parent_from_any_folder(tmp_path, monkeypatch):
    """A clone has the sources of the package, and not its compiled library."""
    (tmp_path / "rangebar_polars").mkdir()
    (tmp_path / "rangebar_polars" / "__init__.py").write_text("raise ImportError('another one')")
    monkeypatch.chdir(tmp_path)
    helper = Helper(tmp_path / "cache")
    try:
        assert choose(helper) == [None]
    finally:
        helper.close()
