"""A stand-in for the REST interface that serves whatever a test puts on its tape, sound or not."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from exchange.server import Server
from exchange.wire import Answer
from rangebar_polars.fetch.binance.rate_limit import WeightBudget
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.wire import Request

START_US = 1_709_596_800_000_000  # of 2024-03-05
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
TRIES = 4


def trade(number: int, time_us: int, **other) -> dict:
    """Return a trade as the tape keeps it, its time in microseconds."""
    row = {"a": number, "p": f"{100 + number % 7}.{number % 100:02}", "q": f"0.{number % 9 + 1}"}
    row |= {"f": 2 * number, "l": 2 * number + 1, "T": time_us, "m": number % 3 == 0}
    return row | {"M": True, "nq": "1"} | other


def tape_of(count: int, first: int = 1000, start_us: int = START_US, step_us: int = 250) -> list:
    """Return trades of which every four share a millisecond."""
    return [trade(first + k, start_us + k * step_us) for k in range(count)]


def frame_of(rows: list[dict], unit_us: int = 1) -> pl.DataFrame:
    """Return the trades as they ought to arrive, their times cut to a unit."""
    columns = {
        "timestamp": [row["T"] // unit_us * unit_us for row in rows],
        "price": [float(row["p"]) for row in rows],
        "quantity": [float(row["q"]) for row in rows],
        "agg_trade_id": [row["a"] for row in rows],
        "first_trade_id": [row["f"] for row in rows],
        "last_trade_id": [row["l"] for row in rows],
        "is_buyer_maker": [row["m"] for row in rows],
    }
    return pl.DataFrame(columns, schema_overrides={"timestamp": pl.Int64}).cast(dict(TRADES_SCHEMA))


def check_each_id_is_in_one(ticks, absent, low, high):
    lacking = [n for first, last in absent for n in range(first, last + 1)]
    assert sorted([*ticks["agg_trade_id"], *lacking]) == list(range(low, high + 1))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(absent))


class Stand:
    """A tape behind HTTP. `replies` come first, `mangle` may change a page, `headers` go with all."""

    def __init__(self) -> None:
        self.tape: list[dict] = []
        self.page_rows = 1000
        self.mangle = None
        self.replies: deque[Answer] = deque()
        self.headers: dict[str, str] = {}
        self.seen: list[dict] = []
        self.errors: list[BaseException] = []
        self.url = ""

    def respond(self, request: Request) -> Answer:
        self.seen.append(request.query | {"path": request.path})
        if self.replies:
            answer = self.replies.popleft()
        else:
            unit = request.headers.get("x-mbx-time-unit")
            fine = request.path.startswith("/api/") and unit == "MICROSECOND"
            answer = self._answer(request.query, fine=fine)
        return Answer(**{**vars(answer), "headers": self.headers | dict(answer.headers)})

    def note(self, error: BaseException) -> None:
        self.errors.append(error)

    def _answer(self, query: dict, *, fine: bool) -> Answer:
        try:
            return Answer(200, self.body(query, fine=fine))
        except Exception as error:  # noqa: BLE001 - the test is told at its end
            self.note(error)
            return Answer(500)

    def page(self, query: dict) -> list[dict]:
        """Return the rows that a question is answered with, by the exchange's rules."""
        limit = min(int(query.get("limit", 500)), self.page_rows)
        if "fromId" in query:
            rows = [row for row in self.tape if row["a"] >= int(query["fromId"])]
        elif "startTime" in query:
            rows = [row for row in self.tape if row["T"] // 1000 >= int(query["startTime"])]
        else:
            return self.tape[-limit:]
        return rows[:limit]

    def body(self, query: dict, *, fine: bool) -> bytes:
        rows = self.page(query)
        if self.mangle is not None:
            rows = self.mangle(rows, query)
        return json.dumps([r | {"T": r["T"] if fine else r["T"] // 1000} for r in rows]).encode()

    @property
    def questions(self) -> list[int]:
        """The ids from which trades were asked for."""
        return [int(query["fromId"]) for query in self.seen if "fromId" in query]


@contextmanager
def serving() -> Iterator[Stand]:
    stand = Stand()
    server = Server(stand)
    stand.url = server.url
    try:
        yield stand
    finally:
        server.close()
    assert stand.errors == []


class Clock:
    """Seconds that pass only when someone sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.lock = threading.Lock()

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.seconds += seconds

    def budget(self) -> WeightBudget:
        return WeightBudget(clock=self, sleep=self.sleep)
