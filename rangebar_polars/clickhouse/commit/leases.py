"""Who may write a series: one writer at a time.

In an embedded cache the kernel says so, by a lock on a part of a file that a killed process gives
back; the row in `leases` only informs. On a server the row decides: a writer that has not been heard of is
taken over under a higher fencing number, and what it still publishes loses.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cache as cached
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.interrupts import Uninterrupted
from rangebar_polars._files.locks import wait_a_little
from rangebar_polars.bar_series.identity import BarSpecKey, LeaseKey
from rangebar_polars.clickhouse.commit.lease_files import SpecLocks
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.dsn import Target, resolve
from rangebar_polars.clickhouse.connection.folder_lock import FolderLock
from rangebar_polars.clickhouse.connection.sql import (
    among,
    among_in_pieces,
    enclosing,
    joined_in_pieces,
    literal,
)
from rangebar_polars.clickhouse.open import open_target
from rangebar_polars.exceptions import CacheError, LeaseError, LeaseLostError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.sql import Value

    _Opened = AbstractContextManager[Cache]

__all__ = ["HEARTBEAT_S", "Leases", "hold_leases", "refuse_if_at_work"]

#: Seconds between two signs of life; after three missed ones a writer counts as dead.
HEARTBEAT_S = 10.0
_MISSED = 3
#: For longer than a process has the locks that only looks who else has them.
_LOOK_S = 0.2
#: How often a number that two writers took at once is given up for the next one.
_ROUNDS = 8
#: So many series are named one by one in a query.
_FEW = 16
#: Columns of a claim that are sent for each series, as they differ between most.
_OF_EACH = ("segment_start", "fencing")
_EPOCH = date(1970, 1, 1)
#: Holders of this process that have ended; the row that says so may not have got through.
_ENDED: set[int] = set()

_HINT = "wait until it is done, or ask for other symbols, thresholds or years"


@dataclass(frozen=True, slots=True)
class _Claim:
    """The newest claim on a series."""

    fencing: int
    holder: int
    host: str
    boot_id: str
    process: int
    released: bool
    #: Seconds since its last sign of life, by the database's clock.
    age_s: float
    #: How many hold this number.
    claims: int

    def __str__(self) -> str:
        return f"process `{self.process}` on `{self.host}`"

    def is_dead(self, heartbeat_s: float) -> bool:
        """Whether its writer is known to have ended, or has been silent for too long."""
        if self.released:
            return True
        is_here = (self.host, self.boot_id) == (socket.gethostname(), _boot_id())
        # A number may be another process's by now, so one that runs is judged by its silence.
        if is_here and not _is_running(self.process):
            return True
        return self.age_s > _MISSED * heartbeat_s


@cached
def _boot_id() -> str:
    """Where a process number means something: this run of the machine, and its name space."""
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
    """Leases that are held: for each series without its anchor its fencing number."""

    fencing: dict[LeaseKey, int]
    holder: int
    heartbeat_s: float = HEARTBEAT_S
    lost: list[LeaseKey] = field(default_factory=list)

    def look(self, cache: Cache, keys: Collection[LeaseKey] | None = None) -> None:
        """Make sure that series are still held, as a worker does whose driver gives the signs.

        Parameters
        ----------
        keys
            The series that are about to be published; all by default.

        Raises
        ------
        LeaseLostError
            The holder has ended, or another writer holds one of the series.
        """
        for key, claim in _claims(cache, list(self.fencing if keys is None else keys)).items():
            if claim.released or (claim.fencing, claim.holder) != (self.fencing[key], self.holder):
                sentence = f"the writer that was at work on {key} has ended"
                raise LeaseLostError(with_hint(sentence, "run it again"), holder=str(claim))

    def check(self, cache: Cache, keys: Collection[LeaseKey] | None = None) -> None:
        """Give a sign of life, and make sure that nobody has taken a series over.

        A writer calls this before it publishes; for series that it does not name here, a thread
        gives the signs.

        Parameters
        ----------
        keys
            The series that are about to be published; all by default.

        Raises
        ------
        LeaseLostError
            Another writer holds one of the series.
        """
        asked = list(self.fencing if keys is None else keys)
        if not cache.is_embedded:
            _beat(cache, asked, self.fencing, self.holder)
        for key, claim in _claims(cache, asked).items():
            if (claim.fencing, claim.holder) != (self.fencing[key], self.holder):
                self.lost.append(key)
                raise LeaseLostError(
                    with_hint(f"{claim} has taken over {key}", "run it again when it is done"),
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
    """Hold the leases of some series until the end: all of them, or none.

    The tables are created if there are none. An embedded cache is opened at the start and at the
    end only; a server's stays open, and a thread gives signs of life.

    Raises
    ------
    LeaseError
        Another writer is at work on one of them; nothing is held.
    """
    leases = Leases({}, secrets.randbits(63) + 1, heartbeat_s)
    target = dsn if isinstance(dsn, Target) else resolve(dsn, cache_dir)
    opened = partial(open_target, target, write=True)
    with _file_locks(target, keys), ExitStack() as kept:
        if not target.is_embedded:
            kept.enter_context(opened())
        try:
            with opened() as cache:
                _take(cache, sorted(set(keys)), leases)
            failpoint(Step.LEASES_TAKEN)
            with _heart(opened, leases) if not target.is_embedded else nullcontext():
                yield leases
        except BaseException:
            # The row would only have spared the next writer some seconds.
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
    """Refuse at once what `hold_leases` would refuse after a wait for the folder.

    Raises
    ------
    LeaseError
        Another writer of this machine has the folder open, and is at work on one of the series.
    """
    target = resolve(dsn, cache_dir)
    if target.folder is None or FolderLock(target.folder).is_free():
        return
    for locks, starts in _lock_files(target.folder, keys):
        with driver.opening(target.address):
            _refuse_while(partial(locks.first_taken, starts), locks, starts)


@contextmanager
def _file_locks(target: Target, keys: Iterable[LeaseKey]) -> Iterator[None]:
    """Hold the kernel's locks of some series of an embedded cache: all, or none.

    Raises
    ------
    LeaseError
        Another writer of this machine is at work on one of them; nothing is held.
    """
    with ExitStack() as held:
        for locks, starts in _lock_files(target.folder, keys) if target.folder is not None else ():
            with driver.opening(target.address), Uninterrupted():
                _refuse_while(partial(locks.try_acquire, starts), locks, starts)
                held.callback(locks.release)
        yield


def _lock_files(
    folder: Path, keys: Iterable[LeaseKey]
) -> Iterator[tuple[SpecLocks, dict[date, LeaseKey]]]:
    """The locks of each family, and the series of it by the start of their segment."""
    place = folder.with_name(f"{folder.name}.leases")
    for _, of_spec in groupby(sorted(set(keys)), lambda key: key.spec):
        starts = {key.segment_start: key for key in of_spec}
        name = next(iter(starts.values())).spec_file_name
        yield SpecLocks(place / name), starts


def _refuse_while(
    taken: Callable[[], date | None], locks: SpecLocks, starts: Mapping[date, LeaseKey]
) -> None:
    """Wait for a moment, in which a process may only look, until no segment is taken.

    Raises
    ------
    LeaseError
        One still is.
    """
    deadline = time.monotonic() + _LOOK_S
    while (start := taken()) is not None:
        if wait_a_little(deadline):
            continue
        process = locks.holder(start)
        who = "another process" if process is None else f"process `{process}`"
        raise LeaseError(with_hint(f"{who} is at work on {starts[start]}", _HINT), holder=who)


def _take(cache: Cache, keys: list[LeaseKey], leases: Leases) -> None:
    """Hold the series from now on, each under a fencing number of its own."""
    wanted = keys
    for _ in range(_ROUNDS):
        claims = _claims(cache, wanted)
        for key, claim in claims.items():
            if _stands(cache, claim, leases):
                sentence = f"{claim} is at work on {key}"
                raise LeaseError(with_hint(sentence, _HINT), holder=str(claim))
        numbers = {key: claims[key].fencing + 1 if key in claims else 1 for key in wanted}
        leases.fencing |= numbers
        _beat(cache, wanted, numbers, leases.holder)
        now = _claims(cache, wanted)
        wanted = [
            key
            for key, one in now.items()
            if (one.fencing, one.holder, one.claims) != (numbers[key], leases.holder, 1)
        ]
        if not wanted:
            return
        wait_a_little(time.monotonic() + 1)
    raise LeaseError(with_hint(f"several writers want {wanted[0]} at the same moment", _HINT))


def _stands(cache: Cache, claim: _Claim, leases: Leases) -> bool:
    """Whether a claim keeps others away: alive, and the only one of its number."""
    if cache.is_embedded:
        # The kernel has given this process the lock: whoever the row names is gone.
        return False
    return (
        claim.claims == 1
        and claim.holder not in {leases.holder, *_ENDED}
        and not claim.is_dead(leases.heartbeat_s)
    )


def _claims(cache: Cache, keys: Sequence[LeaseKey]) -> dict[LeaseKey, _Claim]:
    """The claim of the highest number on each series, with the number of those that have it."""
    names = ", ".join(LeaseKey._fields)
    place, wanted = len(LeaseKey._fields), set(keys)
    found: dict[LeaseKey, _Claim] = {}
    for condition in _where(keys):
        rows = cache.query(
            f"SELECT {names}, fencing, argMax(holder, (beat_us, holder)), "  # noqa: S608
            "argMax(host, (beat_us, holder)), argMax(boot_id, (beat_us, holder)), "
            "argMax(process, (beat_us, holder)), toBool(max(released)), "
            "(toUnixTimestamp64Micro(now64(6)) - max(beat_us)) / 1e6, toInt64(uniqExact(holder)) "
            f"FROM {cache.table('leases')} WHERE {condition} "
            f"GROUP BY {names}, fencing ORDER BY fencing DESC LIMIT 1 BY {names}"
        )
        for row in rows.iter_rows():
            key = LeaseKey(*row[:place])
            if key in wanted:
                found[key] = _Claim(*row[place:])
    return found


def _where(keys: Sequence[LeaseKey]) -> list[str]:
    """Conditions that together hold for all claims on some series, and for others between them."""
    if len(keys) <= _FEW:
        return [among(LeaseKey._fields, keys)]
    of_segments = enclosing(["segment_start"], [(key.segment_start,) for key in keys])
    of_specs = among_in_pieces(BarSpecKey._fields, [key.spec for key in keys])
    return [f"{condition} AND {of_segments}" for condition in of_specs]


def _beat(
    cache: Cache,
    keys: Sequence[LeaseKey],
    fencing: Mapping[LeaseKey, int],
    holder: int,
    *,
    released: bool = False,
) -> None:
    """One row for each series; its time is the database's."""
    if not keys:
        return
    columns = (*LeaseKey._fields, "fencing")
    rows = [(*key, fencing[key]) for key in keys]
    values = [literal(value) for value in rows[0]]
    differing = [
        place
        for place, name in enumerate(columns)
        if name in _OF_EACH or len({row[place] for row in rows}) > 1
    ]
    for number, place in enumerate(differing, 1):
        is_day = columns[place] == "segment_start"
        values[place] = f"toDate(entry.{number})" if is_day else f"entry.{number}"
    me = (holder, socket.gethostname(), _boot_id(), os.getpid(), int(released))
    values += [literal(value) for value in me]
    entries = (f"({', '.join(_plain(row[place]) for place in differing)})" for row in rows)
    names = ", ".join((*columns, "holder", "host", "boot_id", "process", "released"))
    for listed in joined_in_pieces(entries):
        cache.command(
            f"INSERT INTO {cache.table('leases')} ({names}, beat_us) "  # noqa: S608
            f"SELECT {', '.join(values)}, toUnixTimestamp64Micro(now64(6)) "
            f"FROM (SELECT arrayJoin([{listed}]) AS entry)"
        )


def _plain(value: Value) -> str:
    """A value without a call of a function: the database takes a list of such in one step."""
    return str((value - _EPOCH).days) if isinstance(value, date) else literal(value)


def _release(opened: Callable[[], _Opened], leases: Leases) -> None:
    keys = [key for key in leases.fencing if key not in leases.lost]
    if keys:
        with opened() as cache:
            _beat(cache, keys, leases.fencing, leases.holder, released=True)


@contextmanager
def _heart(opened: Callable[[], _Opened], leases: Leases) -> Iterator[None]:
    """Signs of life from a thread of its own, for a writer that computes for long."""
    done = threading.Event()
    thread = threading.Thread(target=_beats, args=(opened, leases, done.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _beats(opened: Callable[[], _Opened], leases: Leases, wait: Callable[[float], bool]) -> None:
    while not wait(leases.heartbeat_s):
        # One that fails is a missed one; the writer meets the error itself when it publishes.
        with suppress(CacheError), opened() as cache:
            _beat(cache, list(leases.fencing), leases.fencing, leases.holder)
