"""Forked children of processes that used the tick store answer or raise, and never hang."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_fork import pytestmark, run  # noqa: F401 - the mark is for this module too

PREPARE = """
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
sys.path.insert(0, sys.argv[1])
folder = mkdtemp()
for name, value in {
    "RANGEBAR_CACHE_DIR": folder,
    "RANGEBAR_BINANCE_ARCHIVE_URL": Path(folder).as_uri(),
    "RANGEBAR_BINANCE_REST_URL": "http://127.0.0.1:9",
    "RANGEBAR_HTTP_TRIES": "1",
    "RANGEBAR_SYMBOL_GATE": "strict",
}.items():
    os.environ[name] = value
from rangebar_polars import events, fetch
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.storage.parquet import TickStorage
from storage.stock import JANUARY, SYMBOL, trades

storage = TickStorage()
"""

# A child of a process that used Polars cannot make a frame.
USE = """
TICKS = trades(JANUARY)
storage.write_ticks(SYMBOL, TICKS)
plan = storage.scan_ticks(SYMBOL, JANUARY, JANUARY)
ticks = snapshot(storage, SYMBOL, JANUARY, JANUARY)
assert plan.collect().height == 50
assert rb.fetch_ticks(SYMBOL, JANUARY, JANUARY).kept == [JANUARY]
"""

ENTRY_POINTS = {
    "get_ticks": "storage.get_ticks(SYMBOL, JANUARY, JANUARY).height",
    "scan_ticks": "storage.scan_ticks(SYMBOL, JANUARY, JANUARY).collect().height",
    "rb.scan_ticks": "rb.scan_ticks(SYMBOL, JANUARY, JANUARY, fetch=False).collect().height",
    "rb.scan_ticks with fetch": "rb.scan_ticks(SYMBOL, JANUARY, JANUARY).collect().height",
    "fetch_ticks": "rb.fetch_ticks(SYMBOL, JANUARY, JANUARY).rows",
    "write_ticks": "storage.write_ticks(SYMBOL, TICKS).rows_added",
    "coverage": "storage.coverage(SYMBOL, JANUARY, JANUARY).height",
    "gaps": "storage.gaps(SYMBOL, JANUARY, JANUARY)",
    "has_ticks": "storage.has_ticks(SYMBOL, JANUARY, JANUARY)",
    "snapshot": "snapshot(storage, SYMBOL, JANUARY, JANUARY).days[0].is_stored",
    "list_symbols": "storage.list_symbols()",
    "list_days": "storage.list_days(SYMBOL)",
    "stats": "storage.stats(SYMBOL)['rows']",
    "verify": "storage.verify().height",
    "gc": "storage.gc().height",
    "delete_ticks": "storage.delete_ticks(SYMBOL)",
    "BinanceArchive": "fetch.BinanceArchive('spot').fetch_day(SYMBOL, JANUARY)",
    "BinanceRest": "fetch.BinanceRest('spot').fetch_day(SYMBOL, JANUARY)",
    "Exness": "fetch.Exness().read_day('EURUSD', JANUARY)",
    "sample_ticks": "rb.sample_ticks().height",
    "process_trades_polars": "rb.process_trades_polars(TICKS, 250).height",
    "lazy bars": "TICKS.lazy().rangebar.bars(250).collect().height",
    "iter_bars": "len(list(rb.iter_bars(TICKS.lazy(), 250)))",
    "expression": "TICKS.select(rb.bars('price', 250)).height",
    "process_trades_to_dataframe": "len(rb.process_trades_to_dataframe([], 250))",
}

RUN_ALL = """
entry_points = json.loads(sys.argv[2])
print(json.dumps({name: in_child(lambda: eval(code)) for name, code in entry_points.items()}))
"""


@pytest.fixture(scope="module")
def arguments():
    return str(Path(__file__).resolve().parents[1]), json.dumps(ENTRY_POINTS)


def test_every_entry_point_raises_in_a_child_of_a_process_that_used_it(arguments):
    answers = run(PREPARE + USE + RUN_ALL, *arguments)
    assert {name: kind for name, (kind, _) in answers.items()} == dict.fromkeys(
        ENTRY_POINTS, "ForkedProcessError"
    )
    assert all('get_context("spawn")' in text for _, text in answers.values())


def test_every_entry_point_answers_in_a_child_of_a_process_that_did_not_use_polars(arguments):
    code = """
import subprocess
write = "import sys; sys.path.insert(0, sys.argv[1]); from storage.stock import *; " \\
    "from rangebar_polars.storage.parquet import TickStorage; " \\
    "TickStorage().write_ticks(SYMBOL, trades(JANUARY))"
subprocess.run([sys.executable, "-c", write, sys.argv[1]], check=True)
"""
    tests, entry_points = arguments
    entry_points = entry_points.replace("TICKS", "trades(JANUARY)")
    answers = run(PREPARE + code + RUN_ALL, tests, entry_points)
    for name in ("get_ticks", "scan_ticks", "rb.scan_ticks", "rb.scan_ticks with fetch"):
        assert answers[name] == ["value", 50]
    assert answers["delete_ticks"] == ["value", ["2024-01-31"]]
    for name in ("BinanceArchive", "BinanceRest", "Exness"):
        assert answers[name][0] in (
            "ArchiveMissingError",
            "NoAnswerError",
            "TransientSourceError",
            "SettingError",
        )
    assert "ForkedProcessError" not in {kind for kind, _ in answers.values()}


def test_what_the_parent_reads_is_not_read_on_in_a_child():
    code = """
frames = ticks.frames(JANUARY, JANUARY)
def read():
    return sum(frame.height for frame in frames)
print(json.dumps([in_child(read), read()]))
"""
    child, parent = run(PREPARE + USE + code, str(Path(__file__).resolve().parents[1]))
    assert child[0] == "ForkedProcessError"
    assert parent == 50


def test_a_read_that_had_begun_is_not_continued_in_a_child_that_could_read():
    """Even where Polars answers, the prefetching thread belongs to the parent."""
    code = """
import subprocess
write = "import sys; sys.path.insert(0, sys.argv[1]); from storage.stock import *; " \\
    "from rangebar_polars.storage.parquet import TickStorage; " \\
    "TickStorage().write_ticks(SYMBOL, pl.concat([trades(JANUARY), trades(FEBRUARY, 50, 51)]))"
subprocess.run([sys.executable, "-c", write, sys.argv[1]], check=True)
_fork._POOL_THREAD = __import__("re").compile("none is found")
frames = snapshot(storage, SYMBOL, "2024-01-31", "2024-02-01").frames("2024-01-31", "2024-02-01")
next(frames)
_fork._process.has_pool = lambda: True
print(json.dumps(in_child(lambda: next(frames).height)))
"""
    kind, text = run(PREPARE + code, str(Path(__file__).resolve().parents[1]))
    assert kind == "ForkedProcessError"
    assert "was begun in process" in text


def test_events_reach_the_subscribers_of_a_child():
    code = """
began, end = threading.Event(), threading.Event()
heard = []
def slow(payload):
    began.set()
    end.wait()
events.register_hook("ticks_written", slow)
events.emit(events.TicksWritten("BTCUSDT", days=(), rows=0))
began.wait()

def emit():
    with events._hooks._subscribers._lock:
        pass
    events.clear_hooks()
    events.register_hook("ticks_written", heard.append)
    events.emit(events.TicksWritten("ETHUSDT", days=(), rows=1))
    assert events.flush_hooks(300.0)
    return [payload.symbol for payload in heard]

held, leave = threading.Event(), threading.Event()
def hold_locks():
    with events._hooks._subscribers._lock, events._hooks._subscribers._all[0]._changed:
        held.set()
        leave.wait()
thread = threading.Thread(target=hold_locks)
thread.start()
held.wait()
said = in_child(emit)
leave.set()
end.set()
thread.join()
print(json.dumps(said))
"""
    answers = run(PREPARE + code, str(Path(__file__).resolve().parents[1]))
    assert answers == ["value", ["ETHUSDT"]]


def test_what_is_under_way_in_threads_of_the_parent_is_not_waited_for():
    code = """
from rangebar_polars.fetch.prefetch import prefetch
end = threading.Event()
results = prefetch(lambda item: item or end.wait(), [1, 0, 2], count=2)
assert next(results) == 1
print(json.dumps(in_child(lambda: next(results))))
end.set()
"""
    kind, text = run(PREPARE + code, str(Path(__file__).resolve().parents[1]))
    assert kind == "ForkedProcessError"
    assert "`fetching` was begun" in text
