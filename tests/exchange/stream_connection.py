"""One connection of the stream server: a thread, a plain socket, and messages that can be cut."""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from exchange.server import RESET, hang_up
from exchange.stream_messages import Act, Data, Later, Message, Raw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.stream_messages import Step
    from exchange.streams import Streams

__all__ = ["Connection", "Received"]

#: Market of each path. At the path of another market, a symbol is accepted and silent.
PATHS = {
    "/stream": "spot",
    "/market/stream": "um",
    "/delivery/stream": "cm",
    "/delivery/market/stream": "cm",
}
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
REMEMBERED = 5_000
LARGEST_WRITE = 1 << 20
_LOG = logging.getLogger("exchange.streams")
_LOG.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Received:
    """A frame that the client sent."""

    kind: str
    data: bytes
    #: Seconds by the monotonic clock.
    at_s: float


@dataclass(frozen=True)
class _Sent:
    """A message as a rule sees it: `/stream?btcusdt@aggTrade&id=7`."""

    connection: Connection
    message: Message
    method: str = "MESSAGE"

    @property
    def path(self) -> str:
        return self.connection.path

    @property
    def target(self) -> str:
        return f"{self.path}?{self.message.stream}&id={self.message.agg_trade_id}"


class Connection:
    """A client. The attributes are for tests; what starts with `is_` or `do_` is for faults."""

    method = "CONNECT"

    def __init__(self, streams: Streams, sock: socket.socket, number: int) -> None:
        self.streams = streams
        self.number = number
        self.path = self.target = self.market = ""
        self.headers: dict[str, str] = {}
        self.symbols: frozenset[str] = frozenset()
        #: Seconds by the monotonic clock when it was accepted.
        self.at_s = time.monotonic()
        self.is_open = False
        self.is_ended = False
        #: The close code that the client sent; None without one.
        self.close_code: int | None = None
        self.received: list[Received] = []
        self.sent: deque[Message] = deque(maxlen=REMEMBERED)
        self.sent_count = 0
        # What faults set.
        self.is_micros = self.is_bare = self.is_silent = self.is_frozen = self.is_pongless = False
        self.muted: set[str] = set()
        self.delay_us = 0
        self._socket = sock
        self._outbox: deque[bytes | Act] = deque()
        self._later: list[tuple[int, tuple[Step, ...]]] = []
        self._lock = threading.RLock()
        self._wake, self._woken = socket.socketpair()
        # A full buffer wakes as well as another byte.
        self._wake.setblocking(False)
        self._pending = memoryview(b"")
        self._is_over = False
        self._is_done = False
        self._protocol = None
        self.thread = threading.Thread(target=self._run, name="streams", daemon=True)

    def __repr__(self) -> str:
        return f"<connection {self.number} of {self.target or 'nothing yet'}>"

    # What the server calls

    def takes(self, message: Message) -> bool:
        """Whether a message is of one of its streams."""
        is_mine = self.market == message.market and message.symbol in self.symbols
        return self.is_open and not self._is_over and is_mine

    def deliver(self, message: Message) -> None:
        """Send a message, now or with the delay of this connection."""
        with self._lock:
            if self.delay_us:
                self._later.append((message.time_us + self.delay_us, (message,)))
            else:
                self._deliver(message)

    def tick(self, now_us: int) -> None:
        """Send what is due."""
        with self._lock:
            due = [item for item in self._later if item[0] <= now_us]
            if not due:
                return
            self._later = [item for item in self._later if item[0] > now_us]
            for _, steps in due:
                for step in steps:
                    if isinstance(step, Message):
                        self._deliver(step)
                    else:
                        self.put([step])

    @property
    def has_later(self) -> bool:
        return bool(self._later)

    @property
    def is_flushed(self) -> bool:
        """Whether all is in the hands of the system, as far as the client reads."""
        with self._lock:
            return self._is_done or self.is_frozen or not (self._outbox or self._pending)

    def _deliver(self, message: Message) -> None:
        if self.is_silent or message.symbol in self.muted or self._is_over:
            return
        steps: list[Step] = [message]
        for fault in self.streams.script.faults_for(_Sent(self, message)):
            steps = fault.act(self, steps)
        self.put(steps)

    def put(self, steps: Iterable[Step]) -> None:
        """Send steps in order, without meeting rules."""
        with self._lock:
            for step in steps:
                self._put(step)
        self.wake()

    def _put(self, step: Step) -> None:
        if isinstance(step, Later):
            due_us = self.streams.clock.now_us + int(step.seconds * 1e6)
            self._later.append((due_us, step.steps))
        elif isinstance(step, Act):
            self._outbox.append(step)
        elif not self._is_over:
            self._outbox.append(self.wire(step))
            if isinstance(step, Message):
                self.sent.append(step)
                self.sent_count += 1

    def wire(self, step: Message | Data | Raw) -> bytes:
        """The bytes of a step."""
        if isinstance(step, Raw):
            return step.wire
        if isinstance(step, Message):
            step = Data(step.payload(micros=self.is_micros, bare=self.is_bare))
        from websockets.frames import Frame, Opcode

        kind = Opcode.BINARY if step.binary else Opcode.TEXT
        return Frame(kind, step.payload).serialize(mask=False)

    def wake(self) -> None:
        with suppress(OSError):
            self._wake.send(b"x")

    def stop(self) -> None:
        """End at once."""
        self._is_done = True
        hang_up(self._socket)
        self.wake()

    # What an `Act` does, in the thread of the connection

    def do_reset(self) -> None:
        """End by a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._is_over = self._is_done = True

    def do_end(self) -> None:
        """End without a close frame."""
        self._is_over = True
        self._outbox.clear()
        self._half_close()

    def do_close(self, code: int, reason: str = "") -> None:
        """Send a close frame, and end once the client has answered."""
        self._is_over = True
        self._outbox.clear()
        self._protocol.send_close(code, reason)
        self._take_writes()

    def do_ping(self, payload: bytes) -> None:
        self._protocol.send_ping(payload)
        self._take_writes()

    def do_freeze(self) -> None:
        """Neither read nor write any more, and stay connected."""
        self.is_frozen = self._is_over = True

    # The thread

    def _run(self) -> None:
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.do_handshake()
            self._socket.setblocking(False)
            self._protocol = self._new_protocol()
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ)
                while not self._is_done:
                    self._turn(selector)
        except OSError:
            pass  # the other side is gone, or does not trust the certificate, as it may
        except Exception as error:  # noqa: BLE001 - a thread must not end in one; a test sees it
            self.streams.note(error)
        finally:
            self.is_ended = self._is_over = self._is_done = True
            self.is_open = False
            self._socket.close()
            self._wake.close()
            self._woken.close()
            self.streams.changed()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        has_socket = self._socket in selector.get_map()
        if self.is_frozen:
            if has_socket:
                selector.unregister(self._socket)
        else:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._pending else 0)
            change = selector.modify if has_socket else selector.register
            change(self._socket, events)
        for key, _ in selector.select():
            if key.fileobj is self._woken:
                self._woken.recv(4_096)
            elif not self.is_frozen:
                self._read()
        if not self.is_frozen:
            self._write()

    def _read(self) -> None:
        while not self._is_done:
            try:
                data = self._socket.recv(65_536)
            except WOULD_BLOCK:
                return
            if not data:
                self._is_done = True
                return
            if self.is_ended:
                continue
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                self._on_event(event)
            self._take_writes()
            self.streams.changed()

    def _on_event(self, event) -> None:
        from websockets.http11 import Request

        if isinstance(event, Request):
            self._on_request(event)
            return
        kind = event.opcode.name.lower()
        self.received.append(Received(kind, bytes(event.data), time.monotonic()))
        if kind == "close":
            self._is_over = True
            self.close_code = self._protocol.close_rcvd.code

    def _on_request(self, request) -> None:
        parts = urlsplit(request.path)
        self.path, self.target = parts.path, request.path
        self.headers = {name.lower(): value for name, value in request.headers.raw_items()}
        query = dict(parse_qsl(parts.query))
        self.market = PATHS.get(parts.path, "")
        self.is_micros = query.get("timeUnit", "").upper() == "MICROSECOND"
        self.symbols = self.streams.symbols_of(self.market, query.get("streams", "").split("/"))
        response = self._protocol.accept(request)
        if not self.market and response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response = self._protocol.reject(404, f"no such path: {self.path}\n")
        for fault in self.streams.script.faults_for(self):
            response = fault.act(self, response)
            if response is None:
                return
        response.headers.pop("Date", None)
        response.headers["Date"] = format_datetime(self.streams.clock.now, usegmt=True)
        self._protocol.send_response(response)
        self._take_writes()
        self.is_open = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS

    def answer(self, status: int, body: str = "", **headers: str):
        """An answer other than 101; `_` in the name of a header stands for `-`."""
        response = self._protocol.reject(status if status in set(HTTPStatus) else 500, body)
        response.status_code = status
        for name, value in headers.items():
            key = name.replace("_", "-")
            response.headers.pop(key, None)
            response.headers[key] = value
        return response

    def _take_writes(self) -> None:
        """Queue what the protocol answers, such as pongs."""
        for data in self._protocol.data_to_send():
            if data:
                self._outbox.append(data)
            else:
                self._outbox.append(Act(Connection._half_close))

    def _half_close(self) -> None:
        self.is_open = False
        self._is_over = True
        if isinstance(self._socket, ssl.SSLSocket):
            # TLS knows no half of an end.
            self._is_done = True
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _write(self) -> None:
        was_busy = bool(self._outbox or self._pending)
        while not self._is_done and not self.is_frozen:
            if self._pending:
                try:
                    sent = self._socket.send(self._pending)
                except WOULD_BLOCK:
                    return
                self._pending = self._pending[sent:]
                continue
            act = self._next()
            if act is None:
                if not self._pending:
                    break
            else:
                act.do(self)
        if was_busy:
            self.streams.changed()

    def _next(self) -> Act | None:
        """Take the next bytes to send; or what there is to do before any."""
        parts: list[bytes] = []
        size = 0
        with self._lock:
            while self._outbox and size < LARGEST_WRITE:
                if isinstance(self._outbox[0], Act):
                    if not parts:
                        return self._outbox.popleft()
                    break
                parts.append(self._outbox.popleft())
                size += len(parts[-1])
            self._pending = memoryview(b"".join(parts))
        return None

    def _new_protocol(self):
        from websockets.frames import Opcode
        from websockets.server import ServerProtocol

        connection = self

        class Protocol(ServerProtocol):
            """A server that may leave pings unanswered."""

            def send_frame(self, frame) -> None:
                if not (connection.is_pongless and frame.opcode is Opcode.PONG):
                    super().send_frame(frame)

        return Protocol(logger=_LOG)
