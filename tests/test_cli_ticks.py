"""The commands of the tick store: real processes against a local exchange."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, Tape, faults
from rangebar_polars.cli import main
from rangebar_polars.exceptions import ParquetCorruptionError, ThresholdError
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = "2024-12-30", "2025-01-02"
SPAN = ("BTCUSDT", FIRST, LAST)
STALL_SECONDS = 3600.0  # longer than the test waits


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert "Traceback" not in run.stderr
    return run


def table_of(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text), try_parse_dates=True)


def spoil(file: Path) -> None:
    """Flip one bit in the middle of a file of the store."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # some shells have it ignored
from rangebar_polars.cli import main
sys.exit(main())
"""


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
        process.communicate()


def interrupted(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Interrupt a command; return its exit status and its messages."""
    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=600)
    assert out == ""
    return process.returncode, words.splitlines()


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            if file.readlink() == path.resolve():
                return True
    return False


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TickStorage:
    """Return a store with one day of ETHUSDT, and point the settings at it."""
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    storage = TickStorage()
    storage.write_ticks("ETHUSDT", rb.sample_ticks())
    return storage


def test_a_fetch_puts_every_tick_into_the_store(exchange: Exchange, exchange_tape: Tape) -> None:
    run = command("fetch", *SPAN)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "4 days fetched" in run.stdout
    kept = TickStorage().get_ticks(*SPAN)
    assert_frame_equal(kept, pl.concat([exchange_tape.day(day) for day in exchange_tape.days]))


@pytest.mark.usefixtures("exchange", "quick_retries")
def test_a_second_fetch_finds_every_day_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", *SPAN]) == 0
    capsys.readouterr()
    assert main(["fetch", *SPAN]) == 0
    words = capsys.readouterr()
    assert "0 days fetched" in words.out
    assert "4 already stored" in words.out


def test_source_and_market_are_those_of_the_registry_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    whole = {"days": 1, "absent": 0, "archive_lacks": 0}
    coin = Tape.generate("BTCUSD_PERP", market="cm", price_digits=1, quantity_digits=0, **whole)
    swap = Tape.generate("BTCUSDT", market="um", **whole)
    with Exchange(coin, swap, QuoteTape.generate("EURUSD", "2024-12-01", "2025-01-01")) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        for words in (["BTCUSD_PERP"], ["eurusd"], ["BTCUSDT", "--market", "um"]):
            assert main(["fetch", words[0], FIRST, FIRST, *words[1:]]) == 0
    run = command("ticks", "list")
    found = table_of(run.stdout).select("source", "market", "symbol").rows()
    assert set(found) == {
        ("binance", "cm", "BTCUSD_PERP"),
        ("binance", "um", "BTCUSDT"),
        ("exness", "spot", "EURUSD"),
    }
    listed = table_of(command("ticks", "list", "--source", "exness").stdout)
    assert listed["symbol"].to_list() == ["EURUSD"]
    assert table_of(command("ticks", "list", "EURUSD").stdout)["day"].len() >= 1


@pytest.mark.usefixtures("exchange", "quick_retries")
def test_coverage_has_a_row_for_each_day(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "BTCUSDT", FIRST, "2024-12-31"]) == 0
    capsys.readouterr()
    assert main(["ticks", "coverage", *SPAN]) == 0
    table = table_of(capsys.readouterr().out)
    assert table.columns == TickStorage().coverage(*SPAN).columns
    assert table["state"].to_list() == ["final", "final", "missing", "missing"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch"], "SYMBOL"),
        (["fetch", "BTCUSDT"], "START"),
        (["fetch", "BTCUSD", FIRST, LAST], "did you mean `BTCUSDT`?"),
        (["fetch", "BTC USDT", FIRST, LAST], "not a symbol"),
        (["fetch", "", FIRST, LAST], "not a symbol"),
        (["fetch", "BTCUSDT", "2024-13-30", LAST], "2024-13-30"),
        (["fetch", "BTCUSDT", "yesterday"], "yesterday"),
        (["fetch", "BTCUSDT", LAST, FIRST], "not after"),
        (["fetch", "BTCUSDT", "2099-01-01", "2099-01-02"], "future"),
        (["fetch", "BTCUSDT", "30.12.2024", LAST], '"2024-12-30"'),
        (["fetch", *SPAN, "--market", "futures"], "`spot`, `um`, `cm`"),
        (["fetch", *SPAN, "--source", "exnes"], "did you mean `exness`?"),
        (["fetch", *SPAN, "--sauce", "exness"], "--sauce"),
        (["ticks"], "ACTION"),
        (["ticks", "verfy"], "verfy"),
        (["ticks", "coverage", "BTCUSD", FIRST], "did you mean `BTCUSDT`?"),
        (["ticks", "coverage", *SPAN, "--market", "futures"], "`spot`, `um`, `cm`"),
        (["ticks", "coverage", "BTCUSDT", LAST, FIRST], "not after"),
        (["ticks", "list", "--source", "exness", "--market", "um"], "`um`"),
        (["ticks", "verify", "../BTCUSDT"], "not a symbol"),
        (["symbols", "--asset-class", "forx"], "forx"),
        (["symbols", "--tier", "first"], "first"),
        (["bars", "BTCUSDT", LAST, FIRST], "not after"),
        (["bars", "BTCUSDT"], "rangebar bars BTCUSDT 2024-01-01 2024-01-31"),
        (["bars", *SPAN, "--anchor", "noon"], "`noon`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_ends_with_2_before_any_request(
    words: list[str], message: str, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    heard = capsys.readouterr()
    assert (status, heard.out) == (2, "")
    assert message in heard.err
    assert exchange.requests == []


def test_an_invalid_setting_is_a_usage_error() -> None:
    run = command("fetch", *SPAN, RANGEBAR_SYMBOL_GATE="maybe")
    assert run.returncode == 2
    assert "`maybe`" in run.stderr


def test_a_server_that_is_away_ends_with_1(tmp_path: Path) -> None:
    with Exchange(Tape.generate(days=1)) as box:
        environment = box.environment
    run = command(
        "fetch", *SPAN, **environment, RANGEBAR_CACHE_DIR=str(tmp_path), RANGEBAR_HTTP_TRIES="1"
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert environment["RANGEBAR_BINANCE_ARCHIVE_URL"] in run.stderr
    assert "hint: " in run.stderr


@pytest.mark.usefixtures("quick_retries")
def test_a_corrupt_archive_ends_with_1_and_the_days_before_are_stored(
    exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange.fail(exchange.path("2025-01-01"), faults.flip(), times=None)
    assert main(["fetch", *SPAN]) == 1
    assert "2025-01-01" in capsys.readouterr().err
    assert [str(day) for day in TickStorage().list_days("BTCUSDT")] == [FIRST, "2024-12-31"]


def test_verify_ends_with_1_where_a_file_is_corrupt(store: TickStorage) -> None:
    sound = command("ticks", "verify")
    assert sound.returncode == 0, sound.stderr
    assert table_of(sound.stdout)["state"].to_list() == ["ok"]
    assert "1 file, 0 bad" in sound.stderr
    spoil(Path(store.verify()["file"].item()))
    for words in ([], ["ethusdt"]):
        run = command("ticks", "verify", *words)
        assert run.returncode == 1
        assert table_of(run.stdout)["state"].to_list() == ["corrupt"]
        assert "1 bad" in run.stderr


def test_verify_ends_with_1_until_a_quarantined_day_is_fetched_again(
    store: TickStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(Path(store.verify()["file"].item()))
    with pytest.raises(ParquetCorruptionError):
        store.get_ticks("ETHUSDT", "2024-08-08", "2024-08-08")
    assert main(["ticks", "verify"]) == 1
    assert "1 bad" in capsys.readouterr().err
    store.write_ticks("ETHUSDT", rb.sample_ticks())
    assert main(["ticks", "verify"]) == 0
    assert "0 bad" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["verify", "list"])
def test_a_symbol_that_is_not_stored_is_an_error(
    action: str, store: TickStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    for symbol in ("ETHUSD", "BTCUSDT"):
        assert main(["ticks", action, symbol]) == 1
        heard = capsys.readouterr()
        assert heard.out == ""
        assert f"no day of `{symbol}`" in heard.err


def test_an_empty_store_is_listed_as_empty(tmp_path: Path) -> None:
    for words in (["list"], ["verify"], ["gc"]):
        run = command("ticks", *words, RANGEBAR_CACHE_DIR=str(tmp_path / "none"))
        assert run.returncode == 0, run.stderr
        assert len(run.stdout.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_the_list_has_days_rows_and_bytes(store: TickStorage) -> None:
    row = table_of(command("ticks", "list").stdout).row(0, named=True)
    stats = store.stats("ETHUSDT")
    assert {name: stats[name] for name in row} == row
    days = table_of(command("ticks", "list", "ETHUSDT").stdout)["day"].to_list()
    assert days == store.list_days("ETHUSDT")


def test_gc_removes_unreferenced_files_and_a_dry_run_does_not(store: TickStorage) -> None:
    file = Path(store.verify()["file"].item())
    store.delete_ticks("ETHUSDT")
    week_ago = file.stat().st_mtime - 8 * 86_400
    os.utime(file, (week_ago, week_ago))
    run = command("ticks", "gc", "--dry-run")
    assert str(file) in table_of(run.stdout)["file"].to_list()
    assert "would be deleted" in run.stderr
    assert file.exists()
    run = command("ticks", "gc")
    assert "1 file deleted" in run.stderr
    assert not file.exists()


def test_the_symbols_are_a_table_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["symbols", "--tier", "1"]) == 0
    table = table_of(capsys.readouterr().out)
    assert {name.removesuffix("USDT") for name in table["symbol"]} == set(rb.TIER1_SYMBOLS)
    assert main(["symbols", "--tier", "7"]) == 0
    heard = capsys.readouterr()
    assert len(heard.out.splitlines()) == 1
    assert "no registered symbol" in heard.err


def test_the_symbols_show_the_smallest_threshold_that_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def minimums() -> dict[str, int]:
        assert main(["symbols", "--all"]) == 0
        return dict(table_of(capsys.readouterr().out).select("symbol", "min_threshold").rows())

    shown = minimums()
    assert (shown["BTCUSDT"], shown["ADAUSDT"], shown["EURUSD"]) == (250, 500, 50)
    for symbol, minimum in shown.items():
        assert rb.resolve_and_validate_threshold(symbol, minimum) == minimum
        with pytest.raises(ThresholdError, match=f"below the minimum of {symbol}"):
            rb.resolve_and_validate_threshold(symbol, minimum - 1)
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "400")
    monkeypatch.setenv("RANGEBAR_FOREX_MIN_THRESHOLD", "75")
    again = minimums()
    assert (again["BTCUSDT"], again["ETHUSDT"], again["EURUSD"]) == (400, shown["ETHUSDT"], 75)


def test_drop_removes_the_days_before_a_day(
    store: TickStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = rb.sample_ticks()
    later = ticks.with_columns(
        pl.col("timestamp") + pl.duration(days=1), pl.col("agg_trade_id") + ticks.height
    )
    store.write_ticks("ETHUSDT", later)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal
    drop = ["ticks", "drop", "ethusdt", "--before", "2024-08-09"]
    assert main(drop) == 2
    heard = capsys.readouterr().err
    assert "1 day of ticks of ETHUSDT (binance/spot): 2024-08-08" in heard
    assert "--yes" in heard
    assert len(store.list_days("ETHUSDT")) == 2
    assert main([*drop, "--yes"]) == 0
    assert "removed 1 day of ticks" in capsys.readouterr().out
    assert [str(day) for day in store.list_days("ETHUSDT")] == ["2024-08-09"]
    assert main([*drop, "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().err
    assert main(["ticks", "drop", "ETHUSDT", "--yes", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["ticks", "drop", "ETHUSDT", "--yes"]) == 1
    assert "no day of `ETHUSDT`" in capsys.readouterr().err


def test_quiet_maintenance_prints_only_what_is_wrong(
    store: TickStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["verify"], ["gc"]):
        assert main(["ticks", *words, "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
    store.write_ticks("BTCUSDT", rb.sample_ticks())
    spoil(Path(store.verify("ETHUSDT")["file"].item()))
    assert main(["ticks", "verify", "--quiet"]) == 1
    heard = capsys.readouterr()
    assert table_of(heard.out)["symbol"].to_list() == ["ETHUSDT"]
    assert "2 files, 1 bad" in heard.err


@pytest.mark.usefixtures("exchange")
def test_a_source_of_ones_own_with_a_similar_name_is_confirmed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trades.parquet"
    rb.sample_ticks().write_parquet(file)
    words = ["ticks", "import", str(file), "ABC", "--source", "exnes"]
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    assert main(words) == 2
    heard = capsys.readouterr().err
    assert "did you mean `exness`?" in heard
    assert "--own-source" in heard
    assert main([*words, "--own-source"]) == 0
    assert main(["ticks", "list", "ABC", "--source", "exnes"]) == 0
    # Names that differ more are taken as they are.
    for name in ("kraken", "binance-us"):
        assert main([*words[:-1], name]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="has no terminal of this kind")
def test_a_terminal_shows_whole_values(store: TickStorage) -> None:
    import pty

    store.write_ticks("ETHUSDT", rb.sample_ticks())
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "rangebar_polars", "ticks", "verify"]
    subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, check=True, timeout=1200)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert store.verify()["file"].item() in shown
    assert "," not in shown.splitlines()[0]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT of this kind")
def test_an_interrupted_fetch_reports_it_and_resumes(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    stalled = exchange.path("2025-01-01")
    rule = exchange.fail(stalled, faults.stall(STALL_SECONDS), times=None)
    with interruptible("fetch", *SPAN) as process:
        while not exchange.asked(stalled):
            assert process.poll() is None
            time.sleep(0.01)
        assert interrupted(process) == (130, ["rangebar: interrupted"])
    rule.cancel()
    assert main(["fetch", *SPAN]) == 0
    assert TickStorage().has_ticks(*SPAN)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files here")
def test_a_wait_for_another_writer_can_be_interrupted(store: TickStorage) -> None:
    import fcntl

    lock = store.root / "binance" / "spot" / "ETHUSDT" / ".lock"
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with interruptible("ticks", "gc") as process:
            while not has_open(process.pid, lock):
                assert process.poll() is None
                time.sleep(0.01)
            status, words = interrupted(process)
    assert status == 130
    # On a slow machine the wait may have been reported already.
    assert [line for line in words if "waiting for" not in line] == ["rangebar: interrupted"]
    assert store.list_days("ETHUSDT")


@pytest.mark.parametrize(
    "words",
    [[], ["fetch"], ["ticks"], ["symbols"], ["bars"]]
    + [["doctor"], ["config"]]
    + [["ticks", action] for action in ("coverage", "verify", "list", "gc", "drop", "import")],
    ids=" ".join,
)
def test_every_verb_has_help_with_a_description(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert paragraphs[0].startswith("usage: ")
    assert re.match(r"[A-Za-z]", paragraphs[1])
    assert not paragraphs[1].startswith(("options:", "positional"))
