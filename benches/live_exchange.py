"""An exchange on loopback that streams generated trades as fast as asked: a process beside the measured one.

    python benches/live_exchange.py SYMBOLS TRADES_PER_BAR PAST_TRADES

It writes its port to stdout, and then answers each line of stdin with one:
`send RATE SECONDS` (messages a second of each symbol), `flood MESSAGES` (in all), `skip IDS`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from array import array
from datetime import UTC, datetime
from email.utils import formatdate
from itertools import islice
from urllib.parse import parse_qs, urlsplit

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "LTCUSDT")
SYMBOLS += ("LINKUSDT", "AVAXUSDT", "DOTUSDT", "TRXUSDT", "UNIUSDT", "ATOMUSDT", "ETCUSDT")
SYMBOLS += ("FILUSDT", "NEARUSDT", "APTUSDT", "ARBUSDT", "OPUSDT")
FIRST_ID = 1_000_000
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Prices rise and fall by steps above 0.25 %, so that a bar of 250 dbps ends at each.
LOW_PRICE, STEP, STEPS = 40_000.0, 110.0, 8
#: Messages of a write while it floods.
BLOCK = 64


def price(number: int, per_bar: int) -> float:
    """Price of a trade."""
    at = number // per_bar % (2 * STEPS)
    return LOW_PRICE + STEP * min(at, 2 * STEPS - at)


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def past_times(count: int) -> array[int]:
    """Times of trades of today, up to a moment ago."""
    now = now_us()
    midnight = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    begin = max(midnight * 1_000_000 + 1, now - 20 * 3_600_000_000)
    end = now - 1_000
    return array("q", (begin + (end - begin) * at // count for at in range(count)))


class Symbol:
    """The trades of a symbol."""

    def __init__(self, name: str, per_bar: int, times: array[int]) -> None:
        self.name, self.per_bar, self.times = name, per_bar, times
        self.head = f'{{"stream":"{name.lower()}@aggTrade","data":{{"e":"aggTrade","E":'

    def message(self) -> bytes:
        """The frame of the next trade."""
        number, time_us = FIRST_ID + len(self.times), now_us()
        self.times.append(time_us)
        text = (
            f'{self.head}{time_us},"s":"{self.name}","a":{number},"p":"{price(number, self.per_bar):.8f}",'
            f'"q":"0.01000000","f":{number},"l":{number},"T":{time_us},"m":true,"M":true}}}}'
        ).encode()
        return b"\x81\x7e" + len(text).to_bytes(2, "big") + text

    def rows(self, first: int, count: int) -> list[dict[str, object]]:
        """Trades as REST returns them."""
        begin = max(0, first - FIRST_ID)
        return [
            {
                "a": FIRST_ID + at,
                "p": f"{price(FIRST_ID + at, self.per_bar):.8f}",
                "q": "0.01000000",
                "f": FIRST_ID + at,
                "l": FIRST_ID + at,
                "T": self.times[at],
                "m": True,
                "M": True,
            }
            for at in islice(range(begin, len(self.times)), count)
        ]


class Server:
    """Answers REST, and streams."""

    def __init__(self, symbols: list[Symbol]) -> None:
        self.symbols = symbols
        self.by_name = {one.name: one for one in symbols}
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                words = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                words = {name.lower(): value for name, value in words.items()}
                target = head.split(" ", 2)[1]
                if "sec-websocket-key" in words:
                    await self.stream(reader, writer, words["sec-websocket-key"])
                    return
                writer.write(self.answer(target))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, target: str) -> bytes:
        """Answer a request."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        symbol = self.by_name.get(query.get("symbol", ""))
        status, body = "404 Not Found", b"[]"
        if parts.path.endswith("/aggTrades") and symbol is not None:
            limit = int(query.get("limit", 500))
            if "fromId" in query:
                first = int(query["fromId"])
            elif "startTime" in query:
                start_us = int(query["startTime"]) * (1_000 if len(query["startTime"]) < 15 else 1)
                at = next((i for i, t in enumerate(symbol.times) if t >= start_us), 0)
                first = FIRST_ID + at
            else:
                first = FIRST_ID + len(symbol.times) - limit
            status, body = "200 OK", json.dumps(symbol.rows(first, limit)).encode()
        head = f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}\r\n"
        return (
            head + "Content-Type: application/json\r\nX-MBX-USED-WEIGHT-1M: 1\r\n\r\n"
        ).encode() + body

    async def stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
    ) -> None:
        """Keep a stream until its end. Control frames of the client are read and ignored."""
        accept = base64.b64encode(hashlib.sha1(key.encode() + ACCEPT).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self.writers.append(writer)
        try:
            while head := await reader.readexactly(2):
                kind, size = head[0] & 0x0F, head[1] & 0x7F
                mask = await reader.readexactly(4)
                data = await reader.readexactly(size)
                plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
                if kind == 9:  # a ping
                    writer.write(bytes([0x8A, len(plain)]) + plain)
                elif kind == 8:
                    writer.write(bytes([0x88, len(plain)]) + plain)
                    return
        finally:
            self.writers.remove(writer)

    async def send(self, rate: float, seconds: float) -> int:
        """Send messages at a rate of each symbol, those of all symbols one after another."""
        begun, sent, count = time.perf_counter(), 0, len(self.symbols)
        total = round(rate * seconds * count)
        while sent < total:
            due = min(total, int((time.perf_counter() - begun) * rate * count) + 1)
            while sent < due:
                frame = self.symbols[sent % count].message()
                for writer in self.writers:
                    writer.write(frame)
                sent += 1
            await asyncio.sleep(max(0.0, begun + sent / (rate * count) - time.perf_counter()))
        return sent

    async def flood(self, total: int) -> int:
        """Send messages as fast as the clients take them."""
        count = len(self.symbols)
        for begin in range(0, total, BLOCK):
            block = b"".join(
                self.symbols[at % count].message() for at in range(begin, min(total, begin + BLOCK))
            )
            for writer in self.writers:
                writer.write(block)
                await writer.drain()
        return total

    async def command(self, line: str) -> int:
        """Do what a line says."""
        name, *values = line.split()
        if name == "send":
            return await self.send(float(values[0]), float(values[1]))
        if name == "flood":
            return await self.flood(int(values[0]))
        for symbol in self.symbols:  # `skip`: trades that the stream does not send
            for _ in range(int(values[0])):
                symbol.message()
        return int(values[0])


async def main() -> None:
    """Serve until stdin ends."""
    count, per_bar, past = map(int, sys.argv[1:])
    times = past_times(past)
    server = Server([Symbol(name, per_bar, array("q", times)) for name in SYMBOLS[:count]])
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 16)
    print(listening.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(await server.command(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
