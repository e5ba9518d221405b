"""The log of live bars."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, date, datetime
from io import StringIO

import pytest

from rangebar_polars._utils import clock
from rangebar_polars.live import log as log_module
from rangebar_polars.live.log import LOGGER, LiveLog, log_to


@pytest.fixture
def logged():
    """Return a function that logs into a stream and returns its lines."""

    def run(write, **options) -> list[str]:
        stream = StringIO()
        with log_to(stream, **{"has_time": False, **options}):
            write(LiveLog())
        return stream.getvalue().splitlines()

    return run


def test_an_event_is_a_line_of_keys_and_values(logged) -> None:
    values = {"first_id": 7, "away_s": 0.1 + 0.2, "day": date(2026, 11, 1), "reason": None}

    def write(log: LiveLog) -> None:
        log.event("gap_detected", "BTCUSDT", is_failure=True, **values)
        log.event("sidecar_live", "BTCUSDT", text='two words "and" quotes\nand lines', empty="")

    assert logged(write) == [
        (
            "level=warning event=gap_detected symbol=BTCUSDT first_id=7 away_s=0.3 day=2026-11-01 "
            "reason=null"
        ),
        (
            'level=info event=sidecar_live symbol=BTCUSDT text="two words \\"and\\" quotes\\nand lines" '
            'empty=""'
        ),
    ]


def test_the_same_line_is_json(logged) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)

    def write(log: LiveLog) -> None:
        log.event("sidecar_live", "BTCUSDT", at=at, ids=[1, 2], is_replay=True, lag=float("inf"))
        log.event("sidecar_started", text="é\n")

    lines = [json.loads(line) for line in logged(write, as_json=True)]
    assert lines == [
        {
            "level": "info",
            "event": "sidecar_live",
            "symbol": "BTCUSDT",
            "at": "2026-11-01T00:00:00.000000Z",
            "ids": [1, 2],
            "is_replay": True,
            "lag": "inf",
        },
        {"level": "info", "event": "sidecar_started", "text": "é\n"},
    ]


def test_lines_begin_with_the_time_of_the_clock(logged) -> None:
    clock.install(offset_s=400 * 86_400.0)
    try:
        line = logged(lambda log: log.event("sidecar_live"), has_time=True)[0]
        day = clock.utc_now().date()
    finally:
        clock.install()
    assert line.startswith(f"time={day.isoformat()[:7]}")
    assert line.endswith("Z level=info event=sidecar_live")


def test_a_kind_and_symbol_is_logged_once_in_10_s(logged) -> None:
    def write(log: LiveLog) -> None:
        for now in (0.0, 1.0, 9.9):
            log.event("gap_detected", "BTCUSDT", first_id=int(now), now=now)
        log.event("gap_detected", "ETHUSDT", now=2.0)
        log.event("gap_healed", "BTCUSDT", now=2.0)
        log.event("gap_detected", "BTCUSDT", first_id=10, now=10.0)
        log.event("gap_detected", "BTCUSDT", first_id=20, now=20.0)

    assert [line.removeprefix("level=info event=") for line in logged(write)] == [
        "gap_detected symbol=BTCUSDT first_id=0",
        "gap_detected symbol=ETHUSDT",
        "gap_healed symbol=BTCUSDT",
        "gap_detected symbol=BTCUSDT first_id=10 repeated=2",
        "gap_detected symbol=BTCUSDT first_id=20",
    ]


def test_what_was_left_out_is_counted_later(logged) -> None:
    def write(log: LiveLog) -> None:
        for _ in range(1_000):
            log.event("trade_conflict", "BTCUSDT", is_failure=True, now=0.0)
        log.flush(now=9.0)
        log.flush(now=10.0)
        log.flush(now=20.0)
        log.event("trade_conflict", "BTCUSDT", is_failure=True, now=12.0)
        log.flush(now=13.0, everything=True)

    head = "level=warning event=trade_conflict symbol=BTCUSDT"
    assert logged(write) == [head, f"{head} repeated=999", f"{head} repeated=1"]


def test_what_is_remembered_is_limited(logged, monkeypatch) -> None:
    monkeypatch.setattr(log_module, "_MOST_KEYS", 10)
    log = LiveLog()

    def write(_: LiveLog) -> None:
        for number in range(100):
            log.event("gap_detected", f"COIN{number}", now=0.0)

    assert len(logged(write)) == 100
    assert len(log._seen) <= 10


def test_threads_log_each_line_once(logged) -> None:
    def write(log: LiveLog) -> None:
        def work() -> None:
            for number in range(200):
                log.event("gap_detected", f"COIN{number}", now=0.0)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(logged(write)) == 200


def test_lines_of_verbose_and_of_other_modules(logged) -> None:
    def write(log: LiveLog) -> None:
        log.line("bar", "BTCUSDT", threshold=250)
        log.line("bar", "BTCUSDT", threshold=250)
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logging.getLogger(LOGGER).exception("failed at http://user:pass@host/x?token=abc")

    assert len(logged(write, is_verbose=True)) == 3
    plain = logged(write)
    assert len(plain) == 1
    assert plain[0].startswith(
        'level=error message="failed at http://host/x?token=…" traceback="Traceback'.replace(
            "…", "\\u2026"
        )
    )
    assert "ZeroDivisionError" in json.loads(logged(write, as_json=True)[0])["traceback"]


def test_a_handler_of_the_user_gets_the_text(caplog) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        LiveLog().event("sidecar_live", "BTCUSDT", away_s=1.5)
    assert [record.getMessage() for record in caplog.records] == [
        "event=sidecar_live symbol=BTCUSDT away_s=1.5"
    ]


def test_secrets_are_left_out(logged) -> None:
    line = logged(lambda log: log.event("x_failed", url="wss://a:secret@h/s?token=secret2"))[0]
    assert "secret" not in line


def test_a_closed_stream_stops_nothing(capfd) -> None:
    stream = StringIO()
    with log_to(stream):
        stream.close()
        LiveLog().event("sidecar_live")
    assert capfd.readouterr() == ("", "")


def test_the_logger_is_as_before_after_the_block() -> None:
    logger = logging.getLogger(LOGGER)
    before = (logger.level, logger.propagate, list(logger.handlers))
    with log_to(StringIO(), is_verbose=True):
        assert logger.level == logging.DEBUG
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
