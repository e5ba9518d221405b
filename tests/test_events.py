"""Events reach those who listen, and nobody who listens can stop or delay the work."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rangebar_polars import events
from rangebar_polars.events import EVENT_NAMES, FAILURES, Event, HookPayload
from rangebar_polars.events._subscriber import WAITING_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = date(2024, 3, 1)
LIVE = """
sidecar_live sidecar_degraded sidecar_stalled sidecar_failed sidecar_reconnected sidecar_new_series
finalizing_behind consumer_failed trade_conflict trade_late trade_invalid journal_damaged
archive_differs gap_healed checksum_failed sidecar_started sidecar_stopped
sidecar_checkpoint_restored sidecar_checkpoint_saved symbol_coverage_mismatch gap_detected
coverage_gap
"""
LIVE_FAILURES = """
sidecar_stalled finalizing_behind trade_conflict trade_invalid journal_damaged archive_differs
gap_detected coverage_gap sidecar_failed consumer_failed checksum_failed symbol_coverage_mismatch
"""
PEERS = """
cache_write_start cache_write_complete cache_write_failed validation_complete validation_failed
checkpoint_saved population_complete population_failed download_start download_complete
tick_fetch_progress migration_progress strategy_init strategy_signal trade_complete
backtest_complete checkpoint_restored checkpoint_restore_failed sidecar_checkpoint_saved
sidecar_checkpoint_restored plugin_enrich_complete plugin_enrich_failed symbol_coverage_mismatch
sidecar_started sidecar_stopped kintsugi_pass_complete gap_detected
"""


@pytest.fixture(autouse=True)
def nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-settings"))
    monkeypatch.delenv("RANGEBAR_EVENT_LOG", raising=False)
    events.clear_hooks()
    yield
    events.clear_hooks()


class Listener:
    """A subscriber that keeps what it gets."""

    def __init__(self) -> None:
        self.payloads: list[HookPayload] = []

    def __call__(self, payload: HookPayload) -> None:
        self.payloads.append(payload)

    @property
    def numbers(self) -> list[object]:
        return [payload.details["number"] for payload in self.payloads]


def all_classes() -> list[type[Event]]:
    return [thing for thing in vars(events).values()
            if isinstance(thing, type) and issubclass(thing, Event) and thing is not Event]  # fmt: skip


def tell(count: int, event: str = "gap_detected", start: int = 0) -> None:
    for number in range(start, start + count):
        events.emit_hook(event, "BTCUSDT", number=number)


def test_the_names_of_the_reference_library_are_there() -> None:
    assert len(PEERS.split()) == 27
    assert set(PEERS.split()) < set(EVENT_NAMES)
    assert set(EVENT_NAMES) > FAILURES


@pytest.mark.parametrize("kind", all_classes(), ids=lambda kind: kind.__name__)
def test_a_class_of_events_agrees_with_the_table(kind: type[Event]) -> None:
    assert kind.name in EVENT_NAMES
    assert kind.is_failure == (kind.name in FAILURES)


def test_each_event_of_live_bars_has_a_class() -> None:
    classes = {kind.name: kind for kind in all_classes() if "name" in vars(kind)}
    assert set(LIVE.split()) <= set(classes)
    assert set(LIVE.split()) & FAILURES == set(LIVE_FAILURES.split())


def test_the_state_of_a_symbol_has_its_reason() -> None:
    heard = Listener()
    events.register_hook(events.SidecarFailed, heard)
    events.emit(events.SidecarFailed("BTCUSDT", "failed", "coverage", 2.5))
    assert events.flush_hooks(600)
    assert heard.payloads[0].details == {"state": "failed", "reason": "coverage", "away_s": 2.5}


def test_a_subscriber_gets_the_event_with_its_fields() -> None:
    heard = Listener()
    events.register_hook(events.DownloadFailed, heard)
    before = datetime.now(UTC)
    events.emit(events.DownloadFailed("BTCUSDT", DAY, "file:///x", "gone", trace_id="job-1"))
    events.emit(events.TicksWritten("BTCUSDT", [DAY], 5))
    assert events.flush_hooks(600)
    (payload,) = heard.payloads
    assert (payload.event, payload.symbol) == ("download_failed", "BTCUSDT")
    assert payload.details == {"day": DAY, "url": "file:///x", "reason": "gone"}
    assert payload.is_failure
    assert payload.trace_id == "job-1"
    assert before <= payload.timestamp <= datetime.now(UTC)
    with pytest.raises(TypeError):
        payload.details["day"] = None


def test_events_arrive_in_order() -> None:
    heard = Listener()
    events.register_for_all(heard)
    tell(500)
    assert events.flush_hooks(600)
    assert heard.numbers == list(range(500))


def test_registered_twice_is_called_once() -> None:
    heard = Listener()
    events.register_hook("gap_detected", heard)
    events.register_hook("gap_detected", heard)
    events.register_for_failures(heard)
    events.register_for_all(heard)
    tell(3)
    assert events.flush_hooks(600)
    assert heard.numbers == [0, 1, 2]


def test_failures_and_all_are_what_they_say() -> None:
    failures, everything = Listener(), Listener()
    events.register_for_failures(failures)
    events.register_for_all(everything)
    for name in EVENT_NAMES:
        events.emit_hook(name, "BTCUSDT")
    assert events.flush_hooks(600)
    assert [payload.event for payload in everything.payloads] == list(EVENT_NAMES)
    assert {payload.event for payload in failures.payloads} == FAILURES
    assert all(payload.is_failure for payload in failures.payloads)


def test_who_is_unregistered_hears_no_more() -> None:
    one, other = Listener(), Listener()
    for listener in (one, other):
        events.register_hook("gap_detected", listener)
        events.register_hook("validation_failed", listener)
    assert events.unregister_hook("gap_detected", one)
    assert not events.unregister_hook("gap_detected", one)
    tell(1)
    tell(1, "validation_failed", start=7)
    assert events.flush_hooks(600)
    assert (one.numbers, other.numbers) == ([7], [0, 7])
    events.clear_hooks("validation_failed")
    tell(1, "validation_failed")
    tell(1)
    assert events.flush_hooks(600)
    assert (one.numbers, other.numbers) == ([7], [0, 7, 0])
    events.clear_hooks()
    tell(1)
    assert events.flush_hooks(600)
    assert (one.numbers, other.numbers) == ([7], [0, 7, 0])


def test_an_event_that_does_not_exist_is_refused_with_the_nearest() -> None:
    for call in (
        lambda: events.register_hook("gap_detectd", print),
        lambda: events.emit_hook("gap_detectd", "BTCUSDT"),
        lambda: events.unregister_hook("gap_detectd", print),
    ):
        with pytest.raises(ValueError, match="did you mean `gap_detected`"):
            call()
    with pytest.raises(TypeError):
        events.register_hook("gap_detected", "print")
    with pytest.raises(TypeError):
        events.register_hook(int, print)


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError, SystemExit, KeyboardInterrupt])
def test_a_failing_subscriber_stops_nothing(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(payload: HookPayload) -> None:
        heard_by_failing.append(payload)
        raise error("on purpose")

    heard_by_failing: list[HookPayload] = []
    heard = Listener()
    events.register_for_all(fails)
    events.register_for_all(heard)
    tell(3)
    assert events.flush_hooks(600)
    assert heard.numbers == [0, 1, 2]
    assert len(heard_by_failing) == 3
    told = [record for record in caplog.records if record.exc_info and record.levelname == "ERROR"]
    assert len(told) == 3
    assert told[0].exc_info[0] is error
    assert "fails" in told[0].getMessage()


def test_a_hanging_subscriber_delays_neither_the_work_nor_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release, began, heard_late = threading.Event(), threading.Event(), Listener()

    def hangs(payload: HookPayload) -> None:
        began.set()
        release.wait(600)
        heard_late(payload)

    heard = Listener()
    events.register_for_all(hangs)
    tell(1)
    assert began.wait(600)
    tell(WAITING_LIMIT + 5, start=1)
    assert not events.flush_hooks(0)
    assert sum("too slow" in record.getMessage() for record in caplog.records) == 5
    events.register_for_all(heard)
    tell(1, start=-1)
    release.set()
    assert events.flush_hooks(600)
    assert heard.numbers == [-1]
    assert heard_late.numbers == list(range(WAITING_LIMIT + 1))


def test_what_waits_for_a_cleared_subscriber_is_not_delivered() -> None:
    release, began, heard = threading.Event(), threading.Event(), Listener()

    def hangs(payload: HookPayload) -> None:
        began.set()
        release.wait(600)
        heard(payload)

    events.register_for_all(hangs)
    tell(1)
    assert began.wait(600)
    tell(5, start=1)
    workers = [thread for thread in threading.enumerate() if "subscriber" in thread.name]
    events.clear_hooks()
    release.set()
    for worker in workers:
        worker.join(600)
    assert heard.numbers == [0]


def test_no_thread_is_left_when_all_is_delivered_or_nobody_listens() -> None:
    before = threading.active_count()
    tell(3)
    assert threading.active_count() == before
    events.register_for_all(Listener())
    assert threading.active_count() == before
    tell(3)
    workers = [thread for thread in threading.enumerate() if "subscriber" in thread.name]
    assert events.flush_hooks(600)
    for worker in workers:
        worker.join(600)
    assert threading.active_count() == before


def test_a_payload_becomes_plain_json() -> None:
    now = datetime(2024, 3, 1, 12, tzinfo=UTC)
    details = {
        "day": DAY, "days": (DAY,), "path": Path("a/b"), "number": float("nan"),
        "ratio": 0.5, "deep": {1: {2.5}}, "rows": 3, "done": True, "nothing": None,
    }  # fmt: skip
    payload = HookPayload("ticks_written", "BTCUSDT", now, details, trace_id="t-1")
    assert payload.to_dict() == json.loads(payload.to_json())
    assert payload.to_dict()["timestamp"] == "2024-03-01T12:00:00+00:00"
    assert payload.to_dict()["details"] == {
        "day": "2024-03-01", "days": ["2024-03-01"], "path": str(Path("a/b")), "number": None,
        "ratio": 0.5, "deep": {"1": [2.5]}, "rows": 3, "done": True, "nothing": None,
    }  # fmt: skip


def test_trace_ids_differ_and_keep_their_prefix() -> None:
    ids = {events.generate_trace_id("bt") for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 11 and one.startswith("bt-") for one in ids)


def test_the_event_log_has_an_object_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "new" / "folder" / "events.jsonl"
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(log))
    events.emit(events.SymbolNotRegistered("NOSUCH", "scan_ticks", 40))
    events.emit(events.TickFileQuarantined("BTCUSDT", DAY, Path("x.parquet"), "line\nbreak"))
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert first.pop("timestamp").endswith("+00:00")
    assert first == {
        "component": "symbol_registry", "event_type": "symbol_not_registered", "symbol": "NOSUCH",
        "operation": "scan_ticks", "registered_count": 40, "trace_id": None,
    }  # fmt: skip
    assert second["reason"] == "line\nbreak"
    assert second["day"] == "2024-03-01"


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    code = (
        "import os, sys; os.environ['RANGEBAR_EVENT_LOG'] = sys.argv[1]\n"
        "from rangebar_polars.events import emit_hook\n"
        "for n in range(300): emit_hook('gap_detected', sys.argv[2], number=n, text='x' * 3000)"
    )
    command = [sys.executable, "-c", code, str(log)]
    processes = [subprocess.Popen([*command, name], cwd=tmp_path) for name in "ABC"]
    assert [process.wait(1200) for process in processes] == [0, 0, 0]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in "ABC":
        assert [line["number"] for line in lines if line["symbol"] == name] == list(range(300))


@pytest.mark.parametrize("place", ["a folder", "below a file", "a full disk"])
def test_a_log_that_cannot_be_written_stops_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    full = Path("/dev/full")
    paths = {"a folder": tmp_path, "below a file": tmp_path / "file" / "x", "a full disk": full}
    if place == "a full disk" and not full.exists():
        pytest.skip("there is no /dev/full")
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(paths[place]))
    heard = Listener()
    events.register_for_all(heard)
    tell(1)
    assert events.flush_hooks(600)
    assert heard.numbers == [0]
    assert any("could not be written" in record.getMessage() for record in caplog.records)


def test_a_wrong_setting_does_not_stop_an_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "none")
    tell(1)
    assert any("was not logged" in record.getMessage() for record in caplog.records)


def test_events_go_to_the_standard_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rangebar_polars"):
        events.emit(events.TicksWritten("BTCUSDT", [DAY], 5))
        tell(1)
    levels = [(record.levelname, record.message.split()[0]) for record in caplog.records]
    assert levels == [("INFO", "ticks_written"), ("WARNING", "gap_detected")]
    handlers = logging.getLogger("rangebar_polars").handlers
    assert [type(handler) for handler in handlers] == [logging.NullHandler]


AT_EXIT = """
import sys, threading
from rangebar_polars import events
from rangebar_polars.events import _hooks
_hooks._EXIT_WAIT_S = {wait}
def slow(payload):
    threading.Event().wait({takes})
    print("delivered", flush=True)
events.register_for_all(slow)
events.emit_hook("population_failed", "BTCUSDT")
"""


@pytest.mark.parametrize(("wait", "takes", "output"), [(60, 0.2, "delivered\n"), (0.2, 600, "")])
def test_the_end_of_the_program_waits_for_the_last_event_a_limited_time(
    wait: float, takes: float, output: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", AT_EXIT.format(wait=wait, takes=takes)]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, output, "")
