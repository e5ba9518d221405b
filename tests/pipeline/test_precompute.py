"""`precompute_range_bars` reports its progress, counts the stored bars and validates them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from pipeline.tapes import SYMBOL, bars_of, chains, day, facts, kept, rows, store, tape
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import states_of
from rangebar_polars.exceptions import PopulationError, ThresholdError, ValidationError
from rangebar_polars.ingest.newest_day import ClampWarning
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.populate.precompute import (
    ValidationWarning,
    precompute_range_bars,
)
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.validation.tier1 import validate_tier1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rangebar_polars.populate.precompute import PrecomputeProgress, PrecomputeResult

TICKS = tape()
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def bare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, and no source of ticks."""
    for name in ("ARCHIVE", "REST"):
        monkeypatch.setenv(f"RANGEBAR_BINANCE_{name}_URL", DEAD)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    return folder


@pytest.fixture
def place(bare: Path) -> Iterator[Path]:
    """Return a folder with the tape, whose cache stays open."""
    store(bare, TICKS)
    with open_cache(cache_dir=bare, write=True):
        yield bare


def precompute(folder: Path, first: int, last: int, **options: object) -> PrecomputeResult:
    return precompute_range_bars(
        SYMBOL, day(first), day(last), **{"cache_dir": folder, "verbose": False, **options}
    )


# Counts


def test_it_stores_what_a_population_stores(place: Path) -> None:
    result = precompute(place, 5, 12)
    bars = kept(place)
    assert (result.symbol, result.threshold_decimal_bps, result.cache_key) == (
        SYMBOL,
        250,
        f"{SYMBOL}_250",
    )
    assert (result.start_date, result.end_date) == (day(5), day(12))
    assert result.total_bars == int(result.report) == bars.filter("is_closed").height > 50
    assert (
        result.total_ticks
        == TICKS.filter(pl.col("timestamp").dt.date().is_between(day(5), day(12))).height
    )
    assert result.elapsed_seconds > 0
    found = facts(place)
    with open_cache(cache_dir=place) as cache:
        cache.command(f"TRUNCATE TABLE {cache.table('units')}")
    populate_cache_resumable(SYMBOL, day(5), day(12), cache_dir=place, verbose=False)
    assert facts(place) == found


def test_bars_stored_before_count(place: Path) -> None:
    first = precompute(place, 1, 12)
    before = rows(place)
    again = precompute(place, 1, 12)
    assert (again.total_bars, again.total_ticks) == (first.total_bars, first.total_ticks)
    assert int(again.report) == 0
    assert rows(place) == before
    part = precompute(place, 3, 5)
    inside = pl.col("close_time").dt.date().is_between(day(3), day(5))
    assert part.total_bars == kept(place).filter("is_closed", inside).height
    assert part.continuity_valid is True


def test_the_end_may_be_the_newest_day(place: Path) -> None:
    with pytest.warns(UserWarning, match="newest day"):
        result = precompute_range_bars(SYMBOL, day(13), None, cache_dir=place, verbose=False)
    assert result.end_date == day(14)


@pytest.mark.parametrize("last", [20, None])
def test_the_newest_day_is_looked_up_once(place: Path, last: int | None) -> None:
    end = None if last is None else day(last)
    with pytest.warns(ClampWarning) as caught:
        result = precompute_range_bars(SYMBOL, day(13), end, cache_dir=place, verbose=False)
    assert sum(issubclass(one.category, ClampWarning) for one in caught) == 1
    assert result.end_date == day(14)
    assert (result.report.clamped_from, list(result.report.unanswered)) == (end, [SYMBOL])


def test_an_unavailable_day_is_an_error(place: Path) -> None:
    TickStorage(place).delete_ticks(SYMBOL, day(4), day(4))
    with pytest.raises(PopulationError) as caught:
        precompute(place, 1, 6)
    assert caught.value.days == (day(4),)
    assert [chain.frontier for chain in chains(place).values()] == [day(4)]


def test_a_rebuild_shows_the_same_bars(place: Path) -> None:
    first = precompute(place, 1, 6)
    again = precompute(place, 1, 6, force_refresh=True)
    assert int(again.report) == first.total_bars == again.total_bars
    assert {unit.generation for chain in chains(place).values() for unit in chain.units} != {0}


# Validation


def test_sound_bars_pass(place: Path) -> None:
    result = precompute(place, 1, 12)
    assert result.continuity_valid is True
    assert result.tier1["tier1_passed"] is True
    expected = validate_tier1(kept(place).filter("is_closed"))
    assert result.tier1.pop("ofi_return_corr") == pytest.approx(expected.pop("ofi_return_corr"))
    assert result.tier1 == expected
    assert json.loads(json.dumps(result.tier1)) == result.tier1
    assert (result.continuity.bar_count, result.continuity.orphans) == (result.total_bars + 1, 1)
    assert "no trade is missing" in str(result)


@pytest.mark.parametrize("reset", ["month", "week", "day", "none"])
def test_every_reset_passes(place: Path, reset: str) -> None:
    result = precompute(place, 2, 12, ouroboros=reset)
    assert (result.continuity_valid, result.tier1["tier1_passed"]) == (True, True)
    assert result.total_bars == kept(place, reset=reset).filter("is_closed").height


def test_days_without_a_tick_pass(bare: Path) -> None:
    traded = TICKS.filter(pl.col("timestamp").dt.date() != day(4))
    numbered = traded.with_columns(agg_trade_id=pl.int_range(pl.len(), dtype=pl.Int64) + 1_000)
    store(bare, numbered, absent=(4,))
    result = precompute(bare, 1, 6)
    assert (result.continuity_valid, result.report.series[0].absent) == (True, (day(4),))


def test_ids_that_do_not_exist_at_the_source_pass(bare: Path) -> None:
    gone = [1_130, 1_131, 1_300]
    storage = store(bare, TICKS.filter(~pl.col("agg_trade_id").is_in(gone)))
    storage.fill_gaps(SYMBOL, TICKS.clear(), storage.gaps(SYMBOL, day(1), day(4)))
    result = precompute(bare, 1, 4)
    assert result.continuity_valid is True
    assert result.continuity.bar_count > 0


def test_days_without_a_bar_are_a_warning(place: Path) -> None:
    with pytest.warns(ValidationWarning, match="no bars of `BTCUSDT_50000` in 120 ticks"):
        result = precompute(place, 1, 1, threshold_decimal_bps=50_000)
    assert (result.total_bars, result.tier1["error"]) == (0, "there are no bars")


def test_skip_does_not_validate(place: Path) -> None:
    result = precompute(place, 1, 3, validate_on_complete="skip")
    assert (result.continuity_valid, result.continuity, result.tier1) == (None, None, None)
    assert result.total_bars > 0


def store_unsound(folder: Path, change: object) -> None:
    """Store three days, and a fourth with changed bars under the hash of its ticks."""
    populate_cache_resumable(SYMBOL, day(1), day(4), cache_dir=folder, verbose=False)
    ((_, chain),) = chains(folder).items()
    fourth = chain.units[3]
    bars = bars_of(folder, chain).filter(pl.col("close_time").dt.date() == day(4))
    held = snapshot(TickStorage(folder), SYMBOL, day(4), day(4))[day(4)]
    entry = held.coverage.entry
    with open_cache(cache_dir=folder, write=True) as cache:
        state = states_of(cache, [fourth])[fourth]
        cache.command(
            f"ALTER TABLE {cache.table('units')} DELETE WHERE attempt = {fourth.attempt} "
            "SETTINGS mutations_sync = 2"
        )
        ticks = TickDay(entry.state, entry.rows, held.tick_hash, entry.first_id, entry.last_id)
        draft = UnitDraft(
            chain.series,
            day(4),
            change(bars),
            ticks,
            state,
            built_on=fourth.built_on,
            fencing=fourth.fencing,
        )
        publish(cache, [draft])


def test_a_missing_bar_is_an_error_with_the_result(place: Path) -> None:
    store_unsound(place, lambda bars: pl.concat([bars[:2], bars[3:]]))
    with pytest.raises(ValidationError, match="1 break") as caught:
        precompute(place, 1, 4)
    result = caught.value.result
    assert (result.continuity_valid, result.tier1["tier1_passed"]) == (False, True)
    assert int(result.report) == 0


def test_an_impossible_value_is_a_warning_on_request(place: Path) -> None:
    store_unsound(place, lambda bars: bars.with_columns(ofi=pl.lit(2.0)))
    with pytest.warns(ValidationWarning, match="ofi_bounded"):
        result = precompute(place, 1, 4, validate_on_complete="warn")
    assert (result.continuity_valid, result.tier1["tier1_passed"]) == (True, False)
    with pytest.raises(ValidationError, match="tier 1 failed"):
        precompute(place, 1, 4)
    assert precompute(place, 1, 3).tier1["tier1_passed"] is True


# Progress


def test_the_callback_is_called_for_every_month(place: Path) -> None:
    calls: list[PrecomputeProgress] = []
    result = precompute(place, 5, 12, progress_callback=calls.append)
    assert (calls[0].phase, calls[0].months_completed, calls[0].months_total) == ("fetching", 0, 2)
    assert (calls[0].bars_generated, calls[0].current_month) == (0, "2024-12")
    done = [(one.current_month, one.months_completed) for one in calls if one.phase == "caching"]
    assert done == [("2024-12", 1), ("2025-01", 2), ("2025-01", 2)]
    assert calls[-1].bars_generated == result.total_bars
    assert calls[-1].ticks_processed == result.total_ticks
    seconds = [one.elapsed_seconds for one in calls]
    assert seconds == sorted(seconds)
    counts = [one.bars_generated for one in calls]
    assert counts == sorted(counts)


def test_stored_months_are_completed_at_once(place: Path) -> None:
    precompute(place, 5, 9)
    calls: list[PrecomputeProgress] = []
    precompute(place, 5, 9, progress_callback=calls.append)
    assert [(one.phase, one.months_completed) for one in calls] == [("fetching", 0), ("caching", 1)]


def test_the_callback_is_called_with_an_executor(place: Path) -> None:
    calls: list[PrecomputeProgress] = []
    with ThreadPoolExecutor(2) as executor:
        result = precompute(place, 1, 12, executor=executor, progress_callback=calls.append)
    assert (calls[-1].months_completed, calls[-1].bars_generated) == (2, result.total_bars)
    assert result.continuity_valid is True


def test_an_error_of_the_callback_ends_the_run_and_the_next_one_resumes(place: Path) -> None:
    def stop(progress: PrecomputeProgress) -> None:
        if progress.phase == "caching":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        precompute(place, 1, 12, progress_callback=stop)
    written = sum(len(chain.units) for chain in chains(place).values())
    assert 0 < written < 12
    assert precompute(place, 1, 12).report.published == 12 - written


# Refusals


def test_arguments_are_checked_before_any_work(bare: Path) -> None:
    with pytest.raises(ValueError, match="validate_on_complete"):
        precompute(bare, 1, 2, validate_on_complete="perhaps")
    with pytest.raises(ValueError, match="whole UTC days"):
        precompute_range_bars(SYMBOL, datetime(2024, 12, 30, 7, tzinfo=UTC), day(12))
    with pytest.raises(ThresholdError):
        precompute(bare, 1, 2, threshold_decimal_bps=0)
    assert not (bare / "clickhouse").exists()
