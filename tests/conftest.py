"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, settings

from exchange.fixtures import exchange, exchange_tape, quick_retries
from repetitions import repeated

__all__ = ["exchange", "exchange_tape", "quick_retries"]

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ROOT = Path(__file__).resolve().parents[1]

# Settings of the person who runs the tests are not those that the tests expect.
KEPT = ("RANGEBAR_SHARED", "RANGEBAR_TEST_")
for name in [n for n in os.environ if n.startswith(("RANGEBAR_", "PUSHOVER_"))]:
    if not name.startswith(KEPT):
        del os.environ[name]
# In memory if there is room, since most tests write files that are synced to the disk.
MEMORY = Path("/dev/shm")
NEEDED_BYTES = 2 << 30
IS_ROOMY = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= NEEDED_BYTES
FOLDER = tempfile.TemporaryDirectory(prefix="rangebar-tests-", dir=MEMORY if IS_ROOMY else None)
os.environ |= {"XDG_CONFIG_HOME": f"{FOLDER.name}/config", "XDG_CACHE_HOME": f"{FOLDER.name}/cache"}

common = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("default", max_examples=repeated(40, 80), derandomize=True, **common)
settings.register_profile("thorough", max_examples=1_000, print_blob=True, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Put the files of tests beside the settings; a run with `--basetemp` keeps them."""
    if config.option.basetemp is None:
        config.option.basetemp = f"{FOLDER.name}/files"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector the modules and tests, which live as long as the process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(params=["in-memory", "streaming"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with each Polars engine as the one that `collect` takes."""
    with pl.Config(engine_affinity=request.param):
        yield request.param


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of test data that is not part of the repository."""
    folder = Path(os.environ.get("RANGEBAR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the folder of shared test data is not here: {folder}")
    return folder


@pytest.fixture
def day() -> pl.DataFrame:
    """Return eight trades that make two bars of 250 dbps, and one unfinished."""
    start = 1_704_067_200_000_000
    rows = [
        # us,     price,  quantity, seller is aggressor, agg id, first id, last id
        (0, 100.00, 1.50, False, 1, 100, 102),
        (10, 100.10, 0.25, True, 2, 103, 103),
        (25, 99.90, 2.00, True, 3, 104, 110),
        (40, 100.30, 0.125, False, 4, 111, 111),
        (40, 100.40, 1.00, False, 5, 112, 112),
        (50, 100.20, 1.00, True, 6, 113, 114),
        (60, 100.149, 4.00, True, 7, 115, 115),
        (70, 100.00, 0.50, False, 8, 116, 120),
    ]
    names = ["timestamp", "price", "quantity", "is_buyer_maker"]
    names += ["agg_trade_id", "first_trade_id", "last_trade_id"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        (pl.col("timestamp") + start).cast(pl.Datetime("us", "UTC"))
    )
