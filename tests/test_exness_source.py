"""The archive of Exness: its files in every form, its months, and its four answers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import Exchange, QuoteTape, faults
from exness_files import HEADER, hourly_rows, market_hours, path_of, row, write_rows, write_text
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    ConfirmedAbsentError,
    CorruptSourceError,
    NotYetPublishedError,
    TickDataError,
    TickOrderError,
    TransientSourceError,
)
from rangebar_polars.fetch import Exness
from rangebar_polars.fetch.exness.csv import MonthFile, read_month
from rangebar_polars.sources import QUOTES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_ID = 202401 * 10**8
TIME = "2024-01-15 00:00:00.032Z"
GOOD = row(TIME, "1.09512", "1.09513")
LATER = date(2024, 6, 1)


def source(root: Path, today: date = LATER) -> Exness:
    return Exness(url=root.as_uri(), today=lambda: today)


def parse(text: str) -> pl.DataFrame:
    return read_month([text.encode()], MonthFile("EURUSD", 2024, 1, "january.zip"))


def all_quotes(month: list) -> pl.DataFrame:
    return pl.concat([day.ticks for day in month])


FORMS = {
    "blank": (TIME, "2024-01-15 00:00:01Z"),
    "T": (TIME.replace(" ", "T"), "2024-01-15T00:00:01Z"),
    "mixed": (TIME.replace(" ", "T"), "2024-01-15 00:00:01.000Z"),
    "micro": ("2024-01-15T00:00:00.032000Z", "2024-01-15T00:00:01.0Z"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_form_of_the_file_gives_the_same_quotes(form, quoted, ending, mark, tmp_path):
    first, second = FORMS[form]
    line_end = ending if ending == "\r\n" else "\n"
    text = line_end.join([HEADER, row(first, "1.09512", '"1.09513"'), row(second, "1.1", "1.2")])
    text = mark + (text if quoted else text.replace('"', "")) + ending
    write_text(path_of(tmp_path, "EURUSD", 2024, 1), text)
    found = source(tmp_path).read_day("eurusd", "2024-01-15")
    start = datetime(2024, 1, 15, tzinfo=UTC)
    assert found.schema == QUOTES_SCHEMA
    assert found.rows() == [
        (start + timedelta(milliseconds=32), 1.095125, 1.09512, 1.09513, FIRST_ID),
        (start + timedelta(seconds=1), 1.15, 1.1, 1.2, FIRST_ID + 1),
    ]


@given(
    prices=st.lists(
        st.tuples(st.integers(1, 9 * 10**15), st.integers(0, 10**9), st.sampled_from([1, 10**3])),
        min_size=1,
        max_size=50,
    )
)
def test_a_mid_price_is_the_double_nearest_to_half_of_the_sum(prices):
    pairs = [(bid // unit * unit or unit, spread * unit) for bid, spread, unit in prices]
    pairs = [(bid, bid + spread) for bid, spread in pairs if bid + spread < 2**53]
    if not pairs:
        return
    texts = [[f"{price // 10**8}.{price % 10**8:08}" for price in pair] for pair in pairs]
    frame = parse("\n".join([HEADER, *(row(TIME, *pair) for pair in texts)]))
    assert frame["bid"].to_list() == [float(bid) for bid, _ in texts]
    assert frame["ask"].to_list() == [float(ask) for _, ask in texts]
    # Whole numbers divide exactly, rounded once.
    assert frame["price"].to_list() == [(bid + ask) / (2 * 10**8) for bid, ask in pairs]


def test_every_price_of_five_decimals_is_read(tmp_path):
    texts = [f"0.{number:05}" for number in range(80_000, 90_000)]
    frame = parse("\n".join([HEADER, *(row(TIME, text, text) for text in texts)]))
    assert frame["price"].to_list() == [float(text) for text in texts]


def test_ids_count_the_rows_of_the_file_and_are_the_same_in_every_fetch(tmp_path):
    for month in (1, 2):
        write_rows(tmp_path, hourly_rows(2024, month), month=month)
    months = [source(tmp_path).fetch_month("EURUSD", 2024, month) for month in (1, 2)]
    for number, month in enumerate(months, 1):
        ids = all_quotes(month)["agg_trade_id"]
        assert ids.to_list() == [(202400 + number) * 10**8 + row for row in range(len(ids))]
        assert all_quotes(source(tmp_path).fetch_month("EURUSD", 2024, number)).equals(
            all_quotes(month)
        )
    assert all_quotes(months[0])["agg_trade_id"].max() < all_quotes(months[1])["agg_trade_id"].min()


def test_a_complete_month_gives_all_its_days_and_says_why_some_are_empty(tmp_path):
    path = write_rows(tmp_path, hourly_rows(2024, 2), month=2)
    month = source(tmp_path).fetch_month("EURUSD", 2024, 2)
    assert [day.day for day in month] == [date(2024, 2, number) for number in range(1, 30)]
    expected = [time.date() for time in market_hours(2024, 2)]
    for day in month:
        assert day.ticks.height == expected.count(day.day)
        assert day.ticks["timestamp"].dt.date().unique().to_list() in ([], [day.day])
        assert day.reason == ("" if day.ticks.height else "no quotes in a complete month file")
        assert not day.is_tail
        assert day.origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert day.origin.url == path.as_uri()
    assert [day.day.isoweekday() for day in month if day.reason] == [6] * 4
    with pytest.raises(ConfirmedAbsentError, match="no quotes in a complete month file"):
        source(tmp_path).read_day("EURUSD", "2024-02-03")


@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27", "2024-11-03"])
def test_a_day_of_a_clock_change_has_24_hours(day, tmp_path):
    year, month, _ = map(int, day.split("-"))
    hours = [datetime.fromisoformat(f"{day}T{hour:02}:30:00Z") for hour in range(24)]
    write_rows(tmp_path, [row(f"{t:%Y-%m-%d %H:%M:%SZ}", 1, 1) for t in hours], year, month)
    found = source(tmp_path, date(2025, 1, 1)).read_day("EURUSD", day)
    assert found["timestamp"].to_list() == hours


IN_A_ZONE = """
import sys
from rangebar_polars.fetch import Exness
for day in Exness(url=sys.argv[1]).fetch_month("EURUSD", 2024, 3):
    print(day.day, day.ticks.hash_rows(seed=1).to_list(), day.reason)
"""


def test_the_zone_of_the_machine_makes_no_difference(tmp_path):
    write_rows(tmp_path, hourly_rows(2024, 3), month=3)
    said = set()
    for zone in ("UTC", "America/New_York", "Asia/Kolkata"):
        done = subprocess.run(
            [sys.executable, "-c", IN_A_ZONE, tmp_path.as_uri()],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert said.pop().count("\n") == 31


def test_a_time_that_steps_back_a_little_is_raised_and_counted_on_its_day(tmp_path):
    times = ["16 23:59:59.900", "17 00:00:00.400", "16 23:59:59.950", "17 00:00:00.300"]
    write_rows(tmp_path, [row(f"2024-01-{time}Z", 1, 1) for time in times])
    month = {day.day.day: day for day in source(tmp_path).fetch_month("EURUSD", 2024, 1)}
    assert (month[16].ticks.height, month[16].origin.raised) == (1, 0)
    assert (month[17].ticks.height, month[17].origin.raised) == (3, 2)
    assert month[17].ticks["timestamp"].n_unique() == 1
    assert month[17].ticks["agg_trade_id"].to_list() == [FIRST_ID + 1, FIRST_ID + 2, FIRST_ID + 3]


def test_a_time_that_runs_back_by_more_than_a_second_is_an_error_with_its_line(tmp_path):
    times = ["10:00:02.000", "10:00:01.000", "10:00:00.999"]
    write_rows(tmp_path, [row(f"2024-01-16 {time}Z", 1, 1) for time in times])
    with pytest.raises(TickOrderError, match=r"_2024_01\.zip`, line 4: the time runs back"):
        source(tmp_path).fetch_month("EURUSD", 2024, 1)


def test_a_time_just_outside_the_month_is_of_its_nearest_day():
    times = ["2023-12-31 23:59:59.500", "2024-01-31 12:00:00", "2024-02-01 00:00:00.500"]
    assert parse("\n".join([HEADER, *(row(f"{t}Z", 1, 1) for t in times)])).height == 3


FAULTS = {
    "crossed": (row(TIME, "1.2", "1.1"), "the quote is crossed: bid `1.2` is above ask `1.1`"),
    "no bid": (row(TIME, "", "1.1"), "`bid` is ``, not a number"),
    "no ask": (row(TIME, "1.1", ""), "`ask` is ``, not a number"),
    "zero": (row(TIME, "0", "1.1"), "`bid` is `0`, not above 0"),
    "negative": (row(TIME, "-1.1", "1.1"), "`bid` is `-1.1`, not above 0"),
    "NaN": (row(TIME, "1.1", "nan"), "`ask` is `nan`, not a number"),
    "infinite": (row(TIME, "1.1", "inf"), "`ask` is `inf`, not a number"),
    "words": (row(TIME, "1.1", "abc"), "`ask` is `abc`, not a number"),
    "digits": (
        row(TIME, "1.123456789", "1.2"),
        "`bid` is `1.123456789`, with more than 8 decimals",
    ),
    "tiny": (row(TIME, "0.000000001", "1.2"), "`bid` is `0.000000001`, with more than 8 decimals"),
    "huge": (row(TIME, "1.1", "1e9"), "`ask` is `1e9`, too large for a price"),
    "symbol": (row(TIME, "1.1", "1.1", "GBPUSD"), "the symbol is `GBPUSD`, not `EURUSD`"),
    "account": (row(TIME, "1.1", "1.1", "EURUSDm"), "the symbol is `EURUSDm`, not `EURUSD_Raw"),
    "no zone": (row("2024-01-15 00:00:01", 1, 1), "the time `2024-01-15 00:00:01` is not like"),
    "offset": (row("2024-01-15 00:00:01+02:00", 1, 1), "is not like `2024-01-15 00:00:00.032Z`"),
    "no day": (row("2024-01-32 00:00:01Z", 1, 1), "the time `2024-01-32 00:00:01Z` is not like"),
    "minute": (row("2024-01-15 00:60:01Z", 1, 1), "the time `2024-01-15 00:60:01Z` is not like"),
    "month": (row("2024-02-15 00:00:00Z", 1, 1), "is not in 2024-01"),
    "fields": ('"exness","EURUSD_Raw_Spread",1', "3 fields instead of 5"),
    "more fields": (row(TIME, "1.1", "1.1") + ",1", "6 fields instead of 5"),
    "empty": ("", "the line is empty"),
    "blank": ("   ", "the line is empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", [1, 3])
def test_a_line_that_is_no_quote_is_an_error_with_file_and_line(fault, before, tmp_path):
    line, words = FAULTS[fault]
    path = write_rows(tmp_path, [*[GOOD] * before, line, GOOD])
    with pytest.raises(TickDataError) as error:
        source(tmp_path).fetch_month("EURUSD", 2024, 1)
    assert f"{path.name}`, line {before + 2}: " in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("symbol", ["EURUSD", "EURUSDm", "EURUSD_Raw_Spread"])
def test_a_symbol_may_have_the_kind_of_account_behind_it(symbol):
    assert parse("\n".join([HEADER, row(TIME, 1, 1, symbol)])).height == 1


@pytest.mark.parametrize("symbol", ["EURUSDT", "EUR", "XEURUSD", ""])
def test_another_symbol_is_refused_in_the_first_line_too(symbol):
    with pytest.raises(TickDataError, match=f"line 2: the symbol is `{symbol}`, not `EURUSD`"):
        parse("\n".join([HEADER, row(TIME, 1, 1, symbol)]))


def test_a_quote_without_spread_is_one():
    assert parse("\n".join([HEADER, row(TIME, "1.1", "1.1")])).row(0)[1:4] == (1.1, 1.1, 1.1)


def test_a_running_month_is_a_tail_up_to_the_day_of_its_last_quote(tmp_path):
    today = date(2024, 1, 23)
    write_rows(tmp_path, hourly_rows(2024, 1, datetime(2024, 1, 22, 9, tzinfo=UTC)))
    running = source(tmp_path, today)
    month = running.fetch_month("EURUSD", 2024, 1)
    assert [day.day.day for day in month] == list(range(1, 23))
    assert all(day.is_tail for day in month)
    assert {day.day.isoweekday() for day in month if day.reason} == {6}
    assert {day.reason for day in month} == {"", "no quotes in the file of a running month"}
    assert list(running.days("EURUSD", "2024-01-20", "2024-02-10")) == [
        date(2024, 1, number) for number in (20, 21, 22)
    ]
    with pytest.raises(NotYetPublishedError, match="does not reach 2024-01-23 yet"):
        running.read_day("EURUSD", "2024-01-23")
    # The same quotes keep their ids in the file of the whole month.
    write_rows(tmp_path, hourly_rows(2024, 1))
    whole = source(tmp_path).fetch_month("EURUSD", 2024, 1)
    before = all_quotes(month)
    assert not any(day.is_tail for day in whole)
    assert all_quotes(whole).head(before.height).equals(before)
    assert running.read_day("EURUSD", "2024-01-23").height == 24


def test_a_file_written_before_its_month_was_over_does_not_prove_the_end_of_the_month(tmp_path):
    path = write_rows(tmp_path, hourly_rows(2024, 1, datetime(2024, 1, 30, 9, tzinfo=UTC)))
    written = datetime(2024, 1, 30, 10, tzinfo=UTC).timestamp()
    os.utime(path, (written, written))
    month = source(tmp_path).fetch_month("EURUSD", 2024, 1)
    assert month[-1].day == date(2024, 1, 30)
    assert all(day.is_tail for day in month)


def test_a_running_month_without_a_quote_has_no_days(tmp_path):
    write_rows(tmp_path, [])
    running = source(tmp_path, date(2024, 1, 1))
    assert running.fetch_month("EURUSD", 2024, 1) == []
    with pytest.raises(NotYetPublishedError):
        running.fetch_day("EURUSD", "2024-01-01")


@pytest.mark.parametrize(
    ("today", "kind"),
    [
        (date(2023, 12, 31), NotYetPublishedError),
        (date(2024, 1, 1), NotYetPublishedError),
        (date(2024, 1, 31), NotYetPublishedError),
        (date(2024, 2, 2), NotYetPublishedError),
        (date(2024, 2, 3), ArchiveMissingError),
        (date(2025, 1, 1), ArchiveMissingError),
    ],
)
def test_a_file_that_is_not_there_may_come_while_its_month_is_recent(today, kind, tmp_path):
    with pytest.raises(ArchiveMissingError) as error:
        source(tmp_path, today).fetch_day("EURUSD", "2024-01-15")
    assert type(error.value) is kind
    assert error.value.symbol == "EURUSD"
    assert error.value.url == path_of(tmp_path, "EURUSD", 2024, 1).as_uri()


def test_published_days_are_found_month_by_month_when_they_are_asked_for(tmp_path):
    for month in (1, 3):
        write_rows(tmp_path, hourly_rows(2024, month), month=month)
    found = source(tmp_path).days("EURUSD", "2024-01-30", "2024-03-02")
    assert next(found) == date(2024, 1, 30)
    write_rows(tmp_path, [GOOD, "no quote"], month=3)
    assert next(found) == date(2024, 1, 31)
    with pytest.raises(TickDataError):
        next(found)  # March is read now, not before
    assert list(source(tmp_path).days("EURUSD", "2024-02-01", "2024-02-29")) == []


DAMAGE = {
    "empty": b"",
    "page": b"<html>502 Bad Gateway</html>",
    "truncated": None,
    "two files": None,
    "no header": None,
    "no quote": None,
    "bit in the data": None,
}


def damaged(kind: str, folder: Path) -> bytes:
    """Bytes of a month's file with one fault."""
    content = DAMAGE[kind]
    path = path_of(folder, "EURUSD", 2024, 1)
    if kind == "truncated":
        content = write_rows(folder, hourly_rows(2024, 1)).read_bytes()[:-100]
    if kind == "two files":
        write_rows(folder, [GOOD])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("more.csv", HEADER)
        content = path.read_bytes()
    if kind == "no header":
        content = write_text(path, GOOD).read_bytes()
    if kind == "no quote":
        content = write_rows(folder, []).read_bytes()
    if kind == "bit in the data":
        # Longer than a block of lines, so that the line is read before the checksum is.
        text = "\n".join([HEADER, *[GOOD] * 200_000])
        content = write_text(path, text, zipfile.ZIP_STORED).read_bytes()
        content = content.replace(b"1.09512", b"x.09512", 1)
    assert content is not None
    return content


PATH = "/ticks/EURUSD_Raw_Spread/2024/01/Exness_EURUSD_Raw_Spread_2024_01.zip"


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    tape = QuoteTape.generate("EURUSD", "2024-01-01", "2024-02-01", per_day=50)
    with Exchange(tape, now="2024-06-01") as running:
        monkeypatch.setenv("RANGEBAR_EXNESS_URL", running.url)
        yield running


def served(box: Exchange) -> Exness:
    """The source as it is when the box's clock is the machine's."""

    def today() -> date:
        return box.now.date()

    return Exness(today=today)


def methods(box: Exchange) -> list[str]:
    return [request.method for request in box.requests]


def test_quotes_come_over_http_as_they_stand_on_the_tape(box):
    month = served(box).fetch_month("EURUSD", 2024, 1)
    assert all_quotes(month).equals(box.tapes[0].month(2024, 1))
    assert [day.reason for day in month].count("no quotes in a complete month file") == 4


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_fetched_once_more_and_refused_then(kind, box, tmp_path):
    box.fail(PATH, faults.replaced(damaged(kind, tmp_path)), times=None)
    with pytest.raises(CorruptSourceError) as error:
        served(box).fetch_month("EURUSD", 2024, 1)
    assert methods(box) == ["GET", "GET"]
    assert (error.value.symbol, error.value.day) == ("EURUSD", date(2024, 1, 1))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_that_is_whole_the_next_time_is_taken(kind, box, tmp_path):
    box.fail(PATH, faults.replaced(damaged(kind, tmp_path)))
    month = served(box).fetch_month("EURUSD", 2024, 1)
    assert all_quotes(month).equals(box.tapes[0].month(2024, 1))


def test_a_server_in_trouble_says_nothing_about_the_month(box, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    box.fail(PATH, faults.status(503), times=None)
    with pytest.raises(TransientSourceError) as error:
        served(box).fetch_day("EURUSD", "2024-01-15")
    assert (error.value.symbol, error.value.day) == ("EURUSD", date(2024, 1, 1))


def test_a_missing_file_of_a_server_is_missing(box):
    with pytest.raises(ArchiveMissingError):
        served(box).fetch_day("GBPUSD", "2024-01-15")


def test_a_loop_over_the_days_of_a_complete_month_downloads_it_once(box):
    archive = served(box)
    days = list(archive.days("EURUSD", "2024-01-01", "2024-01-31"))
    rows = sum(archive.fetch_day("EURUSD", day).ticks.height for day in days)
    assert (len(days), rows) == (31, box.tapes[0].ticks.height)
    assert methods(box) == ["GET"]


def test_a_running_month_is_downloaded_again_when_it_has_changed(box):
    box.now = "2024-01-10T09:00:00Z"
    archive = served(box)
    for day in (8, 9):
        found = archive.fetch_day("EURUSD", f"2024-01-{day:02}")
        assert found.ticks.equals(box.tapes[0].day(found.day))
        assert found.is_tail
    assert methods(box) == ["GET", "HEAD"]
    with pytest.raises(NotYetPublishedError):
        archive.fetch_day("EURUSD", "2024-01-10")
    before = archive.fetch_day("EURUSD", "2024-01-09")
    box.now = "2024-01-11T09:00:00Z"
    found = archive.fetch_day("EURUSD", "2024-01-10")
    assert found.ticks.equals(box.tapes[0].day("2024-01-10"))
    assert found.origin.etag != before.origin.etag
    assert methods(box)[2:] == ["HEAD", "HEAD", "HEAD", "GET"]
    assert archive.fetch_day("EURUSD", "2024-01-09").ticks.equals(before.ticks)


def test_the_real_sample_goes_through_the_source(shared, tmp_path):
    path = path_of(tmp_path, "EURGBP", 2025, 5)
    path.parent.mkdir(parents=True)
    sample = shared / "data" / "fx" / "EXNESS-LAYOUT_EURGBP_ctrader_2025-05-08.zip"
    path.write_bytes(sample.read_bytes())
    month = source(tmp_path, date(2025, 7, 1)).fetch_month("EURGBP", 2025, 5)
    assert [day.day.day for day in month if day.ticks.height] == [8]
    assert len(month) == 31
    found = all_quotes(month)
    real = pl.read_parquet(shared / "data" / "fx" / "EURGBP_T1_cT.parquet").head(20_000)
    expected = real.select(
        pl.col("datetime").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp"),
        "bid",
        "ask",
    )
    assert found.select("timestamp", "bid", "ask").equals(expected)
    units = [round(bid * 1e8) + round(ask * 1e8) for bid, ask in real.select("bid", "ask").rows()]
    assert found["price"].to_list() == [unit / (2 * 10**8) for unit in units]
