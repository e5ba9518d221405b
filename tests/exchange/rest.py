"""The REST interface: pages of aggregate trades, the time, and the weight that requests have."""

from __future__ import annotations

import math
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from exchange.archive import decimal_text
from exchange.wire import json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exchange.clock import Clock
    from exchange.tape import Tape
    from exchange.wire import Answer

__all__ = ["Limits", "Rest"]

MAX_PAGE = 1_000
DEFAULT_PAGE = 500
HOUR_US = 3_600_000_000
MICROSECOND_TIMES = 10**14  # smaller numbers are milliseconds
PARAMETERS = ("symbol", "fromId", "startTime", "endTime", "limit")
MICROSECOND = timedelta(microseconds=1)
WHOLE = re.compile(r"[0-9]{1,20}")


class Family(NamedTuple):
    """An interface: its market, the weight of a page, the weight allowed a minute."""

    market: str
    page_weight: int
    limit: int


FAMILIES = {
    "/api/v3": Family("spot", 4, 6_000),
    "/fapi/v1": Family("um", 20, 2_400),
    "/dapi/v1": Family("cm", 20, 2_400),
}


class ApiError(Exception):
    """An error that the interface answers with."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(code, text)
        self.answer = json_answer({"code": code, "msg": text}, status)


@dataclass
class Limits:
    """The weight allowed in a window of real time, and what follows."""

    #: None: the exchange's own, of each interface.
    weight: int | None = None
    window_s: float = 60.0
    #: Requests over the limit that are answered with 429 before all are with 418.
    patience: int = 10
    ban_s: float = 120.0
    #: Weight of the running window, by interface.
    used: dict[str, int] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _over: dict[str, int] = field(default_factory=dict)
    _banned_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self, base: str, weight: int) -> Answer | None:
        """Count a request; the answer if it is one too many."""
        with self._lock:
            now = time.monotonic()
            if now < self._banned_until:
                return refuse(418, "Way too many requests; IP banned.", self._banned_until - now)
            began = self._began.setdefault(base, now)
            if now - began >= self.window_s:
                self._began[base], self.used[base], self._over[base] = now, 0, 0
            self.used[base] = self.used.get(base, 0) + weight
            limit = FAMILIES[base].limit if self.weight is None else self.weight
            if self.used[base] <= limit:
                return None
            self._over[base] = self._over.get(base, 0) + 1
            if self._over[base] > self.patience:
                self._banned_until = now + self.ban_s
                return refuse(418, "Way too many requests; IP banned.", self.ban_s)
            rest = self.window_s - (now - self._began[base])
            return refuse(429, f"Too many requests; current limit is {limit} per minute.", rest)


def refuse(status: int, text: str, seconds: float) -> Answer:
    answer = json_answer({"code": -1003, "msg": text}, status)
    return answer.with_headers(Retry_After=str(math.ceil(seconds)))


class Rest:
    """Answers of the interface about some tapes at the clock's time."""

    def __init__(
        self, tapes: Iterable[Tape], clock: Clock, limits: Limits, *, is_dated: bool = False
    ) -> None:
        #: Whether answers say the time in `Date`.
        self.is_dated = is_dated
        #: How long after a trade it appears here.
        self.behind = timedelta(0)
        self._tapes = {(tape.market, tape.symbol): tape for tape in tapes}
        self._clock = clock
        self.limits = limits

    @staticmethod
    def base_of(path: str) -> str | None:
        """The interface a path belongs to."""
        return next((base for base in FAMILIES if path.startswith(base + "/")), None)

    def refusal(self, path: str) -> Answer | None:
        """The answer to a request that is one too many."""
        base = self.base_of(path)
        if base is None:
            return None
        weight = FAMILIES[base].page_weight if path.endswith("/aggTrades") else 1
        refusal = self.limits.refusal(base, weight)
        return refusal and self._weighed(refusal, base)

    def answer(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The answer to a request within the limits."""
        base = self.base_of(path)
        if base is None:
            return json_answer({"code": -1, "msg": f"no such path: {path}"}, 404)
        unit = "ms"
        if base == "/api/v3" and headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND":
            unit = "us"
        try:
            answer = self._answer(base, path.removeprefix(base), query, unit)
        except ApiError as error:
            answer = error.answer
        return self._weighed(answer, base)

    def _weighed(self, answer: Answer, base: str) -> Answer:
        if self.is_dated:
            answer = answer.with_headers(Date=format_datetime(self._clock.now, usegmt=True))
        return answer.with_headers(X_MBX_USED_WEIGHT_1M=str(self.limits.used.get(base, 0)))

    def _answer(self, base: str, name: str, query: Mapping[str, str], unit: str) -> Answer:
        if name == "/ping":
            return json_answer({})
        if name == "/time":
            now_us = self._clock.now_us
            return json_answer({"serverTime": now_us if unit == "us" else now_us // 1_000})
        if name == "/aggTrades":
            return json_answer(self._page(base, query, unit))
        raise ApiError(-1, f"no such path: {base}{name}", 404)

    def _page(self, base: str, query: Mapping[str, str], unit: str) -> list[dict[str, object]]:
        market = FAMILIES[base].market
        unknown = [name for name in query if name not in PARAMETERS]
        if unknown and market == "spot":
            read, sent = len(query) - len(unknown), len(query)
            text = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            raise ApiError(-1104, text)
        if not query.get("symbol"):
            raise ApiError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null.")
        tape = self._tapes.get((market, query["symbol"]))
        if tape is None:
            raise ApiError(-1121, "Invalid symbol.")
        low, count = rows(tape, query, self._clock.now_us - self.behind // MICROSECOND)
        return page_of(tape, tape.ticks.slice(low, count), unit)


def number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not WHOLE.fullmatch(text):
        legal = "legal range is '^[0-9]{1,20}$'"
        raise ApiError(-1100, f"Illegal characters found in parameter '{name}'; {legal}.")
    return int(text)


def instant(query: Mapping[str, str], name: str) -> int | None:
    """Microseconds of a time in milliseconds or microseconds."""
    value = number(query, name)
    if value is None or value >= MICROSECOND_TIMES:
        return value
    return value * 1_000


def rows(tape: Tape, query: Mapping[str, str], now_us: int) -> tuple[int, int]:
    """First row and number of rows that a query means."""
    limit = number(query, "limit")
    if limit == 0:
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    limit = min(limit or DEFAULT_PAGE, MAX_PAGE)
    first_id = number(query, "fromId")
    start, end = instant(query, "startTime"), instant(query, "endTime")
    head = int(np.searchsorted(tape.times_us, now_us, side="right"))
    if first_id is not None:
        if start is not None or end is not None:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        low = int(np.searchsorted(tape.agg_ids, first_id))
        return low, max(0, min(limit, head - low))
    if tape.market != "spot" and start is not None and end is not None and end - start > HOUR_US:
        raise ApiError(-1127, "More than 1 hours between startTime and endTime.")
    high = head
    if end is not None:
        # A time in milliseconds means all of that millisecond.
        last = end if int(query["endTime"]) >= MICROSECOND_TIMES else end + 999
        high = min(head, int(np.searchsorted(tape.times_us, last, side="right")))
    low = max(0, high - limit) if start is None else int(np.searchsorted(tape.times_us, start))
    return low, max(0, min(limit, high - low))


def page_of(tape: Tape, ticks: pl.DataFrame, unit: str) -> list[dict[str, object]]:
    """Trades under the names of the interface."""
    spot = tape.market == "spot"
    columns = {
        "a": pl.col("agg_trade_id"),
        "p": decimal_text("price", tape.price_digits, padded=spot),
        "q": decimal_text("quantity", tape.quantity_digits, padded=spot),
        "f": pl.col("first_trade_id"),
        "l": pl.col("last_trade_id"),
        "T": pl.col("timestamp").dt.epoch(unit),
        "m": pl.col("is_buyer_maker"),
    }
    # Spot says whether the price was the best; the other markets, of late, what is no RPI order.
    columns |= {"M": pl.lit(value=True)} if spot else {"nq": columns["q"]}
    return ticks.select(**columns).to_dicts()
