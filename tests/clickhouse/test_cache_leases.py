"""One writer at a time: by the kernel in a folder, by rows on a server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from places import QUICK
from series_data import SERIES, SPEC, drafts

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit import leases as module
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.exceptions import LeaseError, LeaseLostError

KEYS = [
    BarSpec.of("BTCUSDT", threshold).series(SERIES.anchor).lease_key
    for threshold in (250, 500, 750)
]
LATE = SPEC.series(SERIES.first_day.replace(month=5)).lease_key

HOLD = """
import sys
from series_data import SERIES
from rangebar_polars.clickhouse.commit.leases import hold_leases
with hold_leases([SERIES.lease_key], sys.argv[2] or None, cache_dir=sys.argv[1]) as leases:
    print("open", leases.fencing[SERIES.lease_key], flush=True)
    sys.stdin.read()
print("done", flush=True)
"""


def held_by(run, place):
    process = run(HOLD, place.folder, place.dsn or "")
    words = process.stdout.readline().split()
    assert words[:1] == ["open"], process.stderr.read()
    return process, int(words[1])


def hold(place, keys, **options):
    return hold_leases(keys, place.dsn, cache_dir=place.folder, **options)


def test_leases_are_taken_and_released(place):
    with hold(place, KEYS) as leases, place.open() as cache:
        assert set(leases.fencing) == set(KEYS)
        leases.check(cache)
    with hold(place, KEYS) as again:
        assert all(again.fencing[key] == leases.fencing[key] + 1 for key in KEYS)


def test_a_second_writer_in_the_same_process_is_refused(place):
    with hold(place, [KEYS[1]]):
        with (
            pytest.raises(LeaseError, match="is already writing BTCUSDT") as caught,
            hold(place, KEYS),
        ):
            pass
        assert str(os.getpid()) in caught.value.holder
        # All or none: leases taken before the refusal are free again.
        with hold(place, [KEYS[0], KEYS[2]]):
            pass


def test_another_series_may_be_written_at_the_same_time(place):
    other = BarSpec.of("BTCUSDT", 250, reset="month").series(SERIES.anchor).lease_key
    with hold(place, KEYS), hold(place, [other]):
        pass


def test_a_lease_does_not_depend_on_the_anchor():
    assert LATE == SERIES.lease_key == KEYS[0]


def test_a_writer_in_another_process_is_named(place, run):
    process, number = held_by(run, place)
    with pytest.raises(LeaseError, match=f"`{process.pid}`"), hold(place, KEYS):
        pass
    process.communicate(timeout=600)
    with hold(place, KEYS) as leases:
        assert leases.fencing[SERIES.lease_key] == number + 1


def test_the_lease_of_a_killed_writer_is_taken_over_at_once(place, run):
    process, number = held_by(run, place)
    process.kill()
    process.wait()
    with hold(place, KEYS) as leases:
        assert leases.fencing[SERIES.lease_key] == number + 1


# --- rows of a server ----------------------------------------------------------------------------


@pytest.fixture
def rows(server):
    with server.open(write=True) as cache:
        cache.writes = cache.reads = QUICK
        yield cache


def claim(cache, *, fencing=7, holder=1, host="elsewhere", process=1, age_s=0.0, released=False):
    """Insert a row as another writer does, with the time of the database."""
    boot = module._boot_id() if host == socket.gethostname() else "another"
    key = ", ".join(literal(value) for value in SERIES.lease_key)
    cache.command(
        f"INSERT INTO {cache.table('leases')} SELECT {key}, {fencing}, {holder}, '{host}', '{boot}', "
        f"{process}, {released}, toUnixTimestamp64Micro(now64(6)) - toInt64({age_s * 1e6})"
    )


def test_a_writer_on_another_machine_is_taken_over_after_three_missed_heartbeats(server, rows):
    assert module.HEARTBEAT_S == 10
    # With such a long heartbeat, the time between two statements does not matter.
    claim(rows, age_s=25_000)
    with (
        pytest.raises(LeaseError, match="`elsewhere`"),
        hold(server, KEYS, heartbeat_s=10_000),
    ):
        pass
    claim(rows, fencing=8, age_s=30_001)
    with hold(server, KEYS, heartbeat_s=10_000) as leases:
        assert leases.fencing[SERIES.lease_key] == 9


def test_a_released_lease_is_free(server, rows):
    claim(rows, released=True)
    with hold(server, KEYS) as leases:
        assert leases.fencing[SERIES.lease_key] == 8


def test_an_ended_process_of_this_machine_is_taken_over_at_once(server, rows):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claim(rows, host=socket.gethostname(), process=ended.pid)
    with hold(server, KEYS) as leases:
        assert leases.fencing[SERIES.lease_key] == 8


def test_a_running_process_of_this_machine_is_taken_over_after_missed_heartbeats(server, rows):
    claim(rows, host=socket.gethostname(), process=os.getppid())
    with pytest.raises(LeaseError), hold(server, KEYS, heartbeat_s=10_000):
        pass
    claim(rows, fencing=8, host=socket.gethostname(), process=os.getppid(), age_s=30_001)
    with hold(server, KEYS, heartbeat_s=10_000):
        pass


def test_a_number_that_two_writers_took_is_replaced_by_the_next(server, rows):
    claim(rows, holder=1)
    claim(rows, holder=2)
    with hold(server, KEYS) as leases:
        assert leases.fencing[SERIES.lease_key] == 8


def test_simultaneous_writers_never_share_a_number(server, rows):
    together = threading.Barrier(4)

    def take(_):
        together.wait()
        try:
            with hold(server, [SERIES.lease_key]) as leases:
                return leases.fencing[SERIES.lease_key]
        except LeaseError:
            return None

    with ThreadPoolExecutor(4) as pool:
        numbers = [n for _ in range(5) for n in pool.map(take, range(4)) if n is not None]
    assert len(numbers) >= 5
    assert len(set(numbers)) == len(numbers)


def test_a_writer_that_was_taken_over_gets_an_error_and_its_units_are_invisible(server, rows):
    key = SERIES.lease_key
    with hold(server, [key]) as old:
        claim(rows, fencing=old.fencing[key] + 1, host="elsewhere")
        publish(rows, drafts(1, fencing=old.fencing[key] + 1))
        with pytest.raises(LeaseLostError, match="`elsewhere`"):
            old.check(rows)
        with pytest.raises(LeaseLostError):
            publish(rows, drafts(1, fencing=old.fencing[key]))


def test_a_writer_that_computes_for_long_sends_heartbeats(server, rows):
    beats = f"SELECT uniqExact(beat_us) FROM {rows.table('leases')}"
    with hold(server, [SERIES.lease_key], heartbeat_s=0.02):
        while rows.scalar(beats) < 4:
            pass


def test_a_failed_heartbeat_does_not_end_the_writer(bridge, server, rows):
    with hold(server, [SERIES.lease_key], heartbeat_s=0.01) as leases:
        bridge.fail(*["503"] * 20, match=f"`{rows.database}`.leases")
        while bridge.fail(match="-"):
            bridge.fail(match="-")
        leases.check(rows)
