"""Fixtures of the exchange in a box, with settings that point at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exchange.box import Exchange
from exchange.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["exchange", "exchange_tape", "quick_retries"]


@pytest.fixture(scope="session")
def exchange_tape() -> Tape:
    """Return four days of BTCUSDT around the year's end in which the unit of time changes."""
    return Tape.generate()


@pytest.fixture
def exchange(
    exchange_tape: Tape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Exchange]:
    """Return an exchange with the small tape; settings point at it and at an empty cache folder."""
    with Exchange(exchange_tape) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
        yield box


@pytest.fixture
def quick_retries() -> Iterator[None]:
    """Retry as often as ever, without the waits between."""
    stamina = pytest.importorskip("stamina")
    stamina.set_testing(True, attempts=100, cap=True)
    yield
    stamina.set_testing(False)
