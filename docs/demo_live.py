"""Stream bars from an exchange in a box, kill the sidecar once, and compare with a population.

`docs/demo.py` calls this at its end. The exchange is the one of the tests: an archive, a REST interface
and a WebSocket server on this machine. At it, five hours around a midnight pass in some seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import polars as pl

import rangebar_polars as rb

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parent.parent / "tests"
SYMBOL = "ETHUSDT"
THRESHOLDS = [250, 500]
BEFORE_MIDNIGHT, AWAY, AFTER_MIDNIGHT = (timedelta(minutes=minutes) for minutes in (240, 30, 5))
BARS_BEFORE_KILL = 60
#: The follower ends before the exchange does by so much.
LAST = timedelta(minutes=1)
#: Seconds of the exchange in one second.
SPEED = 3_600
LONGEST_WAIT_S = 120.0
SIDECAR = [sys.executable, "-P", "-m", "rangebar_polars", "sidecar", SYMBOL, "--ndjson"]
SIDECAR += ["-t", ",".join(map(str, THRESHOLDS)), "--reset", "none", "--health-port", "0"]


class Sidecar:
    """A process of `rangebar sidecar`, and a thread that reads its lines."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*SIDECAR, "--cache-dir", str(folder / "cache")],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.lines: list[str] = []
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        # What a killed process had begun to write is not a line.
        self.lines.extend(line for line in self.process.stdout if line.endswith("\n"))

    def has_logged(self, event: str) -> bool:
        """Return whether the log has an event."""
        return f"event={event}" in self.log.read_text()

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + LONGEST_WAIT_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the sidecar has ended or hangs:\n{self.log.read_text()}")
            time.sleep(0.02)

    def end(self, *, kill: bool = False) -> int:
        """Kill it or ask it to stop; return its exit status when all lines are read."""
        (self.process.kill if kill else self.process.terminate)()
        status = self.process.wait(LONGEST_WAIT_S)
        self._thread.join()
        return status


def compare(lines: list[str], followed: pl.DataFrame, populated: dict[int, pl.DataFrame]) -> None:
    """Compare what the sidecars wrote, and what the follower received, with a population."""
    written = pl.DataFrame([json.loads(line) for line in lines], infer_schema_length=None)
    key = ["threshold", "last_agg_trade_id"]
    is_first = pl.struct(key).is_first_distinct()
    once, repeated = written.filter(is_first), written.filter(~is_first)
    assert repeated["is_replay"].all()
    print(
        f"{once.height:,} bars written, {repeated.height} of them again after the kill, "
        "marked as replayed"
    )
    for threshold, bars in populated.items():
        of_one = once.filter(pl.col("threshold") == threshold)
        first_id = of_one.item(0, "last_agg_trade_id")
        expected = bars.filter(pl.col("last_agg_trade_id") >= first_id)
        times = pl.col("open_time", "close_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ")
        streamed = of_one.with_columns(times).select(bars.columns).cast(bars.schema)
        received = followed.filter(pl.col("threshold") == threshold).select(bars.columns)
        is_equal = streamed.equals(expected) and received.equals(bars.head(received.height))
        assert is_equal
        print(
            f"{threshold} dbps: {expected.height} written and {received.height} received bars, "
            f"all columns equal: {is_equal}"
        )


def live_session(folder: Path) -> None:
    """Stream with a sidecar and a follower, kill the sidecar, resume, and compare.

    Parameters
    ----------
    folder
        Where ticks and bars are stored.
    """
    sys.path.insert(0, str(TESTS))
    from exchange import Exchange, Tape  # type: ignore[import-not-found]

    folder.mkdir(parents=True)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    midnight, start = today - timedelta(days=1), today - timedelta(days=2)
    begin = midnight - BEFORE_MIDNIGHT
    tape = Tape.around(
        begin, begin - start, BEFORE_MIDNIGHT + AFTER_MIDNIGHT,
        symbol=SYMBOL, per_minute=20, volatility=0.1, price=3_900.0,
    )  # fmt: skip
    kept = dict(os.environ)
    try:
        with Exchange(tape) as exchange:
            os.environ |= exchange.environment
            lines, followed = _streamed(exchange, folder, start, midnight + AFTER_MIDNIGHT)
            exchange.now = today + timedelta(hours=12)  # the archives of both days are published
            days = (SYMBOL, str(start.date()), str(midnight.date()))
            options: dict[str, Any] = {"ouroboros": None, "cache_dir": folder / "populated"}
            rb.populate_cache_resumable(
                *days, threshold_decimal_bps=THRESHOLDS, verbose=False, **options
            )
            populated = {
                threshold: rb.scan_range_bars(
                    *days, threshold, features="microstructure", **options
                ).collect()
                for threshold in THRESHOLDS
            }
    finally:
        os.environ.clear()
        os.environ |= kept
    compare(lines, followed, populated)


def _streamed(
    exchange: Any,
    folder: Path,
    start: datetime,
    until: datetime,
) -> tuple[list[str], pl.DataFrame]:
    """Return the lines of two sidecars, the first of them killed, and the bars of a follower."""
    first = Sidecar(folder, "first")
    first.wait_for(lambda: first.has_logged("sidecar_live"))
    print(f"process {first.process.pid} is live at {exchange.now:%Y-%m-%d %H:%M}")
    with rb.live_bars(
        SYMBOL, THRESHOLDS, since=start, until=until - LAST, anchor=start, ouroboros=None,
        features="microstructure", cache_dir=folder / "cache",
    ) as follower:  # fmt: skip
        with exchange.live(SPEED):
            first.wait_for(lambda: len(first.lines) >= BARS_BEFORE_KILL)
            status = first.end(kill=True)
        print(f"killed at {exchange.now:%H:%M}: exit status {status}, {len(first.lines)} bars")
        exchange.play(AWAY)
        second = Sidecar(folder, "second")
        second.wait_for(lambda: second.has_logged("sidecar_live"))
        print(f"process {second.process.pid} is live at {exchange.now:%H:%M}; midnight is next")
        exchange.play(until, speed=SPEED)
        followed = pl.concat(follower)
        last_id = exchange.tapes[0].agg_ids[-1]
        second.wait_for(lambda: (follower.status()[0]["applied_id"] or -1) >= last_id)
    print(f"stopped at {exchange.now:%H:%M}: exit status {second.end()}")
    return first.lines + second.lines, followed
