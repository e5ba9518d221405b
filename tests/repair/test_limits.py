"""Limits of a pass, its ledger, and when a task is tried again (L39, L40)."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from exchange import faults
from live.market import SYMBOL
from rangebar_polars import events
from rangebar_polars._utils import clock
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.kintsugi import kintsugi_pass, passes
from rangebar_polars.kintsugi.checked import Checked
from rangebar_polars.kintsugi.ledger import Ledger
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, ticks, units
from repair.test_damages import bar_changed, hour_removed
from repair.test_holes import assert_nothing_left

HOUR_S = 3_600.0


@contextmanager
def away(exchange, day):
    """An exchange whose archive does not have a day, and whose REST interface refuses."""
    rules = [
        exchange.fail(f"aggTrades-{day}", faults.status(404), times=None),
        exchange.fail("/monthly/", faults.status(404), times=None),
        exchange.fail("/api/", faults.status(403), times=None),
    ]
    try:
        yield
    finally:
        for rule in rules:
            rule.cancel()


@contextmanager
def later(seconds):
    clock.install(offset_s=seconds)
    try:
        yield
    finally:
        clock.install()


@pytest.fixture
def heard():
    """Events of repair, in order."""
    found = []
    names = ["gap_detected", "gap_healed", "gap_unrepairable", "kintsugi_pass_complete"]
    for name in names:
        events.register_hook(name, found.append)

    def names_of():
        events.flush_hooks()
        return [one.event for one in found]

    yield names_of
    for name in names:
        events.unregister_hook(name, found.append)


def ledger(folder):
    return [
        json.loads(one)
        for one in (folder / "kintsugi" / "ledger.jsonl").read_text().split("\n")
        if one
    ]


def test_a_task_that_fails_is_tried_again_ever_more_rarely(market, clean, tape, heard):
    expected = units(clean), ticks(clean)
    day = DAYS[2]
    TickStorage(clean).delete_ticks(SYMBOL, day, day)
    with away(market, day):
        first = kintsugi_pass(cache_dir=clean)
        (one,) = [result for result in first if result.shard.kind == "tick_missing"]
        assert (one.action, one.healed, one.attempts, first.status) == ("failed", False, 1, "open")
        assert "status 403" in one.error
        asked = len(market.requests)
        again = kintsugi_pass(cache_dir=clean)
        (one,) = [result for result in again if result.shard.kind == "tick_missing"]
        assert (one.action, one.attempts) == ("skipped", 1)
        assert "later" in one.error
        assert not [request for request in market.requests[asked:] if str(day) in request.path]
        # 1, 2 and 4 hours after the failure before.
        for hours, attempts in ((1.01, 2), (2.5, 2), (3.03, 3), (6.9, 3), (7.1, 4)):
            with later(hours * HOUR_S):
                (one,) = [
                    result
                    for result in kintsugi_pass(cache_dir=clean)
                    if result.shard.kind == "tick_missing"
                ]
            assert one.attempts == attempts, hours
    assert heard().count("gap_unrepairable") == 1
    assert heard().count("gap_detected") == 1
    with later(16 * HOUR_S):
        report = kintsugi_pass(cache_dir=clean)
        assert report.status == "healed", str(report)
    assert heard().count("gap_healed") == len(report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    assert_nothing_left(clean)


def test_a_ledger_that_is_torn_or_lost_costs_an_early_attempt(market, clean, tape):
    day = DAYS[2]
    TickStorage(clean).delete_ticks(SYMBOL, day, day)
    path = clean / "kintsugi" / "ledger.jsonl"
    with away(market, day):
        kintsugi_pass(cache_dir=clean)
        path.write_bytes(path.read_bytes()[:-20])
        (one,) = kintsugi_pass(cache_dir=clean)
        assert (one.action, one.attempts) == ("failed", 1)
        # The line after the torn one is whole.
        assert json.loads(path.read_text().splitlines()[-1])["attempts"] == 1
        path.unlink()
        (one,) = kintsugi_pass(cache_dir=clean)
        assert (one.action, one.attempts) == ("failed", 1)
        path.write_bytes(
            b'\xff{"key": 1}\n[]\n{"key": "a", "action": "failed", "at_s": 1e400}\n' * 3
        )
        (one,) = kintsugi_pass(cache_dir=clean)
        assert one.action == "failed"
        path.unlink()
    assert kintsugi_pass(cache_dir=clean).status == "healed"
    assert_nothing_left(clean)


HOSTILE = [
    b'{"key": "a", "action": "failed", "at_s": NaN}',
    b'{"key": "a", "action": "failed", "at_s": 1e400}',
    b'{"key": "a", "action": "failed", "at_s": 1' + b"0" * 400 + b"}",
    b'{"key": "a", "action": "failed", "at_s": "now"}',
    b'{"key": "a", "action": "failed"}',
    b'{"key": ["a"], "action": null, "at_s": 0}',
    b"[" * 100_000,
    b"\xff\x00",
    b"3",
]


def test_hostile_lines_never_keep_a_task_from_being_tried(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"\n".join(HOSTILE))
    known = Ledger(path)
    # A time that is later than now counts as now.
    assert known.tries("a").failures == 1
    with later(1.01 * HOUR_S):
        assert known.is_due("a")
    assert known.is_due("b")


def test_hostile_times_of_checks_make_all_due(tmp_path):
    path = tmp_path / "checked.json"
    file = tmp_path / "a" / "b"
    for text in (b"[]", b'{"x": NaN}', b'{"x": -1' + b"0" * 400 + b"}", b'{"x": 1e400}', b"\xff"):
        path.write_bytes(text.replace(b'"x"', json.dumps("/".join(file.parts[-5:])).encode()))
        assert Checked(path).is_file_due(file)


def test_a_repair_that_cannot_be_proved_has_failed(market, clean, tape, monkeypatch):
    """It is not computed again at once, by each pass."""
    bar_changed(clean, tape, market)
    with monkeypatch.context() as patch:
        patch.setattr(passes, "bars_fault", lambda shard, scope: "bars differ")
        (one,) = kintsugi_pass(cache_dir=clean)
    assert (one.action, one.verified) == ("failed", False)
    assert one.error == "it was repaired, but bars differ"
    assert kintsugi_pass(cache_dir=clean).status == "clean"


def test_a_ledger_that_cannot_be_written_is_not_a_clean_pass(market, clean, tape):
    expected = units(clean)
    hour_removed(clean, tape, market)
    path = clean / "kintsugi" / "ledger.jsonl"
    path.mkdir(parents=True)
    report = kintsugi_pass(cache_dir=clean)
    assert report.status == "unknown"
    assert any("ledger" in one for one in report.failures), report.failures
    assert all(one.healed for one in report)
    assert units(clean) == expected
    path.rmdir()
    assert_nothing_left(clean)


def test_a_folder_that_cannot_be_written_is_said(market, clean):
    (clean / "kintsugi").write_text("not a folder")
    report = kintsugi_pass(cache_dir=clean)
    assert (report.status, len(report)) == ("unknown", 0)
    assert "kintsugi" in report.failures[0]


def test_no_room_for_a_rebuild(market, clean, tape, monkeypatch):
    expected = units(clean)
    bar_changed(clean, tape, market)
    damaged = units(clean)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
        report = kintsugi_pass(cache_dir=clean)
    (one,) = report
    assert (one.action, report.status) == ("skipped", "open")
    assert "1,048,576 bytes are free" in one.error
    assert units(clean) == damaged
    assert kintsugi_pass(cache_dir=clean).status == "healed"
    assert units(clean) == expected
    assert_nothing_left(clean)


def test_a_deadline_leaves_what_can_wait(market, clean, tape):
    expected = units(clean), ticks(clean)
    for day in (DAYS[1], DAYS[2], DAYS[3]):
        TickStorage(clean).delete_ticks(SYMBOL, day, day)
    bar_changed(clean, tape, market)
    report = kintsugi_pass(cache_dir=clean, deadline_s=0)
    actions = {one.shard.priority: one.action for one in report}
    assert actions["P2"] == "skipped"
    assert "0 s" in next(one.error for one in report if one.shard.priority == "P2")
    assert report.status == "open"
    report = kintsugi_pass(cache_dir=clean)
    assert report.status == "healed", str(report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    assert_nothing_left(clean)


def test_files_that_are_not_due_are_not_read(market, clean, tape):
    kintsugi_pass(cache_dir=clean)
    (path,) = clean.rglob(f"{DAYS[2]}*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert kintsugi_pass(cache_dir=clean).status == "clean"
    with later(8 * 24 * HOUR_S):
        kinds = {one.shard.kind for one in kintsugi_pass(cache_dir=clean, dry_run=True)}
    assert "tick_quarantined" in kinds
    shutil.rmtree(clean / "kintsugi")
    report = kintsugi_pass(cache_dir=clean)
    assert [one.shard.kind for one in report] == ["tick_quarantined"]
    assert report.status == "healed", str(report)
    assert_nothing_left(clean)


def test_a_lease_that_somebody_else_holds(market, clean, tape):
    expected = units(clean)
    bar_changed(clean, tape, market)
    damaged = units(clean)
    with open_cache(cache_dir=clean) as cache:
        keys = {series.lease_key for series in read_chains(cache)}
    with hold_leases(keys, None, cache_dir=clean):
        report = kintsugi_pass(cache_dir=clean)
    (one,) = report
    assert (one.action, one.healed, report.status) == ("waiting", False, "open"), str(report)
    assert units(clean) == damaged
    # It is due at once.
    assert kintsugi_pass(cache_dir=clean).status == "healed"
    assert units(clean) == expected
    assert_nothing_left(clean)
