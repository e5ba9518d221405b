"""What cannot be looked at is unknown, never clean, and other tasks are done nevertheless (L36)."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from exchange import faults
from live.market import SYMBOL
from rangebar_polars.exceptions import RangeBarError, SettingError
from rangebar_polars.kintsugi import discover_shards, kintsugi_pass
from rangebar_polars.storage.layout import month_of
from rangebar_polars.storage.manifest.versions import manifest_versions
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, LAST, ONE, THRESHOLDS, files, ticks, units
from repair.test_damages import bar_changed, folder_of, hour_removed, sql
from repair.test_holes import assert_nothing_left

pytestmark = pytest.mark.usefixtures("market")


@contextmanager
def refusing(exchange, *matches, code=403):
    """An exchange that refuses some requests."""
    rules = [exchange.fail(match, faults.status(code), times=None) for match in matches]
    try:
        yield
    finally:
        for rule in rules:
            rule.cancel()


def actions(report):
    return {one.shard.kind: one.action for one in report}


def test_a_cache_that_is_away_does_not_keep_ticks_from_being_repaired(market, clean, tape):
    expected = units(clean), ticks(clean)
    TickStorage(clean).delete_ticks(SYMBOL, DAYS[2], DAYS[2])
    report = kintsugi_pass(cache_dir=clean, dsn="http://127.0.0.1:9/none")
    assert report.status == "unknown"
    assert [line for line in report.failures if line.startswith("bars: ")], report.failures
    assert actions(report) == {"tick_missing": "repaired"}
    assert str(report).endswith("status: unknown")
    assert ticks(clean).equals(expected[1])
    assert units(clean) == expected[0]
    assert_nothing_left(clean)


def test_a_manifest_that_cannot_be_read(market, clean, tape):
    expected = units(clean)
    bar_changed(clean, tape, market)
    versions = manifest_versions(folder_of(clean), month_of(DAYS[2]))
    newest = versions[max(versions)]
    content = newest.read_bytes()
    newest.write_bytes(content[:-30])
    report = kintsugi_pass(cache_dir=clean)
    assert report.status == "unknown"
    assert any("manifest" in line.lower() for line in report.failures), report.failures
    with pytest.raises(RangeBarError, match=str(newest.name)):
        discover_shards(cache_dir=clean)
    newest.write_bytes(content)
    assert kintsugi_pass(cache_dir=clean).status == "healed"
    assert units(clean) == expected
    assert_nothing_left(clean)


def test_an_archive_and_a_rest_interface_that_refuse(market, clean, tape):
    expected = units(clean), ticks(clean)
    hour_removed(clean, tape, market)
    TickStorage(clean).delete_ticks(SYMBOL, DAYS[3], DAYS[3])
    bar_changed(clean, tape, market)
    with refusing(market, "/data/", "/api/"):
        report = kintsugi_pass(cache_dir=clean)
        found = actions(report)
        assert report.status == "unknown"
        assert any(line.startswith("head of") for line in report.failures), report.failures
        assert (found["tick_missing"], found["tick_gap"]) == ("failed", "failed")
        assert all(one.error for one in report if not one.healed)
    # Bars that need the missing ticks wait for them.
    assert {one[2] for one in units(clean)} == {one[2] for one in expected[0]}
    (clean / "kintsugi" / "ledger.jsonl").unlink()
    report = kintsugi_pass(cache_dir=clean)
    assert report.status == "healed", str(report)
    assert units(clean) == expected[0]
    assert ticks(clean).equals(expected[1])
    assert_nothing_left(clean)


def test_a_detector_whose_request_has_no_answer_in_time(market, clean, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "0.2")
    rule = market.fail("/data/", faults.stall(30.0), times=None)
    try:
        report = kintsugi_pass(cache_dir=clean)
    finally:
        rule.cancel()
    assert (report.status, len(report)) == ("unknown", 0), str(report)
    monkeypatch.delenv("RANGEBAR_HTTP_TIMEOUT_S")
    assert_nothing_left(clean)


def test_wrong_arguments_are_refused(clean):
    for wrong in (
        {"max_days": -1},
        {"max_p2_jobs": True},
        {"deadline_s": float("nan")},
        {"max_stale_hours": "72"},
        {"dry_run": 1},
    ):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            kintsugi_pass(cache_dir=clean, **wrong)
    with pytest.raises(SettingError):
        kintsugi_pass(cache_dir=clean, dsn="ftp://nowhere")
    with pytest.raises(RangeBarError, match="NOSUCH"):
        kintsugi_pass(cache_dir=clean, symbol="NOSUCH")
    assert not (clean / "kintsugi").exists()


def test_a_state_of_another_version_and_ticks_that_exist_nowhere(market, clean, tape):
    """Bars that cannot be computed stay as they are, and the task names the days."""
    sql(
        clean,
        f"ALTER TABLE {{units}} UPDATE processor_state = 'other' WHERE unit_day = '{LAST}'",
    )
    before = units(clean)
    day = DAYS[1]
    TickStorage(clean).delete_ticks(SYMBOL, day, day)
    with refusing(market, f"aggTrades-{day}", "/monthly/", code=404), refusing(market, "/api/"):
        report = kintsugi_pass(cache_dir=clean)
    assert report.status == "open", str(report)
    broken = [one for one in report if one.shard.kind == "state_unreadable"]
    assert len(broken) == len(THRESHOLDS)
    for one in broken:
        assert one.action == "failed"
        assert str(day) in one.error
    assert units(clean) == before
    (clean / "kintsugi" / "ledger.jsonl").unlink()
    assert kintsugi_pass(cache_dir=clean).status == "healed"
    assert units(clean) == before
    assert_nothing_left(clean)


def test_a_head_that_the_source_does_not_have(market, clean, tape):
    """After `max_stale_hours` it is a task, which stays open until the archive comes."""
    report = kintsugi_pass(cache_dir=clean, max_stale_hours=1)
    assert actions(report) == {"head_behind": "failed"}
    assert report.status == "open"
    assert str(LAST + ONE) in str(report)
    before = files(clean), units(clean)
    assert kintsugi_pass(cache_dir=clean).status == "clean"
    assert (files(clean), units(clean)) == before
