"""Bars on their way from workers to the one process that may write an embedded cache.

A worker puts each group of units into a file, and the driver publishes the files of a job in
order. A group has the same content whenever its job is run, so that it may be put twice.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shutil
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._files.locks import FileLock, wait_a_little
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
    "Receipt",
    "Standing",
    "packed",
    "stage_job",
    "staging_folder",
    "sweep",
    "unpacked",
]


#: Files of a job that may wait for the driver; its worker pauses at so many.
ROOM = 4


#: Longer than the ticks of any segment take to fetch, which the driver does meanwhile.
_WAIT_S = 3600.0


_MAGIC = b"rbgroup1"


_DIGEST = 32


_OPEN, _STANDING, _SUFFIX = "open", "standing.json", ".group"


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a job is published."""

    #: Number of the group that comes next.
    index: int = 0
    #: Content hash of the group before it.
    after: str = ""
    #: Of each series the last day that is published, and the state after it.
    states: tuple[tuple[BarSeries, date, bytes], ...] = ()


# The content of a file


def packed(drafts: Sequence[UnitDraft], index: int, after: str) -> tuple[bytes, str]:
    """Bytes of the file of a group, and their hash; the same for the same units.

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
    pl.concat([draft.bars for draft in drafts]).write_ipc(body, compression="lz4")
    content = len(head).to_bytes(8, "big") + head + body.getvalue()
    digest = blake2b(content, digest_size=_DIGEST)
    return _MAGIC + digest.digest() + content, digest.hexdigest()


def unpacked(data: bytes, index: int, after: str) -> tuple[list[UnitDraft], str] | None:
    """Units of a file, and its hash; None if it is damaged, or does not follow what came before."""
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
        drafts.append(_draft_in(item, bars[: item["height"]]))
        bars = bars[item["height"] :]
    return drafts, digest.hexdigest()


def _draft_out(draft: UnitDraft) -> dict[str, Any]:
    return {
        "series": _series_out(draft.series),
        "day": draft.day.isoformat(),
        "height": draft.bars.height,
        "ticks": asdict(draft.ticks),
        "state": base64.b64encode(draft.state).decode(),
        "built_on": draft.built_on,
        "generation": draft.generation,
        "fencing": draft.fencing,
        "feature_groups": draft.feature_groups,
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
    """A folder for the files of a run, beside the folder of an embedded cache.

    It is open until the end, and then removed; what killed runs have left is removed first.
    """
    root = _root(cache)
    with disk_errors(root):
        lock = _free_place(root)
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
    """Remove the files of runs that are not alive any more."""
    for path in listed(_root(cache)):
        lock = FileLock(path)
        is_place = path.suffix == ".lock" and is_folder(path.with_suffix(""))
        if is_place and lock.try_acquire():
            _remove(path.with_suffix(""))
            lock.release()


def _root(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.staging")


def _free_place(root: Path) -> FileLock:
    """The lock of a place that no other run has; the places are few, and are used again."""
    number = 0
    while True:
        lock = FileLock(root / f"{number}.lock")
        if lock.try_acquire():
            return lock
        number += 1


def _remove(folder: Path) -> None:
    # A worker of a killed run may still write there: then it is removed at the next start.
    shutil.rmtree(folder, ignore_errors=True)


# The two ends of a job's folder


class Outbox:
    """Where a worker puts the groups of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wait_s = _WAIT_S

    def standing(self) -> Standing:
        """What the driver has published of the job, which need not be done again.

        Raises
        ------
        StorageError
            The folder is not here, or not any more.
        """
        self._judge_open()
        with disk_errors(self.folder):
            try:
                known = json.loads((self.folder / _STANDING).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return Standing()
        states = tuple(
            (_series_in(series), date.fromisoformat(day), base64.b64decode(state))
            for series, day, state in known["states"]
        )
        return Standing(known["index"], known["after"], states)

    def put(self, drafts: Sequence[UnitDraft], index: int, after: str) -> str:
        """Hand a group over, as soon as there is room for it; its content hash.

        Raises
        ------
        StorageError
            The driver has ended or takes nothing any more, or the file cannot be written.
        """
        content, digest = packed(drafts, index, after)
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
            self._judge_open()
            with suppress(OSError):
                temporary.unlink()
            sentence = f"a group of bars cannot be staged in `{self.folder}`: {error}"
            raise StorageError(with_hint(sentence, "look at the disk, and run it again")) from error
        return digest

    def _wait_for_room(self) -> None:
        deadline, before = time.monotonic() + self.wait_s, ROOM
        while True:
            self._judge_open()
            waiting = len(list(self.folder.glob(f"*{_SUFFIX}")))
            if waiting < ROOM:
                return
            if waiting < before:
                deadline, before = time.monotonic() + self.wait_s, waiting
            if not wait_a_little(deadline):
                sentence = f"nobody has taken bars out of `{self.folder}` for {self.wait_s:g} s"
                raise StorageError(with_hint(sentence, "see what the population waits for"))

    def _judge_open(self) -> None:
        """Stop if nobody will publish what is put here."""
        token = self.folder.parent / _OPEN
        try:
            host = token.read_text(encoding="utf-8")
        except FileNotFoundError:
            host = None
        # The kernel's locks are known on their own machine only.
        is_local = host == socket.gethostname()
        if host is None or (is_local and FileLock(_lock_of(self.folder)).is_free()):
            raise StorageError(
                with_hint(
                    f"the staging folder `{self.folder}` is not there: the population has ended, "
                    "or runs on a machine whose folders are not seen here",
                    "several machines share bars through a server: "
                    "RANGEBAR_CLICKHOUSE_DSN=http://host:8123",
                )
            )


def _lock_of(folder: Path) -> Path:
    """The lock that the driver of a job's folder holds."""
    place = folder.parent.parent
    return place.with_name(f"{place.name}.lock")


class Inbox:
    """Where the driver takes the groups of a job from, in order, each once."""

    def __init__(self, folder: Path) -> None:
        with disk_errors(folder):
            folder.mkdir()
        self.folder = folder
        self.index = 0
        self._after = self._taken = ""
        self._states: dict[BarSeries, tuple[date, bytes]] = {}
        self._is_cut = False

    def begin(self) -> None:
        """The job is about to be run, for the first time or again."""
        self._is_cut = False
        self._remove_before(None)

    def take(self) -> list[UnitDraft] | None:
        """Units of the next group if it is there; `done` must follow.

        A file that is damaged, or does not follow those that were taken, is removed with all that
        come after it: the job must be run again.
        """
        # A job that was run twice has put some once more, which would take room.
        self._remove_before(None if self._is_cut else self.index)
        with disk_errors(self._next):
            try:
                data = self._next.read_bytes()
            except FileNotFoundError:
                return None
        found = unpacked(data, self.index, self._after)
        if found is None:
            self._is_cut = True
            return None
        drafts, self._taken = found
        return drafts

    def _remove_before(self, index: int | None) -> None:
        """Remove groups up to a number, or all."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if index is None or int(path.name.partition(".")[0]) < index:
                path.unlink(missing_ok=True)

    def done(self, drafts: Sequence[UnitDraft]) -> None:
        """The units that were taken are published: remove their file."""
        path = self._next
        self.index, self._after = self.index + 1, self._taken
        self._states |= {draft.series: (draft.day, draft.state) for draft in drafts}
        states = [
            (_series_out(series), day.isoformat(), base64.b64encode(state).decode())
            for series, (day, state) in self._states.items()
        ]
        known = {"index": self.index, "after": self._after, "states": states}
        temporary = self.folder / f"{_STANDING}.tmp"
        with disk_errors(self.folder):
            temporary.write_text(json.dumps(known), encoding="utf-8")
            temporary.replace(self.folder / _STANDING)
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the job is done, or given up."""
        _remove(self.folder)

    @property
    def _next(self) -> Path:
        return self.folder / f"{self.index:06d}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker says of a job that it has staged."""

    outcome: Outcome
    #: How many groups it has in all.
    groups: int


# In the worker: functions of a module and arguments by place, as any executor can send them


def stage_job(job: Job, folder: str) -> Receipt:
    """Compute a job, and put its units into files for the driver."""
    outbox = Outbox(Path(folder))
    known = outbox.standing()
    index, after = known.index, known.after
    reached = {series: (day, state) for series, day, state in known.states}
    rest = _continued(job, reached)
    if not rest.tracks:
        return Receipt(Outcome(()), index)
    groups = compute_units(rest)
    while True:
        try:
            drafts = next(groups)
        except StopIteration as end:
            return Receipt(end.value, index)
        # As in a run from the start: the driver knows the attempt that the next unit is built on.
        same = [replace(one, built_on=None) if one.series in reached else one for one in drafts]
        after = outbox.put(same, index, after)
        index += 1


def _continued(job: Job, reached: Mapping[BarSeries, tuple[date, bytes]]) -> Job:
    """A job without the days that are done: of each series, the last one and the state after it."""
    moved = [
        _moved(track, *reached[track.series]) if track.series in reached else track
        for track in job.tracks
    ]
    tracks = tuple(track for track in moved if track.first_day <= job.last_day)
    first_day = min((track.first_day for track in tracks), default=job.first_day)
    return replace(job, tracks=tracks, first_day=first_day)


def _moved(track: SeriesJob, day: date, state: bytes) -> SeriesJob:
    return replace(track, first_day=day + ONE_DAY, state=state)
