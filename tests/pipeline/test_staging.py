"""Files with groups of bars, between a worker and the driver."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("clickhouse_connect")
pytest.importorskip("chdb")

from pipeline.staged import Nobody, Place, jobs_of, kept, population, store_ticks, truth
from rangebar_polars.exceptions import StorageError
from rangebar_polars.populate.workers.executors import run_jobs
from rangebar_polars.populate.workers.staging import (
    ROOM,
    Inbox,
    Outbox,
    pack,
    stage_job,
    staging_folder,
    sweep,
    unpack,
)
from rangebar_polars.populate.workers.work import compute_units

pytest.importorskip("fcntl")


@pytest.fixture(scope="module")
def ticks(tmp_path_factory):
    return store_ticks(tmp_path_factory.mktemp("ticks"))


@pytest.fixture(scope="module")
def job(ticks):
    """Return a job of six groups and two series."""
    return next(jobs_of(Place(None, ticks), Nobody()))


@pytest.fixture(scope="module")
def groups(job):
    return list(compute_units(job))


@pytest.fixture
def run(tmp_path):
    with staging_folder(tmp_path / "clickhouse") as folder:
        yield folder


def assert_same(found, drafts):
    for one, other in zip(found, drafts, strict=True):
        assert_frame_equal(one.bars, other.bars, check_exact=True)
        assert replace(one, bars=None) == replace(other, bars=None)


# A file


def test_a_group_is_read_as_it_was_put(groups):
    spoken = replace(groups[1][0].ticks, source_absent=((5, 9), (11, 11)), reason="é")
    drafts = [replace(groups[1][0], ticks=spoken, generation=3, fencing=7), *groups[1][1:]]
    data, digest = pack(drafts, 4, "before")
    found, again = unpack(data, 4, "before")
    assert_same(found, drafts)
    assert again == digest


def test_a_group_without_a_bar_is_read(groups):
    drafts = [replace(one, bars=one.bars.clear()) for one in groups[0]]
    assert_same(unpack(pack(drafts, 0, "")[0], 0, "")[0], drafts)


def test_any_damage_is_detected(groups):
    data, _ = pack(groups[0], 0, "")
    for place in range(0, len(data), len(data) // 50):
        spoilt = bytearray(data)
        spoilt[place] ^= 1
        assert unpack(bytes(spoilt), 0, "") is None, place
    for length in (0, 1, 40, len(data) // 2, len(data) - 1):
        assert unpack(data[:length], 0, "") is None, length


def test_a_group_that_does_not_follow_is_refused(groups):
    data, _ = pack(groups[1], 1, "before")
    assert unpack(data, 2, "before") is None
    assert unpack(data, 1, "another") is None


# A job


def published(inbox, groups):
    """Publish groups of an inbox, in order."""
    for _ in range(groups):
        drafts = inbox.take()
        assert drafts
        inbox.done(drafts)


class _Drained:
    """Takes groups out of a folder in a thread, and keeps their bytes."""

    def __init__(self, inbox):
        self.files = {}
        self._inbox = inbox
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._take)

    def _take(self):
        while True:
            is_last = self._done.is_set()
            path = self._inbox._next
            data = path.read_bytes() if path.exists() else None
            if data:
                self.files[path.name] = data
                self._inbox.done(self._inbox.take())
            elif is_last:
                return

    def __enter__(self):
        self._thread.start()
        return self.files

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def test_a_job_that_is_run_again_resumes_with_equal_bytes(run, job, groups):
    whole, cut = Inbox(run / "1"), Inbox(run / "2")
    with _Drained(whole) as files:
        receipt = stage_job(job, str(whole.folder))
    assert (receipt.groups, len(files)) == (len(groups), len(groups))

    outbox, after = Outbox(cut.folder), ""
    for index, drafts in enumerate(groups[:3]):
        after = outbox.put(drafts, index, after)
    published(cut, 2)
    # A worker that was considered dead puts the first group again.
    outbox.put(groups[0], 0, "")
    with _Drained(cut) as rest:
        assert stage_job(job, str(cut.folder)).groups == len(groups)
    assert rest == {name: files[name] for name in sorted(files)[2:]}
    assert [path.name for path in cut.folder.iterdir()] == ["standing.json"]

    assert stage_job(job, str(cut.folder)).groups == len(groups)
    assert cut.take() is None


def test_a_worker_waits_while_its_groups_are_not_taken(run, job, groups):
    inbox, most = Inbox(run / "1"), 0

    def count():
        return len(list(inbox.folder.glob("*.group")))

    with ThreadPoolExecutor(1) as executor:
        receipt = executor.submit(stage_job, job, str(inbox.folder))
        while count() < ROOM:
            assert not receipt.done()
        while not receipt.done() or count():
            most = max(most, count())
            if (drafts := inbox.take()) is not None:
                inbox.done(drafts)
        assert receipt.result().groups == len(groups) > ROOM
    assert most == ROOM


def test_it_does_not_wait_for_ever(run, groups):
    inbox = Inbox(run / "1")
    outbox, after = Outbox(inbox.folder), ""
    outbox.wait_s = 0.05
    for index in range(ROOM):
        after = outbox.put(groups[index], index, after)
    with pytest.raises(StorageError, match="has taken no bars"):
        outbox.put(groups[ROOM], ROOM, after)


def test_a_damaged_file_is_computed_again(tmp_path, ticks):
    place, spoilt = Place(None, tmp_path), []

    def publish(drafts):
        publisher.publish(drafts)
        if len(spoilt) < 2:
            # Damage the next group of this job as soon as it appears.
            folder = next(iter(run_of(tmp_path).glob("*/0001")), None)
            path = folder / f"{len(spoilt) + 1:06d}.group"
            while not path.exists():
                pass
            spoilt.append(path.write_bytes(path.read_bytes()[:-1] + b"!"))

    with population(place) as (leases, publisher), ThreadPoolExecutor(1) as executor:
        jobs = list(jobs_of(place, leases, ticks=ticks))[:1]
        (result,) = run_jobs(jobs, executor, publish)
    expected = {key: unit for key, unit in truth(Place(None, ticks)).items() if key[1].year == 2023}
    assert result.error is None
    assert sum(one.days for one in result.outcome.series) == len(expected)
    assert kept(place) == expected


def run_of(folder):
    return folder / "clickhouse.staging" / "0"


# A run


def test_a_worker_ends_when_the_run_has(tmp_path, groups):
    with staging_folder(tmp_path / "clickhouse") as run:
        inbox = Inbox(run / "1")
        outbox = Outbox(inbox.folder)
        digest = outbox.put(groups[0], 0, "")
    with pytest.raises(StorageError, match="RANGEBAR_CLICKHOUSE_DSN"):
        outbox.put(groups[1], 1, digest)
    with pytest.raises(StorageError, match="population has ended"):
        outbox.published()
    assert [path.name for path in tmp_path.glob("*.staging/*")] == ["0.lock"]


HOLD = """
import sys
from pathlib import Path
from rangebar_polars.populate.workers.staging import staging_folder

with staging_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_files_of_a_killed_run_are_removed_at_the_next_start(tmp_path, groups):
    cache = tmp_path / "clickhouse"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        dead = cache.parent / process.stdout.readline().strip()
        inbox = Inbox(dead / "1")
        outbox = Outbox(inbox.folder)
        digest = outbox.put(groups[0], 0, "")
        with staging_folder(cache) as alive:
            # Two runs at once have their own slots, and leave each other alone.
            sweep(cache)
            assert dead.is_dir()
            assert alive.is_dir()
            assert alive.parent != dead.parent
        process.kill()
    assert dead.is_dir()
    with pytest.raises(StorageError, match="population has ended"):
        outbox.put(groups[1], 1, digest)
    with staging_folder(cache) as alive:
        assert not dead.exists()
        assert list(alive.iterdir()) == [alive / "open"]
