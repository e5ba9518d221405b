"""Checks that must pass after any fault and its recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    import pytest

    from exchange import Exchange, Tape

SYMBOL = "BTCUSDT"
SPAN = (SYMBOL, "2024-12-30", "2025-01-02")


def truth(tape: Tape) -> pl.DataFrame:
    """Every tick that the exchange has."""
    return pl.concat([tape.day(day) for day in tape.days])


def states(*span: str) -> dict[date, str]:
    """State of each day in the store of the settings."""
    found = TickStorage().coverage(*(span or SPAN))
    return dict(found.select("day", "state").iter_rows())


def files_of(storage: TickStorage) -> list[Path]:
    return sorted(path for path in storage.root.rglob("*") if path.is_file())


def point_at(box: Exchange, monkeypatch: pytest.MonkeyPatch, folder: Path | str) -> None:
    """Let the settings name the exchange and a folder of a store."""
    for name, value in box.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))


def judge(box: Exchange, tape: Tape, folder: Path | str | None = None) -> None:
    """Check that the store holds every tick without a gap, and that nothing is left to fetch."""
    storage = TickStorage(folder)
    assert_frame_equal(storage.get_ticks(*SPAN), truth(tape))
    coverage = storage.coverage(*SPAN)
    assert set(coverage["state"]) <= {"final", "tail", "absent_confirmed"}
    assert coverage["missing_before"].sum() == 0
    asked, files = len(box.requests), files_of(storage)
    again = rb.fetch_ticks(*SPAN, cache_dir=folder)
    assert (again.fetched, again.rows, len(box.requests)) == ([], 0, asked)
    assert files_of(storage) == files
    assert not [path for path in files if path.suffix == ".tmp"]
    assert set(storage.verify()["state"]) <= {"ok", "unreferenced", "quarantined"}
