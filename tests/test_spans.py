"""Days and instants as people write them, and what is said of others."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars._utils.span import parse_day, parse_instant, parse_span

if TYPE_CHECKING:
    from pathlib import Path

FIRST_OF_AUGUST = datetime(2025, 8, 1, tzinfo=UTC)
NOON = datetime(2025, 8, 1, 12, tzinfo=UTC)

DAYS = [
    "2025-08-01", " 2025-08-01 ", "20250801", "2025/08/01", "2025-8-1", "2025.08.01",
    date(2025, 8, 1), np.datetime64("2025-08-01"), np.datetime64("2025-08-01", "D"),
]  # fmt: skip
NOONS = [
    "2025-08-01 12:00", "2025-08-01T12:00", "2025-08-01T12:00:00Z", "2025-08-01 14:00+02:00",
    "20250801T120000", datetime(2025, 8, 1, 12), datetime(2025, 8, 1, 12, tzinfo=UTC),  # noqa: DTZ001
    datetime(2025, 8, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
    pd.Timestamp("2025-08-01 12:00"), pd.Timestamp("2025-08-01 14:00", tz="Europe/Berlin"),
    np.datetime64("2025-08-01T12"), np.datetime64("2025-08-01T12:00:00.000000000"),
]  # fmt: skip


@pytest.mark.parametrize("value", DAYS, ids=repr)
def test_a_day_is_the_whole_utc_day(value: Any) -> None:
    span = parse_span(value, value)
    assert (span.start, span.end) == (FIRST_OF_AUGUST, FIRST_OF_AUGUST + timedelta(days=1))
    assert parse_day(value) == date(2025, 8, 1)


@pytest.mark.parametrize("value", NOONS, ids=repr)
def test_a_time_is_an_instant_and_utc_without_a_zone(value: Any) -> None:
    span = parse_span("2025-08-01", value)
    assert (span.start, span.end) == (FIRST_OF_AUGUST, NOON)
    assert type(span.end) is datetime
    assert parse_instant(value, "before") == NOON


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001
    st.integers(0, 999),
)
def test_nanoseconds_are_rounded_up_so_that_ticks_stay_on_their_side(
    naive: datetime, nanoseconds: int
) -> None:
    stamp = pd.Timestamp(naive) + pd.Timedelta(nanoseconds, "ns")
    wanted = naive.replace(tzinfo=UTC) + timedelta(microseconds=bool(nanoseconds))
    assert parse_instant(stamp, "start") == wanted
    assert parse_instant(stamp.to_datetime64(), "start") == wanted
    assert parse_instant(naive.isoformat(sep=" "), "start") == naive.replace(tzinfo=UTC)


@given(st.dates(date(1971, 1, 1), date(2200, 1, 1)), st.sampled_from("-/."))
def test_dates_with_the_year_first_are_read_with_any_separator(day: date, separator: str) -> None:
    short = f"{day.year}{separator}{day.month}{separator}{day.day}"
    for text in (short, day.strftime(f"%Y{separator}%m{separator}%d"), day.strftime("%Y%m%d")):
        assert parse_day(text) == day


WRONG = [
    "08.08.2024", "01/08/2025", "13/08/2025", "2024-08", "202408", "2025-02-30", "today", "", "2025-13-01",
    "20250231", "1e9", "31/02/2025", "2024-00",
    np.datetime64("2024-08"), np.datetime64("2024"), np.datetime64("NaT"), pd.NaT,
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_date_is_named_and_each_date_in_the_hint_is_read(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^`end` is `") as caught:
        parse_span("1971-01-01", value)
    assert f"`{value}`, which is not a date" in str(caught.value)
    hint = str(caught.value).partition("hint: ")[2]
    proposed = hint.split('"')[1::2]
    assert proposed
    for text in proposed:
        parse_instant(text, "end")


def test_dates_in_another_order_are_proposed_in_iso_form() -> None:
    def hint(text: str) -> str:
        with pytest.raises(ValueError, match="not a date") as caught:
            parse_day(text)
        return str(caught.value).partition("hint: ")[2]

    assert hint("08.08.2024") == 'take "2024-08-08"'
    assert hint("13/08/2025") == 'take "2025-08-13"'
    assert hint("01/08/2025") == 'take "2025-08-01" or "2025-01-08"'
    assert hint("2024-02") == 'take "2024-02-01" to "2024-02-29" for the whole month'


@pytest.mark.parametrize("value", [20250801, 1.5, None, [], b"2025-08-01", timedelta(1)])
def test_another_type_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="`start` must be a date"):
        parse_span(value, "2025-08-01")


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", np.datetime64("9999-12-31")])
def test_ends_of_the_calendar_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match="end of the calendar"):
        parse_day(value)


def test_an_anchor_that_is_none_is_named_as_it_was_written() -> None:
    with pytest.raises(ValueError, match=r"^`anchor` is `start`, which is not a date") as caught:
        rb.count_bars("BTCUSDT", 250, anchor="start")
    assert 'anchor="segment"' in str(caught.value)
    with pytest.raises(ValueError, match=r"^`start_date` is `start`, which is not a date"):
        rb.get_range_bars("BTCUSDT", "start", "2024-01-01")


def test_the_index_of_a_result_can_be_passed_back(tmp_path: Path) -> None:
    rb.TickStorage(tmp_path).write_ticks("ETHUSDT", rb.sample_ticks())
    whole = rb.get_range_bars(
        "ETHUSDT", "2024-08-08", "2024-08-08", cache_dir=tmp_path, fetch=False
    )
    index = whole.index
    options: dict[str, Any] = {"cache_dir": tmp_path, "fetch": False, "anchor": "2024-08-08"}
    for start, end in (
        (index[5], index[9]),
        (index.values[5], index.values[9]),
        (str(index[5]), str(index[9])),
        (index[5].to_pydatetime(), index[9].tz_localize("UTC")),
    ):
        part = rb.get_range_bars("ETHUSDT", start, end, **options)
        assert part.equals(whole.iloc[5:9])
