"""Two populations of one series: one works, the other is refused, and late writes do not count."""

from __future__ import annotations

import re
import signal
import socket
import threading
from datetime import date, timedelta

import pytest

from exchange import Exchange, Tape, faults
from population.oracle import chains, counts, judge, spec, table
from population.places import Place
from population.tape import ONE_DAY, SYMBOL, store, tape
from population.workers import go_on, go_on_to_the_end, held
from rangebar_polars.cli import main
from rangebar_polars.exceptions import LeaseError
from rangebar_polars.populate.local_checkpoint import list_local

FIRST, LAST = date(2024, 1, 25), date(2024, 2, 5)
TICKS = tape(FIRST, LAST)
CALL = {
    "symbol": SYMBOL,
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "threshold_decimal_bps": [250, 400],
    "ouroboros": "week",
    "notify": False,
}
RESET = "week"


def run(place, **options):
    return place.populate(FIRST, LAST, [250, 400], ouroboros=RESET, **options)


@pytest.fixture(scope="module")
def clean(new_folder):
    place = Place(new_folder())
    store(place.folder, TICKS)
    with place.open():
        assert int(run(place)) > 50
        return place.folder, table(place)


def test_a_population_that_waits_for_the_exchange_keeps_its_lease(workers, embedded):
    """The folder is free meanwhile, so the lease of the series decides."""
    days = ("2024-12-30", "2024-12-31")
    tape_of_two_days = Tape.generate("BTCUSDT", days[0], days=2, per_day=300)
    with Exchange(tape_of_two_days) as box, pytest.MonkeyPatch.context() as patch:
        for name, value in box.environment.items():
            patch.setenv(name, value)
        waiting = threading.Event()

        def stall(request, answer):
            waiting.set()
            return faults.stall()(request, answer)

        rule = box.fail(box.path(days[1]), stall, times=None, method="GET")
        child = workers.start(
            "populate", symbol=SYMBOL, start_date=days[0], end_date=days[1], **embedded.arguments
        )
        assert waiting.wait(600)
        with embedded.open():
            before = counts(embedded)
            for thresholds in (250, [1000, 250]):
                with pytest.raises(
                    LeaseError, match=f"process `{child.process}` is already writing"
                ):
                    embedded.populate(*days, thresholds)
            assert counts(embedded) == before
        rule.cancel()
        assert child.kill() == signal.SIGKILL
        with embedded.open():
            assert int(embedded.populate(*days)) > 0


def test_two_at_once_on_a_server(workers, clean, server, new_folder):
    folder, expected = clean
    server.with_ticks_of(folder)
    steps = new_folder()
    child = workers.start(
        "populate",
        hold_at={"folder": str(steps), "prefix": "cache:LEASES_TAKEN"},
        **CALL,
        **server.arguments,
    )
    held(steps, 1)
    before = counts(server, "bars", "units")
    with pytest.raises(LeaseError, match=f"process `{child.process}` on") as caught:
        run(server)
    assert f"{child.process}" in caught.value.holder
    assert counts(server, "bars", "units") == before == {"bars": 0, "units": 0}
    go_on(steps, 1)
    assert child.result() > 0
    judge(server, expected, lambda: run(server))


RUNNING = re.compile(
    r"rangebar: running: BTCUSDT \(binance/spot\) at (\d+) dbps, week (\S+): (\d+) days? of bars "
    r".*stored(?:, the last is (\S+))?; (\d+) days? of ticks \(process (\d+) on (\S+)\)"
)


def test_the_status_of_a_cache_names_a_running_population_and_its_progress(
    workers, clean, server, new_folder, capsys
):
    """It pauses when the bars of the first group of days are published."""
    folder, _ = clean
    server.with_ticks_of(folder)
    steps = new_folder()
    child = workers.start(
        "populate",
        hold_at={"folder": str(steps), "prefix": "cache:UNITS_INSERTED"},
        **CALL,
        **server.arguments,
    )
    held(steps, 1)
    status = ["cache", "status", "--dsn", server.dsn, "--cache-dir", str(server.folder)]
    assert main(status) == 0
    writer = (str(child.process), socket.gethostname())
    weeks = [
        ("2024-01-21", "3", "2024-01-27", "3"),
        ("2024-01-28", "4", "2024-01-31", "7"),
        ("2024-02-04", "0", None, "2"),
    ]
    said = capsys.readouterr().err.splitlines()
    running = [RUNNING.fullmatch(line) for line in said if "running: " in line]
    assert [one.groups() for one in running] == [
        (threshold, *week, *writer) for threshold in ("250", "400") for week in weeks
    ]
    go_on_to_the_end(steps)
    assert child.result() > 0
    assert main(status) == 0
    assert "running: " not in capsys.readouterr().err


def test_two_that_start_in_the_same_moment(workers, clean, place):
    folder, expected = clean
    place.with_ticks_of(folder)
    both = [workers.start("populate_or_lease", **CALL, **place.arguments) for _ in range(2)]
    results = [one.result() for one in both]
    wrote = [one for one in results if isinstance(one, int)]
    refused = [one for one in results if not isinstance(one, int)]
    # On a server both may see each other at the same moment, and one be taken over later.
    names = {name for name, _ in refused}
    assert names <= ({"LeaseError"} if place.dsn is None else {"LeaseError", "LeaseLostError"})
    total = sum(len(rows[6]) - rows[5] for rows in expected)
    if not refused or place.dsn is None:
        assert sum(wrote) == total
    run(place)
    judge(place, expected, lambda: run(place))


def test_another_machine_resumes_where_one_was_killed(workers, clean, server, new_folder):
    folder, expected = clean
    server.with_ticks_of(folder)
    child = workers.start(
        "populate", die_at=("cache:LEASES_RELEASED", 1), **CALL, **server.arguments
    )
    assert child.ended() == signal.SIGKILL
    other_dsn = Place(server.folder, f"{server.dsn}_other")
    child = workers.start(
        "populate", die_at=("cache:UNITS_PROVED", 1), **CALL, **other_dsn.arguments
    )
    assert child.ended() == signal.SIGKILL
    assert list_local(other_dsn.folder), "the first machine has copies of its own"
    elsewhere = other_dsn.elsewhere(new_folder()).with_ticks_of(folder)
    with elsewhere.open() as cache:
        done = sum(len(chain.units) for chain in chains(cache).values())
        units = sum(1 for _ in expected)
        assert 0.2 < done / units < 0.8
        report = run(elsewhere)
        assert report.published == units - done
        judge(elsewhere, expected, lambda: run(elsewhere))
    # With its old copies, the first machine sees that nothing is left to do.
    assert int(run(other_dsn)) == 0


@pytest.mark.parametrize("step", ["BARS_BEFORE", "BARS_PROVED", "UNITS_INSERTED"])
def test_a_writer_that_was_taken_over_changes_nothing(workers, clean, server, new_folder, step):
    """It sleeps through its heartbeats, and wakes up in the middle of a group."""
    folder, expected = clean
    server.with_ticks_of(folder)
    steps = new_folder()
    sleeper = workers.start(
        "populate",
        hold_at={"folder": str(steps), "prefix": f"cache:{step}"},
        **CALL,
        **server.arguments,
    )
    held(steps, 1)
    elsewhere = server.elsewhere(new_folder()).with_ticks_of(folder)
    taker = workers.start("populate", impatient_s=0.02, **CALL, **elsewhere.arguments)
    assert taker.result() >= 0
    assert table(server) == expected
    visible = units_of(server)
    go_on_to_the_end(steps)
    assert "LeaseLostError" in sleeper.error()
    assert units_of(server) == visible
    judge(server, expected, lambda: run(server))


def units_of(place):
    with place.open() as cache:
        return {
            (series, unit.day): unit.attempt
            for series, chain in chains(cache).items()
            for unit in chain.units
        }


def test_other_thresholds_and_segments_do_not_conflict(workers, clean, server, new_folder):
    folder, _ = clean
    server.with_ticks_of(folder)
    steps = new_folder()
    child = workers.start(
        "populate",
        hold_at={"folder": str(steps), "prefix": "cache:LEASES_TAKEN"},
        **{**CALL, "end_date": str(FIRST + ONE_DAY)},
        **server.arguments,
    )
    held(steps, 1)
    week = FIRST + timedelta(days=7)
    assert int(server.populate(week, LAST, [250, 400], ouroboros=RESET)) > 0
    assert int(server.populate(FIRST, LAST, 1000, ouroboros=RESET)) > 0
    with pytest.raises(LeaseError):
        server.populate(FIRST, LAST, [400, 1000], ouroboros=RESET)
    go_on(steps, 1)
    assert child.result() >= 0
    with server.open() as cache:
        assert chains(cache, [spec(reset=RESET)])
