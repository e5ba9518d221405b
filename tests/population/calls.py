"""Calls that tests run in child processes; arguments and results are plain values."""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rangebar_polars as rb
from population.workers import wait_for
from rangebar_polars._files.failpoints import on_failpoint
from rangebar_polars.exceptions import LeaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def populate(
    *,
    die_at: tuple[str, int] | None = None,
    hold_at: dict[str, str] | None = None,
    count_in: str | None = None,
    impatient_s: float | None = None,
    skew_s: float = 0.0,
    **arguments: Any,
) -> int:
    """Populate; end the process the n-th time a step is reached, or pause at steps, on request."""
    with ExitStack() as stack:
        observers: list[Callable[[str], None]] = []
        if die_at is not None:
            observers.append(Killer(*die_at))
        if count_in is not None:
            observers.append(Counter(count_in))
        if hold_at is not None:
            observers.append(Holder(**hold_at))
        if impatient_s is not None:
            _make_impatient(impatient_s)
        if skew_s:
            _put_clock_forward(skew_s)
        for _ in watched(lambda label: [one(label) for one in observers], stack):
            return int(rb.populate_cache_resumable(**arguments, verbose=False))
    raise AssertionError


def peak(**arguments: Any) -> list[int]:
    """Populate; return the number of bars and the largest size of the process in bytes."""
    bars = populate(**arguments)
    return [bars, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]


#: The least number of populations that run while others read.
LEAST_CALLS = 3


class Counter:
    """Appends a byte to a file at each step."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, _label: str) -> None:
        os.write(self.file, b".")


class Killer:
    """Ends the process as `kill -9` does, the n-th time a step is reached."""

    def __init__(self, label: str, number: int) -> None:
        self.label = label
        self.left = number

    def __call__(self, label: str) -> None:
        self.left -= label == self.label
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Holder:
    """Pauses at each step with a given prefix, until a file lets it continue.

    The n-th time, the file `n` in a folder holds the label, and the file `n.go` lets it go on;
    `all.go` lets it pass all further ones.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self.folder = Path(folder)
        self.prefix = prefix
        self.number = 0

    def __call__(self, label: str) -> None:
        if not label.startswith(self.prefix):
            return
        self.number += 1
        marker = self.folder / f"{self.number}"
        marker.with_suffix(".new").write_text(label)
        marker.with_suffix(".new").rename(marker)
        wait_for(lambda: marker.with_suffix(".go").exists() or (self.folder / "all.go").exists())


def watched(tell: Callable[[str], object], stack: ExitStack) -> Iterator[None]:
    """Call a function at every step of the cache and of files, within the block."""
    stack.enter_context(on_failpoint(lambda step: tell(f"{step.area}:{step.name}")))
    yield


def _make_impatient(seconds: float) -> None:
    """Shorten the heartbeat, so that a writer counts as dead after three intervals."""
    from rangebar_polars.clickhouse.commit.leases import hold_leases

    hold_leases.__wrapped__.__kwdefaults__["heartbeat_s"] = seconds


def populate_or_lease(**arguments: Any) -> int | list[str]:
    """Populate; return the error if another population holds the lease."""
    try:
        return populate(**arguments)
    except LeaseError as error:
        return [type(error).__name__, str(error)]


def populate_day_by_day(*, until: str, at_least: int, last_day: str, **arguments: Any) -> list[int]:
    """Populate one more day at a time, then rebuild everything, until a file appears."""
    first, last = date.fromisoformat(arguments["start_date"]), date.fromisoformat(last_day)
    days = rebuilds = 0
    while days + rebuilds < at_least or not Path(until).exists():
        day = first + timedelta(days=days)
        is_rebuild = day > last
        populate(end_date=str(min(day, last)), force_refresh=is_rebuild, **arguments)
        days, rebuilds = days + (not is_rebuild), rebuilds + is_rebuild
    return [days, rebuilds]


def read(*, symbol: str, first: str, last: str, reset: str, **where: Any) -> list[Any]:
    """Read by every entry point; return the numbers of bars, and digests of their values."""
    from rangebar_polars.readers.cached import count_bars, get_cached_bars

    span = (symbol, first, last, 250)
    chart = rb.get_range_bars(*span, ouroboros=reset, fetch_if_missing=False, **where)
    lazy = rb.scan_range_bars(*span, ouroboros=reset, fetch_if_missing=False, **where).collect()
    kept = get_cached_bars(symbol, 250, first, last, ouroboros=reset, **where)
    return [
        count_bars(symbol, 250, ouroboros=reset, **where),
        [str(instant) for instant in chart.index],
        chart["Close"].to_list(),
        lazy.hash_rows(1).sum(),
        kept.hash_rows(1).sum(),
        kept["close_time"].to_physical().to_list(),
    ]


def _put_clock_forward(seconds: float) -> None:
    """Set the clock of this process forward."""
    real = time.time
    time.time = lambda: real() + seconds
