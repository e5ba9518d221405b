"""One connection to a stream: open it, read it, close it. No error of a library leaves it.

`rangebar_polars.live.network.connector` keeps such connections open.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address, scrubbed
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.fetch._http import date_of
from rangebar_polars.fetch.failures.causes import cause_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rangebar_polars.fetch.binance.stream import StreamDecoder, StreamEvent

    #: Takes each event of a connection, in order. It must not block.
    Sink = Callable[["StreamConnection", StreamEvent], None]

__all__ = ["Lost", "LostReason", "NotOpenedError", "StreamConnection"]

OPEN_TIMEOUT_S = 10.0
#: A peer that answers nothing is noticed within the sum of both.
PING_INTERVAL_S, PING_TIMEOUT_S = 20.0, 20.0
CLOSE_TIMEOUT_S = 2.0
LARGEST_MESSAGE, MESSAGES_IN_QUEUE = 2**20, 4096
#: A server cannot ask to wait for longer; its next answer may ask again.
LONGEST_RETRY_AFTER_S = 24 * 3600.0
_PONG = b"\x8a"  # first byte of the frame
_NORMAL = 1000
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


class LostReason(StrEnum):
    """Why there is no connection, in one word."""

    #: The server sent a close frame.
    CLOSED = "closed"
    #: The connection ended without a close frame.
    DROPPED = "dropped"
    #: No answer to a ping.
    UNANSWERED = "unanswered"
    #: The bytes are not those of the protocol.
    PROTOCOL = "protocol"
    #: The handshake was answered with another status.
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    PROXY = "proxy"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    #: We ended it.
    STOPPED = "stopped"
    SILENT = "silent"
    TIME_UNIT = "time_unit"


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a connection ended or could not be opened. The text names the address, without secrets."""

    reason: LostReason
    text: str
    hint: str = ""
    #: How long the server asked to wait.
    retry_after_s: float = 0.0
    #: The status of a refused handshake, or the code of a close frame.
    code: int | None = None


class NotOpenedError(Exception):
    """Raised when a connection could not be opened. `lost` says why."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.text)
        self.lost = lost


class StreamConnection:
    """A connection that decodes messages and passes each to a sink, in the thread of the event loop.

    Parameters
    ----------
    url
        The address with the streams in its query.
    decoder
        What decodes its messages.
    sink
        Called with the connection and each event.

    Raises
    ------
    MissingExtraError
        `websockets` is not installed.
    """

    def __init__(self, url: Address, decoder: StreamDecoder, sink: Sink) -> None:
        import_extra("websockets", "live")
        self.url = url
        self.decoder = decoder
        #: Monotonic times in seconds; None before.
        self.opened_at: float | None = None
        self.last_message_at: float | None = None
        #: Messages so far.
        self.messages = 0
        self._sink = sink
        self._socket: Any = None
        self._reader: asyncio.Task[Lost] | None = None
        self._ended: Lost | None = None
        self._is_closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<connection to {self.shown_url}>"

    @property
    def shown_url(self) -> str:
        """The address without its query."""
        return _without_query(self.url)

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._socket is not None and self._ended is None

    @property
    def has_waiting(self) -> bool:
        """Whether messages have arrived that are not read yet."""
        waiting = getattr(getattr(self._socket, "recv_messages", None), "frames", ())
        return len(waiting) > 0

    async def open(self) -> None:
        """Connect.

        Raises
        ------
        NotOpenedError
            There is no connection. Its `lost` says why.
        """
        from websockets.asyncio.client import connect

        real = clock.real_seconds
        options: dict[str, Any] = {}
        if urlsplit(self.url.full).scheme == "wss":
            # Loading certificates takes some 20 ms.
            options["ssl"] = await asyncio.to_thread(ssl.create_default_context)
        try:
            self._socket = await connect(
                self.url.full,
                compression=None,
                open_timeout=real(OPEN_TIMEOUT_S),
                ping_interval=real(PING_INTERVAL_S),
                ping_timeout=real(PING_TIMEOUT_S),
                close_timeout=real(CLOSE_TIMEOUT_S),
                max_size=LARGEST_MESSAGE,
                max_queue=MESSAGES_IN_QUEUE,
                proxy=True,
                create_connection=_connection_class(),
                **options,
            )
        # The list of errors is open: sockets, TLS, DNS, HTTP, WebSocket and proxies each add their own.
        except Exception as error:  # noqa: BLE001 - raised again without its cause, which may hold secrets
            self._ended = _not_opened(error, self.url)
            raise NotOpenedError(self._ended) from None
        self.opened_at = clock.monotonic()

    async def read(self) -> Lost:
        """Read until the connection ends, and return why. An error of the sink is raised."""
        self._reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait([self._reader])
        except asyncio.CancelledError:
            self._reader.cancel()
            raise
        if self._reader.cancelled():
            # By `close`, which passes on what has arrived.
            await self._is_closed.wait()
            return self._stopped()
        return self._reader.result()

    async def close(self) -> None:
        """Close with code 1000, within two seconds, and pass what has arrived to the sink."""
        was_open, self._ended = self.is_open, self._ended or self._stopped()
        try:
            if self._reader is not None:
                self._reader.cancel()
                await asyncio.wait([self._reader])
            if was_open:
                await self._close()
        finally:
            self.abort()
            self._is_closed.set()

    async def _close(self) -> None:
        from websockets.exceptions import WebSocketException

        with suppress(TimeoutError):
            # Behind a full queue, the answer of the server is never read.
            async with asyncio.timeout(clock.real_seconds(CLOSE_TIMEOUT_S)):
                await self._socket.close(_NORMAL)
        self.abort()
        await self._socket.wait_closed()
        with suppress(WebSocketException):
            while True:
                # After the end, this returns messages of the queue without waiting.
                self._pass_on(await self._socket.recv(decode=False))

    def abort(self) -> None:
        """End the connection at once, without a close frame."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _stopped(self) -> Lost:
        return Lost(LostReason.STOPPED, f"`{self.shown_url}` was closed by this program")

    async def _read(self) -> Lost:
        from websockets.exceptions import WebSocketException

        receive, pass_on = self._socket.recv, self._pass_on
        while True:
            try:
                message = await receive(decode=False)
            except WebSocketException as error:
                self._ended = _ended(error, self.shown_url, self._socket)
                self.abort()
                return self._ended
            pass_on(message)

    def _pass_on(self, message: bytes) -> None:
        self.messages += 1
        self.last_message_at = clock.monotonic()
        self._sink(self, self.decoder.decode(message))


@cache
def _connection_class() -> type[Any]:
    """Return a connection that ends in time and answers a burst of pings with one pong."""
    from websockets.asyncio.client import ClientConnection

    class Connection(ClientConnection):
        """Sends the pong of the most recent ping alone, as RFC 6455, 5.5.3 allows.

        The exchange disconnects clients that send more than five frames in a second.
        """

        is_ending = False

        def send_data(self) -> None:
            writes = self.protocol.writes
            pongs = [number for number, data in enumerate(writes) if data[:1] == _PONG]
            for number in reversed(pongs[:-1]):
                del writes[number]
            super().send_data()
            if self.protocol.close_sent is not None and not self.is_ending:
                self.is_ending = True
                # The library waits for the end of the peer, even if it has failed.
                is_failure = self.protocol.close_rcvd is None and (
                    self.protocol.close_sent.code != _NORMAL
                )
                wait_s = 0.0 if is_failure else clock.real_seconds(CLOSE_TIMEOUT_S)
                self.loop.call_later(wait_s, self.transport.abort)

    return Connection


def _without_query(url: Address) -> str:
    # An `@` of the query is no user before a host.
    return str(Address(url.full.partition("?")[0]))


def _ended(error: Exception, url: str, socket: Any) -> Lost:  # noqa: ANN401
    """Describe why an open connection ended."""
    received, sent = socket.protocol.close_rcvd, socket.protocol.close_sent
    is_ours = received is None or socket.protocol.close_rcvd_then_sent is False
    if sent is not None and is_ours:
        if "ping timeout" in sent.reason:
            hint = "the network is down, or the server hangs"
            return Lost(LostReason.UNANSWERED, f"`{url}` does not answer pings", hint)
        if sent.code != _NORMAL:
            text = f"`{url}` sends what is not valid ({sent.code} {sent.reason})".replace(" )", ")")
            return Lost(LostReason.PROTOCOL, text, "try again later", code=sent.code)
    if received is not None:
        reason = scrubbed(received.reason)[:200]
        text = f"`{url}` closed the connection ({received.code} {reason})".replace(" )", ")")
        return Lost(LostReason.CLOSED, text, "try again later", code=received.code)
    cause = error.__cause__
    why = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    return Lost(LostReason.DROPPED, f"`{url}` dropped the connection{why}", "try again later")


def _not_opened(error: Exception, url: Address) -> Lost:
    """Describe why a connection could not be opened."""
    from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidStatus, ProxyError

    shown = _without_query(url)
    address = Address(url.full.partition("?")[0])
    if isinstance(error, InvalidStatus):
        return _refused(error.response, shown)
    if isinstance(error, (InvalidProxy, ImportError)):
        # The message of the library contains the address of the proxy.
        text = f"the proxy for `{shown}` cannot be used ({scrubbed(str(error))[:200]})"
        hint = "pip install python-socks" if isinstance(error, ImportError) else "http://host:port"
        return Lost(LostReason.PROXY, text, hint)
    cause = cause_of(error, address)
    reason = LostReason.UNREACHABLE
    text, hint = cause.text, cause.hint
    if isinstance(error, ProxyError):
        reason = LostReason.PROXY
    elif isinstance(error, InvalidHandshake):
        reason, text = LostReason.PROTOCOL, f"the answer is not that of a stream: {text}"
        hint = "is it the address of a stream?"
    elif isinstance(error, TimeoutError) and error.errno is None:
        reason, hint = LostReason.TIMEOUT, "try again later"
        text = f"timeout: no answer within {OPEN_TIMEOUT_S:.0f} s"
    elif text.startswith("DNS"):
        reason = LostReason.DNS
    elif text.startswith("TLS"):
        reason = LostReason.TLS
    return Lost(reason, f"`{shown}` cannot be reached ({text})", hint)


def _refused(response: Any, url: str) -> Lost:  # noqa: ANN401
    """Describe a handshake that was answered with another status than 101."""
    status: int = response.status_code
    hint = "try again later"
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS):
        hint = (
            "the exchange does not serve this address or location; another base address may "
            "(RANGEBAR_BINANCE_STREAM_URL)"
        )
    retry_after_s = _seconds(response.headers.get("Retry-After", ""), response.headers)
    text = f"`{url}` refuses the connection (status {status})"
    return Lost(LostReason.REFUSED, text, hint, retry_after_s, status)


def _seconds(retry_after: str, headers: Any) -> float:  # noqa: ANN401
    """Return how long to wait, from seconds or a date in `Retry-After`; 0 without it."""
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_RETRY_AFTER_S)
    until = date_of(text) if text else None
    if until is None:
        return 0.0
    # By the clock of the server, which ours may differ from.
    now = date_of(headers.get("Date", "")) or clock.utc_now()
    return min(max(0.0, (until - now).total_seconds()), LONGEST_RETRY_AFTER_S)
