"""A writer that is killed at any step: what it said was written is there, and its successor goes on."""

from __future__ import annotations

import json
import os
import signal
from datetime import date, timedelta

import pytest

from live.test_journal import absent, read_days, symbol_dir, trades
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.storage.live.journal import LiveJournal
from rangebar_polars.storage.live.live_days import recover_journals
from rangebar_polars.storage.live.state_file import read_state, write_state
from rangebar_polars.storage.live.writer_lock import WriterLock, has_writer
from storage.disks import KillAt

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)
#: Steps that others reach: consumers, and the helper (`test_consumer_kills`, `test_finalize`).
ELSEWHERE = {
    Step.DELIVERED,
    Step.CURSOR_SAVED,
    Step.DAY_COMPACTED,
    Step.DAY_FINAL,
    Step.UNITS_STORED,
    Step.REVISED,
}
STEPS = [step for step in Step if step.area == "live" and step not in ELSEWHERE]


def write(where, applied_id, say):
    """Stream some trades as a writer does; say the applied id after each record."""
    with WriterLock.take(where):
        recover_journals(where)
        live = LiveJournal(where, day=DAY, applied_id=applied_id)
        for first in range(applied_id + 1, 12, 3):
            live.append_trades(DAY, trades(first, first + 1))
            say(first + 1)
            live.append_missing([absent(first + 2, first + 2)])
            say(first + 2)
            write_state(where, {"applied_id": live.applied_id})
        live.sync()
        live.close_day(DAY)
        live.append_trades(NEXT, trades(live.applied_id + 1, live.applied_id + 2, NEXT))
        say(live.applied_id)
        live.revision("{}")
        live.close()
    return live.applied_id


def killed(where, applied_id, step, number):
    """Write in a child that is killed at a step; return the last id that it said, or None if it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with on_failpoint(KillAt(step, number)):
                write(where, applied_id, lambda n: os.write(writer, b"%d\n" % n))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().split()
    _, status = os.waitpid(child, 0)
    is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert is_killed or status == 0
    return int(said[-1]) if said else applied_id, is_killed


def stored_upto(where):
    """Return where the chain of ids ends in the journals."""
    known = set()
    for day in read_days(where).values():
        ids = day.trades["agg_trade_id"].to_list()
        missing = [n for span in day.missing for n in range(span.first, span.last + 1)]
        assert not {*ids} & {*missing}
        known |= {*ids, *missing}
    end = 0
    while end + 1 in known:
        end += 1
    assert known <= set(range(1, end + 1))
    return end


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_that_is_killed_loses_nothing_that_it_said(tmp_path, step):
    number, is_killed = 0, True
    while is_killed:
        number += 1
        where = symbol_dir(tmp_path / str(number))
        where.root.mkdir()
        said, is_killed = killed(where, 0, step, number)
        end = stored_upto(where)
        assert said <= end <= said + 3
        assert not has_writer(where)
        state = read_state(where)
        assert state is None or state["applied_id"] <= end
        last = write(where, end, lambda _: None)
        assert stored_upto(where) == last
        assert all(day.is_closed for day in [read_days(where)[DAY]])
    assert number > 1, "the step was never reached"
    assert json.dumps(read_state(where))
