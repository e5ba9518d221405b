"""Statuses, boards and servers for tests of the health interface."""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.health.board import LiveCounts, StatusBoard
from rangebar_polars.live.health.metrics import LiveMetrics
from rangebar_polars.live.health.server import HealthServer
from rangebar_polars.live.health.status import (
    LiveStatus,
    ProcessState,
    ProcessStatus,
    SymbolStatus,
)
from rangebar_polars.live.protocol.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
PROCESS = ProcessStatus(
    status=ProcessState.LIVE, version="0.1.0", pid=7, host="box", started_at=AT, now=AT
)
LIVE = SymbolStatus(symbol="BTCUSDT", state=State.LIVE, ready_until=math.inf)
#: No test depends on how long something takes, only on whether it happens at all.
PATIENCE_S = 30.0


def live_status(*symbols: SymbolStatus, **parts: object) -> LiveStatus:
    return LiveStatus(process=PROCESS, symbols=symbols or (LIVE,), **parts)


def until(condition: Callable[[], object]) -> object:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.005)
    return found


class Got(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Served:
    """A running health interface and the board behind it."""

    def __init__(self, status: LiveStatus | None = None, counts=LiveCounts) -> None:
        self.board = StatusBoard(status or live_status(), counts)
        self.server = HealthServer("127.0.0.1", 0, self.board, LiveMetrics(self.board))
        host, _, port = self.server.address.rpartition(":")
        self.address = (host, int(port))

    def get(self, path: str, method: str = "GET", body: bytes | None = None) -> Got:
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, headers, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes back."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE_S)

    def put(self, **parts: object) -> None:
        self.board.put(replace(self.board.status(), **parts))


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65_536):
        data += part
    return data


@contextmanager
def serving(status: LiveStatus | None = None, counts=LiveCounts) -> Iterator[Served]:
    """Serve a board, and check that no thread is left."""
    served = Served(status, counts)
    try:
        yield served
    finally:
        served.server.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("rangebar-health")]
