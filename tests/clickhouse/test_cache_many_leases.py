"""More leases and series than one query or the limit of open files allows."""

from __future__ import annotations

import fcntl
import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from series_data import bars_on, drafts

from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.commit.lease_files import SpecLocks
from rangebar_polars.clickhouse.commit.leases import hold_leases
from rangebar_polars.clickhouse.commit.publish import publish
from rangebar_polars.clickhouse.connection import sql
from rangebar_polars.clickhouse.drop import drop
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import LeaseError

ONE_DAY = timedelta(days=1)
FIRST = date(2014, 1, 1)
THRESHOLDS = (250, 500, 750, 1000, 1250)
TEN_YEARS = 3_650


def days(count):
    return [FIRST + offset * ONE_DAY for offset in range(count)]


def daily(threshold=250):
    return BarSpec.of("BTCUSDT", threshold, reset="day")


def keys_of(count, threshold=250):
    """Return the keys of the first days, in order."""
    spec = daily(threshold)
    return [spec.series(day).lease_key for day in days(count)]


def hold(place, keys, **options):
    return hold_leases(keys, place.dsn, cache_dir=place.folder, **options)


def open_lease_files():
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return [link for link in links if ".leases/" in link]


def test_leases_of_ten_years_of_days_are_held(place):
    keys = [key for threshold in THRESHOLDS for key in keys_of(TEN_YEARS, threshold)]
    with hold(place, keys) as leases, place.open() as cache:
        assert len(leases.fencing) == len(keys) == len(THRESHOLDS) * TEN_YEARS
        leases.check(cache)
        leases.verify(cache)
        if Path("/proc/self/fd").is_dir():
            assert len(open_lease_files()) == (len(THRESHOLDS) if place.dsn is None else 0)
        with (
            pytest.raises(LeaseError, match="1000 dbps, day 2015-05-16"),
            hold(place, [keys[11_450]]),
        ):
            pass
    with hold(place, keys[:2]) as again:
        assert again.fencing == {key: leases.fencing[key] + 1 for key in keys[:2]}
    assert not open_lease_files()


HOLD = """
import os, select, sys
from test_cache_many_leases import keys_of
from rangebar_polars.clickhouse.commit.leases import hold_leases
first, end = map(int, sys.argv[2:4])
with hold_leases(keys_of(end)[first:], cache_dir=sys.argv[1]):
    print(os.getpid(), flush=True)
    if sys.argv[4:] and os.fork() == 0:
        print("forked", flush=True)
        # Wait for the end of the input without taking the line that the parent waits for.
        hung_up = select.poll()
        hung_up.register(0, 0)
        hung_up.poll()
        os._exit(0)
    sys.stdin.readline()
print("done", flush=True)
sys.stdin.read()
"""


def test_segments_of_one_lock_file_have_separate_holders(embedded, run):
    first, second = run(HOLD, embedded.folder, 0, 100), run(HOLD, embedded.folder, 100, 200)
    holders = [int(process.stdout.readline()) for process in (first, second)]
    keys = keys_of(250)
    for place, holder in [(99, holders[0]), (100, holders[1])]:
        with pytest.raises(LeaseError, match=f"`{holder}`"), hold(embedded, [keys[place]]):
            pass
    first.kill()
    first.wait()
    with hold(embedded, keys[:100]), pytest.raises(LeaseError), hold(embedded, keys[150:]):
        pass


@pytest.mark.parametrize("end", ["killed", "done"])
def test_a_forked_child_has_no_lease(embedded, run, end):
    parent = run(HOLD, embedded.folder, 0, 100, "fork")
    assert {parent.stdout.readline(), parent.stdout.readline()} == {"forked\n", f"{parent.pid}\n"}
    with pytest.raises(LeaseError), hold(embedded, keys_of(1)):
        pass
    if end == "killed":
        parent.kill()
        parent.wait()
    else:
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "done\n"
    with hold(embedded, keys_of(100)):
        pass


@pytest.mark.parametrize("has_parts", [True, False])
def test_a_lock_has_one_holder(tmp_path, monkeypatch, has_parts):
    """Lock parts of a file or, on a system without such locks, the whole file."""
    if not has_parts:
        monkeypatch.delattr(fcntl, "F_OFD_SETLK", raising=False)
        monkeypatch.delattr(fcntl, "F_OFD_GETLK", raising=False)
    elif not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("the system has no locks on a part of an open file")
    one, two = SpecLocks(tmp_path / "family"), SpecLocks(tmp_path / "family")
    some, others = days(5), days(9)[5:]
    assert two.first_taken(some) is None
    assert one.try_acquire(some) is None
    assert two.first_taken(some[2:]) == two.try_acquire(some[2:]) == some[2]
    assert two.holder(some[2]) == os.getpid()
    assert two.holder(others[0]) is None
    assert two.first_taken(others) == two.try_acquire(others) == (None if has_parts else others[0])
    two.release()
    assert two.try_acquire([*others, some[-1]]) is not None
    # Segments locked before the refusal are free again.
    assert SpecLocks(tmp_path / "family").first_taken(others) == (None if has_parts else others[0])
    one.release()
    one.release()
    assert two.try_acquire([*others, *some]) is None
    two.release()


@pytest.fixture
def small_queries(monkeypatch):
    monkeypatch.setattr(sql, "MOST_CHARACTERS", 60)


@pytest.mark.usefixtures("small_queries")
def test_a_drop_in_several_queries_removes_exactly_its_series(place):
    with place.open(write=True) as cache:
        specs = [daily(threshold) for threshold in (250, 500)]
        series = [spec.series(day) for spec in specs for day in days(10)]
        publish(cache, [one for each in series for one in drafts(1, series=each)])
        gone = [spec.series(day) for spec in specs for day in days(10)[3:8]]
        assert len(drop(cache, gone).series) == len(gone)
        left = {series for series, chain in read_chains(cache).items() if chain.units}
        assert left == set(series) - set(gone)
        bars = f"SELECT count() FROM {cache.table('bars')}"
        assert cache.scalar(bars) == sum(bars_on(FIRST).height for _ in left)
