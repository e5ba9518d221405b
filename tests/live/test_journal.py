"""The journals of a writer: files and days, faults of the disk, and a loss of power."""

from __future__ import annotations

import errno
import random
import threading
from datetime import date, timedelta
from itertools import chain, pairwise

import pytest

from live.world import MIDNIGHT_US
from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.exceptions import StorageError
from rangebar_polars.live.protocol.spans import MissingIds, MissingReason
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.storage.layout import SymbolDir
from rangebar_polars.storage.live.journal import LiveJournal, encode_columns
from rangebar_polars.storage.live.journal_file import (
    JournalSchemaError,
    list_journals,
    read_journal,
)
from rangebar_polars.storage.live.live_days import LiveView, pin_journals, recover_journals
from repetitions import repeated
from storage.disks import FailingDisk, RecordingDisk
from storage.test_power import Medium, lay_out

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)


def trades(first, last, day=DAY):
    start = MIDNIGHT_US + (day - DAY).days * 86_400_000_000
    return TradeColumns(
        Trade(start + n * 1_000, 100.0 + n % 5, 1.5, n, 2 * n, 2 * n + 1, n % 2 == 0)
        for n in range(first, last + 1)
    )


def absent(first, last):
    return MissingIds(first, last, MissingReason.ABSENT)


def symbol_dir(root, disk=None):
    return SymbolDir(root, "binance", "spot", "BTCUSDT", disk or Disk())


def journal(where, applied_id=0, day=DAY):
    return LiveJournal(where, day=day, applied_id=applied_id)


def contents(where):
    return [read_journal(where, file) for file in list_journals(where)]


def ids(where):
    return [one.trades["agg_trade_id"].to_list() for one in contents(where)]


def read_days(where, first=DAY, last=NEXT):
    view = LiveView(where, first, last, {}, pin_journals(where), None)
    return {day.day: day for day in view.days()}


def test_records_are_in_the_files_of_their_days(tmp_path):
    where = symbol_dir(tmp_path)
    with journal(where, applied_id=4) as live:
        record = live.append_trades(DAY, trades(5, 7))
        assert record == encode_columns(trades(5, 7))
        live.append_missing([absent(8, 9), absent(11, 11)])
        assert live.applied_id == 9
        live.append_trades(DAY, trades(10, 10))
        assert live.applied_id == 11
        live.append_late(trades(8, 8))
        live.close_day(DAY)
        live.append_missing([absent(12, 12)])
        live.append_trades(NEXT, trades(13, 14, NEXT))
        live.revision('{"number":1}')
    first, second = contents(where)
    assert (first.day, first.number, first.follows_id, first.is_closed) == (DAY, 1, 4, True)
    assert first.trades["agg_trade_id"].to_list() == [5, 6, 7, 10]
    assert first.missing == ((8, 9, "absent"), (11, 11, "absent"))
    assert first.late["agg_trade_id"].to_list() == [8]
    assert (second.day, second.number, second.follows_id) == (NEXT, 1, 11)
    assert second.trades.equals(trades(13, 14, NEXT).frame())
    assert second.missing == ((12, 12, "absent"),)
    assert (second.revisions, second.is_closed) == (('{"number":1}',), False)
    assert [one.last_id for one in (first, second)] == [11, 14]


def test_a_day_without_a_trade_is_closed_in_a_journal_of_its_own(tmp_path):
    where = symbol_dir(tmp_path)
    with journal(where, applied_id=4) as live:
        live.close_day(DAY)
        live.close_day(NEXT)
        live.append_missing([absent(5, 5)])
    assert [(one.day, one.is_closed, len(one.missing)) for one in contents(where)] == [
        (DAY, True, 0),
        (NEXT, True, 0),
        (NEXT + timedelta(days=1), False, 1),
    ]


def test_a_file_of_an_earlier_process_is_never_appended_to(tmp_path):
    where = symbol_dir(tmp_path)
    for number in range(1, 4):
        before = {file.path: file.path.read_bytes() for file in list_journals(where)}
        with journal(where, applied_id=10 * number) as live:
            live.append_trades(DAY, trades(10 * number + 1, 10 * number + 3))
        assert all(path.read_bytes() == data for path, data in before.items())
    assert [file.path.name for file in list_journals(where)] == [
        f"2026-11-02.000{number}.journal" for number in (1, 2, 3)
    ]
    assert [one.follows_id for one in contents(where)] == [10, 20, 30]


def test_other_files_are_no_journals(tmp_path):
    where = symbol_dir(tmp_path)
    assert list_journals(where) == []
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 2))
    for name in ("2026-02-30.0001.journal", "2026-11-02.1.journal", "2026-11-02.0007.journal.bak"):
        (where.live / name).write_bytes(b"")
    (where.live / "2026-11-03.0002.journal").write_bytes(b"1" * 63)
    assert [file.path.name for file in list_journals(where, DAY, DAY)] == [
        "2026-11-02.0001.journal"
    ]
    assert [file.number for file in list_journals(where)] == [1, 2]
    assert len(pin_journals(where)) == 1
    assert recover_journals(where) == []


def test_one_write_is_made_for_each_record(tmp_path):
    disk = RecordingDisk()
    where = symbol_dir(tmp_path, disk)
    live = journal(where)
    records = [live.append_trades(DAY, trades(n, n + 1)) for n in (1, 3, 5)]
    written = [done.data for done in disk.operations if done.kind == "write"]
    assert written[1:] == records
    assert len(written[0]) == 64
    assert not [done for done in disk.operations if done.kind == "sync"]
    assert live.unsynced_records == 3
    live.sync()
    assert live.unsynced_records == 0
    live.append_missing([absent(7, 7)])
    kinds = [done.kind for done in disk.operations]
    file_syncs = [at for at, kind in enumerate(kinds) if kind == "sync"]
    assert len(file_syncs) == 2
    assert kinds[file_syncs[0] + 1] == "sync_folder"
    assert kinds[-1] == "sync", "the missing ids are durable when the call returns"
    live.close()


# Faults of the disk


def run(live):
    """Write as an engine does: a batch that could not be written is offered again."""
    steps = [
        lambda: live.append_trades(DAY, trades(1, 3)),
        lambda: live.append_missing([absent(4, 5)]),
        lambda: live.append_trades(DAY, trades(6, 9)),
        live.sync,
        lambda: live.append_late(trades(4, 4)),
        lambda: live.append_trades(DAY, trades(10, 10)),
        lambda: live.close_day(DAY),
        lambda: live.append_trades(NEXT, trades(11, 12, NEXT)),
        lambda: live.revision("{}"),
        live.sync,
    ]
    errors = []
    for step in steps:
        while True:
            try:
                step()
                break
            except OSError as error:
                errors.append(error)
    live.close()
    return errors


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    "name", ["create", "write", "sync_data", "sync_folder", "truncate", "make_folder"]
)
def test_a_fault_at_any_call_loses_nothing_and_repeats_nothing(tmp_path, name, code):
    number, is_failing = 0, True
    while is_failing:
        number += 1
        disk = FailingDisk((name,), number, code)
        where = symbol_dir(tmp_path / str(number), disk)
        where.root.mkdir()
        errors = run(journal(where))
        is_failing = disk.failed
        assert [error.errno for error in errors] == [code] * (is_failing and name != "truncate")
        days = read_days(where)
        assert days[DAY].trades.equals(pl_trades([*range(1, 4), *range(6, 11)]))
        assert days[NEXT].trades["agg_trade_id"].to_list() == [11, 12]
        assert [tuple(span) for span in days[DAY].missing] == [(4, 5, "absent")]
        assert set(days[DAY].late["agg_trade_id"]) == {4}
        assert set(days[NEXT].revisions) == {"{}"}
        assert days[DAY].is_closed
        assert not [one for one in contents(where) if one.is_incomplete or one.damage]
        assert not [one for one in contents(where) if one.length == 64]
        follows = [one.follows_id for one in contents(where)]
        assert follows == sorted(follows)
    assert number > (1 if name != "truncate" else 0)


def pl_trades(numbers):
    return (
        trades(min(numbers), max(numbers))
        .frame()
        .filter(trades(min(numbers), max(numbers)).frame()["agg_trade_id"].is_in(list(numbers)))
    )


def test_on_a_full_disk_no_files_pile_up_and_writing_resumes(tmp_path):
    class Full(Disk):
        is_full = False

        def write(self, file, data):
            if self.is_full:
                super().write(file, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "full")
            super().write(file, data)

    disk = Full()
    where = symbol_dir(tmp_path, disk)
    live = journal(where)
    live.append_trades(DAY, trades(1, 2))
    disk.is_full = True
    for _ in range(20):
        with pytest.raises(OSError, match="full"):
            live.append_trades(DAY, trades(3, 4))
        with pytest.raises(OSError, match="full"):
            live.append_missing([absent(3, 4)])
    assert [file.number for file in list_journals(where)] == [1]
    assert live.applied_id == 2
    disk.is_full = False
    live.append_trades(DAY, trades(3, 4))
    live.close()
    assert ids(where) == [[1, 2], [3, 4]]
    assert contents(where)[1].follows_id == 2


def test_a_write_that_cannot_be_cut_off_is_not_read(tmp_path):
    class Broken(FailingDisk):
        def truncate(self, file, length):
            raise OSError(errno.EIO, "broken")

    disk = Broken(("write",), 4, errno.EIO)
    where = symbol_dir(tmp_path, disk)
    live = journal(where)
    live.append_trades(DAY, trades(1, 2))
    live.append_trades(DAY, trades(3, 4))
    with pytest.raises(OSError, match="Input/output"):
        live.append_trades(DAY, trades(5, 6))
    live.append_trades(DAY, trades(5, 6))
    live.close()
    assert contents(where)[0].is_incomplete
    assert ids(where) == [[1, 2, 3, 4], [5, 6]]
    assert recover_journals(where) == [], "a cut record is no damage"


def test_records_that_could_not_be_synced_are_written_again(tmp_path):
    disk = FailingDisk(("sync_data",), 1, errno.EIO)
    where = symbol_dir(tmp_path, disk)
    live = journal(where)
    live.append_trades(DAY, trades(1, 2))
    live.append_trades(DAY, trades(3, 4))
    with pytest.raises(OSError, match="Input/output"):
        live.sync()
    assert live.unsynced_records == 2
    live.sync()
    assert live.unsynced_records == 0
    live.append_trades(DAY, trades(5, 5))
    live.close()
    assert ids(where) == [[1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert [one.follows_id for one in contents(where)] == [0, 0]
    assert read_days(where)[DAY].trades.equals(trades(1, 5).frame())


def test_missing_ids_that_could_not_be_synced_do_not_count(tmp_path):
    disk = FailingDisk(("sync_data",), 1, errno.EIO)
    where = symbol_dir(tmp_path, disk)
    live = journal(where)
    live.append_trades(DAY, trades(1, 2))
    with pytest.raises(OSError, match="Input/output"):
        live.append_missing([absent(3, 3)])
    assert live.applied_id == 2
    live.append_trades(DAY, trades(3, 3))  # it arrived after all
    live.close()
    assert read_days(where)[DAY].trades.equals(trades(1, 3).frame())
    assert read_days(where)[DAY].missing == ()


def test_a_thread_syncs_while_another_appends(tmp_path):
    where = symbol_dir(tmp_path)
    live, stop, errors = journal(where), threading.Event(), []

    def sync():
        try:
            while not stop.is_set():
                live.sync()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 300):
        live.append_trades(DAY if number < 150 else NEXT, trades(number, number))
        if number % 50 == 0:
            live.append_missing([absent(1_000 + number, 1_000 + number)])
    stop.set()
    for thread in threads:
        thread.join()
    live.close()
    assert not errors
    assert list(chain(*ids(where))) == list(range(1, 300))
    assert len(list_journals(where)) == 2


# A loss of power


def left_of(file, rng):
    """Return what a loss of power may leave of a file: its synced bytes, and some of the others."""
    unsynced = file.data[len(file.synced) :]
    kept = bytearray(unsynced[: rng.randint(0, len(unsynced))])
    if kept and rng.random() < 0.3:  # its length was written, but not all of its blocks
        at = rng.randrange(len(kept))
        kept[at:] = bytes(len(kept) - at)
    return file.synced + bytes(kept)


def write_until_the_power_goes(live, disk):
    """Write records, and return what is durable after a number of operations of the disk."""
    durable = [(0, 0, 0)]
    number, missing = 0, 0
    for step in range(1, 13):
        number += 2
        live.append_trades(DAY if step < 7 else NEXT, trades(number - 1, number))
        if step % 3 == 0:
            live.append_missing([absent(number + 1, number + 1)])
            number, missing = number + 1, number + 1
        elif step % 3 == 1:
            live.sync()
        else:
            continue
        durable.append((len(disk.operations), number, missing))
    live.close()
    return durable


def test_what_was_durable_survives_a_loss_of_power(tmp_path):
    rng = random.Random(7)
    disk = RecordingDisk()
    where = symbol_dir(tmp_path / "store", disk)
    durable = write_until_the_power_goes(journal(where), disk)
    medium, found_less = Medium(), 0
    for stop, operation in enumerate(disk.operations, start=1):
        medium.apply(operation)
        known = max(one for one in durable if one[0] <= stop)
        for _ in range(repeated(2, 20)):
            names = medium.after_loss(lambda: rng.random() < 0.5)
            lay_out(names, tmp_path, tmp_path / "left")
            left = symbol_dir(tmp_path / "left" / "store")
            for path, file in names.items():
                target = tmp_path / "left" / path.relative_to(tmp_path)
                if file is not None and target.exists():
                    target.write_bytes(left_of(file, rng))
            recover_journals(left)
            found = set()
            for day in read_days(left).values():
                found |= {*day.trades["agg_trade_id"]}
                found |= {n for span in day.missing for n in range(span.first, span.last + 1)}
            assert {*range(1, known[1] + 1)} <= found
            assert known[2] == 0 or known[2] in found
            found_less += len(found) < 28
    assert found_less > 10


# Recovery


def spoil(path, rng):
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))
    return bit // 8


class Unsynced(Disk):
    """A disk that does not wait for the medium."""

    def sync(self, file):
        pass

    sync_data = sync_folder = sync


def test_flipped_bits_are_found_and_copied_aside_once(tmp_path):
    rng = random.Random(5)
    made = symbol_dir(tmp_path / "made")
    with journal(made) as live:
        ends = [64]
        for first in (1, 11, 21):
            ends.append(ends[-1] + len(live.append_trades(DAY, trades(first, first + 9))))
    with journal(made, applied_id=30) as live:
        live.append_trades(DAY, trades(31, 33))
    originals = [(file.path.name, file.path.read_bytes()) for file in list_journals(made)]
    for number in range(repeated(100, 1_000)):
        where = symbol_dir(tmp_path / str(number), Unsynced())
        where.live.mkdir(parents=True)
        for name, data in originals:
            (where.live / name).write_bytes(data)
        file = list_journals(where)[0]
        at = spoil(file.path, rng)
        (damage,) = recover_journals(where)
        assert (damage.day, damage.path) == (DAY, file.path)
        assert damage.copy.read_bytes() == file.path.read_bytes() != originals[0][1]
        assert damage.copy.parent == where.quarantine
        intact = sum(1 for end in ends[1:] if end <= at) if at >= 64 else 0
        day = read_days(where)[DAY]
        assert day.trades["agg_trade_id"].to_list() == [*range(1, 10 * intact + 1), 31, 32, 33]
        assert day.chain_end(0) == 10 * intact
        assert recover_journals(where) == [], "it is copied once"


def test_a_journal_torn_at_any_offset_is_read_up_to_there(tmp_path):
    where = symbol_dir(tmp_path)
    with journal(where) as live:
        ends = [64, *(64 + 65 * n for n in range(1, 11))]
        for number in range(1, 11):
            live.append_trades(DAY, trades(number, number))
    file = list_journals(where)[0]
    whole = file.path.read_bytes()
    assert ends[-1] == len(whole)
    rng = random.Random(3)
    for length in [0, 1, 63, 64, 65, *rng.sample(range(64, len(whole)), repeated(30, 400))]:
        file.path.write_bytes(whole[:length])
        assert recover_journals(where) == []
        content = read_journal(where, file)
        if length < 64:
            assert content is None
            continue
        count = sum(1 for end in ends[1:] if end <= length)
        assert content.trades["agg_trade_id"].to_list() == list(range(1, count + 1))
        assert content.is_incomplete == (ends[count] < length)


def test_a_newer_schema_stops_recovery(tmp_path):
    from live.test_journal_codec import modelled_header

    where = symbol_dir(tmp_path)
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 2))
    file = list_journals(where)[0]
    days = (DAY - date(1970, 1, 1)).days
    file.path.write_bytes(modelled_header(days, 1, 0, schema=2) + file.path.read_bytes()[64:])
    with pytest.raises(JournalSchemaError, match="schema 2"):
        recover_journals(where)


def test_an_unreadable_journal_is_a_storage_error_that_names_it(tmp_path):
    where = symbol_dir(tmp_path)
    with journal(where) as live:
        live.append_trades(DAY, trades(1, 2))
    file = list_journals(where)[0]
    file.path.unlink()
    assert read_journal(where, file) is None
    file.path.mkdir()
    with pytest.raises(StorageError, match=r"2026-11-02\.0001\.journal"):
        read_journal(where, file)


# Failpoints


def test_every_step_is_reported_in_its_order(tmp_path):
    seen = []
    where = symbol_dir(tmp_path)
    with on_failpoint(seen.append):
        with journal(where) as live:
            live.append_trades(DAY, trades(1, 2))
            live.append_missing([absent(3, 3)])
            live.close_day(DAY)
            live.revision("{}")
        recover_journals(where)
    own = [step for step in seen if step.area == "live"]
    half = Step.RECORD_HALF_WRITTEN
    assert own == [
        *(Step.JOURNAL_CREATED, half, Step.RECORD_WRITTEN),
        *(half, Step.MISSING_WRITTEN, Step.RECORD_SYNCED),
        *(half, Step.DAY_CLOSED),
        *(Step.JOURNAL_CREATED, half, Step.RECORD_SYNCED, Step.REVISION_WRITTEN),
        Step.JOURNALS_RECOVERED,
    ]


def test_an_interrupt_within_a_record_leaves_no_half_of_it(tmp_path):
    where = symbol_dir(tmp_path)
    live = journal(where)
    live.append_trades(DAY, trades(1, 2))

    def interrupt(step):
        if step is Step.RECORD_HALF_WRITTEN:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), on_failpoint(interrupt):
        live.append_trades(DAY, trades(3, 4))
    live.append_trades(DAY, trades(3, 4))
    live.close()
    assert ids(where) == [[1, 2], [3, 4]]
    assert all(b > a for a, b in pairwise(file.number for file in list_journals(where)))
