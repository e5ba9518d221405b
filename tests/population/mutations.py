"""Breaks copies of the package, one at a time, and prints which proofs fail for each.

    python tests/population/mutations.py [WORD ...]

Not collected by pytest: run it by hand; it takes some minutes. It exits with 1 if a broken copy
passes. With words, it runs only the mutations whose names contain one of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent))

from mutants import Mutation, run_mutations  # noqa: E402 - the folder of the tests is known now

SENDING = """\
        with driver.writing(self.target.address):
            self.writes.run(
                lambda: self._client.raw_insert(
"""
MUTATIONS = [
    Mutation(
        "a unit is published without its state",
        (
            (
                "clickhouse/commit/publish.py",
                '"processor_state": draft.state',
                '"processor_state": b""',
            ),
        ),
        ("test_whole_path.py", "test_copies.py"),
    ),
    Mutation(
        "rows are keyed without their attempt",
        (
            (
                "clickhouse/schema/tables.py",
                '(*_names(_SERIES), "unit_day", "attempt", "bar_seq")',
                '(*_names(_SERIES), "unit_day", "bar_seq")',
            ),
        ),
        ("test_server_faults.py::test_rows_of_a_dead_writer_do_not_count",),
    ),
    Mutation(
        "rows are keyed without the anchor",
        (
            (
                "bar_series/identity.py",
                "return SeriesKey(*self.spec.key, self.segment_start, self.anchor_us)",
                "return SeriesKey(*self.spec.key, self.segment_start, 0)",
            ),
        ),
        ("test_no_mixture.py",),
    ),
    Mutation(
        "series are selected without the anchor: the first one that reaches far enough answers",
        (
            (
                "bar_series/selection.py",
                "begun = [chain for chain in chains if chain.series.anchor <= part.start]",
                "begun = list(chains)",
            ),
        ),
        ("test_no_mixture.py",),
    ),
    Mutation(
        "the winner is the one that came last",
        (
            (
                "bar_series/units.py",
                "    last_close_us: int | None\n",
                "    last_close_us: int | None\n    written_at: object\n",
            ),
            (
                "bar_series/units.py",
                "return (-unit.fencing, unit.attempt) < (-rival.fencing, rival.attempt)",
                "return unit.written_at > rival.written_at",
            ),
        ),
        ("test_two_at_once.py",),
    ),
    Mutation(
        "a unit counts whatever it was built on",
        (
            (
                "bar_series/units.py",
                "key = (unit.day, unit.generation, unit.built_on)",
                "key = (unit.day, unit.generation, 0)",
            ),
            (
                "bar_series/units.py",
                "winner = winners.get((day, newest, built_on))",
                "winner = winners.get((day, newest, 0 * built_on))",
            ),
        ),
        ("test_two_at_once.py", "../clickhouse/test_cache_units.py"),
    ),
    Mutation(
        "the frontier is the latest day that was seen",
        (
            (
                "populate/plan.py",
                "    first_day = chain.frontier\n",
                "    first_day = max(c.frontier for c in [chain, *stored])\n",
            ),
        ),
        ("test_no_mixture.py",),
    ),
    Mutation(
        "a new series loses the feature groups of its family",
        (("populate/plan.py", "family.joined(wanted, wanted.window)", "wanted"),),
        ("../pipeline/test_groups_stored.py",),
    ),
    Mutation(
        "bars are not read back",
        (
            (
                "clickhouse/commit/publish.py",
                "pending = [attempt for attempt in pending if stored.get(attempt.number) != attempt.expected]",
                "pending = [attempt for attempt in pending if stored is None]",
            ),
        ),
        ("test_server_faults.py::test_rows_that_a_server_took_and_lost_are_sent_again",),
    ),
    Mutation(
        "units are published before their bars",
        (
            ("clickhouse/commit/publish.py", "    _send_bars(cache, attempts)\n", ""),
            (
                "clickhouse/commit/publish.py",
                "    failpoint(Step.UNITS_INSERTED)\n",
                "    failpoint(Step.UNITS_INSERTED)\n    _send_bars(cache, attempts)\n",
            ),
        ),
        ("test_whole_path.py", "test_random_kills.py"),
    ),
    Mutation(
        "an error of a write is swallowed",
        (
            (
                "clickhouse/connection/client.py",
                SENDING,
                SENDING.replace("driver.writing(self.target.address)", "suppress(Exception)"),
            ),
            (
                "clickhouse/connection/client.py",
                "import io\n",
                "import io\nfrom contextlib import suppress\n",
            ),
        ),
        ("test_server_faults.py::test_an_insert_that_fails_for_good_is_an_error",),
    ),
    Mutation(
        "an open rebuild is visible",
        (
            (
                "clickhouse/query/units.py",
                "or (rebuild.state == OPEN and (series, rebuild.number) in as_if)",
                "or rebuild.state == OPEN",
            ),
        ),
        ("test_rebuild_under_readers.py",),
    ),
    Mutation(
        "a lease on a server keeps no writer away",
        (
            (
                "clickhouse/commit/leases.py",
                "        claim.claims == 1\n",
                "        claim.claims == -1\n",
            ),
        ),
        ("test_two_at_once.py",),
    ),
    Mutation(
        "the folder is never yielded",
        (
            (
                "clickhouse/shared.py",
                "if self._cache is None or self._lock is None or not self._lock.is_wanted():",
                "if True:",
            ),
        ),
        ("test_shared_folder.py",),
    ),
]


if __name__ == "__main__":
    raise SystemExit(run_mutations(MUTATIONS, TESTS, sys.argv[1:]))
