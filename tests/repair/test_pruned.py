"""Days that were pruned are no task: their bars stay, and nobody needs their ticks."""

from __future__ import annotations

from live.market import SYMBOL
from rangebar_polars.kintsugi import kintsugi_pass
from rangebar_polars.maintenance.prune import prune
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, files, units
from repair.test_damages import bars_deleted


def pruned(clean, keep=3):
    report = prune(keep, cache_dir=clean, dry_run=False)
    assert report.days >= 2
    left = TickStorage(clean).list_days(SYMBOL)
    assert DAYS[0] not in left
    return left


def test_pruned_days_are_no_task(market, clean):
    expected = units(clean)
    left = pruned(clean)
    before = files(clean)
    report = kintsugi_pass(cache_dir=clean)
    assert (report.status, len(report)) == ("clean", 0), str(report)
    assert files(clean) == before
    assert units(clean) == expected
    assert TickStorage(clean).list_days(SYMBOL) == left


def test_damaged_bars_of_pruned_days_are_repaired(market, clean, tape):
    expected = units(clean)
    pruned(clean)
    bars_deleted(clean, tape, market)
    report = kintsugi_pass(cache_dir=clean)
    assert report.status == "healed", str(report)
    assert units(clean) == expected
    report = kintsugi_pass(cache_dir=clean)
    assert (report.status, len(report)) == ("clean", 0), str(report)
