"""After any history of populations, a read uses one series per segment: the contract's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from population.oracle import chains, spec
from population.places import Place
from population.tape import ONE_DAY, at, bars, store, tape
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.readers.cached import count_bars, get_n_bars

#: A year, a month and weeks begin within it.
FIRST, LAST = date(2023, 12, 8), date(2024, 1, 27)
TICKS = tape(FIRST, LAST, 14, step=0.0016, grid_us=7_200_000_000)
RESETS = ["none", "year", "month", "week", "day"]
MOST_DAYS = 31
LARGE = 4


def segment(day: date, reset: str) -> tuple[date, date]:
    """Return the span between two resets that a day lies in."""
    if reset == "day":
        return day, day + ONE_DAY
    if reset == "week":
        sunday = day - timedelta(days=day.isoweekday() % 7)
        return sunday, sunday + timedelta(days=7)
    if reset == "month":
        start = day.replace(day=1)
        return start, (start + timedelta(days=32)).replace(day=1)
    if reset == "year":
        return date(day.year, 1, 1), date(day.year + 1, 1, 1)
    return date.min, date.max


def cut(start: datetime, end: datetime, reset: str):
    """Split a span into parts, each with the segment it lies in."""
    while start < end:
        bounds = segment(start.date(), reset)
        stop = end if bounds[1] == date.max else min(end, at(bounds[1]))
        yield bounds, start, stop
        start = stop


@dataclass
class Kept:
    """A stored series, as the contract describes it."""

    anchor: date
    #: The first day that is not stored.
    frontier: date


@dataclass
class Model:
    """Stored series and the expected results of reads, derived from the contract alone."""

    reset: str
    series: dict[tuple[object, ...], list[Kept]] = field(default_factory=dict)

    def of(self, threshold, gate, bounds) -> list[Kept]:
        return self.series.setdefault((threshold, gate, bounds), [])

    def populate(self, first, last, threshold, gate):
        for bounds, start, end in cut(at(first), at(last + ONE_DAY), self.reset):
            known = self.of(threshold, gate, bounds)
            begin = start.date()
            fitting = [one for one in known if one.anchor <= begin <= one.frontier]
            if fitting:
                chosen = min(fitting, key=lambda one: one.anchor)
                chosen.frontier = max(chosen.frontier, end.date())
            else:
                known.append(Kept(begin, end.date()))

    def answers(self, start, end, threshold, gate, anchor=None):
        """Return each part with its bounds, the anchor of its series, and its days from ticks."""
        for bounds, begin, stop in cut(start, end, self.reset):
            known = self.of(threshold, gate, bounds)
            last = (stop - timedelta(microseconds=1)).date()
            if anchor is not None:
                origin = _anchor(anchor, bounds, begin)
                found = next((one for one in known if at(one.anchor) == origin), None)
            else:
                begun = [one for one in known if at(one.anchor) <= begin]
                whole = [one for one in begun if one.frontier > last]
                reaching = [one for one in begun if one.frontier >= begin.date()]
                found = (
                    min(whole, key=lambda one: one.anchor)
                    if whole
                    else min(reaching, key=lambda one: (-one.frontier.toordinal(), one.anchor))
                    if reaching
                    else None
                )
                origin = begin if found is None else at(found.anchor)
            computed = origin.date() if found is None else found.frontier
            yield bounds, begin, stop, origin, max(0, (last - computed).days + 1)

    def read(self, start, end, threshold, gate, anchor=None):
        """Return bars computed from each anchor; None if too many days would come from ticks."""
        found, days, origins = [], 0, []
        for bounds, begin, stop, origin, computed in self.answers(
            start, end, threshold, gate, anchor
        ):
            days += computed
            origins.append(origin)
            ticks = TICKS.filter(pl.col("timestamp").is_between(origin, stop, closed="left"))
            made = ticks.rangebar.bars(
                threshold,
                features="microstructure",
                incomplete="keep",
                prevent_same_timestamp_close=gate,
            )
            is_over = bounds[1] != date.max and stop >= at(bounds[1])
            ended = pl.col("is_closed") | pl.lit(is_over)
            found.append(made.filter(ended & (pl.col("close_time") >= begin)))
        return (None if days > MOST_DAYS else pl.concat(found)), origins

    def newest(self, threshold, gate, end):
        """Return all bars that count, walking back from an instant."""
        segments = sorted(
            {key[2] for key, known in self.series.items() if key[:2] == (threshold, gate) and known}
        )
        found = []
        for bounds in reversed(segments):
            known = [one for one in self.of(threshold, gate, bounds) if at(one.anchor) < end]
            if not known:
                continue
            last = min(end, end if bounds[1] == date.max else at(bounds[1]))
            needed = (last - timedelta(microseconds=1)).date() + ONE_DAY
            whole = [one for one in known if one.frontier >= needed]
            chosen = (
                min(whole, key=lambda one: one.anchor)
                if whole
                else min(known, key=lambda one: (-one.frontier.toordinal(), one.anchor))
            )
            stop = min(end, at(chosen.frontier))
            ticks = TICKS.filter(
                pl.col("timestamp").is_between(at(chosen.anchor), stop, closed="left")
            )
            made = ticks.rangebar.bars(threshold, prevent_same_timestamp_close=gate)
            found.append(made)
            if chosen.anchor > bounds[0] or all(one[1] != bounds[0] for one in segments):
                break
        return pl.concat(reversed(found)) if found else None


def _anchor(anchor, bounds, begin):
    start = at(FIRST) if bounds[0] == date.min else at(bounds[0])
    if anchor == "segment":
        return start
    return max(anchor, start)


@pytest.fixture(scope="module")
def shared(new_folder):
    """Return one cache for all histories, each with its own symbol, as an engine starts slowly."""
    place = Place(new_folder())
    with pytest.MonkeyPatch.context() as patch, place.open():
        patch.setenv("RANGEBAR_SYMBOL_GATE", "off")
        yield place


_numbers = itertools.count()


class History:
    """Populations of one symbol, with their model."""

    def __init__(self, place, reset):
        self.place = place
        self.symbol = f"X{next(_numbers)}USDT"
        self.model = Model(reset)
        store(place.folder, TICKS, self.symbol)

    def populate(self, first, last, threshold=250, *, gate=True):
        self.place.populate(
            first,
            last,
            threshold,
            symbol=self.symbol,
            ouroboros=self.model.reset,
            prevent_same_timestamp_close=gate,
        )
        self.model.populate(first, last, threshold, gate)

    def interrupt(self, first, last, number, threshold=250, *, gate=True):
        """Interrupt a population at a step, and let the model take over how far it got."""
        seen = []

        def stop(step):
            if step.area == "cache":
                seen.append(step)
                if len(seen) == number:
                    raise KeyboardInterrupt

        with on_failpoint(stop):
            try:
                self.populate(first, last, threshold, gate=gate)
            except KeyboardInterrupt:
                self._take_over(threshold, gate)

    def _take_over(self, threshold, gate):
        known = spec(threshold, reset=self.model.reset, gate=gate, symbol=self.symbol)
        with self.place.open() as cache:
            for series, chain in chains(cache, [known]).items():
                own = self.model.of(threshold, gate, segment(series.first_day, self.model.reset))
                same = [one for one in own if one.anchor == series.first_day]
                if same:
                    same[0].frontier = chain.frontier
                else:
                    own.append(Kept(series.first_day, chain.frontier))

    def judge(self, start, end, threshold=250, *, gate=True, anchor=None):
        """Check that a read gives the bars of the model's series, and names that series."""
        expected, origins = self.model.read(start, end, threshold, gate, anchor)
        arguments = {
            "ouroboros": self.model.reset,
            "prevent_same_timestamp_close": gate,
            "anchor": anchor,
            "include_orphaned_bars": True,
            "fetch_if_missing": False,
            **self.place.arguments,
        }
        span = (self.symbol, start, end, threshold)
        if expected is None:
            with pytest.raises(CoverageError, match="populate_cache_resumable"):
                rb.scan_range_bars(*span, **arguments)
            with pytest.raises(CoverageError):
                rb.get_range_bars(*span, **arguments)
            return
        lazy = rb.scan_range_bars(*span, features="microstructure", **arguments).collect()
        values = [name for name in lazy.columns if name not in {"is_closed", "ended_by"}]
        assert_frame_equal(lazy.select(values), expected.select(values))
        assert lazy["is_closed"].to_list() == expected["is_closed"].to_list()
        assert lazy["ended_by"].null_count() == 0
        chart = rb.get_range_bars(*span, **arguments)
        anchors = [datetime.fromisoformat(one["anchor"]) for one in chart.attrs["rangebar"]]
        assert anchors == origins
        assert chart["Close"].to_list() == expected["close"].to_list()

    def judge_newest(self, end, threshold=250, *, gate=True):
        expected = self.model.newest(threshold, gate, end)
        arguments = {
            "before": end,
            "ouroboros": self.model.reset,
            "prevent_same_timestamp_close": gate,
            **self.place.arguments,
        }
        count = count_bars(self.symbol, threshold, **arguments)
        if expected is None:
            assert count == 0
            return
        assert count == expected.height
        if count:
            few = max(1, count // 2)
            seen = get_n_bars(self.symbol, few, threshold, **arguments)
            assert_frame_equal(seen, expected.tail(few).select(seen.columns))


def days_of(draw, longest=50):
    first = draw(st.integers(0, (LAST - FIRST).days))
    length = draw(st.integers(0, longest))
    start = FIRST + timedelta(days=first)
    return start, min(LAST, start + timedelta(days=length))


@st.composite
def populations(draw):
    first, last = days_of(draw)
    return (
        first,
        last,
        draw(st.sampled_from([250, 250, 400])),
        draw(st.sampled_from([True, True, False])),
        draw(st.sampled_from([None, None, None, 3, 5, 7, 9, 12, 20])),
    )


@st.composite
def reads(draw):
    first, last = days_of(draw)
    # The last tick of a day lies two hours before its end.
    hours = st.sampled_from([0, 0, 0, 1, 7, 23])
    start, end = at(first) + timedelta(hours=draw(hours)), at(last) + timedelta(days=1)
    if last > first:
        end -= timedelta(hours=draw(hours))
    anchor = draw(
        st.sampled_from([None, None, "segment", at(first), at(max(FIRST, first - ONE_DAY))])
    )
    return start, end, draw(st.sampled_from([250, 400])), draw(st.booleans()), anchor


@pytest.mark.filterwarnings("ignore::rangebar_polars.storage.coverage.CoverageWarning")
# Histories are short anyway, and shrinking them takes long.
@settings(max_examples=settings().max_examples // 10, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from(RESETS),
    st.lists(populations(), min_size=1, max_size=4),
    st.lists(reads(), min_size=2, max_size=5),
)
def test_any_read_after_any_history_is_of_the_series_that_answer(shared, reset, history, asked):
    one = History(shared, reset)
    for first, last, threshold, gate, number in history:
        if number is None:
            one.populate(first, last, threshold, gate=gate)
        else:
            one.interrupt(first, last, number, threshold, gate=gate)
    for start, end, threshold, gate, anchor in asked:
        if anchor == "segment" and reset == "none":
            # The read begins before the tape.
            anchor = at(FIRST)  # noqa: PLW2901
        one.judge(start, end, threshold, gate=gate, anchor=anchor)
        one.judge_newest(end, threshold, gate=gate)


def n(day):
    return FIRST + timedelta(days=day - 1)


@pytest.mark.filterwarnings("ignore::rangebar_polars.storage.coverage.CoverageWarning")
@pytest.mark.parametrize("reset", ["none", "week"])
@pytest.mark.parametrize("order", [[(5, 10), (1, 12)], [(1, 12), (5, 10)]], ids=str)
@pytest.mark.parametrize("number", [None, 5])
def test_a_short_and_a_long_population_in_either_order(shared, reset, order, number):
    """Also with the second one interrupted."""
    one = History(shared, reset)
    (first, second) = order
    one.populate(n(first[0]), n(first[1]))
    if number is not None:
        one.interrupt(n(second[0]), n(second[1]), number)
        for span in [(1, 12), (5, 10), (7, 14)]:
            one.judge(at(n(span[0])), at(n(span[1] + 1)))
    one.populate(n(second[0]), n(second[1]))
    for span in [(1, 12), (5, 10), (5, 12), (7, 14), (11, 16), (3, 9)]:
        one.judge(at(n(span[0])), at(n(span[1] + 1)))
        one.judge_newest(at(n(span[1] + 1)))


@pytest.mark.filterwarnings("ignore::rangebar_polars.storage.coverage.CoverageWarning")
@pytest.mark.parametrize("reset", ["none", "year"])
def test_one_that_ends_in_a_month_beside_one_that_begins_with_it(shared, reset):
    """January to 2 March beside March and April: within a segment, series are never joined."""
    one = History(shared, reset)
    one.populate(n(1), date(2024, 1, 2))
    one.populate(date(2024, 1, 1), date(2024, 1, 20))
    for start, end in [
        (n(1), date(2024, 1, 20)),
        (n(5), date(2024, 1, 2)),
        (date(2023, 12, 30), date(2024, 1, 22)),
        (date(2024, 1, 1), date(2024, 1, 10)),
        (date(2024, 1, 2), date(2024, 1, 24)),
        (date(2024, 1, 3), date(2024, 1, 24)),
    ]:
        one.judge(at(start), at(end + ONE_DAY))


def test_a_series_without_the_gate_is_never_read_with_it(shared):
    one = History(shared, "month")
    one.populate(n(1), n(20), gate=False)
    one.populate(n(8), n(12), gate=True)
    for gate in (True, False):
        for span in [(1, 20), (8, 12), (10, 18)]:
            one.judge(at(n(span[0])), at(n(span[1] + 1)), gate=gate)
    assert not bars(TICKS).equals(bars(TICKS, prevent_same_timestamp_close=False))


def test_any_part_of_stored_bars_is_a_slice_of_the_whole(shared):
    one = History(shared, "none")
    one.populate(FIRST, LAST)
    whole = bars(TICKS).filter("is_closed")
    for hours in range(0, 1_100, 53):
        start = at(FIRST) + timedelta(hours=hours)
        end = start + timedelta(hours=hours % 97 + 1)
        seen = rb.scan_range_bars(
            one.symbol, start, end, ouroboros=None, fetch_if_missing=False, **shared.arguments
        ).collect()
        expected = whole.filter(pl.col("close_time").is_between(start, end, closed="left"))
        assert_frame_equal(seen, expected.select(seen.columns))


def test_the_steps_that_interrupt_a_history_exist(shared):
    one, seen = History(shared, "week"), []
    with on_failpoint(seen.append):
        one.populate(n(1), n(12))
    assert len([step for step in seen if step.area == "cache"]) > 2 * LARGE
    assert Step.UNITS_PROVED in seen
