"""The sockets of the box: a loop that accepts, and one thread a connection."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from exchange.wire import NOTHING, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.wire import Answer

__all__ = ["Responder", "Server"]

# A socket that lingers for no time is reset when it is closed.
RESET = struct.pack("ii", 1, 0)


class Responder(Protocol):
    """Who answers requests; never raises."""

    def respond(self, request: Request) -> Answer: ...
    def note(self, error: BaseException) -> None: ...


class Server(TCPServer):
    """An HTTP server on a free port of the loopback; `close` ends every connection at once."""

    allow_reuse_address = True
    request_queue_size = 128
    timeout = 0

    def __init__(self, responder: Responder, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.context = context
        self.responder = responder
        self.stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._threads: dict[socket.socket, threading.Thread] = {}
        self._resets: set[socket.socket] = set()
        self._loop = threading.Thread(target=self._accept, name="exchange", daemon=True)
        self._loop.start()

    @property
    def url(self) -> str:
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        """Stop, and wait for all threads."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._wake.send(b"x")
        self._loop.join()
        running = list(self._threads.items())
        for connection, _ in running:
            hang_up(connection)
        for _, thread in running:
            thread.join()
        self.server_close()
        self._wake.close()
        self._woken.close()

    def reset(self, connection: socket.socket) -> None:
        """Let a connection end by a reset."""
        self._resets.add(connection)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for place in (self.socket, self._woken):
                selector.register(place, selectors.EVENT_READ)
            while not self.stopping.is_set():
                if any(key.fileobj is self.socket for key, _ in selector.select()):
                    self.handle_request()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self.context is not None:
            # The handshake is for the thread of the connection.
            connection = self.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: socket.socket, client_address: object) -> None:
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="exchange", daemon=True
        )
        self._threads[request] = thread
        thread.start()

    def _serve(self, connection: socket.socket, client_address: object) -> None:
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self.finish_request(connection, client_address)
        except (ConnectionError, ssl.SSLError):
            pass  # the other side is gone, or does not trust the certificate, as it may
        except Exception as error:  # noqa: BLE001 - a thread must not end in one; a test sees it
            self.responder.note(error)
        finally:
            if connection in self._resets:
                self._resets.discard(connection)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.close_request(connection)
            else:
                self.shutdown_request(connection)
            self._threads.pop(connection, None)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        if error is not None:
            self.responder.note(error)


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        method = self.command
        self._discard_body()
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            0, method, unquote(parts.path), query, headers, time.monotonic(), no_again
        )
        answer = self.server.responder.respond(request)
        self._send(answer, head_only=method == "HEAD")

    def __getattr__(self, name: str) -> Callable[[], None]:
        # Any other method is logged and answered too.
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def _discard_body(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, answer: Answer, *, head_only: bool) -> None:
        if self.server.stopping.wait(answer.wait_s) if answer.wait_s else False:
            self.close_connection = True
            return
        if answer.cut is not None:
            self.close_connection = True
            if answer.reset:
                self.server.reset(self.connection)
            if answer.cut == NOTHING:
                return
        if answer.framing == "close":
            self.close_connection = True
        body = b"" if head_only else answer.framed(memoryview(answer.body)[: answer.cut])
        self._send_body(answer, body)

    def _send_body(self, answer: Answer, body: bytes | memoryview) -> None:
        if not answer.piece:
            self.connection.sendall(b"".join([answer.head(), body]))
            return
        if answer.slow_head:
            body = b"".join([answer.head(), body])
        else:
            self.connection.sendall(answer.head())
        for start in range(0, len(body), answer.piece):
            if start and self.server.stopping.wait(answer.pause_s):
                self.close_connection = True
                return
            self.connection.sendall(body[start : start + answer.piece])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a test looks into the log of requests."""


def no_again(**changes: str) -> Answer:
    raise RuntimeError("the request was not taken up")
