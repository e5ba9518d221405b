"""A read to a day that may not be there yet, while the source gives no answer."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from exchange import Exchange, QuoteTape, Tape, faults
from rangebar_polars._utils.span import day_start
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.clickhouse.open import open_cache
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import CoverageError, TicksNotCachedError, TransientSourceError
from rangebar_polars.readers.bars import get_n_range_bars, get_range_bars, scan_range_bars
from rangebar_polars.storage.coverage import CoverageWarning
from rangebar_polars.storage.parquet import TickStorage
from readers.shared import SYMBOL, keep

pytestmark = pytest.mark.usefixtures("quick_retries")

ONE_DAY = timedelta(days=1)
THRESHOLD = 500
SOURCES = ("RANGEBAR_BINANCE_ARCHIVE_URL", "RANGEBAR_BINANCE_REST_URL", "RANGEBAR_EXNESS_URL")


def ago(days):
    """A day, counted back from today."""
    return datetime.now(UTC).date() - days * ONE_DAY


@pytest.fixture(scope="module")
def tape():
    """Trades of the days around today; midnight may come between two tests."""
    return Tape.generate(start=ago(16).isoformat(), days=18, per_day=500, absent=0, archive_lacks=0)


@pytest.fixture
def folder(in_memory, tmp_path, monkeypatch, nobody):
    """A cache folder of a test's own; every source refuses connections."""
    for name in SOURCES:
        monkeypatch.setenv(name, nobody)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    one = in_memory / tmp_path.name
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(one))
    return one


def store(tape, *days, symbol=SYMBOL):
    """Write days, counted back from today, into the tick store."""
    for day in days:
        TickStorage().write_ticks(symbol, tape.day(ago(day)))


def read(start, end, **options):
    return get_range_bars(SYMBOL, start, end, THRESHOLD, **{"ouroboros": None, **options})


def closes(tape, start, end):
    ticks = tape.ticks.filter(
        pl.col("timestamp").is_between(day_start(start), day_start(end), closed="left")
    )
    return ticks.rangebar.bars(THRESHOLD)["close"].to_list()


# What is given


@pytest.mark.parametrize("days", [0, 1, -9])
def test_a_read_ends_with_the_newest_tick_that_is_kept(folder, tape, nobody, days):
    store(tape, 5, 4, 3, 2)
    end = ago(days)
    with pytest.warns(CoverageWarning) as said:
        frame = read(ago(5), end)
    assert frame["Close"].to_list() == closes(tape, ago(5), ago(1))
    assert frame.attrs["rangebar"][0]["end"] == f"{ago(1)}T00:00:00+00:00"
    assert [one.filename for one in said] == [__file__]
    text = str(said[0].message)
    assert text.startswith(f"bars of BTCUSDT end with the newest stored tick, of {ago(2)}: ")
    assert f"`{nobody}/" in text
    assert "gave no answer" in text
    with pytest.warns(CoverageWarning, match="gave no answer"):
        lazy = scan_range_bars(SYMBOL, ago(5), end, THRESHOLD, ouroboros=None)
    assert lazy.collect()["close"].to_list() == frame["Close"].to_list()


def test_without_an_end_the_newest_bars_are_those_of_the_newest_tick_that_is_kept(folder, tape):
    store(tape, *range(15, 1, -1))
    with pytest.warns(CoverageWarning, match=f"of {ago(2)}: .* gave no answer"):
        frame = get_n_range_bars(SYMBOL, 20, THRESHOLD, ouroboros=None, anchor=ago(15))
    assert frame["Close"].to_list() == closes(tape, ago(15), ago(1))[-20:]


def test_bars_that_are_kept_without_their_ticks_are_given(folder, tape):
    store(tape, 5, 4, 3)
    spec = BarSpec.of(SYMBOL, THRESHOLD, reset=None)
    with open_cache(cache_dir=folder, write=True) as cache:
        keep(cache, folder, spec, day_start(ago(5)), ago(3))
    TickStorage().delete_ticks(SYMBOL, ago(5), ago(3))
    with pytest.warns(CoverageWarning, match=f"of {ago(3)}: "):
        frame = read(ago(5), ago(0))
    assert frame["Close"].to_list() == closes(tape, ago(5), ago(2))
    with pytest.raises(TransientSourceError):
        read(ago(2), ago(0))


def test_a_read_that_ends_a_while_ago_ends_with_what_is_kept_too(folder, tape):
    store(tape, 14, 13, 12)
    with pytest.warns(CoverageWarning, match=f"of {ago(12)}: "):
        assert len(read(ago(14), ago(9)))


def test_a_day_that_is_growing_is_given_as_far_as_it_is_kept(folder, tape):
    store(tape, 3, 2)
    morning = tape.day(ago(1)).head(300)
    day = DayTicks(ago(1), morning, Origin(kind="archive", sha256=""), is_tail=True)
    TickStorage().put_days(SYMBOL, [day])
    for end in (ago(1), ago(0)):
        with pytest.warns(CoverageWarning, match=f"of {ago(1)}: .* gave no answer"):
            frame = read(ago(3), end, include_incomplete=True)
        ticks = pl.concat([tape.day(ago(3)), tape.day(ago(2)), morning])
        bars = ticks.rangebar.bars(THRESHOLD, incomplete="keep")
        assert frame["Close"].to_list() == bars["close"].to_list()
    # Its bar is not ended by the reset of a day that has not come to its end.
    with pytest.warns(CoverageWarning):
        frame = read(ago(1), ago(1), ouroboros="day", include_orphaned_bars=True)
    assert not frame["is_orphan"].any()
    # The time of the day that was asked for has no tick.
    last = morning["timestamp"].item(-1) + timedelta(seconds=1)
    with pytest.raises(TransientSourceError):
        read(last, ago(0))


def test_segments_that_are_not_there_yet_are_left_out(folder, tape):
    store(tape, 4, 3, 2)
    with pytest.warns(CoverageWarning, match=f"of {ago(2)}: "):
        frame = read(ago(4), ago(0), ouroboros="day", include_orphaned_bars=True)
    ends = [one["end"][:10] for one in frame.attrs["rangebar"]]
    assert ends == [f"{ago(3)}", f"{ago(2)}", f"{ago(1)}"]
    assert frame["is_orphan"].sum() == 3


def test_what_the_archive_has_is_fetched_though_nobody_knows_of_today(
    folder, tape, monkeypatch, nobody
):
    with Exchange(tape, now=day_start(ago(0)) + timedelta(hours=23)) as box:
        monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", box.url)
        with pytest.warns(CoverageWarning, match=rf"of {ago(1)}: `{nobody}/api/v3/aggTrades`"):
            frame = read(ago(3), ago(0))
    assert frame["Close"].to_list() == closes(tape, ago(3), ago(0))


def test_quotes_end_with_the_newest_that_is_kept_too(folder):
    tape = QuoteTape.generate("EURUSD", ago(9), ago(2), per_day=500)
    TickStorage().write_ticks("EURUSD", tape.ticks, source="exness")
    days = TickStorage().list_days("EURUSD", source="exness")
    options = {"source": "exness", "ouroboros": "day"}
    runs = [0, *(n for n, (one, other) in enumerate(pairwise(days), 1) if other - one > ONE_DAY)]
    first = days[runs[-1]]
    with pytest.warns(CoverageWarning, match=f"of {days[-1]}: .*EURUSD.* gave no answer"):
        frame = get_range_bars("EURUSD", first, ago(0), 50, **options)
    assert not frame.isna().any(axis=None)


# What stays an error


def refused(*span, **options):
    """Refuse a read, with no word of warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TransientSourceError) as caught:
            read(*span, **options)
    return caught.value


def test_a_day_that_lacks_between_kept_ones_is_an_error(folder, tape):
    store(tape, 5, 4, 2)
    refused(ago(5), ago(0))
    # Also where the later one is not asked for: its trades tell that there are some.
    refused(ago(5), ago(3))
    refused(ago(5), ago(3), ouroboros="day")


def test_a_day_that_lacks_before_kept_bars_is_an_error(folder, tape):
    store(tape, 5, 4, 3, 2)
    spec = BarSpec.of(SYMBOL, THRESHOLD, reset="day")
    with open_cache(cache_dir=folder, write=True) as cache:
        keep(cache, folder, spec, day_start(ago(2)), ago(2))
    TickStorage().delete_ticks(SYMBOL, ago(3), ago(2))
    refused(ago(5), ago(0), ouroboros="day")


def test_ids_that_lack_are_an_error(folder, tape):
    ticks = pl.concat([tape.day(ago(3)).head(200), tape.day(ago(3)).tail(200)])
    TickStorage().write_ticks(SYMBOL, ticks)
    refused(ago(3), ago(0))


def test_days_from_before_the_ten_that_may_come_late_are_an_error(folder, tape):
    store(tape, 15, 14, 13)
    refused(ago(15), ago(0))
    refused(ago(15), ago(12))
    store(tape, 12)
    with pytest.warns(CoverageWarning, match=f"of {ago(12)}: "):
        read(ago(15), ago(0))


def test_a_day_that_grew_long_ago_is_an_error(folder, tape):
    store(tape, 15)
    day = DayTicks(ago(14), tape.day(ago(14)).head(100), Origin("archive"), is_tail=True)
    TickStorage().put_days(SYMBOL, [day])
    refused(ago(15), ago(14))


def test_with_nothing_to_give_it_is_an_error(folder, tape):
    refused(ago(3), ago(0))
    store(tape, 5, 4)
    refused(ago(3), ago(0))
    refused(ago(0), ago(0))
    with pytest.raises(TransientSourceError):
        get_n_range_bars(SYMBOL, 5, THRESHOLD, ouroboros=None, end_date=ago(0), anchor=ago(3))


def test_a_damaged_day_is_an_error(folder, tape):
    store(tape, 3, 2)
    for path in folder.rglob(f"*{ago(2)}*.parquet"):
        path.write_bytes(b"no file of ticks")
    # The day is set aside at the first read, and was never without ticks.
    refused(ago(3), ago(0))
    refused(ago(3), ago(0))


def test_fewer_days_may_be_computed_than_lack(folder, tape):
    store(tape, 5, 4)
    with pytest.raises(CoverageError, match="a read computes at most 31"):
        read(ago(60), ago(0))


def test_without_leave_to_fetch_it_is_the_error_that_it_was(folder, tape):
    store(tape, 5, 4)
    with pytest.raises(TicksNotCachedError):
        read(ago(5), ago(0), fetch_if_missing=False)


@pytest.fixture
def box(folder, tape, monkeypatch):
    """An exchange that answers, and two days of its trades in the store."""
    store(tape, 4, 3)
    with Exchange(tape, now=day_start(ago(0)) + timedelta(hours=23)) as one:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.mark.parametrize("fault", [faults.status(503), faults.status(403), faults.too_many(0)])
def test_an_answer_that_says_nothing_is_an_error(box, fault):
    box.fail("/", fault, times=None)
    refused(ago(4), ago(0))


def test_a_file_that_breaks_off_where_the_source_answers_is_an_error(box):
    box.fail(box.path(ago(2)), faults.truncated(), times=None, method="GET")
    refused(ago(4), ago(1))


def test_an_exchange_that_refuses_is_not_asked_once_more(box, tape):
    store(tape, 2, 1)
    box.fail("/api/v3/", faults.banned(), times=None)
    refused(ago(4), ago(0))
    assert len(box.asked("/api/v3/")) == 1


def test_a_connection_that_ends_without_an_answer_is_none(box, tape, monkeypatch):
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "2")
    box.fail("/", faults.drop(), times=None)
    with pytest.warns(CoverageWarning, match=f"of {ago(3)}: "):
        frame = read(ago(4), ago(0))
    assert frame["Close"].to_list() == closes(tape, ago(4), ago(2))
    # It has been asked twice, and is asked once whether it says anything at all.
    methods = [request.method for request in box.asked(box.path(ago(2)))]
    assert methods == ["GET", "GET", "HEAD"]
