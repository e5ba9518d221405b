"""A backfill over a REST interface that fails in every way: all ids arrive, and none is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from exchange import faults
from exchange.box import Exchange
from exchange.tape import Tape
from rangebar_polars._utils import clock
from rangebar_polars.live.network.backfill import RestRequests
from rangebar_polars.live.protocol.sequencing import Page, Sequencing, Start
from rangebar_polars.live.protocol.spans import MissingReason
from rangebar_polars.live.protocol.trades import TradeColumns
from rangebar_polars.sources import TRADES_SCHEMA

pytest.importorskip("httpcore2")

NOW = datetime(2026, 11, 2, 0, 10, tzinfo=UTC)
WAIT_S = 120.0


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.around(NOW, timedelta(minutes=30), timedelta(minutes=1), per_minute=240.0)


@pytest.fixture
def box(tape, tmp_path, monkeypatch):
    with Exchange(tape) as box:
        for name, value in box.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
        yield box


class Backfill:
    """Drives sequencing by the answers of a queue, and lets the time of its waits pass at once."""

    def __init__(self, start: Start) -> None:
        self.sequencing = Sequencing(start)
        self.trades = TradeColumns()
        self.missing = []
        self.failures = []
        self.changed = asyncio.Event()

    def page(self, request, trades, sent_at):
        self.sequencing.page(Page(request, trades, sent_at), clock.monotonic())
        self.changed.set()

    def newest(self, newest_id, date):
        self.sequencing.expect(newest_id, clock.monotonic())
        self.changed.set()

    def failed(self, *, is_refused, closed_until, unknown=""):
        assert not unknown or is_refused
        self.failures.append((is_refused, closed_until))
        self.sequencing.failed(clock.monotonic(), closed_until)
        self.changed.set()

    async def run(self, queue: RestRequests) -> None:
        queue.request_newest("BTCUSDT", self)
        await self._answer()
        while len(self.sequencing.gaps):
            self.sequencing.gap_events(clock.monotonic())
            request = self.sequencing.next_request(clock.monotonic())
            if request is None:
                due_at = self.sequencing.due_at()
                assert due_at is not None
                pass_by(due_at - clock.monotonic())
                continue
            queue.request_page("BTCUSDT", request, self, is_gap=True)
            await self._answer()
            self.apply()
        self.apply()

    async def _answer(self) -> None:
        await asyncio.wait_for(self.changed.wait(), WAIT_S)
        self.changed.clear()

    def apply(self) -> None:
        while (batch := self.sequencing.next_batch(clock.monotonic())) is not None:
            self.missing += batch.missing
            self.trades.extend(batch.trades)
            self.sequencing.applied(batch)


def pass_by(seconds):
    """Set both clocks forward."""
    now = clock._rates
    seconds = max(seconds, 0.0) + 1e-6
    clock._rates = replace(now, wall=now.wall + seconds, monotonic=now.monotonic + seconds)


def backfill(start: Start) -> Backfill:
    async def run():
        queue = RestRequests("spot")
        try:
            work = Backfill(start)
            await work.run(queue)
            return work
        finally:
            queue.close()

    clock.install(rate=1.001)  # so that the wall time of the package can be set forward too
    try:
        return asyncio.run(run())
    finally:
        clock.install()


def published(box, tape):
    return tape.ticks.select(TRADES_SCHEMA.names()).filter(tape.ticks["timestamp"] <= box.now)


FAULTS = [
    faults.status(500),
    faults.malformed_json(),
    faults.banned(20),
    faults.empty_page(),
    faults.repeated_page(),
    faults.short_page(7),
    faults.drop(),
    faults.status(451),
    faults.holed_page(3),
    faults.too_many(90),
    faults.shuffled_page(),
    faults.overlapping_page(50),
    faults.changed_page(lambda rows: [rows[0] | {"p": "-1"}, *rows[1:]]),
    faults.html(),
    faults.truncated(),
    faults.changed_page(lambda rows: [{"a": row["a"]} for row in rows]),
    faults.replaced(b"[[]]"),
]


def test_every_trade_arrives_whatever_rest_answers_first(box, tape):
    every = published(box, tape)
    for fault in FAULTS:
        box.fail("fromId", fault)
    done = backfill(Start(every["agg_trade_id"][0] - 1))
    assert done.missing == []
    assert done.trades.frame().equals(every)
    assert sum(is_refused for is_refused, _ in done.failures) == 3
    assert len(done.failures) == 10


def test_ids_that_exist_nowhere_are_missing_after_the_patience_alone(tmp_path, monkeypatch, tape):
    ids = tape.ticks["agg_trade_id"]
    absent = (ids[500], ids[509])
    with Exchange(tape.with_absent(*absent)) as box:
        monkeypatch.setenv("RANGEBAR_BINANCE_REST_URL", box.url)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
        begun = clock.monotonic()
        done = backfill(Start(ids[0] - 1))
    (span,) = done.missing
    assert (span.first, span.last, span.reason) == (*absent, MissingReason.ABSENT)
    assert done.trades.frame().equals(published(box, box.tapes[0]))
    assert clock.monotonic() - begun >= 30.0


def test_an_id_that_rest_never_has_valid_is_missing_as_invalid(box, tape):
    ids = published(box, tape)["agg_trade_id"]

    def spoiled(rows):
        return [row | {"q": "1e9"} if row["a"] == ids[10] else row for row in rows]

    box.fail("fromId", faults.changed_page(spoiled), times=None)
    done = backfill(Start(ids[0] - 1))
    (span,) = done.missing
    assert (span.first, span.last, span.reason) == (ids[10], ids[10], MissingReason.INVALID)
    assert len(done.trades) == len(ids) - 1
