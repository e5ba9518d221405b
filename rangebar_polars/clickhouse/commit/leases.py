"""Leases: the right to write a series, held by one writer at a time.

In an embedded cache the kernel decides, by a lock on a part of a file that a killed process
releases, and the row in `leases` only informs. On a server the row decides: another writer takes
over from one without heartbeats under a higher fencing number, and later units of the old one lose.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cache as cached
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.interrupts import Uninterrupted
from rangebar_polars._files.locks import deadline_after, wait_a_little
from rangebar_polars._utils import clock
from rangebar_polars.bar_series.identity import BarSpecKey, LeaseKey
from rangebar_polars.clickhouse.commit.lease_files import SpecLocks
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.dsn import Target, resolve
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.connection.sql import (
    among,
    enclosing,
    joined_batches,
    literal,
    split_among,
)
from rangebar_polars.clickhouse.open import open_target
from rangebar_polars.exceptions import CacheError, LeaseError, LeaseLostError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.sql import Value

    _Opened = AbstractContextManager[Cache]

__all__ = [
    "HEARTBEAT_S",
    "Leases",
    "RunningWriter",
    "hold_leases",
    "refuse_if_at_work",
    "running_writers",
]

#: Seconds between two heartbeats. After three missed ones a writer counts as dead.
HEARTBEAT_S = 10.0
_MISSED = 3
#: Longer than a process holds the locks only to check them.
_CHECK_S = 0.2
#: How often a writer takes the next number, after two writers took one at once.
_ROUNDS = 8
#: The most series that a query names one by one.
_FEW = 16
#: Columns that are sent for each series, since they differ between most of them.
_OF_EACH = ("segment_start", "fencing")
_EPOCH = date(1970, 1, 1)
#: Holders of this process that have ended. Their last row may not have reached the server.
_ENDED: set[int] = set()

_HINT = "wait until it has ended, or choose other symbols, thresholds or years"


@dataclass(frozen=True, slots=True)
class _Claim:
    """The newest claim on a series."""

    fencing: int
    holder: int
    host: str
    boot_id: str
    process: int
    released: bool
    #: Seconds since the last heartbeat, by the database's clock.
    age_s: float
    #: How many writers hold this number.
    claims: int

    def __str__(self) -> str:
        return f"process `{self.process}` on `{self.host}`"

    def is_dead(self, heartbeat_s: float) -> bool:
        """Check whether the writer has ended, or has sent no heartbeat for too long."""
        if self.released:
            return True
        is_here = (self.host, self.boot_id) == (socket.gethostname(), _boot_id())
        # A running process may be another one with the same id: only its heartbeats count.
        if is_here and not _is_running(self.process):
            return True
        return self.age_s > _MISSED * heartbeat_s


@cached
def _boot_id() -> str:
    """Return the scope of process ids: this boot of the machine, and its namespace."""
    try:
        run = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{run} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(slots=True)
class Leases:
    """Held leases, with a fencing number for each segment of a spec."""

    fencing: dict[LeaseKey, int]
    holder: int
    heartbeat_s: float = HEARTBEAT_S
    lost: list[LeaseKey] = field(default_factory=list)

    def verify(self, cache: Cache, keys: Collection[LeaseKey] | None = None) -> None:
        """Check that leases are still held, in a worker whose driver sends the heartbeats.

        Parameters
        ----------
        keys
            The series that are about to be published; by default all.

        Raises
        ------
        LeaseLostError
            The holder has ended, or another writer holds one of the series.
        """
        for key, claim in _claims(cache, list(self.fencing if keys is None else keys)).items():
            if claim.released or (claim.fencing, claim.holder) != (self.fencing[key], self.holder):
                sentence = f"the writer that held the lease of {key} has ended"
                raise LeaseLostError(with_hint(sentence, "run it again"), holder=str(claim))

    def check(self, cache: Cache, keys: Collection[LeaseKey] | None = None) -> None:
        """Send a heartbeat, and check that no other writer has taken over.

        A writer calls this before it publishes. A thread sends the heartbeats in between.

        Parameters
        ----------
        keys
            The series that are about to be published; by default all.

        Raises
        ------
        LeaseLostError
            Another writer holds one of the series.
        """
        checked = list(self.fencing if keys is None else keys)
        if not cache.is_embedded:
            _beat(cache, checked, self.fencing, self.holder)
        for key, claim in _claims(cache, checked).items():
            if (claim.fencing, claim.holder) != (self.fencing[key], self.holder):
                self.lost.append(key)
                raise LeaseLostError(
                    with_hint(
                        f"{claim} has taken over {key}", "run it again when that writer has ended"
                    ),
                    holder=str(claim),
                )


@contextmanager
def hold_leases(
    keys: Iterable[LeaseKey],
    dsn: str | Target | None = None,
    *,
    cache_dir: str | Path | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> Iterator[Leases]:
    """Hold the leases of series until the context ends: all of them, or none.

    The tables are created if they do not exist. An embedded cache is opened only at the start and
    at the end. A connection to a server stays open, and a thread sends heartbeats.

    Raises
    ------
    LeaseError
        Another writer holds one of the leases.
    """
    leases = Leases({}, secrets.randbits(63) + 1, heartbeat_s)
    target = dsn if isinstance(dsn, Target) else resolve(dsn, cache_dir)
    opened = partial(open_target, target, write=True)
    with _file_locks(target, keys), ExitStack() as stack:
        if not target.is_embedded:
            stack.enter_context(opened())
        try:
            with opened() as cache:
                _take(cache, sorted(set(keys)), leases)
            failpoint(Step.LEASES_TAKEN)
            with _heartbeats(opened, leases) if not target.is_embedded else nullcontext():
                yield leases
        except BaseException:
            # Without the row, the next writer only waits some seconds longer.
            with suppress(CacheError):
                _release(opened, leases)
            raise
        finally:
            _ENDED.add(leases.holder)
        _release(opened, leases)
    failpoint(Step.LEASES_RELEASED)


def refuse_if_at_work(
    keys: Iterable[LeaseKey], dsn: str | None = None, *, cache_dir: str | Path | None = None
) -> None:
    """Refuse at once the leases that `hold_leases` would refuse after waiting for the folder.

    Raises
    ------
    LeaseError
        Another writer of this machine has the folder open and holds one of the leases.
    """
    target = resolve(dsn, cache_dir)
    if target.folder is None or FolderLock(target.folder).is_free():
        return
    for locks, starts in _lock_files(target.folder, keys):
        with driver.opening(target.address):
            _refuse_while(partial(locks.first_taken, starts), locks, starts)


@contextmanager
def _file_locks(target: Target, keys: Iterable[LeaseKey]) -> Iterator[None]:
    """Hold the kernel's locks of series of an embedded cache: all of them, or none.

    Raises
    ------
    LeaseError
        Another writer of this machine holds one of the locks.
    """
    with ExitStack() as stack:
        for locks, starts in _lock_files(target.folder, keys) if target.folder is not None else ():
            with driver.opening(target.address), Uninterrupted():
                _refuse_while(partial(locks.try_acquire, starts), locks, starts)
                stack.callback(locks.release)
        yield


def _lock_files(
    folder: Path, keys: Iterable[LeaseKey]
) -> Iterator[tuple[SpecLocks, dict[date, LeaseKey]]]:
    """Yield the locks of each spec, and its lease keys by the start of their segment."""
    leases_dir = folder.with_name(f"{folder.name}.leases")
    for _, of_spec in groupby(sorted(set(keys)), lambda key: key.spec):
        starts = {key.segment_start: key for key in of_spec}
        name = next(iter(starts.values())).spec_file_name
        yield SpecLocks(leases_dir / name), starts


def _refuse_while(
    first_taken: Callable[[], date | None], locks: SpecLocks, starts: Mapping[date, LeaseKey]
) -> None:
    """Wait a moment until no segment is locked, since a process may only be checking the locks.

    Raises
    ------
    LeaseError
        A segment is still locked.
    """
    deadline = deadline_after(_CHECK_S)
    while (start := first_taken()) is not None:
        if wait_a_little(deadline):
            continue
        process = locks.holder(start)
        holder = "another process" if process is None else f"process `{process}`"
        sentence = f"{holder} is already writing {starts[start]}"
        raise LeaseError(with_hint(sentence, _HINT), holder=holder)


def _take(cache: Cache, keys: list[LeaseKey], leases: Leases) -> None:
    """Claim the series, each under the next fencing number."""
    open_keys = keys
    for _ in range(_ROUNDS):
        claims = _claims(cache, open_keys)
        for key, claim in claims.items():
            if _excludes(cache, claim, leases):
                sentence = f"{claim} is already writing {key}"
                raise LeaseError(with_hint(sentence, _HINT), holder=str(claim))
        numbers = {key: claims[key].fencing + 1 if key in claims else 1 for key in open_keys}
        leases.fencing |= numbers
        _beat(cache, open_keys, numbers, leases.holder)
        now = _claims(cache, open_keys)
        open_keys = [
            key
            for key, claim in now.items()
            if (claim.fencing, claim.holder, claim.claims) != (numbers[key], leases.holder, 1)
        ]
        if not open_keys:
            return
        wait_a_little(deadline_after(1))
    sentence = f"several writers claim {open_keys[0]} at the same moment"
    raise LeaseError(with_hint(sentence, _HINT))


def _excludes(cache: Cache, claim: _Claim, leases: Leases) -> bool:
    """Check whether a claim excludes other writers: alive, and the only one with its number."""
    if cache.is_embedded:
        # This process has the kernel's lock: the writer that the row names has ended.
        return False
    return (
        claim.claims == 1
        and claim.holder not in {leases.holder, *_ENDED}
        and not claim.is_dead(leases.heartbeat_s)
    )


def _claims(cache: Cache, keys: Sequence[LeaseKey]) -> dict[LeaseKey, _Claim]:
    """Read the claim with the highest number on each series."""
    requested = set(keys)
    found = _claims_where(cache, _where(keys))
    return {key: claim for key, claim in found.items() if key in requested}


def _claims_where(cache: Cache, conditions: Iterable[str]) -> dict[LeaseKey, _Claim]:
    names = ", ".join(LeaseKey._fields)
    width = len(LeaseKey._fields)
    found: dict[LeaseKey, _Claim] = {}
    for condition in conditions:
        rows = cache.query(
            f"SELECT {names}, fencing, argMax(holder, (beat_us, holder)), "  # noqa: S608
            "argMax(host, (beat_us, holder)), argMax(boot_id, (beat_us, holder)), "
            "argMax(process, (beat_us, holder)), toBool(max(released)), "
            "(toUnixTimestamp64Micro(now64(6)) - max(beat_us)) / 1e6, toInt64(uniqExact(holder)) "
            f"FROM {cache.table('leases')} WHERE {condition} "
            f"GROUP BY {names}, fencing ORDER BY fencing DESC LIMIT 1 BY {names}"
        )
        for row in rows.iter_rows():
            found[LeaseKey(*row[:width])] = _Claim(*row[width:])
    return found


class RunningWriter(NamedTuple):
    """A series that is being written, and the process that writes it."""

    key: LeaseKey
    process: int
    host: str


def running_writers(cache: Cache, folder: Path | None) -> list[RunningWriter]:
    """Return the series being written now, in key order.

    In an embedded cache (`folder`), file locks decide; on a server, heartbeats.
    """
    writers = []
    for key, claim in sorted(_claims_where(cache, ["true"]).items()):
        if claim.released or (folder is None and claim.is_dead(HEARTBEAT_S)):
            continue
        if folder is not None:
            ((locks, starts),) = _lock_files(folder, [key])
            if locks.first_taken(starts) is None:
                continue
        writers.append(RunningWriter(key, claim.process, claim.host))
    return writers


def _where(keys: Sequence[LeaseKey]) -> list[str]:
    """Write conditions for all claims on some series; other claims may fulfil them too."""
    if len(keys) <= _FEW:
        return [among(LeaseKey._fields, keys)]
    of_segments = enclosing(["segment_start"], [(key.segment_start,) for key in keys])
    of_specs = split_among(BarSpecKey._fields, [key.spec for key in keys])
    return [f"{condition} AND {of_segments}" for condition in of_specs]


def _beat(
    cache: Cache,
    keys: Sequence[LeaseKey],
    fencing: Mapping[LeaseKey, int],
    holder: int,
    *,
    released: bool = False,
) -> None:
    """Insert a heartbeat row for each series, with the time of the database."""
    if not keys:
        return
    columns = (*LeaseKey._fields, "fencing")
    rows = [(*key, fencing[key]) for key in keys]
    values = [literal(value) for value in rows[0]]
    differing = [
        index
        for index, name in enumerate(columns)
        if name in _OF_EACH or len({row[index] for row in rows}) > 1
    ]
    for number, index in enumerate(differing, 1):
        is_day = columns[index] == "segment_start"
        values[index] = f"toDate(entry.{number})" if is_day else f"entry.{number}"
    writer = (holder, socket.gethostname(), _boot_id(), os.getpid(), int(released))
    values += [literal(value) for value in writer]
    entries = (f"({', '.join(_plain(row[index]) for index in differing)})" for row in rows)
    names = ", ".join((*columns, "holder", "host", "boot_id", "process", "released"))
    for listed in joined_batches(entries):
        cache.command(
            f"INSERT INTO {cache.table('leases')} ({names}, beat_us) "  # noqa: S608
            f"SELECT {', '.join(values)}, toUnixTimestamp64Micro(now64(6)) "
            f"FROM (SELECT arrayJoin([{listed}]) AS entry)"
        )


def _plain(value: Value) -> str:
    """Write a value without a function call: the database parses a list of such values faster."""
    return str((value - _EPOCH).days) if isinstance(value, date) else literal(value)


def _release(opened: Callable[[], _Opened], leases: Leases) -> None:
    keys = [key for key in leases.fencing if key not in leases.lost]
    if keys:
        with opened() as cache:
            _beat(cache, keys, leases.fencing, leases.holder, released=True)


@contextmanager
def _heartbeats(opened: Callable[[], _Opened], leases: Leases) -> Iterator[None]:
    """Send heartbeats from a thread, for a writer that computes for a long time."""
    done = threading.Event()
    thread = threading.Thread(target=_beats, args=(opened, leases, done.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _beats(opened: Callable[[], _Opened], leases: Leases, wait: Callable[[float], bool]) -> None:
    while not wait(clock.real_seconds(leases.heartbeat_s)):
        # A failure is a missed heartbeat. The writer gets the error itself when it publishes.
        with suppress(CacheError), opened() as cache:
            _beat(cache, list(leases.fencing), leases.fencing, leases.holder)
