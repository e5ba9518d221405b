"""Messages of a stream of trades: what the exchange sends, and what a fault makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from exchange.archive import decimal_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exchange.stream_connection import Connection
    from exchange.tape import Tape

__all__ = ["Act", "Data", "Later", "Message", "Raw", "Step", "messages", "stream_of"]


@dataclass(frozen=True, eq=False)
class Message:
    """A trade on its way to one or several connections."""

    market: str
    symbol: str
    agg_trade_id: int
    time_us: int
    #: The object, with times in milliseconds and, where the market has them, in microseconds.
    text: str
    text_us: str | None = None

    @cached_property
    def stream(self) -> str:
        return stream_of(self.symbol)

    def data(self, *, micros: bool) -> str:
        """The object as a connection gets it."""
        return self.text_us if micros and self.text_us is not None else self.text

    def payload(self, *, micros: bool, bare: bool) -> bytes:
        """The message as a connection gets it."""
        data = self.data(micros=micros)
        return data.encode() if bare else f'{{"stream":"{self.stream}","data":{data}}}'.encode()

    def changed(self, **members: object) -> Message:
        """The message with other members; `...` leaves one out."""

        def change(text: str) -> str:
            data = json.loads(text) | members
            return json.dumps({k: v for k, v in data.items() if v is not ...})

        text_us = None if self.text_us is None else change(self.text_us)
        return replace(self, text=change(self.text), text_us=text_us)

    def moved(self, milliseconds: int) -> Message:
        """The message with another time of its trade."""

        def change(text: str, unit: int) -> str:
            data = json.loads(text)
            return json.dumps({**data, "T": data["T"] + milliseconds * unit})

        text_us = None if self.text_us is None else change(self.text_us, 1_000)
        return replace(self, text=change(self.text, 1), text_us=text_us)


@dataclass(frozen=True)
class Data:
    """Any other message."""

    payload: bytes
    binary: bool = False


@dataclass(frozen=True)
class Raw:
    """Bytes on the wire, which need not be a frame."""

    wire: bytes


@dataclass(frozen=True)
class Act:
    """Something that the connection does once all before is on the wire."""

    do: Callable[[Connection], None]


@dataclass(frozen=True)
class Later:
    """Steps so many seconds of the exchange's time later; 0: when it moves next."""

    seconds: float
    steps: tuple[Step, ...]


Step = Message | Data | Raw | Act | Later


def stream_of(symbol: str) -> str:
    """Name of the stream of a symbol."""
    return f"{symbol.lower()}@aggTrade"


def messages(tape: Tape, ticks: pl.DataFrame) -> Iterator[Message]:
    """Messages of some trades of a tape, in their order."""
    texts = _texts(tape, ticks, "ms")
    texts_us: Sequence[str | None] = [None] * len(texts)
    if tape.market == "spot":
        texts_us = _texts(tape, ticks, "us")
    ids = ticks["agg_trade_id"].to_list()
    times = ticks["timestamp"].to_physical().to_list()
    for number, time_us, text, text_us in zip(ids, times, texts, texts_us, strict=True):
        yield Message(tape.market, tape.symbol, number, time_us, text, text_us)


def _texts(tape: Tape, ticks: pl.DataFrame, unit: str) -> list[str]:
    spot = tape.market == "spot"
    time = pl.col("timestamp").dt.epoch(unit)
    amounts = {
        "p": decimal_text("price", tape.price_digits, padded=spot),
        "q": decimal_text("quantity", tape.quantity_digits, padded=spot),
    }
    members = {
        "e": pl.lit("aggTrade"),
        "E": time,
        "s": pl.lit(tape.symbol),
        "a": pl.col("agg_trade_id"),
        **amounts,
        "f": pl.col("first_trade_id"),
        "l": pl.col("last_trade_id"),
        "T": time,
        "m": pl.col("is_buyer_maker"),
    }
    # Each market has a member that the others do not have.
    members |= {"M": pl.lit(value=True)} if spot else {"nq": amounts["q"]}
    named = [value.alias(f"{name}_") for name, value in members.items()]
    frame = ticks.select(named).select(pl.struct(pl.all().name.map(lambda name: name[:-1])))
    return frame.to_series().struct.json_encode().to_list()
