"""The streams of the box: a WebSocket server of its own, whose messages can be cut and spoiled.

It uses the protocol of `websockets` without its sockets, one thread a connection.
"""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from exchange.script import Rule, Script, matches
from exchange.stream_connection import Connection
from exchange.stream_messages import messages, stream_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exchange.clock import Clock
    from exchange.script import Match
    from exchange.stream_faults import StreamFault
    from exchange.stream_messages import Message
    from exchange.tape import Tape
    from exchange.tls import Certificates

__all__ = ["Streams"]

WAIT_S = 120.0


class Streams:
    """A server of the trades of some tapes; it starts when its address is first asked for.

    `/stream` is spot, `/market/stream` um, `/delivery/stream` cm. A symbol that has no tape in the
    market of a path is accepted, and silent.
    """

    def __init__(
        self,
        tapes: Iterable[Tape],
        clock: Clock,
        note: Callable[[BaseException], None],
        certificates: Certificates | None = None,
    ) -> None:
        self.tapes = {(tape.market, tape.symbol): tape for tape in tapes}
        self.clock = clock
        self.note = note
        self.script = Script()
        #: All connections so far, in order.
        self.connections: list[Connection] = []
        self._certificates = certificates
        self._condition = threading.Condition()
        self._listener: socket.socket | None = None
        self._loop: threading.Thread | None = None
        self._port = 0
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()

    # Where it is

    @property
    def url(self) -> str:
        """Base of the spot streams."""
        with self._lock:
            if not self._port:
                self._listen()
        return f"{'ws' if self._certificates is None else 'wss'}://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point at these streams."""
        return {
            "RANGEBAR_BINANCE_STREAM_URL": self.url,
            "RANGEBAR_BINANCE_UM_STREAM_URL": f"{self.url}/market",
            "RANGEBAR_BINANCE_CM_STREAM_URL": f"{self.url}/delivery",
        }

    # What goes wrong

    def fail(
        self, match: Match, *faults: StreamFault, times: int | None = 1, after: int = 0
    ) -> Rule:
        """Let the next `times` handshakes or messages that match meet the faults; None: all.

        The faults say which of both. A text is a part of the target: `/stream?streams=…` of a
        handshake, `/stream?btcusdt@aggTrade&id=7` of a message. A function gets the connection, or
        an object with `connection` and `message`.
        """
        (kind,) = {fault.on for fault in faults}
        return self.script.add(Rule(match, faults, times, after, kind))

    def strike(self, *faults: StreamFault, match: Match = "") -> int:
        """Apply faults of messages to all open connections that match; return their number."""
        struck = [each for each in self.open if matches(match, each)]
        for connection in struck:
            steps: list = []
            for fault in faults:
                steps = fault.act(connection, steps)
            connection.put(steps)
        return len(struck)

    def down(self) -> None:
        """Reset all connections and refuse new ones, at the same address, until `up`."""
        self.url  # noqa: B018 - takes a port, if that was not done
        with self._lock:
            self._stop_listening(is_refusing=True)
        for connection in list(self.connections):
            connection.put([])
            connection.stop()

    def up(self) -> None:
        """Accept connections again."""
        with self._lock:
            if self._loop is None:
                self._listen()

    # What happens

    @property
    def open(self) -> list[Connection]:
        """Connections whose handshake is done and that have not ended."""
        return [each for each in list(self.connections) if each.is_open and not each.is_ended]

    def wait(self, condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Wait until something is true of the connections."""
        with self._condition:
            if not self._condition.wait_for(condition, timeout_s):
                raise TimeoutError(f"after {timeout_s} s: {self.connections}")

    def wait_open(self, count: int = 1) -> list[Connection]:
        """Wait until so many connections are open, and return them."""
        self.wait(lambda: len(self.open) >= count)
        return self.open

    def flush(self) -> None:
        """Wait until all that was sent is in the hands of the system."""
        self.wait(lambda: all(each.is_flushed for each in list(self.connections)))

    def most_connects(self, window_s: float = 300.0) -> int:
        """Largest number of connections in a window of real time."""
        times = [each.at_s for each in self.connections]
        return max((sum(at <= t < at + window_s for t in times) for at in times), default=0)

    # What is sent

    def publish(self, message: Message) -> None:
        """Send a trade to all who subscribe to it."""
        for connection in self.connections:
            if connection.takes(message):
                connection.deliver(message)

    def send_ids(self, symbol: str, first_id: int, last_id: int, market: str = "spot") -> None:
        """Send trades of a tape by their ids, whatever the time; the clock stays."""
        tape = self.tapes[market, symbol]
        for message in messages(tape, tape.ids(first_id, last_id)):
            self.publish(message)

    def tick(self) -> None:
        """Send what is due at the clock's time."""
        for connection in self.connections:
            if connection.has_later:
                connection.tick(self.clock.now_us)

    # What connections call

    def symbols_of(self, market: str, streams: Iterable[str]) -> frozenset[str]:
        """Symbols of a market whose streams are named; lower case alone counts."""
        wanted = set(streams)
        return frozenset(
            symbol for of, symbol in self.tapes if of == market and stream_of(symbol) in wanted
        )

    def changed(self) -> None:
        """Wake those who wait."""
        with self._condition:
            self._condition.notify_all()

    # The sockets

    def close(self) -> None:
        """Stop, and wait for all threads."""
        with self._lock:
            self._is_stopping.set()
            self._stop_listening(is_refusing=False)
        for connection in self.connections:
            connection.stop()
        for connection in self.connections:
            connection.thread.join()

    def _listen(self) -> None:
        if self._is_stopping.is_set():
            raise RuntimeError("the exchange is open only inside its `with`")
        if self._listener is not None:
            self._listener.close()
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._loop = threading.Thread(target=self._accept, name="streams", daemon=True)
        self._loop.start()

    def _stop_listening(self, *, is_refusing: bool) -> None:
        if self._loop is not None:
            self._wake.send(b"x")
            self._loop.join()
            self._loop = None
            self._wake.close()
            self._woken.close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if is_refusing:
            # Bound and not listening: the port refuses, and nobody else gets it.
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self._port))

    def _accept(self) -> None:
        listener, woken = self._listener, self._woken
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while all(key.fileobj is listener for key, _ in selector.select()):
                self._take(listener)

    def _take(self, listener: socket.socket) -> None:
        with suppress(OSError):  # gone again before it was taken
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._certificates is not None:
                sock = self._certificates.context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            connection = Connection(self, sock, len(self.connections))
            self.connections.append(connection)
            connection.thread.start()
            self.changed()
