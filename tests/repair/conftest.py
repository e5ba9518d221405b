"""A store and a cache that are whole, to be damaged and repaired."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

import rangebar_polars as rb
from exchange import Exchange
from live.market import SYMBOL, point_at, tape_of
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.storage.parquet import TickStorage

NOW = datetime.now(UTC).replace(microsecond=0)
ONE = timedelta(days=1)
#: Archives of these days are expected, whatever time it is now.
LAST = NOW.date() - 2 * ONE
FIRST = LAST - 4 * ONE
DAYS = [FIRST + number * ONE for number in range(5)]
THRESHOLDS = [250, 500]


@pytest.fixture(scope="session")
def tape():
    return tape_of(NOW, before=timedelta(days=7), per_minute=0.5, volatility=1.5)


@pytest.fixture(scope="module")
def exchange(tape):
    # Its clock runs with that of the machine.
    with Exchange(tape, now=datetime.now(UTC)) as found, found.live(speed=1.0):
        for day in (LAST + ONE, LAST + 2 * ONE):
            found.put(found.path(day), None)
        yield found


@pytest.fixture
def market(exchange, tmp_path, monkeypatch):
    """An exchange that this process asks."""
    point_at(exchange, tmp_path / "none", monkeypatch)
    monkeypatch.delenv("RANGEBAR_CACHE_DIR", raising=False)
    return exchange


def populate(folder, last=LAST, **options):
    return rb.populate_cache_resumable(
        SYMBOL,
        FIRST,
        last,
        threshold_decimal_bps=THRESHOLDS,
        verbose=False,
        cache_dir=folder,
        **options,
    )


@pytest.fixture
def clean(market, tmp_path, whole, monkeypatch):
    """A folder of its own with what a clean population stores."""
    folder = tmp_path / "cache"
    if not whole.exists():
        with monkeypatch.context() as closing:
            # It is copied after it was closed.
            closing.setenv("RANGEBAR_CACHE_IDLE_S", "0")
            populate(whole)
    shutil.copytree(whole, folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "cache"


def units(folder):
    """The stored units, as their rows prove them."""
    with open_cache(cache_dir=folder) as cache:
        return sorted(
            (series.spec.threshold, str(series.anchor), str(unit.day), unit.rows, unit.row_hash_sum)
            for series, chain in read_chains(cache).items()
            for unit in chain.units
        )


def ticks(folder):
    return TickStorage(folder).get_ticks(SYMBOL, FIRST, LAST)


def files(folder):
    """All files of ticks and their bytes, to see what a pass changes."""
    root = folder / "ticks"
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
