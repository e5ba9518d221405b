"""Files that carry bars from workers to the one process that writes an embedded cache.

A worker puts each group of units into a file, and the driver publishes the files of a job in
order. A group has the same content in every run of its job, so it may be put twice.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shutil
import socket
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._files.locks import FileLock, deadline_after, wait_a_little
from rangebar_polars._utils.span import ONE_DAY
from rangebar_polars.bar_series.identity import BarRules, BarSeries, BarSpec
from rangebar_polars.bar_series.units import TickDay, UnitDraft
from rangebar_polars.exceptions import StorageError, with_hint
from rangebar_polars.populate.outcome import Outcome
from rangebar_polars.populate.workers.work import compute_units
from rangebar_polars.storage.layout import is_folder, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rangebar_polars.populate.plan import Job, SeriesJob

__all__ = [
    "Inbox",
    "Outbox",
    "Published",
    "Receipt",
    "pack",
    "stage_job",
    "staging_folder",
    "sweep",
    "unpack",
]


#: Files of a job that may wait for the driver. Its worker pauses while there are as many.
ROOM = 4


#: Longer than a fetch of any segment's ticks, which the driver may be doing meanwhile.
_WAIT_S = 3600.0


_MAGIC = b"rbgroup1"


_DIGEST = 32


_OPEN, _PUBLISHED, _SUFFIX = "open", "standing.json", ".group"


@dataclass(frozen=True, slots=True)
class Published:
    """How much of a job the driver has published."""

    #: Number of the next group.
    index: int = 0
    #: Content hash of the group before it.
    after: str = ""
    #: Last published day of each series, the state after it, and the ticks to push again there.
    states: tuple[tuple[BarSeries, date, bytes, int], ...] = ()


# The content of a file


def pack(drafts: Sequence[UnitDraft], index: int, after: str) -> tuple[bytes, str]:
    """Encode a group; return the bytes of its file and their hash. Equal units give equal bytes.

    Parameters
    ----------
    drafts
        Units of the group.
    index
        Number of the group in its job.
    after
        Hash of the group before it.
    """
    head = json.dumps(
        {"index": index, "after": after, "drafts": [_draft_out(draft) for draft in drafts]},
        sort_keys=True,
    ).encode()
    body = io.BytesIO()
    # Series may differ in their optional feature groups.
    bars = pl.concat([draft.bars for draft in drafts], how="diagonal")
    bars.write_ipc(body, compression="lz4")
    content = len(head).to_bytes(8, "big") + head + body.getvalue()
    digest = blake2b(content, digest_size=_DIGEST)
    return _MAGIC + digest.digest() + content, digest.hexdigest()


def unpack(data: bytes, index: int, after: str) -> tuple[list[UnitDraft], str] | None:
    """Decode a group; return its units and its hash.

    None if the file is damaged, or does not follow the group before it.
    """
    start = len(_MAGIC) + _DIGEST
    digest = blake2b(data[start:], digest_size=_DIGEST)
    if data[:start] != _MAGIC + digest.digest():
        return None
    size = int.from_bytes(data[start : start + 8], "big")
    head = json.loads(data[start + 8 : start + 8 + size])
    if (head["index"], head["after"]) != (index, after):
        return None
    bars = pl.read_ipc(io.BytesIO(data[start + 8 + size :]))
    drafts: list[UnitDraft] = []
    for item in head["drafts"]:
        drafts.append(_draft_in(item, bars[: item["height"]].select(item["columns"])))
        bars = bars[item["height"] :]
    return drafts, digest.hexdigest()


def _draft_out(draft: UnitDraft) -> dict[str, Any]:
    return {
        "series": _series_out(draft.series),
        "day": draft.day.isoformat(),
        "height": draft.bars.height,
        "columns": draft.bars.columns,
        "ticks": asdict(draft.ticks),
        "state": base64.b64encode(draft.state).decode(),
        "built_on": draft.built_on,
        "generation": draft.generation,
        "fencing": draft.fencing,
        "feature_groups": draft.feature_groups,
        "replay": draft.replay,
    }


def _draft_in(item: dict[str, Any], bars: pl.DataFrame) -> UnitDraft:
    spans = tuple((first, last) for first, last in item["ticks"]["source_absent"])
    return UnitDraft(
        _series_in(item["series"]),
        date.fromisoformat(item["day"]),
        bars,
        TickDay(**{**item["ticks"], "source_absent": spans}),
        base64.b64decode(item["state"]),
        item["built_on"],
        item["generation"],
        item["fencing"],
        tuple(item["feature_groups"]),
        item["replay"],
    )


def _series_out(series: BarSeries) -> dict[str, Any]:
    return {
        "spec": asdict(series.spec),
        "segment_start": series.segment_start.isoformat(),
        "anchor_us": series.anchor_us,
    }


def _series_in(item: dict[str, Any]) -> BarSeries:
    spec = BarSpec(**{**item["spec"], "rules": BarRules(**item["spec"]["rules"])})
    return BarSeries(spec, date.fromisoformat(item["segment_start"]), item["anchor_us"])


# The folder of a run


@contextmanager
def staging_folder(cache: Path) -> Iterator[Path]:
    """Create a folder for the files of a run, beside the folder of an embedded cache.

    The folder is removed at the end. Leftovers of killed runs are removed first.
    """
    root = _root(cache)
    with disk_errors(root):
        lock = _lock_slot(root)
    run = lock.path.with_suffix("") / secrets.token_hex(8)
    try:
        with disk_errors(run):
            sweep(cache)
            _remove(run.parent)
            run.mkdir(parents=True)
            (run / _OPEN).write_text(socket.gethostname(), encoding="utf-8")
        yield run
    finally:
        (run / _OPEN).unlink(missing_ok=True)
        _remove(run.parent)
        lock.release()


def sweep(cache: Path) -> None:
    """Remove the files of runs that have ended."""
    for path in listed(_root(cache)):
        lock = FileLock(path)
        is_slot = path.suffix == ".lock" and is_folder(path.with_suffix(""))
        if is_slot and lock.try_acquire():
            _remove(path.with_suffix(""))
            lock.release()


def _root(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.staging")


def _lock_slot(root: Path) -> FileLock:
    """Lock the first free slot. Slots are numbered and reused, so that there are only a few."""
    number = 0
    while True:
        lock = FileLock(root / f"{number}.lock")
        if lock.try_acquire():
            return lock
        number += 1


def _remove(folder: Path) -> None:
    # A worker of a killed run may still write there; the next run then removes the folder.
    shutil.rmtree(folder, ignore_errors=True)


# The two ends of a job's folder


class Outbox:
    """The worker's end of a job's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wait_s = _WAIT_S

    def published(self) -> Published:
        """Read how much of the job the driver has published in earlier runs.

        Raises
        ------
        StorageError
            The folder does not exist, or exists no more.
        """
        self._check_open()
        with disk_errors(self.folder):
            try:
                known = json.loads((self.folder / _PUBLISHED).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return Published()
        states = tuple(
            (_series_in(series), date.fromisoformat(day), base64.b64decode(state), replay)
            for series, day, state, replay in known["states"]
        )
        return Published(known["index"], known["after"], states)

    def put(self, drafts: Sequence[UnitDraft], index: int, after: str) -> str:
        """Hand over a group once there is room for it; return its content hash.

        Raises
        ------
        StorageError
            The driver has ended or takes no more groups, or the file cannot be written.
        """
        content, digest = pack(drafts, index, after)
        self._wait_for_room()
        target = self.folder / f"{index:06d}{_SUFFIX}"
        temporary = target.with_suffix(f".{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            self._check_open()
            with suppress(OSError):
                temporary.unlink()
            sentence = f"a group of bars cannot be staged in `{self.folder}`: {error}"
            raise StorageError(with_hint(sentence, "check the disk, and run it again")) from error
        return digest

    def _wait_for_room(self) -> None:
        deadline, before = deadline_after(self.wait_s), ROOM
        while True:
            self._check_open()
            waiting = len(list(self.folder.glob(f"*{_SUFFIX}")))
            if waiting < ROOM:
                return
            if waiting < before:
                deadline, before = deadline_after(self.wait_s), waiting
            if not wait_a_little(deadline):
                sentence = (
                    f"the population has taken no bars out of `{self.folder}` for {self.wait_s:g} s"
                )
                raise StorageError(with_hint(sentence, "check what its process is waiting for"))

    def _check_open(self) -> None:
        """Refuse to go on once the driver has ended."""
        token = self.folder.parent / _OPEN
        try:
            host = token.read_text(encoding="utf-8")
        except FileNotFoundError:
            host = None
        # Kernel locks can be tested only on their own machine.
        is_local = host == socket.gethostname()
        if host is None or (is_local and FileLock(_lock_of(self.folder)).is_free()):
            raise StorageError(
                with_hint(
                    f"the staging folder `{self.folder}` does not exist: the population has ended, "
                    "or runs on a machine that does not share the folder",
                    "workers on other machines need a server: "
                    "RANGEBAR_CLICKHOUSE_DSN=http://host:8123",
                )
            )


def _lock_of(folder: Path) -> Path:
    """Return the path of the lock that the driver of a job's folder holds."""
    slot = folder.parent.parent
    return slot.with_name(f"{slot.name}.lock")


class Inbox:
    """The driver's end of a job's folder: it takes each group once, in order."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir()
        self.folder = folder
        self.index = 0
        self._after = self._taken = ""
        self._states: dict[BarSeries, tuple[date, bytes, int]] = {}
        self._is_broken = False

    def begin(self) -> None:
        """Clear the folder before a run of the job, the first one or a further one."""
        self._is_broken = False
        self._remove_before(None)

    def take(self) -> list[UnitDraft] | None:
        """Take the units of the next group, if it is there; `done` must follow.

        A file that is damaged, or does not follow the last group, is removed together with all
        later ones, and the job must be run again.
        """
        # A second run of the job may have put groups again that are published already.
        self._remove_before(None if self._is_broken else self.index)
        with disk_errors(self._next):
            try:
                data = self._next.read_bytes()
            except FileNotFoundError:
                return None
        group = unpack(data, self.index, self._after)
        if group is None:
            self._is_broken = True
            return None
        drafts, self._taken = group
        return drafts

    def _remove_before(self, index: int | None) -> None:
        """Remove the groups before a number, or all of them."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if index is None or int(path.name.partition(".")[0]) < index:
                path.unlink(missing_ok=True)

    def done(self, drafts: Sequence[UnitDraft]) -> None:
        """Record that the taken units are published, and remove their file."""
        path = self._next
        self.index, self._after = self.index + 1, self._taken
        self._states |= {draft.series: (draft.day, draft.state, draft.replay) for draft in drafts}
        states = [
            (_series_out(series), day.isoformat(), base64.b64encode(state).decode(), replay)
            for series, (day, state, replay) in self._states.items()
        ]
        known = {"index": self.index, "after": self._after, "states": states}
        temporary = self.folder / f"{_PUBLISHED}.tmp"
        with disk_errors(self.folder):
            temporary.write_text(json.dumps(known), encoding="utf-8")
            temporary.replace(self.folder / _PUBLISHED)
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder of a finished job."""
        _remove(self.folder)

    @property
    def _next(self) -> Path:
        return self.folder / f"{self.index:06d}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A worker's answer for a job that it has staged."""

    outcome: Outcome
    #: Number of groups of the job, over all runs.
    groups: int


# In the worker: a module-level function with positional arguments, which every executor can send


def stage_job(job: Job, folder: str) -> Receipt:
    """Compute a job, and put its units into files for the driver."""
    outbox = Outbox(Path(folder))
    known = outbox.published()
    index, after = known.index, known.after
    published = {series: rest for series, *rest in known.states}
    rest = _without_published(job, published)
    if not rest.series_jobs:
        return Receipt(Outcome(()), index)
    groups = compute_units(rest)
    while True:
        try:
            drafts = next(groups)
        except StopIteration as end:
            return Receipt(end.value, index)
        # The driver fills in the attempt, as in a run from the start, so that the bytes are equal.
        same = [
            replace(draft, built_on=None) if draft.series in published else draft
            for draft in drafts
        ]
        after = outbox.put(same, index, after)
        index += 1


def _without_published(job: Job, published: Mapping[BarSeries, Sequence[Any]]) -> Job:
    """Return the rest of a job after the last published day of each series."""
    advanced = [
        _advanced(part, *published[part.series]) if part.series in published else part
        for part in job.series_jobs
    ]
    rest = tuple(part for part in advanced if part.first_day <= job.last_day)
    first_day = min((part.first_day for part in rest), default=job.first_day)
    return replace(job, series_jobs=rest, first_day=first_day)


def _advanced(job: SeriesJob, day: date, state: bytes, replay: int) -> SeriesJob:
    """Return the job that starts after a day, from the state after it."""
    return replace(job, first_day=day + ONE_DAY, state=state, replay=replay)
