"""Invalid arguments of a population: each is one clear error, and nothing is written."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import rangebar_polars as rb
from pipeline.tapes import SYMBOL, day, store, tape
from rangebar_polars.exceptions import StorageError, ThresholdError
from rangebar_polars.ingest.newest_day import ClampWarning
from rangebar_polars.readers.cached import count_bars

DOORS = [rb.populate_cache_resumable, rb.precompute_range_bars]
FLAGS = [
    "force_refresh",
    "refresh_stale",
    "include_microstructure",
    "notify",
    "verbose",
    "prevent_same_timestamp_close",
]


class Answers(Executor):
    """An executor that always gives the same answer."""

    def __init__(self, given):
        self.given = given

    def submit(self, _function, /, *_arguments, **_keywords):
        return self.given


def given(answer):
    future = Future()
    future.set_result(answer)
    return future


def shut_down(kind):
    executor = kind(1)
    executor.shutdown()
    return executor


@pytest.fixture
def ticks(folder):
    """Return a folder with ticks of some days, without a source."""
    store(folder, tape(3))
    return folder


def populate(folder, **options):
    return rb.populate_cache_resumable(
        SYMBOL, day(1), day(3), **{"cache_dir": folder, "verbose": False, **options}
    )


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("value", ["no", 3, None])
def test_a_flag_that_is_not_a_bool_is_refused_by_name(door, flag, value, folder):
    # There are no ticks, so the search for the newest day would be another error.
    with pytest.raises(TypeError, match=f"`{flag}` must be a bool") as refused:
        door(SYMBOL, day(1), cache_dir=folder, **{flag: value})
    assert f"`{value!r}`" in str(refused.value)


def test_the_bools_of_numpy_are_flags(ticks):
    flags = {"force_refresh": np.False_, "notify": np.True_}
    assert int(populate(ticks, **flags, prevent_same_timestamp_close=np.True_)) > 0
    assert int(populate(ticks)) == 0


@pytest.mark.parametrize(
    ("symbol", "kind", "message"),
    [
        (None, TypeError, "`symbol` must be a text or a list of texts; it is of type `NoneType`"),
        (7, TypeError, "`symbol` must be a text or a list of texts; it is of type `int`"),
        ([], ValueError, r"`symbol` is `\[\]`"),
        ([None], TypeError, "`symbol` must be text"),
    ],
)
def test_a_symbol_is_required(symbol, kind, message, folder):
    with pytest.raises(kind, match=message):
        rb.populate_cache_resumable(symbol, day(1), day(1), cache_dir=folder)


@pytest.mark.parametrize("thresholds", [[], (), [250, "much"]])
def test_a_threshold_is_required(thresholds, folder):
    with pytest.raises(ThresholdError, match="threshold"):
        rb.populate_cache_resumable(
            SYMBOL, day(1), day(1), threshold_decimal_bps=thresholds, cache_dir=folder
        )


def test_a_callback_that_is_not_a_function_is_refused_before_any_work(ticks):
    with pytest.raises(TypeError, match="`progress_callback` must be a function; it is `5`"):
        rb.precompute_range_bars(SYMBOL, day(1), day(3), progress_callback=5, cache_dir=ticks)
    assert count_bars(SYMBOL, cache_dir=ticks) == 0


@pytest.mark.parametrize(
    ("executor", "kind", "message"),
    [
        (5, TypeError, "`executor` must be a concurrent.futures.Executor"),
        (
            lambda: None,
            TypeError,
            "the return value of `executor` must be a concurrent.futures.Executor",
        ),
        (Answers(None), TypeError, "`submit` of `executor` gave `None`"),
        (Answers(given(None)), TypeError, "`a future` of `executor` gave `None`"),
        (lambda: Answers(given(7)), TypeError, "`a future` of `executor` gave `7`"),
        (shut_down(ThreadPoolExecutor), ValueError, "`executor` takes no work: it is shut down"),
        (shut_down(ProcessPoolExecutor), ValueError, "`executor` takes no work: it is shut down"),
        (lambda: shut_down(ThreadPoolExecutor), ValueError, "`executor` takes no work: .*shutdown"),
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_an_executor_that_does_not_run_the_work_is_refused(door, executor, kind, message, ticks):
    with pytest.raises(kind, match=message) as refused:
        door(SYMBOL, day(1), day(3), executor=executor, cache_dir=ticks, verbose=False)
    assert "hint: " in str(refused.value)
    assert count_bars(SYMBOL, cache_dir=ticks) == 0
    assert int(populate(ticks)) > 0


def test_a_cache_folder_that_is_a_file_is_named(folder):
    path = folder / "notes.txt"
    path.touch()
    for door in DOORS:
        with pytest.raises(StorageError, match="is a file"):
            door(SYMBOL, day(1), cache_dir=path)


@pytest.mark.parametrize("last", [5, None])
def test_a_report_notes_that_no_source_could_be_asked_for_newer_days(last, ticks):
    end = None if last is None else day(last)
    with pytest.warns(ClampWarning):
        report = rb.populate_cache_resumable(SYMBOL, day(1), end, cache_dir=ticks, verbose=False)
    assert {name: clamp.day for name, clamp in report.unanswered.items()} == {SYMBOL: day(3)}
    assert (report.clamped_to, report.clamped_from) == (end and day(3), end)
    assert f"{day(3)}" in str(report)
    assert "None" not in str(report)
    assert populate(ticks).unanswered == {}


def test_a_refresh_beyond_the_end_counts_those_days_separately(ticks):
    populate(ticks)
    report = rb.populate_cache_resumable(
        SYMBOL, day(1), day(2), force_refresh=True, cache_dir=ticks, verbose=False
    )
    (one,) = report.series
    assert (one.published, one.planned, one.beyond) == (3, 2, 1)
    assert "2 of 2 days written and 1 after the end (" in str(report)
