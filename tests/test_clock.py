"""The clock of the package: shifted, faster, and the only one that modules read."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from rangebar_polars._utils import clock

PACKAGE = Path(__file__).resolve().parent.parent / "rangebar_polars"

#: Modules that may read the system's clock, and why.
DIRECT = {
    "_utils/clock.py": "the clock itself",
    "_utils/io_source.py": "waits for threads of Polars before the process ends",
    "_files/locks.py": "waits for locks",
    "clickhouse/connection/folder_lock.py": "waits for locks",
    "clickhouse/connection/pool.py": "decides how long the lock of a folder is held and waited for",
    "storage/files/lock.py": "age of a lock file",
    "storage/gc.py": "age of files",
    "storage/live/state_file.py": "age of files, where none can be made to compare with",
    "populate/local_checkpoint.py": "age of files",
}
#: Functions of other modules that read the system's clock or wait by it.
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "asyncio.sleep"}


@pytest.fixture
def installed():
    yield clock.install
    clock.install()


def clocks_of(source: str) -> set[str]:
    """Return the clocks that a module reads directly."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name == "time"}
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            names = {alias.name for alias in node.names}
            found |= (
                {f"{node.module}.{name}" for name in names}
                if node.module == "time"
                else ({"asyncio.sleep"} & {f"asyncio.{name}" for name in names})
            )
        elif isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            found |= {".".join(parts[-2:])} & CLOCKS
    return found


@pytest.mark.parametrize(
    ("source", "clocks"),
    [
        ("import time", {"time"}),
        ("import time as t", {"time"}),
        ("def f():\n    from time import monotonic", {"time.monotonic"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.now"}),
        ("from datetime import date\ndate.today()", {"date.today"}),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(1)", {"asyncio.sleep"}),
        ("from asyncio import sleep", {"asyncio.sleep"}),
        ("from datetime import datetime, time\ndatetime.combine(day, time.min)", set()),
    ],
)
def test_every_way_to_read_a_clock_is_found(source, clocks):
    assert clocks_of(source) == clocks


def test_only_the_listed_modules_read_the_clock_of_the_system():
    found = {
        str(path.relative_to(PACKAGE)): clocks
        for path in PACKAGE.rglob("*.py")
        if (clocks := clocks_of(path.read_text(encoding="utf-8")))
    }
    assert set(found) == set(DIRECT), {name: found.get(name) for name in set(found) ^ set(DIRECT)}


def test_without_an_installation_the_clocks_are_those_of_the_system(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    assert clock.unix_seconds() == 1_700_000_000.25
    assert clock.utc_now() == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
    assert clock.real_seconds(30.0) == 30.0


class System:
    """A system whose clocks stand until a test moves them."""

    def __init__(self, monkeypatch):
        self.wall, self.monotonic, self.slept = 1_700_000_000.0, 500.0, []
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.pass_by(seconds)

    def pass_by(self, seconds):
        self.wall += seconds
        self.monotonic += seconds


def test_the_offset_shifts_wall_time_only(installed, monkeypatch):
    system = System(monkeypatch)
    before = clock.monotonic()
    installed(offset_s=-3_600.0)
    assert clock.unix_seconds() == system.wall - 3_600
    assert clock.monotonic() == before
    system.pass_by(10.0)
    assert clock.unix_seconds() == system.wall - 3_600
    assert clock.monotonic() == before + 10


def test_the_rate_speeds_up_both_clocks_and_shortens_waits(installed, monkeypatch):
    system = System(monkeypatch)
    begun, before = clock.unix_seconds(), clock.monotonic()
    installed(rate=60.0)
    system.pass_by(2.0)
    assert clock.unix_seconds() == begun + 120
    assert clock.monotonic() == before + 120
    clock.sleep(30.0)
    assert system.slept == [0.5]
    assert clock.monotonic() == before + 150


def test_a_change_of_the_rate_does_not_set_monotonic_time_back(installed, monkeypatch):
    system = System(monkeypatch)
    before = clock.monotonic()
    installed(rate=100.0)
    system.pass_by(1.0)
    installed(offset_s=5.0, rate=0.5)
    system.pass_by(2.0)
    assert clock.monotonic() == before + 101
    assert clock.unix_seconds() == system.wall - 2 + 5 + 1
    installed()
    assert clock.monotonic() == before + 101
    assert clock.unix_seconds() == system.wall


def test_a_jump_of_the_system_changes_wall_time_and_leaves_monotonic_time(installed, monkeypatch):
    system = System(monkeypatch)
    installed(offset_s=7.0)
    before = clock.monotonic()
    system.wall -= 86_400
    assert clock.unix_seconds() == system.wall + 7
    assert clock.monotonic() == before


def test_coroutines_wait_by_the_clock(installed, monkeypatch):
    waits = []

    async def wait(seconds):
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", wait)
    installed(rate=60.0)
    asyncio.run(clock.async_sleep(90.0))
    assert waits == [1.5]


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": -1.0}, {"rate": float("nan")}])
def test_a_rate_that_is_not_positive_is_refused(wrong):
    with pytest.raises(ValueError, match="`rate` must be a positive number"):
        clock.install(**wrong)


def test_an_offset_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="`offset_s` must be a finite number"):
        clock.install(offset_s=float("inf"))


def test_a_subprocess_gets_a_clock_from_sitecustomize(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from rangebar_polars._utils import clock\nclock.install(offset_s=86_400.0)\n",
        encoding="utf-8",
    )
    before = datetime.now(UTC).date()
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "from rangebar_polars.fetch.binance.archive import utc_today\nprint(utc_today())",
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Midnight may pass between the two readings.
    assert before <= date.fromisoformat(shown) - timedelta(days=1) <= datetime.now(UTC).date()
