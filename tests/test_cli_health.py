"""The commands `rangebar doctor` and `rangebar config`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from exchange import Exchange, Tape, faults
from rangebar_polars.cli import main
from rangebar_polars.exceptions import TicksNotCachedError
from rangebar_polars.maintenance.doctor import Finding, examine
from rangebar_polars.maintenance.doctor.findings import Check, run_checks
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder that the settings name."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(path))
    return path


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    """Yield an exchange whose clock is that of this machine."""
    with Exchange(Tape.generate(days=1)) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        yield box


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def problems(found: list[Finding]) -> dict[str, str]:
    return {one.name: f"{one.text} | {one.hint}" for one in found if one.state == "problem"}


def texts(found: list[Finding], area: str) -> str:
    return "\n".join(f"{one.name}: {one.text}" for one in found if one.area == area)


def document(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_a_sound_machine_has_no_problem(
    served: Exchange, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TickStorage().write_ticks("ETHUSDT", rb.sample_ticks())
    assert main(["doctor", "--format", "json"]) == 0
    found = document(capsys)
    assert found["problems"] == 0
    rows = {(row["area"], row["name"]): row for row in found["findings"]}
    assert rb.__version__ in rows["versions", "rangebar-polars"]["text"]
    assert "chdb" in rows["extras", "cache"]["text"]
    assert str(folder) in rows["settings", "cache_dir"]["text"]
    assert "RANGEBAR_CACHE_DIR" in rows["settings", "cache_dir"]["text"]
    assert rows["tick store", "ticks"]["text"].startswith("1 symbol, 1 day,")
    assert "no bars are cached" in rows["bar cache", "bars"]["text"]
    for name in ("binance archive", "binance rest spot", "exness"):
        assert served.url in rows["network", name]["text"]
    assert sorted(path.name for path in folder.iterdir()) == ["ticks"]


def test_the_text_has_a_line_for_each_finding(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--offline"]) == 0
    heard = capsys.readouterr()
    lines = heard.out.splitlines()
    areas = ["versions", "extras", "settings", "folders", "tick store", "bar cache", "network"]
    assert [line for line in lines if not line.startswith(" ")] == areas
    assert any(line.split()[:3] == ["ok", "cache", "folder"] for line in lines)
    assert heard.err == ""
    assert main(["doctor", "--offline", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_misspelt_variable_is_a_problem_and_a_foreign_one_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHEDIR", "/data")
    monkeypatch.setenv("RANGEBAR_MAX_WATCHDOG_RESTARTS", "7")
    assert main(["doctor", "--offline", "--format", "json"]) == 1
    rows = {row["name"]: row for row in document(capsys)["findings"]}
    assert rows["RANGEBAR_CACHEDIR"]["state"] == "problem"
    assert "`RANGEBAR_CACHE_DIR`" in rows["RANGEBAR_CACHEDIR"]["hint"]
    assert rows["RANGEBAR_MAX_WATCHDOG_RESTARTS"]["state"] == "note"
    assert main(["doctor", "--offline", "--quiet"]) == 1
    heard = capsys.readouterr()
    assert heard.out.splitlines()[0] == "settings"
    assert "RANGEBAR_MAX_WATCHDOG_RESTARTS" not in heard.out
    assert heard.err == "rangebar: 1 problem\n"


def test_what_a_check_has_found_before_an_error_is_reported() -> None:
    def work() -> Iterator[Finding]:
        yield Finding("area", "first", "ok", "sound")
        raise OSError("no access")

    found = run_checks([Check("area", "check", work, 60.0)])
    assert [(one.name, one.state, one.text) for one in found] == [
        ("first", "ok", "sound"),
        ("check", "problem", "no access"),
    ]


def test_settings_that_are_not_valid_are_reported_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "many")
    found = examine(offline=True)
    assert list(problems(found)) == ["http_tries"]
    assert "`many`" in problems(found)["http_tries"]
    monkeypatch.delenv("RANGEBAR_HTTP_TRIES")
    file = tmp_path / "config.toml"
    file.write_text("symbol_gat = 'warn'\n")
    monkeypatch.setenv("RANGEBAR_CONFIG", str(file))
    found = examine(offline=True)
    assert list(problems(found)) == ["config"]
    assert "did you mean `symbol_gate`?" in problems(found)["config"]


def test_minimum_thresholds_of_symbols_are_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "100")
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSTD", "100")
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_ETHUSDT", "low")
    found = examine(offline=True)
    assert list(problems(found)) == ["RANGEBAR_MIN_THRESHOLD_ETHUSDT"]
    shown = texts(found, "settings")
    assert "RANGEBAR_MIN_THRESHOLD_BTCUSDT: 100 dbps" in shown
    assert "no registered symbol is called BTCUSTD" in shown


def test_folders_that_cannot_be_used_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = problems(examine(cache_dir=file / "cache", offline=True))
    assert "is a file" in found["cache folder"]
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(tmp_path))
    found = problems(examine(cache_dir=tmp_path / "cache", offline=True))
    assert "cannot be written" in found["event log"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_a_folder_without_access_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o555)
    assert "cannot be written" in problems(examine(cache_dir=folder, offline=True))["cache folder"]


def test_damage_of_the_tick_store_is_a_problem(folder: Path) -> None:
    storage = TickStorage()
    storage.write_ticks("ETHUSDT", rb.sample_ticks())
    file = Path(storage.verify()["file"].item())
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1])
    found = problems(examine(offline=True))
    assert "1 day from 2024-08-08 on: with a file that is missing" in next(iter(found.values()))
    assert "rangebar fetch ETHUSDT 2024-08-08 2024-08-08" in next(iter(found.values()))
    with pytest.raises((OSError, TicksNotCachedError)):
        storage.get_ticks("ETHUSDT", "2024-08-08", "2024-08-08")
    assert "quarantine" in next(iter(problems(examine(offline=True)).values()))
    manifest = max(folder.rglob("*.json"))
    manifest.chmod(0o644)
    manifest.write_text("{}")
    found = problems(examine(offline=True))
    assert "the manifest of 2024-08 cannot be read" in next(iter(found.values()))


def test_the_bar_cache_is_opened_and_its_files_are_checked(folder: Path) -> None:
    pytest.importorskip("chdb")
    from rangebar_polars.clickhouse.open import open_cache

    TickStorage().write_ticks("ETHUSDT", rb.sample_ticks())
    rb.populate_cache_resumable(
        "ETHUSDT", "2024-08-08", "2024-08-08", verbose=False, notify=False, cache_dir=folder
    )
    found = examine(offline=True)
    assert problems(found) == {}
    shown = texts(found, "bar cache")
    assert "bars: 1 series" in shown
    assert "parts checked" in shown
    assert "opened the embedded engine" in shown
    with open_cache(cache_dir=folder) as cache:
        cache.command(f"INSERT INTO {cache.table('schema_version')} (version) VALUES (99)")
    assert "version `99`" in problems(examine(offline=True))["bars"]


def test_a_damaged_file_of_the_bar_cache_is_a_problem(folder: Path) -> None:
    pytest.importorskip("chdb")
    code = """
import rangebar_polars as rb
from rangebar_polars.storage.parquet import TickStorage
TickStorage().write_ticks("ETHUSDT", rb.sample_ticks())
rb.populate_cache_resumable("ETHUSDT", "2024-08-08", "2024-08-08", verbose=False, notify=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    files = [
        path
        for path in (folder / "clickhouse").rglob("data.bin")
        if "202408" in path.parent.name and path.stat().st_size > 1000
    ]
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", "doctor", "--offline", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert "damaged" in run.stdout


def test_a_cache_that_another_process_has_open_is_a_note(folder: Path) -> None:
    pytest.importorskip("chdb")
    code = """
import sys
from rangebar_polars.clickhouse.open import open_cache
with open_cache(write=True):
    print("open", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"open\n"
        found = examine(offline=True)
    assert problems(found) == {}
    assert f"process {holder.pid} has" in texts(found, "bar cache")


def test_a_server_that_is_away_or_silent_is_a_problem(folder: Path, silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"
    found = examine(dsn=away, offline=True)
    assert "connection refused" in problems(found)["server"]
    assert "secret" not in str(found)
    found = examine(dsn=silent, offline=True, timeout_s=0.5)
    assert "no answer from 127.0.0.1" in problems(found)["server"]


def test_an_address_that_does_not_answer_is_a_problem_in_bounded_time(
    served: Exchange, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_EXNESS_URL", silent)
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", "file:///nowhere/at/all")
    found = problems(examine(timeout_s=0.5, sources=["exness"]))
    assert list(found) == ["exness"]
    assert "timeout" in found["exness"]
    assert "RANGEBAR_EXNESS_URL" in found["exness"]
    found = problems(examine(timeout_s=60, sources=["binance"]))
    assert list(found) == ["binance archive"]
    assert "there is no folder" in found["binance archive"]
    served.close()
    found = problems(examine(timeout_s=60, sources=["binance"]))
    assert "connection refused" in found["binance rest um"]


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (451, "RANGEBAR_BINANCE_REST_URL"),
        (403, "location"),
        (429, "wait"),
        (503, "try again later"),
    ],
)
def test_a_refusal_of_the_exchange_is_a_problem(status: int, hint: str, served: Exchange) -> None:
    served.fail("/api/v3/ping", faults.status(status), times=None)
    found = problems(examine(sources=["binance"]))
    assert list(found) == ["binance rest spot"]
    assert hint in found["binance rest spot"]


def test_clocks_that_differ_are_a_problem(served: Exchange) -> None:
    served.fail(
        "/api/v3/ping",
        faults.status(200, b"{}", Date="Fri, 01 Mar 2024 10:00:00 GMT"),
        times=None,
    )
    assert "ahead of" in problems(examine(sources=["binance"]))["clock"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["doctor", "--source", "binanc"], "did you mean `binance`?"),
        (["doctor", "--timeout", "0"], "above 0"),
        (["doctor", "--timeout", "soon"], "`soon`"),
        (["doctor", "--ofline"], "--offline"),
        (["config", "cache_dirr"], "did you mean `cache_dir`?"),
        (["config", "--format", "yaml"], "table, csv, json"),
        (["info"], "did you mean `rangebar doctor`?"),
        (["settings"], "did you mean `rangebar config`?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_ends_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    heard = capsys.readouterr()
    assert (status, heard.out) == (2, ""), heard.err
    assert message in heard.err


def test_config_names_the_origin_of_each_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('checksum = "warn"\nevent_log = "events.jsonl"\nhttp_tries = 9\n')
    monkeypatch.setenv("RANGEBAR_CONFIG", str(file))
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "7")
    monkeypatch.setenv("RANGEBAR_TELEGRAM_TOKEN", "hidden-token")
    monkeypatch.setenv("PUSHOVER_USER_KEY", "hidden-key")
    words = ["--cache-dir", str(tmp_path), "--dsn", "http://me:hidden@host:8123/bars"]
    assert main(["config", "--format", "json", *words]) == 0
    out = capsys.readouterr().out
    assert "hidden" not in out
    rows = {row["name"]: row for row in json.loads(out)["settings"]}
    shown = {name: (row["value"], row["origin"], row["set_by"]) for name, row in rows.items()}
    assert shown["cache_dir"] == (str(tmp_path), "argument", "--cache-dir")
    assert shown["clickhouse_dsn"] == ("http://host:8123/bars", "argument", "--dsn")
    assert shown["http_tries"] == (7, "environment", "RANGEBAR_HTTP_TRIES")
    assert shown["pushover_user_key"] == ("…", "environment", "PUSHOVER_USER_KEY")
    assert shown["checksum"] == ("warn", "file", str(file))
    assert shown["event_log"] == (str(tmp_path / "events.jsonl"), "file", str(file))
    assert shown["verbose"] == (True, "default", "")
    assert shown["config"] == (str(file), "environment", "RANGEBAR_CONFIG")
    assert main(["config", "http-tries"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("http_tries,7,environment,")


def test_config_shows_misspelt_variables_and_invalid_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHEDIR", "/data")
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "soon")
    assert main(["config", "--format", "table"]) == 1
    heard = capsys.readouterr()
    assert "not valid" in next(line for line in heard.out.splitlines() if "cache_wait_s" in line)
    assert heard.err.count("did you mean `RANGEBAR_CACHE_DIR`?") == 1
    assert "`soon`" in heard.err
    assert main(["config", "--format", "json"]) == 1
    found = document(capsys)
    assert found["unknown_variables"] == [
        {"variable": "RANGEBAR_CACHEDIR", "nearest": "RANGEBAR_CACHE_DIR"}
    ]
    rows = {row["name"]: row for row in found["settings"]}
    assert "`soon`" in rows["cache_wait_s"]["fault"]
    assert rows["cache_wait_s"]["value"] is None


def test_show_versions_has_extras_folders_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("RANGEBAR_CLICKHOUSE_DSN", "http://me:hidden@host:8123")
    monkeypatch.setenv("RANGEBAR_CACHEDIR", "/data")
    rb.show_versions()
    out = capsys.readouterr().out
    for text in ("polars: ", "extra cache: chdb ", "extra plot: altair ", "extra pandas: pandas "):
        assert text in out
    assert f"cache folder: {tmp_path}" in out
    assert "setting clickhouse_dsn: http://host:8123 (RANGEBAR_CLICKHOUSE_DSN)" in out
    assert "did you mean RANGEBAR_CACHE_DIR?" in out
    assert "hidden" not in out
