"""The command: data to stdout or a file, messages to stderr, and never a traceback."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from forked import forked
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from rangebar_polars.cli import parser
from rangebar_polars.symbol_registry import get_registered_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

    Run = subprocess.CompletedProcess[str]


SCRIPT = Path(sys.executable).parent / ("rangebar.exe" if sys.platform == "win32" else "rangebar")


@pytest.fixture(scope="module")
def ticks() -> pl.DataFrame:
    return long_frame(seed=61, rows=4_000)


@pytest.fixture(scope="module")
def parquet(ticks: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trades") / "trades.parquet"
    ticks.write_parquet(path)
    return path


def whole(*words: object) -> Run:
    """Start an interpreter for a command, which takes longer than to fork one."""
    return subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)


def command(*arguments: object, module: bool = True) -> Run:
    words = list(map(str, arguments))
    run = forked(words) if module else whole(SCRIPT, *words)
    assert "Traceback" not in run.stderr
    return run


def bars_of(ticks: pl.DataFrame, *thresholds: int, **options: object) -> pl.DataFrame:
    return ticks.rangebar.bars(
        thresholds[0] if len(thresholds) == 1 else list(thresholds), **options
    )


def test_bars_go_to_a_parquet_file(ticks: pl.DataFrame, parquet: Path, tmp_path: Path) -> None:
    out = tmp_path / "bars.parquet"
    run = command("bars", parquet, "--threshold", 50, "--out", out)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert_same_bars(pl.read_parquet(out), bars_of(ticks, 50))


def test_several_thresholds_add_a_column(
    ticks: pl.DataFrame, parquet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bars.parquet"
    run = command("bars", parquet, "--threshold", "0.05%", "--threshold", "standard", "--out", out)
    assert run.returncode == 0, run.stderr
    assert_same_bars(pl.read_parquet(out), bars_of(ticks, 50, 100))


def test_files_take_a_rule_and_distances(
    ticks: pl.DataFrame, parquet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bars.parquet"
    words = ["--rule", "high_low", "--distance", "30", "--distance", "50.5"]
    run = command("bars", parquet, *words, "--out", out)
    assert run.returncode == 0, run.stderr
    assert "at 30, 50.5" in run.stderr
    distances = [rb.Distance("30"), rb.Distance("50.5")]
    assert_same_bars(pl.read_parquet(out), ticks.rangebar.bars(distances, rule="high_low"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["TRADES", "--rule", "hilo"], "`rule`: unknown value `hilo`"),
        (["TRADES", "--distance", "x"], "is not a plain number"),
        (["TRADES", "--distance", "1", "--threshold", "250"], "not both"),
        (["BTCUSDT", "2024-01-01", "2024-01-02", "--rule", "high_low"], "are for files"),
        (["BTCUSDT", "2024-01-01", "2024-01-02", "--distance", "1"], "are for files"),
    ],
)
def test_wrong_rules_and_distances_are_usage_errors(
    words: list[str], message: str, parquet: Path
) -> None:
    run = command("bars", *[str(parquet) if word == "TRADES" else word for word in words])
    assert run.returncode == 2
    assert message in run.stderr


def test_features_and_reset_are_those_of_the_frame_methods(
    ticks: pl.DataFrame, parquet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bars.parquet"
    run = command(
        "bars",
        parquet,
        "--threshold",
        50,
        "--features",
        "microstructure",
        "--reset",
        "month",
        "--out",
        out,
    )
    assert run.returncode == 0, run.stderr
    assert_same_bars(
        pl.read_parquet(out), bars_of(ticks, 50, features="microstructure", reset="month")
    )


def test_bars_go_to_a_csv_file(ticks: pl.DataFrame, parquet: Path, tmp_path: Path) -> None:
    out = tmp_path / "bars.csv"
    assert command("bars", parquet, "--threshold", 50, "--out", out).returncode == 0
    wanted = bars_of(ticks, 50)
    frame = pl.read_csv(out)
    assert frame.columns == wanted.columns
    assert frame["close"].to_list() == wanted["close"].to_list()


def test_without_a_file_the_data_go_to_stdout(ticks: pl.DataFrame, parquet: Path) -> None:
    run = command("bars", parquet, "--threshold", 50)
    assert run.returncode == 0, run.stderr
    first = bars_of(ticks, 50).row(0, named=True)
    assert "open_time" in run.stdout
    assert str(first["close"])[:6] in run.stdout


def test_a_plot_is_drawn_into_a_file(parquet: Path, tmp_path: Path) -> None:
    picture = tmp_path / "bars.png"
    run = command(
        "bars", parquet, "--threshold", 50, "--out", tmp_path / "b.parquet", "--plot", picture
    )
    assert run.returncode == 0, run.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_files_are_one_sequence_of_trades(ticks: pl.DataFrame, tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    ticks.head(1_500).write_parquet(first)
    ticks.slice(1_500).write_parquet(second)
    out = tmp_path / "bars.parquet"
    for sources in ([first, second], [tmp_path / "[ab].parquet"]):
        run = command("bars", *sources, "--threshold", 50, "--out", out)
        assert run.returncode == 0, run.stderr
        assert_same_bars(pl.read_parquet(out), bars_of(ticks, 50))


def test_archives_of_binance_are_read(tmp_path: Path) -> None:
    path = tmp_path / "T-aggTrades-2024-08-08.csv"
    rows = [
        f"{i},{100 + i * 0.1:.8f},1,{i},{i},{1_723_161_255_000 + i},True,True" for i in range(1, 30)
    ]
    path.write_text("\n".join(rows))
    out = tmp_path / "bars.parquet"
    run = command("bars", path, "--threshold", 250, "--out", out)
    assert run.returncode == 0, run.stderr
    assert pl.read_parquet(out).equals(rb.scan_agg_trades(path).rangebar.bars(250).collect())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bars"],
        ["nonsense"],
        ["bars", "{trades}", "--threshold", "0.25"],
        ["bars", "{trades}", "--threshold", "0"],
        ["bars", "{trades}", "--threshold", "medium-rare"],
        ["bars", "{trades}", "--threshold", "250", "--threshold", "0.25%"],
        ["bars", "{trades}", "--threshold", "250", "--reset", "hour"],
        ["bars", "{trades}", "--threshold", "250", "--features", "nothing"],
        ["bars", "{trades}", "--threshold", "250", "--out", "bars.xlsx"],
        ["bars", "{trades}", "--threshold", "250", "--unknown"],
    ],
    ids=" ".join,
)
def test_an_invalid_argument_is_a_usage_error(
    arguments: list[str], parquet: Path, tmp_path: Path
) -> None:
    run = command(*[a.format(trades=parquet) for a in arguments])
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for source in (tmp_path / "no.parquet", tmp_path / "no.csv", tmp_path / "*.zip"):
        run = command("bars", source, "--threshold", 250)
        assert run.returncode == 1, run.stderr
        assert source.name in run.stderr
        assert run.stdout == ""


def test_bad_data_is_a_data_error(ticks: pl.DataFrame, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.parquet", tmp_path / "bars.parquet"
    ticks.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(-1.0).otherwise("price").alias("price")
    ).write_parquet(path)
    run = command("bars", path, "--threshold", 250, "--out", out)
    assert run.returncode == 1
    assert "row 7" in run.stderr
    assert not out.exists()
    path.write_bytes(b"this is no parquet file")
    run = command("bars", path, "--threshold", 250, "--out", out)
    assert run.returncode == 1
    assert "bad.parquet" in run.stderr
    ticks.drop("price").write_parquet(path)
    run = command("bars", path, "--threshold", 250, "--out", out)
    assert run.returncode == 1
    assert "price" in run.stderr
    assert not out.exists()


def test_help_and_version_are_data() -> None:
    for arguments in (["--help"], ["bars", "--help"]):
        run = command(*arguments)
        assert run.returncode == 0
        assert "threshold" in run.stdout or "bars" in run.stdout
    run = command("--version")
    assert run.returncode == 0
    assert rb.__version__ in run.stdout


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed, only importable")
def test_the_script_is_the_module(parquet: Path) -> None:
    script = command("bars", parquet, "--threshold", 50, module=False)
    module = whole(sys.executable, "-m", "rangebar_polars", "bars", parquet, "--threshold", "50")
    fork = command("bars", parquet, "--threshold", 50)
    assert script.returncode == 0, script.stderr
    assert script.stdout == module.stdout == fork.stdout
    assert script.stderr == module.stderr == fork.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind there")
def test_a_closed_pipe_is_not_an_error(parquet: Path) -> None:
    words = f"{sys.executable} -m rangebar_polars bars {parquet} --threshold 10 | head -n 1"
    run = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, timeout=600, check=False
    )
    assert "Traceback" not in run.stderr
    assert "Broken pipe" not in run.stderr
    assert len(run.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_an_error(parquet: Path) -> None:
    words = f"{sys.executable} -m rangebar_polars bars {parquet} --threshold 10 > /dev/full"
    run = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 1
    assert run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_the_trades_are_not_overwritten(option: str, parquet: Path, tmp_path: Path) -> None:
    trades = tmp_path / ("trades.parquet" if option == "--out" else "trades.png")
    trades.write_bytes(parquet.read_bytes())
    run = command("bars", trades, option, trades)
    assert run.returncode == 2
    assert "among the trades" in run.stderr
    assert trades.read_bytes() == parquet.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(("redirect", "status"), [(">&-", 1), ("2>&-", 0)])
def test_a_closed_stream_gives_no_traceback(redirect: str, status: int, parquet: Path) -> None:
    line = f'"{sys.executable}" -m rangebar_polars bars "{parquet}" {redirect}'
    run = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=1200, check=False
    )
    assert "Traceback" not in run.stderr
    assert run.returncode == status


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_messages_that_cannot_be_written_lose_no_data(parquet: Path) -> None:
    line = f'"{sys.executable}" -m rangebar_polars bars "{parquet}" 2>/dev/full'
    run = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=1200, check=False
    )
    assert run.returncode == 0
    assert run.stdout == command("bars", parquet).stdout


def helps(command: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a command, and all commands below it."""
    yield command
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from helps(below)


def test_the_thresholds_of_the_examples_in_the_help_are_accepted() -> None:
    """Those of the text, and the default, for each registered symbol of the line."""
    symbols, judged = set(get_registered_symbols()), set()
    lines = [line for one in helps(parser()) for line in (one.epilog or "").splitlines()]
    for line in lines:
        if not line.startswith("  rangebar "):
            continue
        # Three spaces set off a remark.
        words = shlex.split(re.split(r" {3,}", line.strip())[0])[1:]
        arguments = parser().parse_args(words)
        if "threshold" not in arguments or "--distance" in words:
            continue
        named = {name for word in words for name in word.split(",")} & symbols
        for threshold in arguments.threshold or [250]:
            for symbol in named or {None}:
                assert rb.resolve_and_validate_threshold(symbol, threshold) == threshold, line
                judged.add((words[0], symbol, threshold))
    assert {
        ("bars", "BTCUSDT", 250),
        ("bars", None, 500),
        ("populate", "ETHUSDT", 1000),
        ("populate", "EURUSD", 50),
        ("cache", "BTCUSDT", 250),
    } <= judged
