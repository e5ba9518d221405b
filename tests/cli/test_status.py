"""The command `rangebar status`, beside real writers in other processes and without them."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from live.boards import PROCESS, until
from rangebar_polars._files.disk import Disk
from rangebar_polars._utils import clock
from rangebar_polars.cli import main
from rangebar_polars.live.health.status import SeriesStatus, SymbolStatus
from rangebar_polars.live.health.stored import state_content, stored_statuses
from rangebar_polars.live.protocol.states import Failure, Reason, State
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.live.state_file import state_path, write_state
from rangebar_polars.storage.live.writer_lock import WriterLock
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no live bars on Windows")

NOW = datetime.now(UTC)
SERIES = [
    SeriesStatus(threshold=threshold, reset="year", segment="2026", anchor=NOW, bars=bars)
    for threshold, bars in ((250, 12), (500, 5))
]
LIVE = SymbolStatus(
    symbol="BTCUSDT",
    state=State.LIVE,
    since=NOW,
    applied_id=41,
    applied_at=NOW,
    last_trade_age_s=0.25,
    lag_s=0.031,
    finalized_through=date(2026, 10, 31),
    series=SERIES,
    ready_until=math.inf,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder that the settings name."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(path))
    return path


def symbol_dir(folder: Path, symbol: str = "BTCUSDT", market: str = "spot") -> SymbolDir:
    return SymbolDir(TickStorage(folder).root, "binance", market, symbol, Disk())


def put(folder: Path, status: SymbolStatus = LIVE, **more: object) -> SymbolDir:
    """Write the state file of a writer."""
    place = symbol_dir(folder, status.symbol, status.market)
    process = replace(PROCESS, pid=4_321)
    content = state_content(
        status, process, live_from=date(2026, 11, 1), health_address="127.0.0.1:8081"
    )
    write_state(place, {**content, **more})
    return place


HOLDER = textwrap.dedent("""\
    import sys
    from pathlib import Path
    from rangebar_polars._files.disk import Disk
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.live.writer_lock import WriterLock
    root, *names = sys.argv[1:]
    parts = [name.split("/") for name in names]
    locks = WriterLock.take_all([SymbolDir(Path(root), "binance", *one, Disk()) for one in parts])
    print("held", flush=True)
    sys.stdin.read()
""")


@contextmanager
def writer(folder: Path, *names: str):
    """Hold the writer locks of symbols. The kernel refuses them to other open files of this process."""
    parts = [name.split("/") for name in names or ("spot/BTCUSDT",)]
    locks = WriterLock.take_all([symbol_dir(folder, symbol, market) for market, symbol in parts])
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


@contextmanager
def other_process(folder: Path, *names: str):
    """Hold the writer locks of symbols in another process."""
    command = [sys.executable, "-c", HOLDER, str(TickStorage(folder).root)]
    with subprocess.Popen(
        [*command, *(names or ("spot/BTCUSDT",))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """Return the rows of the table that was printed."""
    lines = capsys.readouterr().out.splitlines()
    heads = ["symbol", "market", "state", "reason", "applied", "age", "lag", "gaps"]
    heads += ["bars today", "finalized through", "pid"]
    split = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert split[0] == heads
    return [dict(zip(heads, cells, strict=True)) for cells in split[1:]]


def document(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str | None]]:
    found = document(capsys)["symbols"]
    return {one["symbol"]: (one["state"], one["reason"]) for one in found}


def test_a_live_symbol_beside_its_writer(folder, capsys) -> None:
    put(folder)
    with writer(folder):
        assert main(["status"]) == 0
        (row,) = rows(capsys)
    age = row.pop("age")
    assert 0.2 < float(age.removesuffix("s")) < 15
    assert row == {
        "symbol": "BTCUSDT",
        "market": "spot",
        "state": "live",
        "reason": "-",
        "applied": "41",
        "lag": "0.0s",
        "gaps": "0",
        "bars today": "250:12 500:5",
        "finalized through": "2026-10-31",
        "pid": "4321",
    }


def test_json_has_the_block_of_health_and_the_process(folder, capsys) -> None:
    put(folder)
    with writer(folder):
        assert main(["status", "--json"]) == 0
        found = document(capsys)
    assert found["all_live"] is True
    (one,) = found["symbols"]
    for name, value in LIVE.to_dict().items():
        if name != "last_trade_age_s":
            assert one[name] == value, name
    assert one["last_trade_age_s"] >= 0.25
    assert (one["pid"], one["host"], one["version"]) == (4_321, "box", "0.1.0")
    assert (one["live_from"], one["health"]) == ("2026-11-01", "127.0.0.1:8081")
    assert one["bars_today"] == {"250": 12, "500": 5}
    assert 0 <= one["state_age_s"] < 15


def test_the_exit_status_is_1_unless_all_symbols_are_live(folder, capsys) -> None:
    put(folder)
    put(folder, replace(LIVE, symbol="ETHUSDT", state=State.DEGRADED, reason=Reason.GAP))
    failed = replace(LIVE, symbol="SOLUSDT", state=State.FAILED, reason=Failure.GIVEN_DAY)
    put(folder, replace(failed, detail="remove it with delete_ticks"))
    put(folder, replace(LIVE, symbol="BTCUSDT", market="um", state=State.BACKFILL))
    names = ("spot/BTCUSDT", "spot/ETHUSDT", "spot/SOLUSDT", "um/BTCUSDT")
    with writer(folder, *names):
        assert main(["status"]) == 1
        out, err = capsys.readouterr()
        assert "rangebar: SOLUSDT: remove it with delete_ticks\n" in err
        table = [line.split()[:4] for line in out.splitlines()[1:]]
        assert table == [
            ["BTCUSDT", "spot", "live", "-"],
            ["ETHUSDT", "spot", "degraded", "gap"],
            ["SOLUSDT", "spot", "failed", "given_day"],
            ["BTCUSDT", "um", "backfill", "-"],
        ]
        # A name chooses the symbol in every market.
        assert main(["status", "btcusdt", "--json"]) == 1
        assert [one["market"] for one in document(capsys)["symbols"]] == ["spot", "um"]
        assert main(["status", "ETHUSDT"]) == 1


def test_a_writer_that_was_killed_is_gone(folder, capsys) -> None:
    put(folder)
    with other_process(folder) as process:
        assert main(["status", "--json"]) == 0
        capsys.readouterr()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert main(["status"]) == 1
        (row,) = rows(capsys)
    assert (row["state"], row["reason"]) == ("writer gone", "was live")
    assert (row["applied"], row["lag"], row["pid"]) == ("41", "-", "-")


def test_a_writer_that_stopped_in_order_is_gone_too(folder, capsys) -> None:
    put(folder, replace(LIVE, state=State.STOPPED))
    assert main(["status", "--json"]) == 1
    assert states(capsys) == {"BTCUSDT": ("writer gone", "stopped")}


def test_a_writer_that_is_stopped_by_a_signal_does_not_respond(folder, capsys) -> None:
    place = put(folder)
    # Its state file becomes old.
    os.utime(state_path(place), (NOW.timestamp() - 90, NOW.timestamp() - 90))
    with other_process(folder) as process:
        process.send_signal(signal.SIGSTOP)
        assert main(["status", "--json"]) == 1
        (one,) = document(capsys)["symbols"]
    assert (one["state"], one["reason"]) == ("not responding", "was live")
    assert re.search("its state file is (9[0-9]|[0-9]{3,}) s old", one["detail"])
    assert one["last_trade_age_s"] > 89
    assert one["pid"] == 4_321


def test_without_a_state_file_the_lock_and_the_manifests_are_shown(folder, capsys) -> None:
    report = TickStorage(folder).write_ticks("ETHUSDT", rb.sample_ticks())
    assert report is not None
    place = symbol_dir(folder, "ETHUSDT")
    last_id = rb.sample_ticks()["agg_trade_id"].max()
    with writer(folder, "spot/ETHUSDT"):
        assert main(["status", "--json"]) == 1
        (one,) = document(capsys)["symbols"]
        assert (one["state"], one["detail"]) == ("unknown", "no state file")
        assert (one["applied_id"], one["finalized_through"]) == (last_id, "2024-08-08")
        assert one["pid"] == os.getpid()
    assert main(["status", "--json"]) == 1
    assert states(capsys) == {"ETHUSDT": ("writer gone", None)}
    # Symbols that were never streamed are not listed.
    TickStorage(folder).write_ticks("BTCUSDT", rb.sample_ticks())
    assert [one.symbol for one in stored_statuses(place.root)] == ["ETHUSDT"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"state": "live"',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
)
def test_a_state_file_that_is_not_readable_is_no_information(content, folder, capsys) -> None:
    place = put(folder)
    state_path(place).write_bytes(content)
    with writer(folder):
        assert main(["status", "--json"]) == 1
    assert states(capsys) == {"BTCUSDT": ("unknown", None)}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"state": 7, "series": 7, "applied_at": 7, "finalized_through": 7, "pid": "x"},
        {"state": "dancing", "series": [7, {}, {"threshold": "x"}], "lag_s": float("nan")},
        {"state": "live\x1b[2J\nnext", "reason": "a\x1b[2Jb", "applied_at": "never"},
        {"lag_s": 10**400, "last_trade_age_s": float("inf"), "gaps_open": True, "detail": ["x"]},
        {"finalized_through": "2026-02-30", "applied_at": "0001-01-01T00:00:00+23:00"},
    ],
)
def test_a_state_file_with_other_values_stops_nothing(values, folder, capsys) -> None:
    write_state(symbol_dir(folder), values)
    with writer(folder):
        assert main(["status", "--json"]) == 1
        assert states(capsys)["BTCUSDT"][0] == "unknown"
        assert main(["status"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out + err


def test_bars_of_another_day_are_not_those_of_today(folder, capsys) -> None:
    put(folder, replace(LIVE, applied_at=NOW - timedelta(days=2)))
    with writer(folder):
        main(["status", "--json"])
    assert document(capsys)["symbols"][0]["bars_today"] == {"250": 0, "500": 0}


def test_symbols_that_are_not_streamed_are_named(folder, capsys) -> None:
    assert main(["status"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no symbol is streamed into" in err
    assert str(folder) in err
    put(folder)
    with writer(folder):
        assert main(["status", "BTCUSDT", "ETHUSDT"]) == 1
        out, err = capsys.readouterr()
        assert "ETHUSDT is not streamed into" in err
        assert "hint: stream it: rangebar sidecar ETHUSDT" in err
        assert len(out.splitlines()) == 2
        assert main(["status", "BTCUSD"]) == 1
        assert "did you mean `BTCUSDT`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--watch", "0"], "must be a number of seconds above 0"),
        (["--watch", "-1"], "must be a number of seconds above 0"),
        (["--watch", "nan"], "must be a number of seconds above 0"),
        (["--watch", "BTCUSDT"], "write symbols before --watch"),
        (["--wathc"], "did you mean `--watch`?"),
        (["../etc"], "../etc"),
        ([""], "symbol"),
    ],
)
def test_a_wrong_call_is_2(arguments, text, folder, capsys) -> None:
    try:
        status = main(["status", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert text in capsys.readouterr().err


def test_another_folder(folder, tmp_path, capsys) -> None:
    other = tmp_path / "other"
    put(other)
    with writer(other):
        assert main(["status", "--cache-dir", str(other)]) == 0
        assert len(rows(capsys)) == 1
    assert main(["status"]) == 1
    assert not list(folder.iterdir())


def test_reading_changes_no_file_and_takes_no_lock(folder) -> None:
    place = put(folder)
    before = {path: path.read_bytes() for path in place.live.iterdir()}
    assert main(["status"]) == 1
    assert {path: path.read_bytes() for path in place.live.iterdir()} == before
    # A writer can begin at once.
    with writer(folder):
        pass


def watching(folder: Path, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "rangebar_polars", "status", "--watch", "0.05", *arguments]
    env = {**os.environ, "RANGEBAR_CACHE_DIR": str(folder)}
    return subprocess.Popen(command, env=env, **options)


def test_watch_prints_tables_into_a_pipe_until_it_is_interrupted(folder) -> None:
    put(folder)
    with (
        other_process(folder) as process,
        watching(folder, stdout=subprocess.PIPE, text=True) as watched,
    ):
        heads = [read_table(watched.stdout) for _ in range(2)]
        assert [lines[2].split()[2] for lines in heads] == ["live", "live"]
        assert heads[0][0].endswith(" UTC\n")
        process.kill()
        process.wait()
        until(lambda: "writer gone" in read_table(watched.stdout)[2])
        watched.send_signal(signal.SIGINT)
        rest = watched.stdout.read()
        assert watched.wait() == 130
        assert "\x1b" not in rest + "".join(map("".join, heads))


def read_table(stream) -> list[str]:
    lines = []
    while (line := stream.readline()) not in ("\n", ""):
        lines.append(line)
    return lines


def test_watch_as_json_is_a_line_each_time(folder) -> None:
    put(folder)
    with (
        writer(folder),
        watching(folder, "--json", stdout=subprocess.PIPE, text=True) as watched,
    ):
        for _ in range(3):
            assert json.loads(watched.stdout.readline())["all_live"] is True
        watched.kill()


def test_watch_redraws_on_a_terminal(folder) -> None:
    put(folder)
    ours, theirs = os.openpty()
    with writer(folder), watching(folder, stdout=theirs, stderr=theirs) as watched:
        os.close(theirs)
        text = b""
        while text.count(b"\x1b[H\x1b[2J") < 3:
            text += os.read(ours, 65_536)
        watched.kill()
    os.close(ours)
    screen = text.split(b"\x1b[H\x1b[2J")[1]
    assert b"BTCUSDT" in screen
    assert b" UTC" in screen


def test_a_reader_that_goes_ends_the_command_quietly(folder) -> None:
    put(folder)
    with watching(folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watched:
        watched.stdout.readline()
        watched.stdout.close()
        assert watched.wait() == 141
        assert "Traceback" not in watched.stderr.read()


def test_ages_follow_the_files_and_not_the_clock(folder, capsys) -> None:
    put(folder)
    clock.install(offset_s=-86_400.0)
    try:
        with writer(folder):
            assert main(["status", "--json"]) == 0
    finally:
        clock.install()
    assert document(capsys)["symbols"][0]["last_trade_age_s"] < 15
