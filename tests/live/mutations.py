"""Breaks copies of the package of live bars, one at a time, and prints which tests fail for each.

    python tests/live/mutations.py [WORD ...]

Not collected by pytest: run it by hand; it takes some minutes. It exits with 1 if a broken copy
passes. With words, it runs only the mutations whose names contain one of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent))

from mutants import Mutation, run_mutations  # noqa: E402 - the folder of the tests is known now

PUSH_FIRST = """\
        pushed = []
        if batch is not None and batch.day is not None:
            from rangebar_polars.storage.live.journal import encode_columns

            pushed = series.push(batch.day, encode_columns(batch.trades))
        try:
            while self._late:
"""
MUTATIONS = [
    Mutation(
        "trades are pushed before they are written",
        (
            (
                "live/symbol.py",
                "        try:\n            while self._late:\n",
                PUSH_FIRST,
            ),
            ("live/symbol.py", "bars = series.push(batch.day, record)", "bars = pushed"),
        ),
        ("test_live_symbol.py",),
    ),
    Mutation(
        "bars are delivered across a gap",
        (
            (
                "live/protocol/sequencing.py",
                "            count = self._consecutive(next_id)\n",
                "            count = len(self._held)\n",
            ),
        ),
        ("test_sequencing.py::test_a_gap_holds_back_what_is_above_it",),
    ),
    Mutation(
        "the cursor is written after the first bar",
        (("live/consumers/delivery.py", "        if state.saves_first:\n", "        if False:\n"),),
        ("test_cursors.py::test_the_cursor_is_stored_before_the_first_bar_is_delivered",),
    ),
    Mutation(
        "a journal of an earlier process is appended to",
        (
            (
                "storage/live/journal.py",
                "        number = max(numbers, default=0) + 1\n",
                "        number = max(numbers, default=1)\n",
            ),
            ("_files/disk.py", "os.O_WRONLY | os.O_CREAT | os.O_EXCL", "os.O_WRONLY | os.O_CREAT"),
        ),
        ("test_journal.py::test_a_file_of_an_earlier_process_is_never_appended_to",),
    ),
    Mutation(
        "a record of missing ids is not synced",
        (
            (
                "storage/live/journal.py",
                "        failpoint(Step.MISSING_WRITTEN)\n        try:\n            self.sync()\n",
                "        failpoint(Step.MISSING_WRITTEN)\n        try:\n            pass\n",
            ),
        ),
        (
            "test_journal.py::test_missing_ids_that_could_not_be_synced_do_not_count",
            "test_journal.py::test_what_was_durable_survives_a_loss_of_power",
        ),
    ),
    Mutation(
        "a connection that answers pings counts as one that delivers",
        (
            (
                "live/protocol/freshness.py",
                "        is_silent = reached_id < self._ahead_id\n",
                "        is_silent = False\n",
            ),
        ),
        ("test_protocol_rules.py",),
    ),
    Mutation(
        "one answer of REST confirms that ids are missing",
        (
            (
                "live/protocol/gaps.py",
                "        if gap.absent_at is None:\n            gap.absent_at = now\n",
                "        if gap.absent_at is None:\n            return True\n",
            ),
        ),
        ("test_sequencing.py", "test_sequencing_laws.py"),
    ),
    Mutation(
        "journals replace a day file instead of joining it",
        (
            (
                "storage/live/compact.py",
                "    if old is not None and old.is_stored and old.rows:\n",
                "    if False:\n",
            ),
        ),
        ("test_compact.py",),
    ),
]


if __name__ == "__main__":
    raise SystemExit(run_mutations(MUTATIONS, TESTS, sys.argv[1:]))
