"""Streams of aggregate trades: their addresses, and what a message says.

Nothing here connects. `rangebar_polars.live.network.connection` reads the messages.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rangebar_polars._text import shown
from rangebar_polars._utils.address import Address
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "MOST_SYMBOLS",
    "STREAMS",
    "Other",
    "Rejected",
    "Rejection",
    "Sentinel",
    "ServerShutdown",
    "StreamDecoder",
    "StreamEvent",
    "StreamTrade",
    "groups_of",
    "stream_bases",
    "stream_url",
]

#: Symbols of one connection.
MOST_SYMBOLS = 200
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800  # the years 2000 to 2100
_NO_TRADE = -1
_INT64 = 1 << 63
# Both amounts at once: this runs for every trade.
_AMOUNTS = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,8})? [0-9]{1,20}(?:\.[0-9]{1,8})?", re.ASCII)
_SHUTDOWN = "serverShutdown"
_EVENT = "aggTrade"
#: Names of other event types to count one by one.
_MOST_KINDS = 50


class StreamHost(NamedTuple):
    """The addresses of a market's streams, the setting that replaces them, and the unit of time."""

    bases: tuple[str, ...]
    setting: str
    unit: str
    query: str


STREAMS = {
    "spot": StreamHost(
        (
            "wss://data-stream.binance.vision",
            "wss://stream.binance.com:9443",
            "wss://stream.binance.com:443",
        ),
        "binance_stream_url",
        "us",
        "&timeUnit=MICROSECOND",
    ),
    # Without `/market`, a connection is accepted and silent.
    "um": StreamHost(("wss://fstream.binance.com/market",), "binance_um_stream_url", "ms", ""),
    # Sources disagree about the path, so both are tried.
    "cm": StreamHost(
        ("wss://dstream.binance.com", "wss://dstream.binance.com/market"),
        "binance_cm_stream_url",
        "ms",
        "",
    ),
}


def stream_bases(market: str, **arguments: object) -> tuple[Address, ...]:
    """Return the addresses before `/stream` of a market, in the order in which they are tried.

    Parameters
    ----------
    market
        "spot", "um" or "cm".
    **arguments
        Settings that win over the environment and the file.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.stream import stream_bases
    >>> stream_bases("um", binance_um_stream_url="ws://127.0.0.1:9000/market")
    ('ws://127.0.0.1:9000/market',)
    """
    host = STREAMS[market]
    chosen: tuple[Address, ...] | None = getattr(settings(**arguments), host.setting)
    return chosen or tuple(map(Address, host.bases))


def stream_url(base: str, market: str, symbols: Iterable[str]) -> Address:
    """Return the address that streams the trades of symbols.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.stream import stream_url
    >>> stream_url("wss://fstream.binance.com/market", "um", ["BTCUSDT", "ETHUSDT"]).full
    'wss://fstream.binance.com/market/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade'
    """
    names = "/".join(f"{symbol.lower()}@{_EVENT}" for symbol in symbols)
    below = Address(base).joined("stream")
    return below.with_query(f"streams={names}{STREAMS[market].query}")


def groups_of(symbols: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Yield the symbols of each connection, at most 200.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.stream import groups_of
    >>> [len(group) for group in groups_of(f"S{number}" for number in range(450))]
    [200, 200, 50]
    """
    names = tuple(symbols)
    for start in range(0, len(names), MOST_SYMBOLS):
        yield names[start : start + MOST_SYMBOLS]


class StreamTrade(NamedTuple):
    """A valid trade. The first seven values are in the order of `TRADES_SCHEMA`."""

    #: Microseconds since 1970, as are all times.
    time_us: int
    price: float
    quantity: float
    id: int
    first_id: int
    last_id: int
    is_buyer_maker: bool
    symbol: str
    #: When the exchange sent it; None if the message does not say.
    event_us: int | None


class Sentinel(NamedTuple):
    """An id for which the exchange says that it has no trade: price 0, trade ids −1."""

    symbol: str
    id: int


class Rejection(StrEnum):
    """Why a message is not a trade that can be used."""

    #: Not JSON, a member is missing, or one has another type. Its id appears as a gap.
    UNREADABLE = "unreadable"
    #: A value is not valid: a time, an amount, an id.
    INVALID = "invalid"
    #: The time is in milliseconds where microseconds were asked for.
    TIME_UNIT = "time_unit"
    #: A trade of a symbol that was not asked for.
    UNKNOWN_SYMBOL = "unknown_symbol"


class Rejected(NamedTuple):
    """A message that is not used."""

    why: Rejection
    text: str
    symbol: str = ""
    #: The id of its trade; None if it cannot be read.
    id: int | None = None


class ServerShutdown(NamedTuple):
    """The announcement that the server will close the connection."""


class Other(NamedTuple):
    """A message of another type, such as an acknowledgement."""

    kind: str


StreamEvent: TypeAlias = StreamTrade | Sentinel | Rejected | ServerShutdown | Other


class StreamDecoder:
    """Decode the messages of one connection, and count those that are not trades.

    Parameters
    ----------
    market
        "spot", "um" or "cm".
    symbols
        Symbols of the connection.

    Raises
    ------
    MissingExtraError
        `msgspec` is not installed.

    Examples
    --------
    >>> from rangebar_polars.fetch.binance.stream import StreamDecoder
    >>> decoder = StreamDecoder("um", ["BTCUSDT"])
    >>> trade = decoder.decode(
    ...     b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1745000000100,"s":"BTCUSDT",'
    ...     b'"a":7,"p":"0.10","q":"2.5","f":9,"l":9,"T":1745000000000,"m":true,"nq":"2"}}'
    ... )
    >>> trade[:7]
    (1745000000000000, 0.1, 2.5, 7, 9, 9, True)
    >>> decoder.decode(b'{"result":null,"id":1}'), dict(decoder.others)
    (Other(kind='without a type'), {'without a type': 1})
    """

    def __init__(self, market: str, symbols: Iterable[str]) -> None:
        self._forms = _forms()
        self._unit = STREAMS[market].unit
        self._symbols = frozenset(symbols)
        self._is_bare = False
        #: Messages of other types, by type.
        self.others: Counter[str] = Counter()
        #: Rejected messages, by reason.
        self.rejected: Counter[Rejection] = Counter()

    def decode(self, message: bytes) -> StreamEvent:
        """Decode one message."""
        event = self._event(message)
        if isinstance(event, Rejected):
            self.rejected[event.why] += 1
        elif isinstance(event, Other):
            known = event.kind in self.others or len(self.others) < _MOST_KINDS
            self.others[event.kind if known else "more"] += 1
        return event

    def _event(self, message: bytes) -> StreamEvent:
        forms = self._forms
        try:
            data = (
                forms.bare.decode(message) if self._is_bare else forms.wrapped.decode(message).data
            )
        except forms.errors:
            found = self._other_form(message)
            if isinstance(found, Rejected | Other | ServerShutdown):
                return found
            data = found
        return self._trade(data) if data.e == _EVENT else _of_type(data.e)

    def _other_form(self, message: bytes) -> Any:  # noqa: ANN401 - a struct of an optional library
        """Decode a message that has not the form of the one before."""
        forms = self._forms
        try:
            kind = forms.kinds.decode(message)
        except forms.errors as error:
            return Rejected(Rejection.UNREADABLE, _reason(error))
        if kind.stream == f"!{_SHUTDOWN}":
            return ServerShutdown()
        is_wrapped = kind.data is not None
        event_type = kind.data.e if is_wrapped else kind.e
        if event_type != _EVENT and not (event_type is None and _is_trade(kind)):
            return _of_type(event_type)
        try:
            data = forms.wrapped.decode(message).data if is_wrapped else forms.bare.decode(message)
        except forms.errors as error:
            found = kind.data if is_wrapped else kind
            symbol = found.s if isinstance(found.s, str) else ""
            number = found.a if isinstance(found.a, int) and not isinstance(found.a, bool) else None
            return Rejected(Rejection.UNREADABLE, _reason(error), symbol, number)
        self._is_bare = not is_wrapped
        return data

    def _trade(self, data: Any) -> StreamEvent:  # noqa: ANN401 - a struct of an optional library
        """Check the values of a trade and convert them."""
        if data.s not in self._symbols:
            return Rejected(Rejection.UNKNOWN_SYMBOL, f"`{shown(data.s)}`", data.s[:40], data.a)
        invalid = _invalid_amounts(data)
        if invalid:
            if data.f == data.l == _NO_TRADE and data.a >= 0 and _is_zero(data.p):
                return Sentinel(data.s, data.a)
            return Rejected(Rejection.INVALID, invalid, data.s, data.a)
        time_us, unit = _instant(data.T)
        if time_us is None:
            return Rejected(Rejection.INVALID, f"time `{data.T}`", data.s, data.a)
        if unit == "ms" and self._unit == "us":
            text = f"time `{data.T}` is in milliseconds"
            return Rejected(Rejection.TIME_UNIT, text, data.s, data.a)
        event_us = _instant(data.E)[0] if type(data.E) is int else None
        return StreamTrade(
            time_us,
            float(data.p),
            float(data.q),
            data.a,
            data.f,
            data.l,
            data.m,
            data.s,
            event_us,
        )


def _invalid_amounts(data: Any) -> str:  # noqa: ANN401 - a struct of an optional library
    """Describe what is wrong with the amounts or ids of a trade; empty if nothing is."""
    if not _AMOUNTS.fullmatch(f"{data.p} {data.q}"):
        return f"price `{shown(data.p[:40])}`, quantity `{shown(data.q[:40])}`"
    if float(data.p) <= 0 or not (0 <= data.f <= data.l and data.a >= 0):
        return f"price `{data.p}`, trade ids `{data.f}` to `{data.l}`"
    return ""


def _is_zero(text: str) -> bool:
    return text.strip("0") in ("", ".") and text != ""


def _instant(time: int) -> tuple[int | None, str]:
    """Return a time in microseconds, and the unit that its size tells; None if it is not a time."""
    if time >= _EARLIEST_S * 1_000_000:
        return (time if time < _LATEST_S * 1_000_000 else None), "us"
    if _EARLIEST_S * 1_000 <= time < _LATEST_S * 1_000:
        return time * 1_000, "ms"
    return None, "ms"


def _of_type(kind: object) -> Other | ServerShutdown:
    if kind == _SHUTDOWN:
        return ServerShutdown()
    return Other(shown(kind[:40]) if isinstance(kind, str) else "without a type")


def _is_trade(kind: Any) -> bool:  # noqa: ANN401 - a struct of an optional library
    """Whether a message without a type has an id of an aggregate trade."""
    found = kind if kind.data is None else kind.data
    return found.a is not None and found.s is not None


def _reason(error: Exception) -> str:
    return shown(f"{error}".partition("\n")[0][:200])


class _Forms(NamedTuple):
    """Decoders of both forms of a message, of types alone, and what all of them raise."""

    wrapped: Any
    bare: Any
    kinds: Any
    errors: tuple[type[Exception], ...]


@cache
def _forms() -> _Forms:
    """Make the decoders. Members that no struct names are ignored."""
    msgspec = import_extra("msgspec", "live")
    number = _int64(msgspec)
    required = [(name, str) for name in "spq"] + [(name, number) for name in "aflT"]
    trade = msgspec.defstruct(
        "Trade", [*required, ("m", bool), ("e", str, _EVENT), ("E", Any, None)], gc=False
    )
    wrapped = msgspec.defstruct("Wrapped", [("data", trade)], gc=False)
    loose = [(name, Any, None) for name in ("e", "s", "a")]
    inner = msgspec.defstruct("Inner", loose)
    outer = [*loose, ("stream", Any, None), ("data", inner | None, None)]
    kinds = msgspec.defstruct("Kinds", outer)
    # A message of many brackets exhausts the stack of the decoder.
    errors = (msgspec.DecodeError, RecursionError)
    decoder = msgspec.json.Decoder
    return _Forms(decoder(wrapped), decoder(trade), decoder(kinds), errors)


def _int64(msgspec: Any) -> Any:  # noqa: ANN401 - a module of an optional library
    """Return the type of integers of 64 bits."""
    from typing import Annotated

    return Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)]
