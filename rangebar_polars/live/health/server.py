"""The HTTP interface of a sidecar: `/live`, `/ready`, `/health` and `/metrics`.

It runs in threads of its own, so it answers while the event loop is busy. Its clients live in the
time of the system, so the limits for them are plain seconds of sockets.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from socketserver import TCPServer
from threading import BoundedSemaphore, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from rangebar_polars import __version__
from rangebar_polars._utils import clock
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.exceptions import LiveWarning, SettingError, with_hint
from rangebar_polars.live.health.metrics import CONTENT_TYPE, LiveMetrics
from rangebar_polars.live.health.status import is_live, readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.live.health.board import HealthSource
    from rangebar_polars.live.health.status import LiveStatus

__all__ = ["PATHS", "HealthServer", "open_health_server"]

_LOG = logging.getLogger("rangebar_polars.live")

#: Connections that are served at the same time. Others wait in the queue of the system.
MOST_CONNECTIONS = 32
#: Slow connections are dropped if none has ended for so long while all are in use.
DROP_AFTER_S = 0.5
#: The longest wait for a part of a request, and for a client that does not read its answer.
PART_S, ANSWER_S = 2.0, 5.0
#: Most bytes of a request, most parts that it comes in, and most headers. The parser of Python has
#: a limit of its own for headers, but other libraries of the process may change it.
MOST_BYTES, MOST_PARTS, MOST_HEADERS = 8_192, 16, 100
#: What a client has sent beyond its request is read before the connection is closed.
MOST_REST_BYTES = 65_536
_END_OF_HEAD = (b"\r\n\r\n", b"\n\n")
_JSON = "application/json"


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    kind: str = _JSON


def open_health_server(
    host: str, port: int, source: HealthSource, *, is_required: bool
) -> HealthServer | None:
    """Open the HTTP interface; return None if it is off.

    Parameters
    ----------
    host, port
        Where it listens. Port 0 turns it off.
    source
        Status and numbers.
    is_required
        Whether the user has set the address. Otherwise an address that cannot be used turns the
        interface off, with a warning.

    Raises
    ------
    SettingError
        The address cannot be used, and the user has set it.
    MissingExtraError
        `prometheus-client` is not installed.
    """
    if port == 0:
        return None
    metrics = LiveMetrics(source)
    try:
        return HealthServer(host, port, source, metrics)
    except (OSError, OverflowError, UnicodeError) as error:
        text = with_hint(
            f"the health interface cannot listen at `{host}` port {port}: {_reason(error)}",
            "choose another port with RANGEBAR_HEALTH_PORT, or 0 for none",
        )
        if is_required:
            raise SettingError(text) from error
    warn_caller(f"no health interface: {text}", LiveWarning)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another program uses the port"
    return getattr(error, "strerror", None) or str(error)


class HealthServer:
    """The HTTP interface. It listens once the object is made.

    Parameters
    ----------
    host, port
        Where it listens.
    source
        Status and numbers.
    metrics
        The metrics of the same source.

    Raises
    ------
    OSError
        The address cannot be used.
    """

    def __init__(self, host: str, port: int, source: HealthSource, metrics: LiveMetrics) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self._server = _Server(family, address, _Pages(source, metrics).answer)
        self._thread = Thread(
            target=self._server.serve_forever, name="rangebar-health", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port, as in `127.0.0.1:8081` or `[::1]:8081`."""
        host, port = self._server.server_address[:2]
        name = host if isinstance(host, str) else host.decode()
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def close(self) -> None:
        """Stop to listen, and end all connections. A closed server is left alone."""
        if self._thread.is_alive():
            # It wakes the thread, which otherwise looks twice a second whether it shall end.
            _end(self._server.socket)
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Pages:
    """The answers to the four paths."""

    def __init__(self, source: HealthSource, metrics: LiveMetrics) -> None:
        self._source = source
        self._metrics = metrics
        self._pages: dict[str, Callable[[], _Answer]] = {
            "/live": self._live,
            "/ready": self._ready,
            "/health": self._health,
            "/metrics": lambda: _Answer(HTTPStatus.OK, metrics.text(), CONTENT_TYPE),
        }

    def answer(self, path: str) -> _Answer:
        page = self._pages.get(path)
        if page is not None:
            return page()
        return _Answer(HTTPStatus.NOT_FOUND, _json({"error": "not found", "paths": PATHS}))

    def _live(self) -> _Answer:
        blocked_s = self._source.heartbeat.blocked_s()
        if is_live(blocked_s):
            return _Answer(HTTPStatus.OK, _json({"status": "live"}))
        body = {"status": "loop_blocked", "blocked_s": round(blocked_s, 1)}
        return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, _json(body))

    def _ready(self) -> _Answer:
        status, reasons = self._readiness(self._source.status())
        word = "not_ready" if reasons else "ready"
        return _Answer(status, _json({"status": word, "reasons": reasons}))

    def _health(self) -> _Answer:
        newest = self._source.status()
        status, _ = self._readiness(newest)
        return _Answer(status, _json(newest.to_dict()))

    def _readiness(self, newest: LiveStatus) -> tuple[HTTPStatus, list[dict[str, str]]]:
        reasons = readiness(newest, clock.monotonic(), self._source.heartbeat.blocked_s())
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return status, [reason.to_dict() for reason in reasons]


PATHS = ("/live", "/ready", "/health", "/metrics")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


class _PageError(Exception):
    """Raised when a page cannot be made: an error of this program, not of the client."""


class _Server(ThreadingHTTPServer):
    """A server with a limited number of connections, of which it drops slow ones if it must."""

    request_queue_size = 256
    # Two sidecars with one port would share its requests.
    allow_reuse_port = False
    daemon_threads = True

    def __init__(self, family: int, address: Any, answer: Callable[[str], _Answer]) -> None:  # noqa: ANN401
        self.address_family = socket.AddressFamily(family)
        self.answer = answer
        self._free = BoundedSemaphore(MOST_CONNECTIONS)
        self._lock = Lock()
        #: Open connections and their threads, the oldest first.
        self._open: dict[socket.socket, Thread] = {}
        #: Those whose request has not arrived yet.
        self._unread: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # That of HTTPServer asks DNS for the name of the host.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        while not self._free.acquire(timeout=DROP_AFTER_S):
            self._drop_slow()
        thread = Thread(
            target=self._serve,
            args=(request, client_address),
            name="rangebar-health-answer",
            daemon=True,
        )
        with self._lock:
            self._open[request] = thread
            self._unread.add(request)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._ended(request)
            self.shutdown_request(request)

    def _serve(self, request: socket.socket, client_address: Any) -> None:  # noqa: ANN401
        try:
            self.process_request_thread(request, client_address)
        finally:
            self._ended(request)

    def arrived(self, request: socket.socket) -> None:
        """Note that a request has arrived."""
        with self._lock:
            self._unread.discard(request)

    def _ended(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._unread.discard(request)
        self._free.release()

    def _drop_slow(self) -> None:
        """Drop half of the connections, the oldest, whose request has not arrived; else the oldest."""
        with self._lock:
            slow = [one for one in self._open if one in self._unread][: MOST_CONNECTIONS // 2]
            for request in slow or list(self._open)[:1]:
                # Put last, so that others are dropped if this one takes its time to end.
                self._open[request] = self._open.pop(request)
                _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002, ANN401
        # A client that has gone is no error. Python would print a traceback to stderr.
        error = sys.exception()
        if not isinstance(error, OSError):
            _LOG.error("the health interface failed", exc_info=error)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            threads = list(self._open.values())
            for request in self._open:
                _end(request)
        for thread in threads:
            if thread is not current_thread():
                thread.join(ANSWER_S)


def _end(connection: socket.socket) -> None:
    """End a connection whose thread waits for it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer; then the connection ends."""

    server: _Server
    protocol_version = "HTTP/1.1"
    #: Whether the client may have sent more than was read.
    _has_rest = False

    def setup(self) -> None:
        self.connection: socket.socket = self.request
        self.wfile = self._written = BytesIO()

    def handle(self) -> None:
        head, status = self._read_head()
        if not head:
            return
        self.server.arrived(self.connection)
        self.rfile = BytesIO(head)
        self.close_connection = True
        if status is not None:
            self._has_rest = True
            self.requestline, self.request_version, self.command = "", "HTTP/1.1", ""
            self.send_error(status)
        else:
            # It calls `do_GET` and `do_HEAD`, and `send_error` for what is not valid.
            self.handle_one_request()
        self.connection.settimeout(ANSWER_S)
        self.connection.sendall(self._written.getvalue())

    def finish(self) -> None:
        if not self._has_rest:
            return
        # A connection with unread data would be reset, and the answer could be lost.
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(PART_S)
        left, parts = MOST_REST_BYTES, MOST_PARTS
        while left > 0 and parts > 0 and (part := self.connection.recv(left)):
            left, parts = left - len(part), parts - 1

    def _read_head(self) -> tuple[bytes, HTTPStatus | None]:
        """Read the head of a request, and return it with a status if it must be refused."""
        head = b""
        self.connection.settimeout(PART_S)
        for _ in range(MOST_PARTS):
            try:
                part = self.connection.recv(MOST_BYTES + 1 - len(head))
            except TimeoutError:
                return head, HTTPStatus.REQUEST_TIMEOUT
            head += part
            ends = [at for end in _END_OF_HEAD if (at := head.find(end)) >= 0]
            if ends and head.count(b"\n", 0, min(ends)) <= MOST_HEADERS:
                return head, None
            if ends or len(head) > MOST_BYTES:
                return head, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            if not part:  # the client has gone, or it will send nothing more
                return b"", None
        return head, HTTPStatus.REQUEST_TIMEOUT

    def do_GET(self) -> None:
        """Answer a request."""
        self._note_rest()
        self._reply(self._page())

    def do_HEAD(self) -> None:
        """Answer with the headers of the same request by GET."""
        self.do_GET()

    def _page(self) -> _Answer:
        try:
            path = urlsplit(self.path).path
        except ValueError:
            path = ""
        try:
            return self.server.answer(path)
        except Exception as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            self.connection.settimeout(ANSWER_S)
            self.connection.sendall(self._written.getvalue())
            raise _PageError(path) from error

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse a request. The texts of the library contain parts of the request."""
        self._note_rest()
        # Without a version that is known, the answer would have no headers.
        self.request_version = self.protocol_version
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            # That of the library for every other method.
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._reply(_Answer(status, _json({"error": status.phrase.lower()})))

    def _note_rest(self) -> None:
        headers = getattr(self, "headers", None)
        has_body = headers is None or "Content-Length" in headers or "Transfer-Encoding" in headers
        self._has_rest = self._has_rest or has_body

    def _reply(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        """Return the name of this program, without that of Python."""
        return f"rangebar-polars/{__version__}"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the time of the package's clock for the header `Date`."""
        return super().date_time_string(clock.unix_seconds() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Write no line for each request: a probe comes every few seconds."""
