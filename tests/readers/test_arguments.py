"""Arguments that the readers cannot take: each is one clear error, before anything is done."""

from __future__ import annotations

import numpy as np
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import CoverageError, RangeBarError, StorageError
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.readers.cached import count_bars, coverage, get_cached_bars, get_n_bars
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import SYMBOL as KEPT_SYMBOL

SYMBOL, DAY = "ETHUSDT", "2024-08-08"
SPAN = (SYMBOL, DAY, DAY)
KEPT = (SYMBOL, 250, DAY, DAY)
NEWEST = (SYMBOL, 10)

READS = {"use_cache", "fetch_if_missing", "prevent_same_timestamp_close"}
ENDS = {"include_orphaned_bars", "include_incomplete"}
FLAGS = [
    *((get_range_bars, SPAN, flag) for flag in sorted(READS | ENDS | {"include_microstructure"})),
    *((get_n_range_bars, NEWEST, flag) for flag in sorted(READS)),
    (get_n_range_bars, NEWEST, "include_microstructure"),
    (get_n_range_bars, NEWEST, "allow_fewer"),
    *((scan_range_bars, SPAN, flag) for flag in sorted(READS | ENDS)),
    (get_cached_bars, KEPT, "prevent_same_timestamp_close"),
    (get_cached_bars, KEPT, "include_orphaned_bars"),
    (get_n_bars, NEWEST, "prevent_same_timestamp_close"),
    (count_bars, (SYMBOL, 250), "prevent_same_timestamp_close"),
    (coverage, KEPT, "prevent_same_timestamp_close"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Which folder, with the ticks of a day, and nothing else may be asked."""
    folder = tmp_path_factory.mktemp("place")
    TickStorage(folder).write_ticks(SYMBOL, rb.sample_ticks())
    return {"cache_dir": folder}


def of_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("door", "words", "flag"), FLAGS, ids=[f"{door.__name__}-{flag}" for door, _, flag in FLAGS]
)
@pytest.mark.parametrize("value", ["no", 0, None])
def test_a_flag_that_is_no_bool_is_refused_by_its_name(door, words, flag, value, tmp_path):
    with pytest.raises(TypeError, match=f"`{flag}` must be a bool") as refused:
        door(*words, cache_dir=tmp_path, **{flag: value})
    assert f"`{value!r}`" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_bools_of_numpy_are_flags(place):
    plain = get_range_bars(*SPAN, fetch_if_missing=False, **place)
    numpys = {
        "fetch_if_missing": np.False_,
        "use_cache": np.True_,
        "prevent_same_timestamp_close": np.True_,
    }
    assert get_range_bars(*SPAN, **numpys, **place).equals(plain)


@pytest.mark.parametrize("below", ["", "bars"])
@pytest.mark.parametrize(
    ("door", "words"),
    [
        (get_range_bars, SPAN),
        (get_n_range_bars, NEWEST),
        (scan_range_bars, SPAN),
        (get_cached_bars, KEPT),
        (get_n_bars, NEWEST),
        (count_bars, (SYMBOL, 250)),
        (coverage, KEPT),
        (rb.populate_cache_resumable, SPAN),
        (rb.precompute_range_bars, SPAN),
        (rb.fetch_ticks, SPAN),
    ],
)
def test_a_cache_folder_that_is_a_file_is_named(door, words, below, tmp_path):
    path = of_file(tmp_path)
    with pytest.raises(StorageError, match="is a file") as refused:
        door(*words, cache_dir=path / below)
    assert f"`{path}`" in str(refused.value)
    assert "cache_dir" in str(refused.value)


@pytest.mark.parametrize(
    "day", ["9999-12-31", "9999-12-31T23:59:59-05:00", "0001-01-01", "0001-01-01T00:00+05:00"]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda day, place: get_range_bars(SYMBOL, day, day, **place),
        lambda day, place: get_n_range_bars(*NEWEST, end_date=day, **place),
        lambda day, place: get_n_range_bars(*NEWEST, anchor=day, **place),
        lambda day, place: rb.populate_cache_resumable(SYMBOL, day, day, **place),
        lambda day, place: coverage(SYMBOL, 250, day, day, **place),
        lambda day, place: count_bars(SYMBOL, 250, before=day, **place),
        lambda day, place: TickStorage(**place).coverage(SYMBOL, day, day),
    ],
)
def test_a_day_at_an_end_of_the_calendar_is_refused_with_those_that_are_taken(call, day, place):
    with pytest.raises(ValueError, match="too close to an end of the calendar") as refused:
        call(day, place)
    assert f"`{day}`" in str(refused.value)
    assert "9998-12-31" in str(refused.value)


@pytest.mark.parametrize("count", [10**12, 2**32, 2**63, 2**70])
def test_more_bars_than_there_can_be_are_all_there_are(count, place):
    options = {"anchor": DAY, "fetch_if_missing": False, "use_cache": False, **place}
    every = get_range_bars(*SPAN, **options)
    with pytest.warns(UserWarning, match="not "):
        found = get_n_range_bars(SYMBOL, count, allow_fewer=True, **options)
    assert found.equals(every)
    with pytest.raises(CoverageError, match=f"not {count:,}"):
        get_n_range_bars(SYMBOL, count, **options)


@pytest.mark.parametrize("count", [2**32, 2**70])
@pytest.mark.usefixtures("shared_cache")
def test_more_kept_bars_than_there_can_be_are_all_that_are_kept(count, shared):
    bars = get_n_bars(KEPT_SYMBOL, count, cache_dir=shared.folder)
    assert bars.height == count_bars(KEPT_SYMBOL, cache_dir=shared.folder) > 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"ouroboros": "month", "ouroboros_mode": "day"}, "leave one of them out"),
        ({"ouroboros": None, "ouroboros_mode": "day"}, "leave one of them out"),
        ({"ouroboros": "hour"}, "`ouroboros`: unknown value `hour`"),
        ({"ouroboros_mode": "hour"}, "`ouroboros_mode`: unknown value `hour`"),
    ],
)
@pytest.mark.parametrize(
    ("door", "words"),
    [(get_range_bars, SPAN), (coverage, KEPT), (rb.populate_cache_resumable, SPAN)],
)
def test_two_names_of_a_reset_that_differ_are_refused(door, words, names, said, place):
    with pytest.raises(ValueError, match=said) as refused:
        door(*words, **names, **place)
    assert not isinstance(refused.value, RangeBarError)


def test_two_names_of_a_reset_may_say_the_same(place):
    options = {"fetch_if_missing": False, **place}
    plain = get_range_bars(*SPAN, ouroboros="day", **options)
    for names in ({"ouroboros_mode": "day"}, {"ouroboros": "1d", "ouroboros_mode": "day"}):
        assert get_range_bars(*SPAN, **names, **options).equals(plain)


@pytest.mark.parametrize("word", ["start", "end", "threshold", "reset"])
def test_a_value_that_is_the_name_of_an_argument_is_shown_as_it_was_written(word, place):
    for read in (rb.get_range_bars, rb.scan_range_bars):
        with pytest.raises(
            ValueError, match=f"^`anchor` is `{word}`, which is not a date\n"
        ) as error:
            read(SYMBOL, DAY, DAY, anchor=word, **place)
        assert 'anchor="segment"' in str(error.value)
