"""Repair from outside: the command and the public names, on a store that is damaged in several ways (A14)."""

from __future__ import annotations

import csv
import io
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange
from exchange.archive import trades_csv, zip_of
from live.commands import Program
from live.market import SYMBOL, point_at
from rangebar_polars.readers.cached import get_cached_bars
from rangebar_polars.storage.parquet import TickStorage
from repair.conftest import DAYS, FIRST, LAST, ONE
from repair.processes import Repair
from repetitions import repeated

ID = "agg_trade_id"
#: One is enough, and is computed sooner.
THRESHOLDS = repeated([250], [250, 500])
TEXT = ",".join(map(str, THRESHOLDS))
HOUR, FLIPPED, ARCHIVED, CUT = DAYS[0], DAYS[1], DAYS[2], DAYS[3]


@pytest.fixture
def exchange(tape):
    with Exchange(tape, now=datetime.now(UTC)) as found, found.live(speed=1.0):
        for day in (LAST + ONE, LAST + 2 * ONE):
            found.put(found.path(day), None)
        yield found


def rangebar(exchange, cache, folder, *words):
    """Run a command to its end; return what it wrote."""
    with Program(["-m", "rangebar_polars", *words], exchange, cache, folder) as program:
        status = program.ended()
        assert "Traceback" not in program.said()
        return status, "".join(program.texts)


@contextmanager
def closing():
    """Close the cache after each call of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANGEBAR_CACHE_IDLE_S", "0")
        yield


def populate(exchange, cache, monkeypatch):
    point_at(exchange, cache, monkeypatch)
    with closing():
        rb.populate_cache_resumable(
            SYMBOL, FIRST, LAST, threshold_decimal_bps=THRESHOLDS, verbose=False, cache_dir=cache
        )


def repair(exchange, cache, folder, *options):
    with Repair(exchange, cache, folder, *options) as command:
        status = command.ended()
        assert "Traceback" not in command.said()
        return status, command.read()[-1]


def coverage(exchange, cache, folder):
    """Rows of `rangebar cache coverage`."""
    words = ["cache", "coverage", SYMBOL, "-t", TEXT]
    status, text = rangebar(exchange, cache, folder, *words)
    assert status == 0
    return list(csv.DictReader(io.StringIO(text)))


def bars(cache):
    """The hash of each row of all bars."""
    with warnings.catch_warnings(), closing():
        # The ticks have changed, which is a warning.
        warnings.simplefilter("ignore", rb.exceptions.CoverageWarning)
        return {
            threshold: get_cached_bars(SYMBOL, threshold, cache_dir=cache).hash_rows().to_list()
            for threshold in THRESHOLDS
        }


def tree(cache, *left_out):
    """All files byte by byte; a lock names the process that held it last."""
    found = {
        path.relative_to(cache): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
    return {path: data for path, data in found.items() if path.parts[0] not in left_out}


def stored(cache):
    """What a pass after a pass does not change: all but the engine's files and its own, and the bars."""
    return tree(cache, "clickhouse", "kintsugi"), bars(cache)


def replace(cache, day, ticks):
    storage = TickStorage(cache)
    storage.delete_ticks(SYMBOL, day, day)
    storage.write_ticks(SYMBOL, ticks)


def flip(cache, day):
    (path,) = cache.rglob(f"{day}*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def publish(exchange, ticks, day):
    """Publish the archive of a day again."""
    path = exchange.path(day)
    member = path.rpartition("/")[2].replace(".zip", ".csv")
    exchange.put(path, zip_of({member: trades_csv(ticks, exchange.tapes[0])}))


def test_a_store_that_is_damaged_in_several_ways(exchange, tape, tmp_path, monkeypatch):
    cache, clean = tmp_path / "cache", tmp_path / "clean"
    populate(exchange, cache, monkeypatch)
    hour = tape.day(HOUR).filter(pl.col("timestamp").dt.hour() == 7)[ID]
    tail = tape.day(CUT)[ID].tail(40)
    replace(cache, HOUR, tape.day(HOUR).filter(~pl.col(ID).is_in(hour.implode())))
    replace(cache, CUT, tape.day(CUT).filter(~pl.col(ID).is_in(tail.implode())))
    flip(cache, FLIPPED)
    lower = (pl.col("price") * 0.99).round(tape.price_digits)
    publish(exchange, tape.day(ARCHIVED).with_columns(lower), ARCHIVED)
    before = bars(cache), tree(cache)

    status, planned = repair(exchange, cache, tmp_path, "--dry-run")
    assert (status, planned["status"]) == (1, "open")
    assert tree(cache) == before[1]
    found = {(one["kind"], *one["days"]): one for one in planned["tasks"]}
    assert {one["action"] for one in planned["tasks"]} == {"planned"}
    gaps = {
        (one["first_id"], one["last_id"]): one["days"]
        for one in planned["tasks"]
        if one["kind"] == "tick_gap"
    }
    assert set(gaps) == {(hour[0], hour[-1]), (tail[0], tail[-1])}
    assert gaps[hour[0], hour[-1]] == [str(HOUR)]
    # Ids between two days may belong to either.
    assert set(gaps[tail[0], tail[-1]]) <= {str(CUT), str(CUT + ONE)}
    assert found["tick_quarantined", str(FLIPPED)]["priority"] == "P1"
    assert found["archive_changed", str(ARCHIVED)]["priority"] == "P3"

    status, report = repair(exchange, cache, tmp_path)
    assert (status, report["status"], report["failures"]) == (0, "healed", []), report
    assert {one["action"] for one in report["tasks"]} == {"repaired"}
    assert all(one["verified"] for one in report["tasks"])
    rows = coverage(exchange, cache, tmp_path)
    assert len(rows) == len(DAYS) * len(THRESHOLDS)
    assert {row["state"] for row in rows} <= {"final", "given"}
    assert {row["gap_before"] for row in rows} == {"0"}
    populate(exchange, clean, monkeypatch)
    after = stored(cache)
    assert after[1] == bars(clean)
    assert after[1] != before[0]

    status, again = repair(exchange, cache, tmp_path)
    assert (status, again) == (0, {"status": "clean", "tasks": [], "failures": []})
    assert stored(cache) == after


def test_ids_that_exist_nowhere(tape, tmp_path, monkeypatch):
    gone = int(tape.day(DAYS[1])[ID][300])
    holed = tape.with_absent(gone, gone + 4)
    cache = tmp_path / "cache"
    with Exchange(holed, now=datetime.now(UTC)) as exchange, exchange.live(speed=1.0):
        for day in (LAST + ONE, LAST + 2 * ONE):
            exchange.put(exchange.path(day), None)
        populate(exchange, cache, monkeypatch)
        replace(cache, DAYS[1], holed.day(DAYS[1]))
        status, report = repair(exchange, cache, tmp_path)
        assert status == 0, report
        (task,) = [one for one in report["tasks"] if one["kind"] == "tick_gap"]
        assert (task["action"], task["first_id"], task["last_id"]) == ("absent", gone, gone + 4)
        assert (task["healed"], task["ariadne_used"]) == (True, True)
        before = stored(cache)
        status, again = repair(exchange, cache, tmp_path)
        assert (status, again["status"], again["tasks"]) == (0, "clean", [])
        assert stored(cache) == before
        assert rb.get_range_bars(SYMBOL, FIRST, LAST, 250, cache_dir=cache).shape[0] > 10
