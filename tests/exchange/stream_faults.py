"""What can go wrong with a stream. Each function makes a fault for `streams.fail` or `strike`.

A fault of a handshake applies to the next connections that match; any other to the next messages.
`streams.strike` applies it at once, after what is under way.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from exchange.stream_messages import Act, Data, Later, Message, Raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from exchange.stream_connection import Connection
    from exchange.stream_messages import Step

__all__ = [
    "StreamFault",
    "accepted_wrongly",
    "bare",
    "before",
    "behind",
    "changed",
    "close",
    "conflicting",
    "cut",
    "doubled",
    "end",
    "garbage",
    "half_open",
    "held_back",
    "html",
    "lost",
    "malformed",
    "milliseconds",
    "moved",
    "muted",
    "no_answer",
    "no_pongs",
    "pings",
    "refused",
    "reordered",
    "repeated",
    "reset",
    "sentinel",
    "server_shutdown",
    "silent",
    "stalled",
    "then",
    "truncated",
    "without",
]

ABNORMAL = 1006
#: Codes that stand in no frame: the connection just ends.
NO_FRAME = {1005, ABNORMAL, 1015}


@dataclass(frozen=True, eq=False)
class StreamFault:
    """A fault: of a handshake, a function of its response; of a message, of what is sent for it."""

    on: Literal["CONNECT", "MESSAGE"]
    act: Callable[[Connection, Any], Any]


def on_message(act: Callable[[Connection, list[Step]], list[Step]]) -> StreamFault:
    return StreamFault("MESSAGE", act)


def on_connect(act: Callable[[Connection, Any], Any]) -> StreamFault:
    return StreamFault("CONNECT", act)


def doing(do: Callable[[Connection], None]) -> StreamFault:
    """The message, and something that the connection does after it."""
    return on_message(lambda _connection, steps: [*steps, Act(do)])


# The handshake


def refused(
    status: int = 503, body: str = "", retry_after: float | datetime | None = None
) -> StreamFault:
    """Another status, with `Retry-After` in seconds or as an HTTP date, or without."""
    headers: dict[str, str] = {}
    if retry_after is not None:
        is_seconds = isinstance(retry_after, (int, float))
        text = str(retry_after) if is_seconds else format_datetime(retry_after, usegmt=True)
        headers["Retry_After"] = text
    return on_connect(lambda connection, _: connection.answer(status, body, **headers))


def html() -> StreamFault:
    """A page for people, with status 200."""
    return refused(200, "<!DOCTYPE html><html><body>Welcome</body></html>\n")


def accepted_wrongly() -> StreamFault:
    """Status 101 with the key of somebody else."""

    def act(_connection: Connection, response: Any) -> Any:
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers.pop("Sec-WebSocket-Accept")
            response.headers["Sec-WebSocket-Accept"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
        return response

    return on_connect(act)


def no_answer(*, drop: bool = False) -> StreamFault:
    """No answer to the handshake, and silence; or a reset."""

    def act(connection: Connection, _response: Any) -> None:
        do = type(connection).do_reset if drop else type(connection).do_freeze
        connection.put([Act(do)])

    return on_connect(act)


def setting(**attributes: object) -> StreamFault:
    """Attributes of the connection."""

    def act(connection: Connection, response: Any) -> Any:
        for name, value in attributes.items():
            setattr(connection, name, value)
        return response

    return on_connect(act)


def silent() -> StreamFault:
    """No data, although pings are answered."""
    return setting(is_silent=True)


def no_pongs() -> StreamFault:
    """No answer to any ping of the client."""
    return setting(is_pongless=True)


def milliseconds() -> StreamFault:
    """Times in milliseconds, whatever the client asks for."""
    return setting(is_micros=False)


def bare() -> StreamFault:
    """Objects without the name of their stream around them."""
    return setting(is_bare=True)


def behind(seconds: float) -> StreamFault:
    """Each message so many seconds of the exchange's time late."""
    return setting(delay_us=int(seconds * 1e6))


# The end of a connection


def reset() -> StreamFault:
    """The message, then a TCP reset."""
    return doing(lambda connection: connection.do_reset())


def end() -> StreamFault:
    """The message, then the end without a close frame."""
    return doing(lambda connection: connection.do_end())


def close(code: int = 1000, reason: str = "") -> StreamFault:
    """The message, then a close frame; 1006 means the end without one."""
    if code in NO_FRAME:
        return end()
    return doing(lambda connection: connection.do_close(code, reason))


def half_open() -> StreamFault:
    """The message, then nothing is read or written any more, and no end comes."""
    return doing(lambda connection: connection.do_freeze())


def cut(
    at: Literal["header", "frame", "utf8"] | int = "frame", *, drop: bool = True
) -> StreamFault:
    """A part of the message, then a reset, or else the end without a close frame.

    The part ends inside the header of the frame, inside the frame, inside a character of several
    bytes, or after a number of bytes.
    """

    def act(connection: Connection, steps: list[Step]) -> list[Step]:
        wire = b"".join(
            connection.wire(step) for step in steps if not isinstance(step, Act | Later)
        )
        if at == "utf8":
            payload = b'{"e":"aggTrade","s":"' + "€".encode()
            wire = connection.wire(Data(payload + b'"}'))
            part = wire[: wire.index(b"\xe2") + 2]
        else:
            part = wire[: {"header": 1, "frame": len(wire) // 2}.get(at, at)]
        do = type(connection).do_reset if drop else type(connection).do_end
        return [Raw(part), Act(do)]

    return on_message(act)


# What comes, and what does not


def lost() -> StreamFault:
    """No message; its id exists, and REST has it."""
    return on_message(lambda _connection, _steps: [])


def muted(*symbols: str) -> StreamFault:
    """From this message on none of some symbols, or of all; pings are answered."""

    def act(connection: Connection, _steps: list[Step]) -> list[Step]:
        if symbols:
            connection.muted.update(symbols)
        else:
            connection.is_silent = True
        return []

    return on_message(act)


def stalled(seconds: float) -> StreamFault:
    """The message so many seconds of the exchange's time later; those after it pass it by."""
    return on_message(lambda _connection, steps: [Later(seconds, tuple(steps))])


def held_back(seconds: float) -> StreamFault:
    """From the message on, each so many seconds of the exchange's time late."""

    def act(connection: Connection, steps: list[Step]) -> list[Step]:
        connection.delay_us = int(seconds * 1e6)
        return [Later(seconds, tuple(steps))]

    return on_message(act)


def doubled() -> StreamFault:
    """The message twice."""
    return on_message(lambda _connection, steps: steps + steps)


def repeated(count: int = 1_000) -> StreamFault:
    """The last messages again, before this one."""
    return on_message(lambda connection, steps: [*list(connection.sent)[-count:], *steps])


def reordered(within: int = 10, seed: int = 0) -> StreamFault:
    """A block of messages in random order; use it with `times=within`, or a multiple of it."""
    held: dict[int, list[Step]] = {}

    def act(connection: Connection, steps: list[Step]) -> list[Step]:
        block = held.setdefault(connection.number, [])
        block += steps
        if len(block) < within:
            return []
        random.Random(seed).shuffle(block)
        return held.pop(connection.number)

    return on_message(act)


# What a message says


def mapped(change: Callable[[Message], list[Step]]) -> StreamFault:
    def act(_connection: Connection, steps: list[Step]) -> list[Step]:
        return [
            new for step in steps for new in (change(step) if isinstance(step, Message) else [step])
        ]

    return on_message(act)


def changed(**members: object) -> StreamFault:
    """Other members: `changed(p="1.0")`."""
    return mapped(lambda message: [message.changed(**members)])


def without(member: str) -> StreamFault:
    """A member left out."""
    return mapped(lambda message: [message.changed(**{member: ...})])


def conflicting(**members: object) -> StreamFault:
    """The message, and once more with other members: by default another price."""
    return mapped(lambda message: [message, message.changed(**(members or {"p": "1.00000000"}))])


def moved(milliseconds: int) -> StreamFault:
    """Another time of the trade."""
    return mapped(lambda message: [message.moved(milliseconds)])


def sentinel() -> StreamFault:
    """The id stands for no trade: price 0, and no ids of single trades."""
    return changed(p="0.00000000", q="0.00000000", f=-1, l=-1)


# What is no message of a trade


def payload_of(payload: bytes | str | object) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()


def then(payload: bytes | str | object, *, binary: bool = False) -> StreamFault:
    """Something else behind the message: bytes, a text, or an object as JSON."""
    return on_message(lambda _, steps: [*steps, Data(payload_of(payload), binary)])


def before(payload: bytes | str | object, *, binary: bool = False) -> StreamFault:
    """Something else before the message."""
    return on_message(lambda _, steps: [Data(payload_of(payload), binary), *steps])


GARBAGE: dict[str, tuple[bytes, bool]] = {
    "malformed": (b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade",,}}', False),
    "empty": (b"", False),
    "binary": (bytes(range(256)), True),
    "array": (b'[{"e":"aggTrade"}]', False),
    "text": (b"hello", False),
    "null": (b"null", False),
    "huge": (b'{"stream":"' + b"x" * (2 << 20) + b'"}', False),
    "nested": (b'{"data":' * 100_000, False),
    "utf8": (b'{"stream":"btcusdt@aggTrade","data":{"s":"\xff\xfe"}}', False),
    "acknowledged": (b'{"result":null,"id":1}', False),
    "error": (b'{"error":{"code":3,"msg":"Invalid JSON: expected value"},"id":1}', False),
    "unknown_event": (b'{"stream":"x@kline_1m","data":{"e":"kline","E":1,"s":"X"}}', False),
}


def garbage(kind: str) -> StreamFault:
    """Before the message, one of `GARBAGE`."""
    payload, binary = GARBAGE[kind]
    return before(payload, binary=binary)


def malformed() -> StreamFault:
    """The message without its last brackets."""
    return _reshaped(lambda payload: payload.rstrip(b"}"))


def truncated(keep: float = 0.5) -> StreamFault:
    """A whole frame with a part of the message."""
    return _reshaped(lambda payload: payload[: int(keep * len(payload))])


def _reshaped(change: Callable[[bytes], bytes]) -> StreamFault:
    def act(connection: Connection, steps: list[Step]) -> list[Step]:
        options = {"micros": connection.is_micros, "bare": connection.is_bare}
        return [
            Data(change(step.payload(**options))) if isinstance(step, Message) else step
            for step in steps
        ]

    return on_message(act)


def pings(count: int = 1, payload: bytes = b"") -> StreamFault:
    """Pings at once behind the message, each with the payload and its own last two bytes."""

    def do(connection: Connection) -> None:
        for number in range(count):
            connection.do_ping(
                payload[: 125 - 2] + number.to_bytes(2, "big") if count > 1 else payload
            )

    return doing(do)


def server_shutdown(
    *, close_after_s: float | None = None, as_stream: bool = False, code: int = 1001
) -> StreamFault:
    """The announcement of a shutdown, bare or as a stream.

    The close follows so many seconds of the exchange's time later; None: never.
    """

    def act(connection: Connection, steps: list[Step]) -> list[Step]:
        now_us = connection.streams.clock.now_us
        data = {"e": "serverShutdown", "E": now_us if connection.is_micros else now_us // 1_000}
        shown = {"stream": "!serverShutdown", "data": data} if as_stream else data
        told: list[Step] = [*steps, Data(payload_of(shown))]
        if close_after_s is not None:
            end = Act(lambda connection: connection.do_close(code, "server shutdown"))
            told.append(Later(close_after_s, (end,)))
        return told

    return on_message(act)
