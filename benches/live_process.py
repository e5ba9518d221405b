"""The measured processes of `benches/live.py`: the bare loop, a sidecar, and a follower.

    python benches/live_process.py bare|sidecar|follower JSON

A process writes a line once it is ready, and then answers each line of stdin with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import polars as pl


def resident() -> int:
    """Bytes of memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:  # macOS tells the peak alone
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


IMPORTED = resident()


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


class Measured:
    """What is measured of this process."""

    def __init__(self) -> None:
        #: When bars were received, and when their last trade was sent, with thresholds and ids.
        self.received: list[tuple[int, Any]] = []
        self.delays: list[int] = []
        self.cpu = self.wall = 0.0

    def take(self, frame: Any) -> None:
        """Take a frame of bars."""
        columns = ["threshold", "last_agg_trade_id", "close_time", "is_replay"]
        self.received.append((now_us(), frame.select(columns)))

    def reset(self) -> None:
        """Begin to measure."""
        self.received.clear()
        self.delays.clear()
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def values(self) -> dict[str, Any]:
        """Return what was measured since the beginning."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        bars = [
            (threshold, last_id, at - int(close_us), at)
            for at, frame in self.received
            for threshold, last_id, close_us, is_replay in frame.with_columns(
                pl.col("close_time").dt.epoch("us")
            ).iter_rows()
            if not is_replay
        ]
        return {
            "cpu": cpu,
            "wall": wall,
            "resident": resident() - IMPORTED,
            "bars": bars,
            "delays": list(self.delays),
        }


def answer(commands: dict[str, Any]) -> None:
    """Answer lines of stdin until it ends."""
    for line in sys.stdin:
        name, *words = line.split()
        print(json.dumps(commands[name](*words)), flush=True)
    os._exit(0)


def bare(options: dict[str, Any]) -> None:
    """Receive and decode messages, and do nothing else."""
    import msgspec
    from websockets.asyncio.client import connect

    members = [("s", str), ("a", int), ("p", str), ("q", str), ("f", int), ("l", int)]
    trade_type = msgspec.defstruct("Trade", [*members, ("T", int), ("m", bool)])
    message_type = msgspec.defstruct("Message", [("stream", str), ("data", trade_type)])
    measured, counted = Measured(), [0]
    decode = msgspec.json.Decoder(message_type).decode

    def count(*_: str) -> int:
        return counted[0]

    def reset() -> int:
        measured.reset()
        counted[0] = 0
        return 0

    async def run() -> None:
        async with connect(
            options["url"], compression=None, max_size=2**20, max_queue=4096, proxy=None
        ) as socket:
            print("ready", flush=True)
            threading.Thread(
                target=answer,
                args=({"reset": reset, "count": count, "values": measured.values},),
                daemon=True,
            ).start()
            delays, keeps = measured.delays, options["keeps"]
            while True:
                trade = decode(await socket.recv(decode=False)).data
                counted[0] += 1
                if keeps:
                    delays.append(now_us() - trade.T)

    asyncio.run(run())


class Sidecar:
    """A sidecar that is measured."""

    def __init__(self, options: dict[str, Any]) -> None:
        from rangebar_polars.sidecar.config import SidecarConfig
        from rangebar_polars.sidecar.run import _Sidecar

        self.measured = Measured()
        self.base = 0
        config = SidecarConfig(on_bars=self.measured.take, **options)
        self.sidecar = _Sidecar(config)
        self.engine = self.sidecar.session.engine

    def run(self) -> None:
        """Run until stdin ends."""
        threading.Thread(target=self._answer, daemon=True).start()
        asyncio.run(self.sidecar.run(None))

    def _answer(self) -> None:
        from rangebar_polars.live.protocol.states import State

        while not self.engine.symbols or any(
            one.status.state is not State.LIVE for one in self.engine.symbols.values()
        ):
            time.sleep(0.005)
        print("ready", flush=True)
        measured = self.measured
        answer(
            {
                "reset": self.reset,
                "count": self.count,
                "values": measured.values,
                "pause": self.pause,
            }
        )

    def reset(self) -> int:
        """Begin to measure."""
        self.base = self._trades()
        self.measured.reset()
        return 0

    def count(self) -> int:
        """Trades since the beginning."""
        return self._trades() - self.base

    def _trades(self) -> int:
        return sum(one.counters.trades for one in self.engine.symbols.values())

    def pause(self, seconds: str) -> dict[str, Any]:
        """Return the longest time between two batches, without a revision and during one."""
        from rangebar_polars.live.finalizing.revising import Revision, revise
        from rangebar_polars.live.helper.base import Base
        from rangebar_polars.live.series import fresh_state

        session = self.sidecar.session
        (symbol,) = self.engine.symbols.values()
        times: list[float] = []
        journal: Any = symbol._journal
        append = journal.append_trades

        def noted(day: Any, trades: Any) -> bytes:
            times.append(time.perf_counter())
            record: bytes = append(day, trades)
            return record

        journal.append_trades = noted
        time.sleep(float(seconds))
        begun = time.perf_counter()
        group = symbol.series
        assert group is not None
        revisions = [
            Revision(one, one.first_day, Base(fresh_state(one.spec), one.first_day, None))
            for one in group.series
        ]
        done = revise(session, symbol, revisions)
        ended = time.perf_counter()
        time.sleep(0.2)
        del journal.append_trades
        pairs = list(pairwise(times))
        return {
            "done": done,
            "seconds": ended - begun,
            "before": max(b - a for a, b in pairs if b < begun),
            "during": max(b - a for a, b in pairs if b >= begun and a <= ended),
        }


def follower(options: dict[str, Any]) -> None:
    """Follow the writer of another process."""
    import rangebar_polars as rb

    measured = Measured()
    live = rb.live_bars(**options)

    def read() -> None:
        for frame in live:
            measured.take(frame)

    threading.Thread(target=read, daemon=True).start()
    while any(one["state"] != "live" for one in live.status()):
        time.sleep(0.01)
    print("ready", flush=True)

    def reset() -> int:
        measured.reset()
        return 0

    answer({"reset": reset, "values": measured.values})


def main() -> None:
    """Run a process."""
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    if kind == "bare":
        bare(options)
    elif kind == "sidecar":
        Sidecar(options).run()
    else:
        follower(options)


if __name__ == "__main__":
    main()
