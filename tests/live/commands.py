"""Programs that use live bars as a user does: the command `rangebar sidecar`, and scripts of Python."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from live.acceptance_scripts import CALLBACK
from live.market import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exchange import Exchange

SITE = """
import signal
from rangebar_polars._utils import clock
clock.install(offset_s={offset_s}, rate={rate})
def wake(*_):
    clock.install(offset_s={offset_s} + {asleep_s}, rate={rate})
signal.signal(signal.SIGUSR1, wake)
"""

#: Numbers of programs, in the names of their files.
_NUMBERS = count()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Program:
    """A process whose lines of stdout are kept. The end of `with` kills it.

    Parameters
    ----------
    words
        What Python is called with.
    exchange, cache
        The exchange, and the cache folder.
    folder
        For stderr, and for what a program needs beside its cache.
    rate, asleep_s
        Speed of its clocks; how far SIGUSR1 moves its wall clock, as a machine that was asleep does.
    site
        Python that it runs at its start.
    """

    def __init__(
        self,
        words: Sequence[str],
        exchange: Exchange,
        cache: Path,
        folder: Path,
        *,
        rate: float = 1.0,
        asleep_s: float = 0.0,
        site: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        number = next(_NUMBERS)
        place = folder / f"site-{number}"
        place.mkdir(parents=True)
        offset_s = (exchange.now - datetime.now(UTC)).total_seconds()
        text = SITE.format(offset_s=offset_s, rate=rate, asleep_s=asleep_s)
        (place / "sitecustomize.py").write_text(text + site)
        path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
        variables = {
            **os.environ,
            "PYTHONPATH": path,
            **exchange.environment,
            "RANGEBAR_CACHE_DIR": str(cache),
            "RANGEBAR_HTTP_TRIES": "2",
            **(environment or {}),
        }
        self.errors = folder / f"errors-{number}"
        with self.errors.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=variables,
            )
        self.texts: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.ended(signal.SIGKILL)

    def _read(self) -> None:
        # A last line without its end does not count.
        for text in self.process.stdout:
            if text.endswith("\n"):
                self.texts.append(text)

    def ended(self, number: int | None = None) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        return status

    def said(self) -> str:
        return self.errors.read_text()

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in list(self.texts)]

    def lines(self, symbol: str, threshold: int) -> list[dict[str, Any]]:
        """The bars of a series that it wrote."""
        key = symbol, threshold
        return [one for one in self.read() if (one.get("symbol"), one.get("threshold")) == key]


class Served(Program):
    """A program with the HTTP interface of a sidecar at a port."""

    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a path of the HTTP interface; 0 while it is not there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self.said()
            return 0, ""

    def health(self) -> list[dict[str, Any]]:
        """What `/health` says of the symbols."""
        status, body = self.get("/health")
        return json.loads(body)["symbols"] if status else []

    def events(self) -> list[dict[str, Any]]:
        """Lines of its log; it may be writing the last one."""
        lines = self.said().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def rss_bytes(self) -> int:
        """What `/health` says of its memory."""
        return json.loads(self.get("/health")[1])["rss_bytes"]

    def wait_ready(self) -> None:
        wait_for(lambda: self.get("/ready")[0] == 200, lambda: (self.get("/ready"), self.said()))

    def wait_applied(self, exchange: Exchange) -> None:
        """Wait until all that happened so far at the exchange is applied."""
        wanted = last_ids(exchange)

        def has_all() -> bool:
            known = {one["symbol"]: one["applied_id"] for one in self.health()}
            return all((known.get(name) or -1) >= last for name, last in wanted.items())

        wait_for(has_all, lambda: (wanted, self.health()))


class Command(Served):
    """A running `rangebar sidecar` with lines of JSON."""

    def __init__(
        self,
        exchange: Exchange,
        cache: Path,
        folder: Path,
        *,
        symbols: Sequence[str],
        thresholds: Sequence[int],
        options: Sequence[str] = ("--no-cache",),
        **others: Any,
    ) -> None:
        self.port = free_port()
        words = ["-m", "rangebar_polars", "sidecar", *symbols, "--ndjson", "--log-json"]
        words += ["-t", ",".join(map(str, thresholds)), "--health-port", str(self.port), *options]
        super().__init__(words, exchange, cache, folder, **others)


class Called(Served):
    """A script that calls `run_sidecar` with a callback, which writes each bar as a line.

    The callback waits in each call until the file `gate` is there, and then for `pause_s`.
    """

    def __init__(
        self,
        exchange: Exchange,
        cache: Path,
        folder: Path,
        *,
        symbols: Sequence[str],
        thresholds: Sequence[int],
        gate: Path,
        pause_s: float = 0.0,
        max_pending_bars: int = 10_000,
        **others: Any,
    ) -> None:
        self.port = free_port()
        job = {
            "gate": str(gate),
            "pause_s": pause_s,
            "config": {
                "symbols": list(symbols),
                "thresholds": list(thresholds),
                "health_port": self.port,
                "max_pending_bars": max_pending_bars,
                "cache": False,
                "shutdown_timeout_s": 600.0,
            },
        }
        super().__init__(["-c", CALLBACK, json.dumps(job)], exchange, cache, folder, **others)


def last_ids(exchange: Exchange) -> dict[str, int]:
    """The last id of each symbol that there is by now."""
    now = pl.col("timestamp") <= exchange.now
    return {tape.symbol: int(tape.ticks.filter(now)["agg_trade_id"][-1]) for tape in exchange.tapes}
