"""HTTP connections with a limit on the total time of a request.

The timeout of a socket limits each silence only, so a server that sends a byte now and then would be
waited for without end. Here every read counts against the limits of its request.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpcore2

from rangebar_polars._utils import clock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = ["Limits", "Meter", "MeteredBackend", "TooSlowError", "metered"]


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

    def __init__(self, limits: Limits, clock: Callable[[], float] = clock.monotonic) -> None:
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


class MeteredStream(httpcore2.NetworkStream):
    """A connection whose reads and writes count against the request of their thread."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read available bytes, up to a maximum."""
        try:
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
        return MeteredStream(
            self._stream.start_tls(ssl_context, server_hostname, _timeout(timeout))
        )

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        """Return extra information of the connection by name."""
        return self._stream.get_extra_info(info)


class MeteredBackend(httpcore2.SyncBackend):
    """Opens connections whose reads and writes are counted."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        *arguments: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> httpcore2.NetworkStream:
        """Open a connection to a host."""
        stream = super().connect_tcp(host, port, _timeout(timeout), *arguments, **options)
        return MeteredStream(stream)
