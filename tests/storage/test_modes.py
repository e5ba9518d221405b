"""Folders shared by users: modes follow the folder and the umask, and a refusal is a typed error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import pytest

from rangebar_polars.exceptions import StorageError
from rangebar_polars.storage.parquet import TickStorage
from storage.stock import JANUARY, SYMBOL, trades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_USER, SECOND_USER, GROUP = 40_001, 40_002, 40_100

is_root = hasattr(os, "geteuid") and os.geteuid() == 0
as_root = pytest.mark.skipif(not is_root, reason="only root can be another user")

# All modules are loaded before the user changes, since the new user may not read them.
SCRIPT = """
import json, os, sys, warnings
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
sys.path.insert(0, sys.argv[1])
group = int(sys.argv[2])
import polars as pl
import rangebar_polars as rb
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.units import Unit
from rangebar_polars.exceptions import RangeBarError
from rangebar_polars.ingest import fetch as download
from rangebar_polars.populate import local_checkpoint
from rangebar_polars.populate.workers import staging
from rangebar_polars.storage.snapshot import snapshot
from rangebar_polars.storage.parquet import TickStorage
from storage.stock import FEBRUARY, JANUARY, SYMBOL, trades
from pipeline.test_local_checkpoint import unit as a_unit

def write(folder):
    TickStorage(folder).write_ticks(SYMBOL, trades(JANUARY, 60).head(50))

def read(folder):
    return TickStorage(folder).get_ticks(SYMBOL, JANUARY, JANUARY).height

def add(folder):
    TickStorage(folder).write_ticks(SYMBOL, trades(JANUARY, 60))
    TickStorage(folder).write_ticks(SYMBOL, trades(FEBRUARY, 40, 61))

def mend(folder):
    \"\"\"A file that the other user wrote is set aside, and taken back.\"\"\"
    storage = TickStorage(folder)
    path = Path(storage.verify().filter(state="ok")["file"][0])
    right = path.read_bytes()
    path.write_bytes(bytes(len(right)))
    try:
        read(folder)
    except RangeBarError:
        pass
    (aside,) = storage.root.rglob("quarantine/*.parquet")
    aside.write_bytes(right)
    return read(folder)

def replace(folder):
    storage = TickStorage(folder)
    storage.delete_ticks(SYMBOL, JANUARY, JANUARY)
    for path in storage.root.rglob("*.parquet"):
        try:
            os.utime(path, (1, 1))
        except PermissionError:  # only the owner may set any time
            pass
    storage.gc(dry_run=False)
    storage.write_ticks(SYMBOL, trades(JANUARY, 60))

def others(folder):
    \"\"\"What is created beside the ticks.\"\"\"
    local_checkpoint.write_local(folder, a_unit(), b"state")
    with staging.staging_folder(folder / "clickhouse") as run:
        inbox = staging.Inbox(run / "job")
        inbox.done([])
        found = (folder / "clickhouse.staging").rglob("*")
        return [(str(p), p.is_dir(), oct(p.stat().st_mode & 0o777), p.stat().st_gid) for p in found]

def entry_points(folder):
    \"\"\"Every entry point: its typed error, or None.\"\"\"
    storage = lambda: TickStorage(folder)
    calls = {
        "get_ticks": lambda: storage().get_ticks(SYMBOL, JANUARY, JANUARY),
        "scan_ticks": lambda: storage().scan_ticks(SYMBOL, JANUARY, JANUARY).collect(),
        "coverage": lambda: storage().coverage(SYMBOL, JANUARY, JANUARY),
        "gaps": lambda: storage().gaps(SYMBOL, JANUARY, JANUARY),
        "has_ticks": lambda: storage().has_ticks(SYMBOL, JANUARY, JANUARY),
        "snapshot": lambda: snapshot(storage(), SYMBOL, JANUARY, JANUARY),
        "list_symbols": lambda: storage().list_symbols(),
        "list_days": lambda: storage().list_days(SYMBOL),
        "stats": lambda: storage().stats(SYMBOL),
        "verify": lambda: storage().verify(),
        "gc": lambda: storage().gc(),
        "gc for good": lambda: storage().gc(dry_run=False),
        "write": lambda: storage().write_ticks(SYMBOL, trades(JANUARY, 60)),
        "fetch": lambda: rb.fetch_ticks(SYMBOL, JANUARY, JANUARY, cache_dir=folder),
        "rb.scan_ticks": lambda: rb.scan_ticks(
            SYMBOL, JANUARY, JANUARY, fetch=False, cache_dir=folder
        ),
        "delete": lambda: storage().delete_ticks(SYMBOL, "2030-01-01"),
        "checkpoints": lambda: local_checkpoint.list_local(folder),
        "staging": lambda: staging.sweep(folder / "clickhouse"),
    }
    results = {}
    for name, call in calls.items():
        try:
            call()
        except RangeBarError as error:
            results[name] = [type(error).__name__, str(error)]
        except pl.exceptions.PolarsError as error:  # a plan that is collected
            results[name] = [type(error).__name__, str(error)]
        else:
            results[name] = None
    return results

scratch = Path(mkdtemp())
for warm_up in (write, add, mend, others, entry_points):
    warm_up(scratch)
for line in sys.stdin:
    folder, umask, environment, steps = json.loads(line)
    folder = Path(folder)
    os.environ |= environment
    os.umask(umask)
    results = []
    for user, job, *arguments in steps:
        if user is not None:
            os.setgroups([])
            os.setegid(group)
            os.seteuid(user)
        if job == "mkdir":
            (folder / arguments[0]).mkdir(0o755)
        elif job == "select":
            (selected,) = folder.glob(arguments[0]) if arguments != ["."] else [folder]
        elif job == "chmod":
            selected.chmod(*arguments)
        else:
            results.append(globals()[job](folder))
        if user is not None:
            os.seteuid(0)
            os.setegid(0)
    print(json.dumps(results, default=str), flush=True)
"""


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    """Start the process of all tests: its imports take longer than the jobs."""
    tests = str(Path(__file__).resolve().parents[1])
    with subprocess.Popen(
        [sys.executable, "-B", "-c", SCRIPT, tests, str(GROUP)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        yield started
        started.stdin.close()


@pytest.fixture
def run(process) -> Callable[..., list]:
    """Return a function that runs jobs in another process, each as the named user."""

    def run(folder: Path, *steps: tuple, umask: int = 0o002) -> list:
        environment = {
            "XDG_CONFIG_HOME": str(folder / "config"),
            "RANGEBAR_EVENT_LOG": str(folder / "log" / "events.jsonl"),
            "RANGEBAR_BINANCE_ARCHIVE_URL": "file:///nowhere",
            "RANGEBAR_BINANCE_REST_URL": "http://127.0.0.1:9",
            "RANGEBAR_HTTP_TRIES": "1",
        }
        process.stdin.write(json.dumps([str(folder), umask, environment, steps]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the process has ended with the error on stderr"
        return json.loads(answer)

    return run


@pytest.fixture
def shared():
    """Make a setgid folder of a group, below folders that everybody may enter."""
    folder = Path(mkdtemp())
    try:
        if is_root:
            os.chown(folder, FIRST_USER, GROUP)
        folder.chmod(0o2775)
        yield folder
    finally:
        shutil.rmtree(folder)


def modes(folder: Path) -> dict[str, tuple[bool, str, int]]:
    return {
        str(path): (path.is_dir(), oct(path.stat().st_mode & 0o777), path.stat().st_gid)
        for path in folder.rglob("*")
    }


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_every_file_and_folder_has_the_mode_that_the_umask_leaves(run, shared, umask):
    jobs = ("write", "add", "mend", "others")
    *_, staged = run(shared, *((None, job) for job in jobs), umask=umask)
    found = modes(shared) | {name: tuple(rest) for name, *rest in staged}
    kinds = {Path(name).suffix for name in found}
    assert {".parquet", ".json", ".checkpoint", ".jsonl", ".manifest"} <= kinds
    assert {Path(name).name for name in found} >= {
        ".lock",
        "quarantine",
        "open",
        "standing.json",
    }
    for name, (is_folder, mode, group) in found.items():
        full = 0o777 if is_folder else 0o666
        assert (name, mode, group) == (name, oct(full & ~umask), shared.stat().st_gid)


@as_root
def test_two_users_of_a_group_share_a_store(run, shared):
    results = run(
        shared,
        (FIRST_USER, "write"),
        (SECOND_USER, "read"),
        (SECOND_USER, "add"),
        (FIRST_USER, "read"),
        (FIRST_USER, "mend"),
        (SECOND_USER, "mend"),
        (SECOND_USER, "replace"),
        (FIRST_USER, "replace"),
        (SECOND_USER, "read"),
        (FIRST_USER, "others"),
        (SECOND_USER, "others"),
    )
    assert results[:9] == [None, 50, None, 60, 60, 60, None, None, 60]
    owners = {path.stat().st_uid for path in shared.rglob("*")}
    assert owners == {FIRST_USER, SECOND_USER}
    assert TickStorage(shared).verify()["state"].to_list().count("ok") == 2


PLACES = {
    "the folder": ".",
    "the store": "ticks",
    "the market": "ticks/v1/binance/spot",
    "the symbol": f"ticks/v1/binance/spot/{SYMBOL}",
    "the year": f"ticks/v1/binance/spot/{SYMBOL}/2024",
    "the month": f"ticks/v1/binance/spot/{SYMBOL}/2024/2024-01.manifest",
    "the manifest": f"ticks/v1/binance/spot/{SYMBOL}/2024/2024-01.manifest/000001.json",
    "the day": f"ticks/v1/binance/spot/{SYMBOL}/2024/*.parquet",
    "the quarantine": f"ticks/v1/binance/spot/{SYMBOL}/quarantine",
    "the lock": f"ticks/v1/binance/spot/{SYMBOL}/.lock",
    "the checkpoints": "checkpoints",
    "the staging folder": "clickhouse.staging",
}


@as_root
@pytest.mark.parametrize("place", PLACES)
def test_what_a_user_may_not_read_is_a_typed_error_that_names_it(run, shared, place):
    steps = [(FIRST_USER, "write"), (FIRST_USER, "others")]
    steps += [(0, "mkdir", PLACES["the quarantine"]), (0, "select", PLACES[place])]
    for mode in (0o000, 0o444, 0o111):
        steps += [(0, "chmod", mode), (SECOND_USER, "entry_points")]
    # A raw error ends the process.
    _, _, *answers = run(shared, *steps)
    assert len(answers) == 3
    for results in answers:
        for words in results.values():
            assert words is None or str(shared) in words[1]
    assert any(answers[0].values())


@as_root
def test_the_refusal_says_whose_folder_it_is_and_what_to_do(run, shared):
    symbol = shared / PLACES["the symbol"]
    *_, results = run(
        *(shared, (FIRST_USER, "write"), (0, "select", PLACES["the symbol"]), (0, "chmod", 0)),
        (SECOND_USER, "entry_points"),
    )
    for name in ("get_ticks", "coverage", "list_days", "stats", "verify", "gc", "write", "delete"):
        kind, words = results[name]
        assert kind == "StorageError"
        assert f"`{symbol}" in words
        assert "Permission denied" in words
        assert "chmod -R g+rwX" in words


@pytest.mark.skipif(is_root or sys.platform == "win32", reason="root may read everything")
def test_a_store_without_permission_is_a_typed_error(tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, trades(JANUARY))
    storage.root.chmod(0o000)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            storage.get_ticks(SYMBOL, JANUARY, JANUARY)
    finally:
        storage.root.chmod(0o755)
