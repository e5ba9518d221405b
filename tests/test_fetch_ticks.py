"""From sources into the store and out again, against an exchange in a box."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, Tape, faults, spoil
from rangebar_polars.exceptions import (
    CorruptSourceError,
    CoverageError,
    NotYetPublishedError,
    SymbolNotRegisteredError,
    TicksNotCachedError,
    TradeFileWarning,
    TransientSourceError,
)
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.manifest.versions import read_manifest
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import StartDateClampedWarning
from test_archive_source import lines_by_day, publish

FIRST, LAST = "2024-12-30", "2025-01-02"

pytestmark = pytest.mark.usefixtures("quick_retries")


def truth(tape: Tape) -> pl.DataFrame:
    return pl.concat([tape.day(day) for day in tape.days])


def env_of(monkeypatch: pytest.MonkeyPatch, box: Exchange, folder: Path) -> None:
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))


def test_what_was_traded_is_what_is_scanned(exchange: Exchange, exchange_tape: Tape) -> None:
    found = rb.scan_ticks("btcusdt", FIRST, LAST).collect()
    assert_frame_equal(found, truth(exchange_tape))


def test_bars_follow_from_the_store_in_one_chain(exchange: Exchange, exchange_tape: Tape) -> None:
    bars = rb.scan_ticks("BTCUSDT", FIRST, LAST).rangebar.bars(threshold=250).collect()
    assert bars.height > 3
    assert bars.equals(truth(exchange_tape).rangebar.bars(250))


def test_nothing_is_fetched_twice(exchange: Exchange) -> None:
    first = rb.fetch_ticks("BTCUSDT", FIRST, LAST)
    assert len(first.fetched) == 4
    asked = len(exchange.requests)
    again = rb.fetch_ticks("BTCUSDT", FIRST, LAST)
    assert (again.fetched, len(again.kept), again.rows) == ([], 4, 0)
    assert len(exchange.requests) == asked


def test_ids_that_the_archive_lacks_come_from_rest_and_the_rest_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape.generate(seed=5)
    first, last = tape.id_span("2024-12-31")
    tape = tape.with_archive_lack(first + 20, first + 29).with_archive_lack(last - 2, last)
    tape = tape.with_absent(first + 50, first + 54)
    with Exchange(tape) as box:
        env_of(monkeypatch, box, tmp_path)
        report = rb.fetch_ticks("BTCUSDT", FIRST, LAST)
        assert report.filled_ids >= 13
        assert report.absent_ids >= 5
        assert_frame_equal(rb.scan_ticks("BTCUSDT", FIRST, LAST).collect(), truth(tape))
    coverage = TickStorage().coverage("BTCUSDT", FIRST, LAST)
    assert coverage["missing_before"].to_list() == [0, 0, 0, 0]
    reasons = " ".join(filter(None, coverage["reason"].to_list()))
    assert "do not exist at the source" in reasons


def test_a_day_without_its_archive_comes_from_rest(exchange: Exchange, exchange_tape: Tape) -> None:
    exchange.put(exchange.path("2024-12-31"), None)
    assert_frame_equal(rb.scan_ticks("BTCUSDT", FIRST, LAST).collect(), truth(exchange_tape))
    states = TickStorage().coverage("BTCUSDT", FIRST, LAST)["state"].to_list()
    assert states == ["final"] * 4  # years late: the archive is not to be expected any more


def test_a_day_without_a_trade_is_proved_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape.generate(empty_days=["2025-01-01"])
    with Exchange(tape) as box:
        env_of(monkeypatch, box, tmp_path)
        for path in (box.path("2025-01-01"), box.path("2025-01-01") + ".CHECKSUM"):
            box.put(path, None)
        report = rb.fetch_ticks("BTCUSDT", FIRST, LAST)
        assert report.absent == [date(2025, 1, 1)]
        asked = len(box.requests)
        assert rb.fetch_ticks("BTCUSDT", FIRST, LAST).absent == [date(2025, 1, 1)]
        assert len(box.requests) == asked
    coverage = TickStorage().coverage("BTCUSDT", FIRST, LAST)
    assert coverage["state"].to_list() == ["final", "final", "absent_confirmed", "final"]


def test_values_that_were_rounded_are_counted_in_the_manifest(exchange: Exchange) -> None:
    day, tails = "2024-12-31", ("1.1375899999999999", "0.30000000000000004")
    rounded = [
        spoil.field(row, spoil.QUANTITY, text) for row, text in zip((3, 40), tails, strict=True)
    ]
    exchange.republish(exchange.path(day), lambda text: rounded[0](rounded[1](text)))
    with pytest.warns(TradeFileWarning, match="2 rounded to 8 decimals"):
        rb.fetch_ticks("BTCUSDT", FIRST, LAST)
    storage = TickStorage()
    stored = storage.get_ticks("BTCUSDT", day, day)["quantity"]
    assert (stored[3], stored[40]) == (1.13759, 0.3)
    symbol_dir = storage.symbol_dir("BTCUSDT", "binance", "spot")
    days = {
        **read_manifest(symbol_dir, "2024-12").days,
        **read_manifest(symbol_dir, "2025-01").days,
    }
    counts = {str(day): entry.origin.tails for day, entry in days.items()}
    assert counts == {FIRST: 0, day: 2, "2025-01-01": 0, LAST: 0}


def test_a_source_that_is_away_is_an_error_and_what_was_fetched_is_kept(exchange: Exchange) -> None:
    exchange.fail("2025-01-01", faults.status(503), times=None)
    with pytest.raises(TransientSourceError):
        rb.fetch_ticks("BTCUSDT", FIRST, LAST)
    coverage = TickStorage().coverage("BTCUSDT", FIRST, LAST)
    assert coverage["state"].to_list()[:2] == ["final", "final"]
    assert coverage["state"].to_list()[2] == "missing"
    exchange.script.clear()
    assert len(rb.fetch_ticks("BTCUSDT", FIRST, LAST).fetched) == 2


def test_a_corrupt_archive_is_never_taken_for_a_day_without_trades(exchange: Exchange) -> None:
    exchange.fail(exchange.path("2025-01-01"), faults.flip(), times=None)
    with pytest.raises(CorruptSourceError):
        rb.scan_ticks("BTCUSDT", FIRST, LAST)
    assert TickStorage().coverage("BTCUSDT", FIRST, LAST)["state"].to_list()[2] == "missing"


def test_missing_days_are_listed_where_nothing_may_be_fetched(exchange: Exchange) -> None:
    rb.fetch_ticks("BTCUSDT", FIRST, FIRST)
    with pytest.raises(TicksNotCachedError, match="2024-12-31") as caught:
        rb.scan_ticks("BTCUSDT", FIRST, LAST, fetch=False)
    assert caught.value.days == (date(2024, 12, 31), date(2025, 1, 1), date(2025, 1, 2))
    assert isinstance(caught.value, FileNotFoundError)


def test_the_gate_comes_first(exchange: Exchange) -> None:
    for door in (rb.scan_ticks, rb.fetch_ticks):
        with pytest.raises(SymbolNotRegisteredError):
            door("NOSUCHUSDT", FIRST, LAST)
    assert exchange.requests == []


def test_the_running_day_grows_and_gives_way_to_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    start = today - timedelta(days=2)
    tape = Tape.generate(start=start.isoformat(), days=3, per_day=2_000)
    with Exchange(tape) as box:
        env_of(monkeypatch, box, tmp_path)
        box.now = datetime.now(UTC) - timedelta(seconds=1)
        half = rb.fetch_ticks("BTCUSDT", start, today)
        assert half.tail[-1] == today or half.tail == []
        found = rb.scan_ticks("BTCUSDT", start, today).collect()
        traded = tape.between(start.isoformat(), box.now)
        assert_frame_equal(found, traded.filter(pl.col("timestamp") < datetime.now(UTC)))


def test_a_corrupted_file_is_fetched_again_while_it_is_read(
    exchange: Exchange, exchange_tape: Tape, tmp_path: Path
) -> None:
    plan = rb.scan_ticks("BTCUSDT", FIRST, LAST)
    files = TickStorage().verify().filter(day=date(2024, 12, 31), state="ok")
    file = Path(files["file"].item())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    assert_frame_equal(plan.collect(), truth(exchange_tape))
    assert [path for path in (tmp_path / "cache").rglob("*") if "quarantine" in path.parts]


def test_a_gap_that_nobody_can_fill_is_an_error_or_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    ticks = rb.sample_ticks()
    TickStorage().write_ticks("ETHUSDT", pl.concat([ticks[:100], ticks[110:200]]))
    span = ("ETHUSDT", "2024-08-08", "2024-08-08")
    with pytest.raises(CoverageError):
        rb.scan_ticks(*span, fetch=False)
    with pytest.warns(UserWarning, match="missing"):
        found = rb.scan_ticks(*span, fetch=False, on_gap="report").collect()
    assert found.height == 190


def test_quotes_take_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = QuoteTape.generate("EURUSD", "2024-12-01", "2025-02-01")
    with Exchange(tape) as box:
        env_of(monkeypatch, box, tmp_path)
        plan = rb.scan_ticks("eurusd", "2024-12-30", "2025-01-03", source="exness")
        found = plan.collect()
        bars = plan.rangebar.bars(50).collect()
    assert found.height > 100
    assert found.columns == ["timestamp", "price", "bid", "ask", "agg_trade_id"]
    assert bars.equals(found.rangebar.bars(50))
    coverage = TickStorage().coverage("EURUSD", "2024-12-28", "2024-12-31", source="exness")
    assert coverage["state"].to_list() == ["absent_confirmed", "final", "final", "final"]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_the_zone_of_the_machine_changes_nothing(
    exchange: Exchange, zone: str, tmp_path: Path
) -> None:
    code = (
        "import rangebar_polars as rb\n"
        f"frame = rb.scan_ticks('BTCUSDT', '{FIRST}', '{LAST}').collect()\n"
        "import json; print(json.dumps([frame.height, int(frame.hash_rows().sum() % 2**31)]))"
    )
    import os

    env = {**os.environ, "TZ": zone, "RANGEBAR_CACHE_DIR": str(tmp_path / zone.replace("/", "-"))}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    here = rb.scan_ticks("BTCUSDT", FIRST, LAST).collect()
    assert json.loads(run.stdout) == [here.height, int(here.hash_rows().sum() % 2**31)]


def test_a_scan_ends_with_the_newest_day_that_a_source_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    start = today - timedelta(days=3)
    tape = Tape.generate(start=start.isoformat(), days=3, per_day=1_000)
    with Exchange(tape, now=datetime.now(UTC)) as box:
        env_of(monkeypatch, box, tmp_path)
        assert rb.fetch_ticks("BTCUSDT", start, today).to_come == [today]
        with pytest.warns(CoverageWarning, match=f"end with {today - timedelta(days=1)}"):
            found = rb.scan_ticks("BTCUSDT", start, today).collect()
        assert_frame_equal(found, truth(tape))
        with pytest.raises(NotYetPublishedError, match=f"{today}"):
            rb.scan_ticks("BTCUSDT", today, today)


def test_a_running_month_of_quotes_is_scanned_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    tape = QuoteTape.generate("EURUSD", f"{today.replace(day=1)}", f"{today}")
    if tape.ticks.is_empty():
        pytest.skip("the month has no quote yet")
    with Exchange(tape, now=datetime.now(UTC)) as box:
        env_of(monkeypatch, box, tmp_path)
        span = ("EURUSD", today.replace(day=1), today)
        with pytest.warns(CoverageWarning, match="has no tick yet"):
            found = rb.scan_ticks(*span, source="exness").collect()
    assert found.height == tape.ticks.height


def test_a_tail_grows_by_its_ids_until_its_archive_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(UTC).date()
    day = today - timedelta(days=1)
    tape = Tape.generate(start=day.isoformat(), days=1, per_day=5_000)
    traded = tape.ticks["timestamp"]
    with Exchange(tape) as box:
        env_of(monkeypatch, box, tmp_path)
        box.put(box.path(day), None)
        for row in (2_000, 2_001, 4_500):
            box.now = traded[row] + timedelta(microseconds=1)
            asked = len(box.requests)
            report = rb.fetch_ticks("BTCUSDT", day, day)
            assert report.tail == [day]
            held = TickStorage().get_ticks("BTCUSDT", day, day)
            assert_frame_equal(held, tape.between(day, box.now))
            # Looking for the day takes many requests, going on from its last id few.
            assert row == 2_000 or len(box.requests) - asked <= 12
        box.now = datetime.now(UTC)
        box.put(box.path(day), Exchange(tape).content(box.path(day)))
        assert rb.fetch_ticks("BTCUSDT", day, day).fetched == [day]
        assert_frame_equal(rb.scan_ticks("BTCUSDT", day, day).collect(), truth(tape))


def test_a_whole_store_needs_no_source(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, exchange_tape: Tape
) -> None:
    report = rb.fetch_ticks("BTCUSDT", FIRST, LAST)
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", "file:///not/there")
    assert rb.fetch_ticks("BTCUSDT", FIRST, LAST).kept == report.fetched == exchange_tape.days
    assert_frame_equal(rb.scan_ticks("BTCUSDT", FIRST, LAST).collect(), truth(exchange_tape))


def test_a_wrong_word_is_refused_before_anything_is_fetched(exchange: Exchange) -> None:
    with pytest.raises(ValueError, match="`on_gap`: unknown value `reprt`"):
        rb.scan_ticks("BTCUSDT", FIRST, LAST, on_gap="reprt")
    assert exchange.requests == []


def test_real_files_come_back_as_they_are_scanned(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    for number, file in enumerate(sorted((shared / "data" / "binance").glob("*.csv"))):
        folder = tmp_path / str(number)
        market, symbol, _ = file.name.split("_")
        days = lines_by_day(file)
        for day, lines in days.items():
            publish(folder, market, "daily", symbol, f"{day}", lines)
        monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", folder.as_uri())
        plan = rb.scan_ticks(symbol, min(days), max(days), market=market)
        assert_frame_equal(plan.collect(), rb.scan_agg_trades(file).collect())


def test_a_span_before_the_first_day_of_a_symbol_is_refused(exchange: Exchange) -> None:
    with (
        pytest.warns(StartDateClampedWarning),
        pytest.raises(
            ValueError, match="before the first day of `BTCUSDT`\\n\\nhint: it starts on 2018-01-16"
        ),
    ):
        rb.scan_ticks("BTCUSDT", "2017-12-30", "2017-12-31")
    assert exchange.requests == []


def test_a_symbol_of_another_source_is_refused_with_its_own(exchange: Exchange) -> None:
    with pytest.raises(ValueError, match='hint: source="exness"'):
        rb.scan_ticks("EURUSD", FIRST, LAST)
    assert exchange.requests == []
