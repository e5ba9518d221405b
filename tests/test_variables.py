"""Misspelt variables of the environment are warned about, once, with the name that was meant."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from rangebar_polars import config
from rangebar_polars.config import Settings, settings, unknown_variables, variable_of
from rangebar_polars.exceptions import UnknownVariableWarning

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = [variable_of(item.name) for item in fields(Settings)]


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test be the first that meets a variable."""
    monkeypatch.setattr(config, "_WARNED", set())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RANGEBAR_CACHEDIR", "RANGEBAR_CACHE_DIR"),
        ("RANGEBAR_CACHE", "RANGEBAR_CACHE_DIR"),
        ("RANGEBAR_CACHE_DIRECTORY", "RANGEBAR_CACHE_DIR"),
        ("RANGE_BAR_CACHE_DIR", "RANGEBAR_CACHE_DIR"),
        ("RANGEBARS_CACHE_DIR", "RANGEBAR_CACHE_DIR"),
        ("RANGEBAR_SYMBOLGATE", "RANGEBAR_SYMBOL_GATE"),
        ("RANGEBAR_SYMBOL", "RANGEBAR_SYMBOLS"),
        ("RANGEBAR_CLICKHOUSE_URL", "RANGEBAR_CLICKHOUSE_DSN"),
        ("RANGEBAR_HTTP_TIMEOUT", "RANGEBAR_HTTP_TIMEOUT_S"),
        ("RANGEBAR_MIN_TRESHOLD_BTCUSDT", "RANGEBAR_MIN_THRESHOLD_BTCUSDT"),
        ("RANGEBAR_MINTHRESHOLD_BTCUSDT", "RANGEBAR_MIN_THRESHOLD_BTCUSDT"),
        ("RANGEBAR_MIN_THRESHOLD", "RANGEBAR_MIN_THRESHOLD_<SYMBOL>"),
    ],
)
def test_a_misspelt_variable_is_warned_about_once(
    name: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/data")
    with pytest.warns(UnknownVariableWarning) as caught:
        [settings() for _ in range(2)]
    assert len(caught) == 1
    assert f"`{name}` is not a setting" in str(caught[0].message)
    assert f"did you mean `{near}`?" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.skipif(sys.platform == "win32", reason="names have one letter case there")
def test_letter_case_matters_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("rangebar_cache_dir", "/data")
    with pytest.warns(UnknownVariableWarning, match="`RANGEBAR_CACHE_DIR`"):
        settings()


@pytest.mark.parametrize(
    "name",
    [
        *KNOWN,
        "RANGEBAR_MIN_THRESHOLD_BTCUSDT",
        "RANGEBAR_TEST_CLICKHOUSE_DSN",
        # Variables of the reference library and of other programs.
        "RANGEBAR_CH_HOSTS",
        "RANGEBAR_MODE",
        "RANGEBAR_MAX_MEMORY_GB",
        "RANGEBAR_OUROBOROS_MODE",
        "RANGEBAR_STREAMING_VERBOSE",
        "RANGEBAR_LOG",
        "RANGE",
        "XRANGEBAR_CACHEDIR",
    ],
)
def test_other_variables_are_left_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").touch()
    value = {"RANGEBAR_SYMBOL_GATE": "off", "RANGEBAR_CHECKSUM": "warn", "RANGEBAR_VERBOSE": "no"}
    value["RANGEBAR_CONFIG"] = str(tmp_path / "config.toml")
    value["RANGEBAR_PLUGINS"] = "strict"
    value["RANGEBAR_STREAMING_NOTIFY"] = "off"
    address = "http://here" if name.endswith("_URL") else "1"
    address = "ws://here" if name.endswith("_STREAM_URL") else address
    address = "json://here" if name == "RANGEBAR_NOTIFY_URLS" else address
    monkeypatch.setenv(name, value.get(name, address))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings()
    assert unknown_variables().get(name) is None


def test_each_known_variable_is_its_own_nearest_after_a_slip() -> None:
    from rangebar_polars.installation.variables import nearest_variables

    for name in KNOWN:
        slip = name[:-2] + name[-1]
        if slip not in KNOWN:
            assert nearest_variables([slip], KNOWN)[slip] == name


def test_worker_processes_leave_the_warning_to_their_parent() -> None:
    code = """
import multiprocessing, operator
from concurrent.futures import ProcessPoolExecutor
from rangebar_polars.config import settings
if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(operator.call, [settings] * 4))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RANGEBAR_CACHEDIR": "/data"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")


def test_a_command_shows_the_warning_on_stderr() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", "ticks", "list"],
        env={**os.environ, "RANGEBAR_CACHEDIR": "/data"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0
    assert run.stderr.count("RANGEBAR_CACHEDIR") == 1
    assert "did you mean `RANGEBAR_CACHE_DIR`?" in run.stderr
