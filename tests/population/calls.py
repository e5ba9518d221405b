"""What a process of its own does for a test: the arguments and the result are plain values."""

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
    """A population; it may end the process at the n-th time of a step, or hold still at steps."""
    with ExitStack() as stack:
        told: list[Callable[[str], None]] = []
        if die_at is not None:
            told.append(Killer(*die_at))
        if count_in is not None:
            told.append(Counter(count_in))
        if hold_at is not None:
            told.append(Holder(**hold_at))
        if impatient_s is not None:
            _make_impatient(impatient_s)
        if skew_s:
            _put_clock_forward(skew_s)
        for _ in watched(lambda label: [one(label) for one in told], stack):
            return int(rb.populate_cache_resumable(**arguments, verbose=False))
    raise AssertionError


def peak(**arguments: Any) -> list[int]:
    """Bars of a population, and the largest size of its process in bytes."""
    bars = populate(**arguments)
    return [bars, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]


#: Populations that are made at least while others read.
LEAST_CALLS = 3


class Counter:
    """Appends a byte to a file at each step."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, _label: str) -> None:
        os.write(self.file, b".")


class Killer:
    """Ends the process as `kill -9` does, the n-th time that a step is reached."""

    def __init__(self, label: str, number: int) -> None:
        self.label = label
        self.left = number

    def __call__(self, label: str) -> None:
        self.left -= label == self.label
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Holder:
    """Holds still at each step that begins as is said, until it is told to go on.

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
        said = self.folder / f"{self.number}"
        said.with_suffix(".new").write_text(label)
        said.with_suffix(".new").rename(said)
        wait_for(lambda: said.with_suffix(".go").exists() or (self.folder / "all.go").exists())


def watched(tell: Callable[[str], object], stack: ExitStack) -> Iterator[None]:
    """Have a function told of every step, of the cache's and of those of files, while this lasts."""
    stack.enter_context(on_failpoint(lambda step: tell(f"{step.area}:{step.name}")))
    yield


def _make_impatient(seconds: float) -> None:
    """Take a writer for dead after three silences of so many seconds."""
    from rangebar_polars.clickhouse.commit.leases import hold_leases

    hold_leases.__wrapped__.__kwdefaults__["heartbeat_s"] = seconds


def populate_or_lease(**arguments: Any) -> int | list[str]:
    """A population, or that another one is at work."""
    try:
        return populate(**arguments)
    except LeaseError as error:
        return [type(error).__name__, str(error)]


def populate_day_by_day(*, until: str, at_least: int, last_day: str, **arguments: Any) -> list[int]:
    """Populations of one more day each, then rebuilds of all of it, until a file is there."""
    first, last = date.fromisoformat(arguments["start_date"]), date.fromisoformat(last_day)
    days = rebuilds = 0
    while days + rebuilds < at_least or not Path(until).exists():
        day = first + timedelta(days=days)
        is_rebuild = day > last
        populate(end_date=str(min(day, last)), force_refresh=is_rebuild, **arguments)
        days, rebuilds = days + (not is_rebuild), rebuilds + is_rebuild
    return [days, rebuilds]


def read(*, symbol: str, first: str, last: str, reset: str, **where: Any) -> list[Any]:
    """What every way of reading gives: how many bars, and something of their values."""
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
    """Have the clock of this process be wrong."""
    real = time.time
    time.time = lambda: real() + seconds
