"""Digests of states that outlive a writer, and the revisions that follow from them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from exchange import Tape
from live.market import SYMBOL
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.bar_series.live_builders import bars_digest, bars_state
from rangebar_polars.compute.builder import RangeBarBuilder
from rangebar_polars.live.finalizing.digests import (
    begin_revisions,
    digest_values,
    digests_of,
    later_digests,
)
from rangebar_polars.live.finalizing.revising import Revision, newest_revision
from rangebar_polars.live.helper.base import Base

DAY = date(2026, 11, 2)
NEXT = DAY + timedelta(days=1)
SERIES = [BarSpec.of(SYMBOL, dbps).series(DAY) for dbps in (250, 500)]
TICKS = (
    Tape.generate(SYMBOL, DAY, days=1, per_day=300, absent=0, archive_lacks=0).day(DAY).head(250)
)


def base_of(ticks, threshold):
    builder = RangeBarBuilder(threshold, features="microstructure", incomplete="keep")
    builder.push(ticks)
    return Base(bars_state(builder.checkpoint()), NEXT, int(ticks["agg_trade_id"][-1]))


@pytest.fixture(scope="module")
def bases():
    return [base_of(TICKS, 250), base_of(TICKS, 500)]


class Journal(list):
    revision = list.append


def known(bases, day=DAY):
    return {
        (series, day): bars_digest(base.state) for series, base in zip(SERIES, bases, strict=True)
    }


def test_a_state_with_the_digest_of_before_is_no_revision(bases):
    journal = Journal()
    assert begin_revisions(journal, SERIES, bases, [], known(bases)) == (0, 0)
    assert begin_revisions(journal, SERIES, bases, [], {}) == (0, 0)
    # Those of another day say nothing.
    assert begin_revisions(journal, SERIES, bases, [], known(bases[::-1], NEXT)) == (0, 0)
    assert journal == []


def test_another_state_is_a_revision_that_is_written(bases):
    journal = Journal()
    other = [bases[0], base_of(TICKS.head(200), 500)]
    earlier = [Revision(SERIES[0], DAY, bases[0]).text(7)]
    first, second = begin_revisions(journal, SERIES, other, earlier, known(bases))
    assert (first, len(journal)) == (7, 1)
    assert newest_revision(journal, SERIES[1]) == second > 7
    # The next start knows it, whether or not the state file does.
    again = Journal()
    numbers = begin_revisions(again, SERIES, other, [*earlier, *journal], known(bases))
    assert (numbers, again) == ((7, second), [])
    # And a further state is a further revision.
    third = [bases[0], base_of(TICKS.head(100), 500)]
    numbers = begin_revisions(again, SERIES, third, [*earlier, *journal], known(bases))
    assert numbers[0] == 7
    assert numbers[1] > second
    assert len(again) == 1


def test_a_number_is_above_those_of_all_series(bases):
    journal = Journal()
    earlier = [Revision(SERIES[0], DAY, bases[0]).text(9_999_999_999)]
    other = [bases[0], base_of(TICKS.head(200), 500)]
    assert begin_revisions(journal, SERIES, other, earlier, known(bases))[1] == 10_000_000_000


def test_a_record_that_cannot_be_written_is_an_error(bases):
    class Full(Journal):
        def revision(self, text):
            raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        begin_revisions(Full(), SERIES, bases[::-1], [], known(bases))


def test_later_digests_hold_while_the_state_is_the_same(bases):
    own = dict(zip(SERIES, bases, strict=True))
    digests = known(bases) | {(SERIES[0], NEXT): "a", (SERIES[1], NEXT): "b"}
    later = {(SERIES[0], NEXT): "a", (SERIES[1], NEXT): "b"}
    assert later_digests(digests, own) == later
    own[SERIES[1]] = base_of(TICKS.head(200), 500)
    assert later_digests(digests, own) == {(SERIES[0], NEXT): "a"}
    # Without a digest of the state nothing contradicts those that follow.
    assert later_digests(later, own) == later


@pytest.mark.parametrize(
    "values",
    [
        None,
        7,
        "text",
        [None, 1, "x", [], {}],
        [{"series": {}, "day": "2026-11-02", "digest": "a"}],
        [{"series": 5, "day": "2026-11-02", "digest": "a"}],
    ],
)
def test_what_a_state_file_says_wrongly_is_left_out(values, bases):
    assert digests_of({"digests": values}) == {}
    good = digest_values(known(bases))
    spoiled = [{**one, "day": "2026-13-02"} for one in good]
    spoiled += [{**one, "series": {**one["series"], "rules": [1]}} for one in good]
    spoiled += [{**one, "series": {**one["series"], "anchor_us": 10**30}} for one in good]
    assert digests_of({"digests": [*spoiled, *good]}) == known(bases)
