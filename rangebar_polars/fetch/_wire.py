"""HTTP connections with a limit on the total time of a request.

The timeout of a socket limits each silence only, so a server that sends a byte now and then would be
waited for without end. Here every read counts against the limits of its request.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import httpcore2

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["Cancellation", "Limits", "Meter", "MeteredBackend", "TooSlowError", "metered"]


#: The stream of a plain connection, which the library does not export. With a version that has
#: none, everything but opening a connection can be cancelled.
_PLAIN_STREAM: Any = getattr(getattr(httpcore2, "_backends", None), "sync", None)
_PLAIN_STREAM = getattr(_PLAIN_STREAM, "SyncStream", None)


class Limits(NamedTuple):
    """How long a request may take."""

    #: Seconds of silence.
    silence_s: float
    #: Seconds from the first connection to the last byte.
    total_s: float
    #: Lowest rate of an answer, on average over `silence_s`; 0 for any.
    min_bytes_per_s: int


class TooSlowError(Exception):
    """Raised when an answer exceeds its limits of time."""


class Cancellation:
    """Ends the waits of another thread for a server, by ending their connections.

    Only the resolution of a name cannot be ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._handles: set[socket.socket] = set()

    @contextmanager
    def watching(self, connection: socket.socket | None) -> Iterator[None]:
        """Let `cancel` end what waits for a socket within the block."""
        if connection is None:
            yield
            return
        # Of the same connection, with a number that no other thread closes and the system uses again.
        handle = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            with self._lock:
                self._handles.add(handle)
                if self._is_cancelled:
                    _shut_down(handle)
            yield
        finally:
            with self._lock:
                self._handles.discard(handle)
            handle.close()

    def cancel(self) -> None:
        """End all waits, and those that begin later."""
        with self._lock:
            self._is_cancelled = True
            for handle in self._handles:
                _shut_down(handle)


def _shut_down(handle: socket.socket) -> None:
    with suppress(OSError):  # not connected, or ended by the other side
        handle.shutdown(socket.SHUT_RDWR)


class Meter:
    """Time and bytes of one request.

    Examples
    --------
    >>> from rangebar_polars.fetch._wire import Limits, Meter
    >>> now = [0.0]
    >>> meter = Meter(Limits(silence_s=30, total_s=3600, min_bytes_per_s=1024), lambda: now[0])
    >>> for second in range(30):
    ...     now[0] = float(second)
    ...     meter.count(1)
    >>> now[0] = 30.0
    >>> meter.count(1)
    Traceback (most recent call last):
        ...
    rangebar_polars.fetch._wire.TooSlowError: 31 bytes in 30 s, slower than 1024 bytes per second \
(RANGEBAR_HTTP_MIN_BYTES_PER_S)
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = clock.monotonic,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.cancellation = cancellation
        self._limits = limits
        self._clock = clock
        self._end = clock() + limits.total_s
        # The first byte starts the first window, so that waiting for it does not count.
        self._window_start: float | None = None
        self._window_bytes = 0

    def timeout(self, timeout: float | None) -> float:
        """Return a timeout, limited to the time that is left for the request.

        Raises
        ------
        TooSlowError
            No time is left.
        """
        left = self._end - self._clock()
        if left <= 0:
            raise TooSlowError(
                f"no whole answer within {self._limits.total_s:g} s (RANGEBAR_HTTP_TOTAL_TIMEOUT_S)"
            )
        return left if timeout is None else min(timeout, left)

    def count(self, size: int) -> None:
        """Count received bytes.

        Raises
        ------
        TooSlowError
            The answer was too slow over a window.
        """
        now = self._clock()
        if self._window_start is None:
            self._window_start = now
        self._window_bytes += size
        passed = now - self._window_start
        if passed < self._limits.silence_s:
            return
        if self._window_bytes < passed * self._limits.min_bytes_per_s:
            raise TooSlowError(
                f"{self._window_bytes} bytes in {passed:.0f} s, slower than "
                f"{self._limits.min_bytes_per_s} bytes per second "
                "(RANGEBAR_HTTP_MIN_BYTES_PER_S)"
            )
        self._window_start, self._window_bytes = now, 0


# A connection serves one request at a time, in the thread of the request.
_current = threading.local()


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Count the reads of this thread against a request."""
    before = getattr(_current, "meter", None)
    _current.meter = meter
    try:
        yield
    finally:
        _current.meter = before


def _timeout(timeout: float | None) -> float | None:
    meter: Meter | None = getattr(_current, "meter", None)
    left = timeout if meter is None else meter.timeout(timeout)
    return None if left is None else clock.real_seconds(left)


def _watching(connection: socket.socket | None) -> AbstractContextManager[None]:
    """Let the request of this thread be cancelled within the block."""
    meter: Meter | None = getattr(_current, "meter", None)
    if meter is None or meter.cancellation is None:
        return nullcontext()
    return meter.cancellation.watching(connection)


class MeteredStream(httpcore2.NetworkStream):
    """A connection whose reads and writes count against the request of their thread."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket | None = stream.get_extra_info("socket")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read available bytes, up to a maximum."""
        try:
            with _watching(self._socket):
                content = self._stream.read(max_bytes, _timeout(timeout))
        except httpcore2.ReadTimeout:
            _timeout(timeout)  # raises TooSlowError if the whole request took too long
            raise
        meter: Meter | None = getattr(_current, "meter", None)
        if meter is not None and content:
            meter.count(len(content))
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all bytes."""
        with _watching(self._socket):
            self._stream.write(buffer, _timeout(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """Encrypt the connection."""
        with _watching(self._socket):
            stream = self._stream.start_tls(ssl_context, server_hostname, _timeout(timeout))
        return MeteredStream(stream)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        """Return extra information of the connection by name."""
        return self._stream.get_extra_info(info)


class MeteredBackend(httpcore2.SyncBackend):
    """Opens connections whose reads and writes are counted, and can be cancelled."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        *arguments: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> httpcore2.NetworkStream:
        """Open a connection to a host."""
        meter: Meter | None = getattr(_current, "meter", None)
        if _PLAIN_STREAM is None or meter is None or meter.cancellation is None:
            stream = super().connect_tcp(host, port, _timeout(timeout), *arguments, **options)
            return MeteredStream(stream)
        return MeteredStream(_connect(host, port, timeout))


def _connect(host: str, port: int, timeout: float | None) -> httpcore2.NetworkStream:
    """Open a connection that can be cancelled while it is opened."""
    failure: OSError | None = None
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, 0, socket.SOCK_STREAM
        ):
            connection = socket.socket(family, kind, protocol)
            try:
                _open(connection, address, _timeout(timeout))
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                stream: httpcore2.NetworkStream = _PLAIN_STREAM(connection)
                return stream
        raise failure or OSError(f"{host} has no address")
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout(error) from error
    except OSError as error:
        raise httpcore2.ConnectError(error) from error


def _open(connection: socket.socket, address: Any, timeout: float | None) -> None:  # noqa: ANN401
    """Connect a socket."""
    connection.settimeout(0.0)
    code = connection.connect_ex(address)
    if code == errno.EINPROGRESS:
        # Only what has begun can be cancelled.
        with _watching(connection), selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_WRITE)
            if not selector.select(timeout):
                raise TimeoutError
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
