"""The command `rangebar populate`, and `rangebar bars` of a symbol."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("chdb")

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, Tape, faults
from rangebar_polars.cli import main
from rangebar_polars.events import flush_hooks
from rangebar_polars.readers.cached import count_bars, get_cached_bars
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = "2024-12-30", "2025-01-02"
SPAN = ("BTCUSDT", FIRST, LAST)
ASKED = ("populate", "BTCUSDT", "-s", FIRST, "-e", LAST)
QUIET = ("--quiet", "--no-notify")
STALL_SECONDS = 3600.0  # longer than the test waits

INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # some shells have it ignored
from rangebar_polars.cli import main
sys.exit(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder in memory where the machine has one."""
    fast = Path("/dev/shm")
    place = fast if os.access(fast, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as name:
        yield Path(name)


@pytest.fixture
def market(exchange: Exchange, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """Return an exchange with four days of BTCUSDT around a year's end."""
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
    return exchange


def command(*words: object) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", *map(str, words)],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert "Traceback" not in run.stderr, run.stderr
    return run


def expected(threshold: int, tape: Tape) -> pl.DataFrame:
    """Return the bars of the tape, each year by itself."""
    return tape.ticks.rangebar.bars(threshold, reset="year").drop("bar_id")


def written(words: str) -> list[int]:
    """Return the number of written days of each series in a report."""
    return [int(number) for number in re.findall(r"(\d+) of \d+ days written", words)]


def test_a_population_reports_its_days_and_stores_every_bar(
    market: Exchange, exchange_tape: Tape, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "-t", "250,500", "--no-notify"]) == 0
    heard = capsys.readouterr()
    assert heard.err == ""
    assert written(heard.out) == [2, 2, 2, 2]
    for threshold in (250, 500):
        assert_frame_equal(
            get_cached_bars("BTCUSDT", threshold), expected(threshold, exchange_tape)
        )


@pytest.mark.parametrize(
    "words",
    [
        ("BTCUSDT", FIRST, LAST),
        ("BTCUSDT", FIRST.replace("-", "/"), LAST.replace("-", ".")),
        ("btcusdt", FIRST, "-e", LAST),
        ("--end", LAST, "--start", FIRST, "BTCUSDT"),
        ("-t", "250", "BTCUSDT", "BTCUSDT", FIRST, LAST),
    ],
    ids=" ".join,
)
def test_days_are_given_by_position_or_by_option(
    words: tuple[str, ...], market: Exchange, exchange_tape: Tape
) -> None:
    assert main(["populate", *words, *QUIET]) == 0
    assert_frame_equal(get_cached_bars("BTCUSDT", 250), expected(250, exchange_tape))


@pytest.mark.parametrize(
    ("words", "has_events"),
    [
        ((), True),
        (("--notify",), True),
        (("--no-notify",), False),
        (("--no-notify", "--notify"), True),
        (("--notify", "--no-notify"), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_events_are_sent_unless_they_are_disabled(
    words: tuple[str, ...],
    has_events: bool,
    market: Exchange,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rb.fetch_ticks("BTCUSDT", FIRST, FIRST)
    log = tmp_path / "events.jsonl"
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(log))
    assert main(["populate", "BTCUSDT", FIRST, FIRST, "--quiet", *words]) == 0
    flush_hooks()
    text = log.read_text() if log.exists() else ""
    assert ("population_complete" in text) is has_events
    assert bool(text) is has_events


def test_a_second_population_writes_nothing(
    market: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, *QUIET]) == 0
    assert capsys.readouterr() == ("", "")
    before = len(market.requests)
    assert main([*ASKED, "--no-notify"]) == 0
    assert set(written(capsys.readouterr().out)) == {0}
    assert len(market.requests) == before


@pytest.mark.usefixtures("quick_retries")
def test_an_unavailable_day_ends_with_1_and_the_days_before_are_stored(
    market: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    market.fail(market.path("2025-01-02"), faults.flip(), times=None)
    assert main([*ASKED, *QUIET]) == 1
    heard = capsys.readouterr().err
    assert "2025-01-02" in heard
    assert "hint: " in heard
    assert written(heard) == [2, 1]
    days = get_cached_bars("BTCUSDT", 250)["close_time"].dt.date().unique().sort()
    assert [str(day) for day in days] == ["2024-12-30", "2024-12-31", "2025-01-01"]


def test_symbols_go_to_the_markets_that_the_registry_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
    quotes = QuoteTape.generate("EURUSD", "2024-12-01", "2025-01-01")
    with Exchange(Tape.generate(), quotes) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        words = ["populate", "btcusdt,eurusd", "-s", FIRST, "-e", "2024-12-30", "--no-notify"]
        assert main(words) == 0
    assert len(written(capsys.readouterr().out)) == 2
    assert count_bars("BTCUSDT", 250) > 0


def test_the_newest_whole_day_is_the_default_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
    now = datetime.now(UTC)
    first = now.date() - timedelta(days=4)
    with Exchange(Tape.generate(start=first, days=4, absent=0, archive_lacks=0), now=now) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        assert main(["populate", "BTCUSDT", "--start", str(first), "--no-notify"]) == 0
    days = get_cached_bars("BTCUSDT", 250)["close_time"].dt.date().unique().sort()
    assert days.first() == first
    assert days.last() in (now.date() - timedelta(days=1), now.date() - timedelta(days=2))
    assert sum(written(capsys.readouterr().out)) == days.len()


@pytest.mark.usefixtures("quick_retries")
def test_without_a_connection_a_population_ends_with_1_and_a_message(
    market: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    rb.fetch_ticks("BTCUSDT", FIRST, "2024-12-31")
    market.close()
    for end in (("-e", LAST), ()):
        assert main(["populate", "BTCUSDT", FIRST, *end, *QUIET]) == 1
        heard = capsys.readouterr().err
        assert "no source could be asked for newer days of BTCUSDT" in heard
        assert "2024-12-31 (" in heard or "2024-12-31, not 2025-01-02 (" in heard
    assert main(["populate", "BTCUSDT", FIRST, "2024-12-31", *QUIET]) == 0


def test_a_day_that_the_archive_does_not_have_yet_ends_with_0(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
    now = datetime.now(UTC)
    first = now.date() - timedelta(days=4)
    with Exchange(Tape.generate(start=first, days=3, absent=0, archive_lacks=0), now=now) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        words = ["populate", "BTCUSDT", str(first), str(now.date()), "--no-notify"]
        assert main(words) == 0
        assert f"not {now.date()}" in capsys.readouterr().out
        assert main(["cache", "update", "--no-notify"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["populate"], "SYMBOL"),
        (["populate", "BTCUSDT"], "--start"),
        (["populate", "BTCUSD", "-s", FIRST], "did you mean `BTCUSDT`?"),
        (["populate", "BTC USDT", "-s", FIRST], "not a symbol"),
        (["populate", "BTCUSDT", "-s", "2024-13-30"], "2024-13-30"),
        (["populate", "BTCUSDT", "-s", LAST, "-e", FIRST], "before `start`"),
        (["populate", "BTCUSDT", LAST, FIRST], "before `start`"),
        (["populate", "BTCUSDT", FIRST, "-s", FIRST], "START is given twice"),
        (["populate", "BTCUSDT", FIRST, LAST, "-e", LAST], "END is given twice"),
        (["populate", "BTCUSDT", FIRST, LAST, "-s", FIRST, "-e", LAST], "START is given twice"),
        (["populate", FIRST, LAST], "no SYMBOL"),
        (["populate", "BTCUSDT", FIRST, LAST, LAST], "at most two days"),
        (["populate", "BTCUSDT", FIRST, "ETHUSDT"], "`ETHUSDT`"),
        (["populate", "BTCUSDT", "2024-13-30"], "2024-13-30"),
        (["populate", "BTCUSDT", "-s", FIRST, "-t", "0.25"], "250"),
        (["populate", "BTCUSDT", "-s", FIRST, "-t", "250,much"], "much"),
        (["populate", "BTCUSDT", "-s", FIRST, "-t", "10"], "minimum"),
        (["populate", "BTCUSDT", "-s", FIRST, "--reset", "hour"], "`hour`"),
        (["populate", "BTCUSDT", "-s", FIRST, "--workers", "0"], "`0`"),
        (["populate", "BTCUSDT", "-s", FIRST, "--market", "futures"], "`spot`, `um`, `cm`"),
        (["populate", "BTCUSDT", "-s", FIRST, "--dsn", "mysql://host"], "mysql"),
        (["bars", "BTCUSDT", FIRST], "two dates"),
        (["bars", *SPAN, "--reset", "hour"], "`hour`"),
        (["bars", *SPAN, "--anchor", "noon"], "`noon`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_ends_with_2_before_any_request(
    words: list[str], message: str, market: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    heard = capsys.readouterr()
    assert (status, heard.out) == (2, ""), heard.err
    assert message in heard.err
    assert market.requests == []


@pytest.mark.usefixtures("market", "quick_retries")
def test_a_server_that_is_away_ends_with_1_and_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Exchange(Tape.generate(days=1)) as box:
        dsn = next(iter(box.environment.values()))
    assert main([*ASKED, *QUIET, "--dsn", dsn]) == 1
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "hint: " in heard.err


def test_workers_give_the_same_bars(market: Exchange, exchange_tape: Tape) -> None:
    run = command(*ASKED, "--workers", "2", *QUIET)
    assert run.returncode == 0, run.stderr
    assert_frame_equal(get_cached_bars("BTCUSDT", 250), expected(250, exchange_tape))


@contextmanager
def interruptible(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and kill it if the test fails."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()  # not read to its end, since a process left behind may hold it open
        process.wait()


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the child processes of a process."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT of this kind")
def test_an_interrupted_population_reports_its_stored_days_and_resumes(
    market: Exchange, exchange_tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    assert main(["populate", "BTCUSDT", "-s", FIRST, "-e", "2024-12-31", *QUIET]) == 0
    stalled = market.path("2025-01-01")
    rule = market.fail(stalled, faults.stall(STALL_SECONDS), times=None)
    with interruptible(*ASKED, *QUIET) as process:
        while not market.asked(stalled):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, words = process.communicate(timeout=600)
    assert (process.returncode, out) == (130, "")
    lines = words.splitlines()
    stored = "of 2 of 4 days are stored, the last is 2024-12-31"
    assert f"rangebar: BTCUSDT: ticks {stored}" in lines
    assert f"rangebar: BTCUSDT at 250 dbps: bars {stored}" in lines
    assert lines[-2:] == ["rangebar: run it again to resume from there", "rangebar: interrupted"]
    rule.cancel()
    assert main([*ASKED, *QUIET]) == 0
    assert_frame_equal(get_cached_bars("BTCUSDT", 250), expected(250, exchange_tape))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of children here")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_population_that_is_killed_leaves_no_worker_behind(
    name: str, market: Exchange, exchange_tape: Tape
) -> None:
    rb.fetch_ticks(*SPAN)
    with interruptible(*ASKED, *QUIET, "--workers", "2") as process:
        while len(workers := children(process)) < 3:  # one of them tracks shared resources
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.Signals[name])
        status = process.wait(600)
    assert status == (130 if name == "SIGINT" else -signal.SIGKILL)
    deadline = time.monotonic() + 600
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert main([*ASKED, *QUIET]) == 0
    assert_frame_equal(get_cached_bars("BTCUSDT", 250), expected(250, exchange_tape))


def test_bars_of_a_symbol_come_from_the_cache_and_the_rest_from_ticks(
    market: Exchange, exchange_tape: Tape, tmp_path: Path
) -> None:
    assert main(["populate", "BTCUSDT", "-s", FIRST, "-e", "2024-12-31", *QUIET]) == 0
    out = tmp_path / "bars.parquet"
    assert main(["bars", *SPAN, "--out", str(out)]) == 0
    assert_frame_equal(pl.read_parquet(out), expected(250, exchange_tape))
    kept = get_cached_bars("BTCUSDT", 250)
    assert kept["close_time"].dt.date().max() < datetime(2025, 1, 1, tzinfo=UTC).date()


@pytest.mark.usefixtures("market")
def test_bars_of_a_symbol_take_the_options_of_files(exchange_tape: Tape, tmp_path: Path) -> None:
    out = tmp_path / "bars.parquet"
    words = ["-t", "250,500", "--features", "ofi", "--reset", "none", "--no-cache"]
    assert main(["bars", *SPAN, *words, "--out", str(out)]) == 0
    wanted = exchange_tape.ticks.rangebar.bars([250, 500], features="ofi").drop("bar_id")
    assert_frame_equal(pl.read_parquet(out), wanted)


@pytest.mark.usefixtures("market")
def test_bars_of_a_symbol_can_begin_at_an_anchor(exchange_tape: Tape, tmp_path: Path) -> None:
    out = tmp_path / "bars.parquet"
    assert main(["bars", "BTCUSDT", LAST, LAST, "--anchor", "segment", "--out", str(out)]) == 0
    year = exchange_tape.ticks.filter(pl.col("timestamp") >= datetime(2025, 1, 1, tzinfo=UTC))
    of_day = pl.col("close_time") >= datetime(2025, 1, 2, tzinfo=UTC)
    wanted = year.rangebar.bars(250).filter(of_day).drop("bar_id")
    assert_frame_equal(pl.read_parquet(out), wanted)


@pytest.mark.usefixtures("market")
def test_too_long_a_span_is_refused_with_the_command_that_populates_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bars", "BTCUSDT", "2024-10-01", LAST]) == 1
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "populate" in heard.err


def test_bars_of_a_symbol_need_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    TickStorage().write_ticks("ETHUSDT", rb.sample_ticks())
    assert main(["bars", "ETHUSDT", "2024-08-08", "2024-08-08"]) == 0
    assert (
        len(capsys.readouterr().out.splitlines()) == rb.sample_ticks().rangebar.bars(250).height + 1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["ticks"]
