"""The symbol gate and event subscribers around a fetch."""

from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape
from pipeline.oracle import SPAN, judge, point_at, truth
from rangebar_polars import events
from rangebar_polars._utils.span import parse_span
from rangebar_polars.cli import main
from rangebar_polars.exceptions import SymbolNotRegisteredError
from rangebar_polars.ingest.fetch import ensure_days
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import SymbolNotRegisteredWarning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quick_retries")

# The gate


STRANGER = ("NOSUCHUSDT", "2024-12-30", "2024-12-30")
WAYS = {
    "fetch_ticks": lambda: rb.fetch_ticks(*STRANGER),
    "scan_ticks": lambda: rb.scan_ticks(*STRANGER).collect(),
    "rangebar fetch": lambda: main(["fetch", *STRANGER]),
}


@pytest.fixture
def nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    """Yield an exchange with a symbol that is not registered."""
    tape = Tape.generate("NOSUCHUSDT", days=1, per_day=500)
    with Exchange(tape) as box:
        point_at(box, monkeypatch, tmp_path)
        yield box


@pytest.mark.parametrize("way", WAYS)
def test_a_strict_gate_sends_no_request_and_writes_nothing(
    way: str, nobody_knows: Exchange, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    call = WAYS[way]
    if way == "rangebar fetch":
        assert call() == 2
        assert "NOSUCHUSDT" in capsys.readouterr().err
    else:
        with pytest.raises(SymbolNotRegisteredError):
            call()
    assert nobody_knows.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gate", ["warn", "OFF"])
def test_other_gates_let_symbols_through_with_or_without_a_warning(
    way: str,
    gate: str,
    nobody_knows: Exchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", gate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        WAYS[way]()
    gate_warnings = [one for one in caught if issubclass(one.category, SymbolNotRegisteredWarning)]
    if way == "rangebar fetch":
        assert ("not registered" in capsys.readouterr().err) == (gate == "warn")
    else:
        assert len(gate_warnings) == (gate == "warn")
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    found = TickStorage().coverage(*STRANGER)
    assert found["state"].to_list() == ["final"]


def test_ensure_days_leaves_the_gate_to_its_caller(nobody_knows: Exchange) -> None:
    symbol, *days = STRANGER
    report = ensure_days(Venue(), symbol, parse_span(*days))
    assert [str(day) for day in report.fetched] == [days[0]]
    with pytest.raises(SymbolNotRegisteredError):
        rb.fetch_ticks(*STRANGER)


# Subscribers


def test_a_subscriber_that_fails_or_hangs_changes_nothing(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    go_on = threading.Event()
    received: list[str] = []

    def fails(payload: events.HookPayload) -> None:
        received.append(payload.event)
        raise ZeroDivisionError

    def hangs(_payload: events.HookPayload) -> None:
        go_on.wait(3600)

    events.register_for_all(fails)
    events.register_for_all(hangs)
    try:
        begin = time.monotonic()
        assert_frame_equal(rb.scan_ticks(*SPAN).collect(), truth(exchange_tape))
        # A fetch that waited for the subscriber would take an hour.
        assert time.monotonic() - begin < 600
        judge(exchange, exchange_tape)
    finally:
        go_on.set()
        assert events.flush_hooks(600)
        events.clear_hooks()
    # Each download is an event once as it begins and once as it ends.
    assert received.count("download_start") == received.count("download_complete") == 4
