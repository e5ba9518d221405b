"""The newest day is a whole day: in the store, or published with its checksum."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from exchange import Exchange, QuoteTape, Tape, faults
from rangebar_polars.exceptions import ArchiveMissingError, ClockSkewError, TransientSourceError
from rangebar_polars.ingest.newest_day import Clamp, ClampWarning, newest_day
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exchange import Answer, Fault, Request

pytestmark = pytest.mark.usefixtures("quick_retries")

SYMBOL = "BTCUSDT"
#: The tape's last day; its archive is published at the exchange's time.
LAST = date(2025, 1, 2)
DAY = timedelta(days=1)
EXNESS = Venue("exness", "spot")


def clock(instant: datetime) -> Callable[[], float]:
    """Stand in for the clock of this machine."""
    return instant.timestamp


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def says(instant: datetime, age_s: int | None = None) -> Fault:
    """Set the time and the age in the headers of answers."""
    age = {} if age_s is None else {"Age": str(age_s)}

    def fault(_request: Request, answer: Answer) -> Answer:
        return answer.with_headers(Date=format_datetime(instant, usegmt=True), **age)

    return fault


def keep(tape: Tape, *days: date, symbol: str = SYMBOL) -> None:
    """Write days of a tape into the store, as a user would."""
    for day in days:
        TickStorage().write_ticks(symbol, tape.day(day))


@pytest.fixture
def today(exchange: Exchange) -> Callable[[], float]:
    """Return a clock that agrees with the exchange, on the day after the tape's last."""
    return clock(exchange.now)


# What the archive has


def test_the_newest_published_day_is_the_newest(
    exchange: Exchange, today: Callable[[], float]
) -> None:
    assert newest_day(SYMBOL, None, now=today) == Clamp(LAST, None, "the archive has it")
    assert {request.method for request in exchange.requests} == {"HEAD"}


@pytest.mark.parametrize("suffix", ["", ".CHECKSUM"])
def test_a_day_is_published_only_with_both_its_files(
    exchange: Exchange, today: Callable[[], float], suffix: str
) -> None:
    exchange.put(exchange.path(LAST) + suffix, None)
    clamp = newest_day(SYMBOL, LAST, now=today)
    assert (clamp.day, clamp.is_earlier) == (LAST - DAY, True)


def test_a_checksum_that_is_not_required_is_not_waited_for(
    exchange: Exchange, today: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CHECKSUM", "warn")
    exchange.put(exchange.path(LAST) + ".CHECKSUM", None)
    assert newest_day(SYMBOL, None, now=today).day == LAST


def test_a_day_that_is_published_late_is_not_the_newest_yet(exchange: Exchange) -> None:
    # The archive of a day is published at 10:00 on the next day.
    exchange.now = datetime(2025, 1, 3, 9, 59, tzinfo=UTC)
    assert newest_day(SYMBOL, None, now=clock(exchange.now)).day == LAST - DAY
    exchange.now += timedelta(minutes=1)
    assert newest_day(SYMBOL, None, now=clock(exchange.now)).day == LAST


def test_an_end_in_the_future_is_cut_to_yesterday(
    exchange: Exchange, today: Callable[[], float]
) -> None:
    wanted = date(2031, 1, 1)
    assert newest_day(SYMBOL, wanted, now=today) == Clamp(LAST, wanted, "the archive has it")
    assert exchange.asked("2031") == []


def test_for_an_older_end_only_that_day_is_requested(
    exchange: Exchange, today: Callable[[], float]
) -> None:
    clamp = newest_day(SYMBOL, date(2024, 12, 31), now=today)
    assert (clamp.day, clamp.is_earlier) == (date(2024, 12, 31), False)
    assert {request.path for request in exchange.requests} == {
        exchange.path("2024-12-31"),
        exchange.path("2024-12-31") + ".CHECKSUM",
    }


def test_the_search_goes_back_ten_days_and_no_more(exchange: Exchange) -> None:
    assert newest_day(SYMBOL, None, now=clock(noon(LAST + 11 * DAY))).day == LAST
    asked = len(exchange.requests)
    with pytest.raises(ArchiveMissingError, match="2025-01-03` to `2025-01-13") as caught:
        newest_day(SYMBOL, None, now=clock(noon(LAST + 12 * DAY)))
    assert len(exchange.requests) - asked == 11
    assert caught.value.symbol == SYMBOL


def test_the_archive_of_another_market_does_not_count(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    spot = Tape.generate(days=2, per_day=200, absent=0, archive_lacks=0)
    coin = Tape.generate(
        start="2024-12-29", days=2, per_day=200, market="um", absent=0, archive_lacks=0
    )
    with Exchange(spot, coin) as box, pytest.MonkeyPatch.context() as patch:
        for name, value in box.environment.items():
            patch.setenv(name, value)
        patch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        now = clock(box.now)
        found = [
            newest_day(SYMBOL, None, venue=Venue(market=name), now=now).day
            for name in ("spot", "um")
        ]
        assert found == [date(2024, 12, 31), date(2024, 12, 30)]
        with pytest.raises(ArchiveMissingError, match="cm"):
            newest_day(SYMBOL, None, venue=Venue(market="cm"), now=now)


def test_a_folder_is_searched_like_an_archive(
    exchange: Exchange,
    today: Callable[[], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = exchange.write(tmp_path / "mirror")
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", folder.as_uri())
    assert newest_day(SYMBOL, None, now=today).day == LAST
    (folder / (exchange.path(LAST) + ".CHECKSUM").lstrip("/")).unlink()
    assert newest_day(SYMBOL, None, now=today).day == LAST - DAY
    assert exchange.requests == []


# What the store holds


def test_a_day_that_the_store_holds_needs_no_probe(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, date(2024, 12, 31), LAST)
    assert newest_day(SYMBOL, date(2024, 12, 31), now=today).day == date(2024, 12, 31)
    assert newest_day(SYMBOL, None, now=today).day == LAST
    assert newest_day(SYMBOL, LAST + 9 * DAY, now=today).day == LAST
    assert exchange.requests == []


def test_the_running_day_is_not_whole_even_if_the_store_holds_ticks_of_it(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    keep(exchange_tape, LAST - DAY, LAST)
    clamp = newest_day(SYMBOL, LAST, now=clock(noon(LAST)))
    assert clamp == Clamp(LAST - DAY, LAST, "the tick store holds it")
    assert clamp.is_earlier
    assert exchange.requests == []


def test_an_older_day_in_the_store_does_not_end_the_search(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, LAST - DAY)
    assert newest_day(SYMBOL, None, now=today).day == LAST
    assert exchange.asked(".zip")


def test_a_stored_day_on_the_way_back_is_the_newest(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, LAST - DAY)
    exchange.put(exchange.path(LAST), None)
    exchange.put(exchange.path(LAST - DAY), None)
    assert newest_day(SYMBOL, None, now=today).day == LAST - DAY


def test_stored_days_of_another_market_do_not_count(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    TickStorage().write_ticks(SYMBOL, exchange_tape.day(LAST), market="um")
    assert newest_day(SYMBOL, None, now=today).why == "the archive has it"
    assert exchange.requests


# No connection


def test_without_a_connection_the_newest_stored_day_is_taken_with_a_warning(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, date(2024, 12, 30), date(2024, 12, 31))
    exchange.close()
    with pytest.warns(ClampWarning, match="2024-12-31") as seen:
        clamp = newest_day(SYMBOL, None, now=today)
    assert [one.filename for one in seen] == [__file__]
    assert (clamp.day, clamp.why.endswith("gave no answer")) == (date(2024, 12, 31), True)
    with pytest.warns(ClampWarning):
        assert newest_day(SYMBOL, LAST, now=today).day == date(2024, 12, 31)
    assert newest_day(SYMBOL, date(2024, 12, 30), now=today).day == date(2024, 12, 30)


def test_without_a_connection_a_day_after_the_requested_one_does_not_count(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, LAST)
    exchange.close()
    with pytest.raises(TransientSourceError, match="gave no answer"):
        newest_day(SYMBOL, date(2024, 12, 31), now=today)


def test_a_connection_that_ends_without_an_answer_counts_as_no_connection(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float]
) -> None:
    keep(exchange_tape, date(2024, 12, 30))
    exchange.fail(".zip", faults.drop(), times=None)
    with pytest.warns(ClampWarning):
        assert newest_day(SYMBOL, None, now=today).day == date(2024, 12, 30)


def test_a_lost_answer_is_retried(exchange: Exchange, today: Callable[[], float]) -> None:
    exchange.fail(exchange.path(LAST), faults.drop(), times=2)
    exchange.fail(exchange.path(LAST) + ".CHECKSUM", faults.status(503), times=2)
    assert newest_day(SYMBOL, None, now=today).day == LAST


@pytest.mark.parametrize("code", [403, 503])
def test_an_error_status_is_an_error(
    exchange: Exchange, exchange_tape: Tape, today: Callable[[], float], code: int
) -> None:
    keep(exchange_tape, date(2024, 12, 30))
    exchange.fail(".zip", faults.status(code), times=None)
    with pytest.raises(TransientSourceError, match=f"status `{code}`"):
        newest_day(SYMBOL, None, now=today)


# Clocks


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_clocks_that_disagree_leave_the_newest_day_uncertain(
    exchange: Exchange, hours: int
) -> None:
    exchange.fail(".zip", says(exchange.now), times=None)
    wrong = clock(exchange.now + timedelta(hours=hours))
    word = "ahead of" if hours > 0 else "behind"
    for wanted in (None, LAST + 9 * DAY):
        with pytest.raises(ClockSkewError, match=f"`{abs(hours) * 3600}` s {word}"):
            newest_day(SYMBOL, wanted, now=wrong)
    assert newest_day(SYMBOL, date(2024, 12, 31), now=wrong).day == date(2024, 12, 31)


def test_a_clock_that_is_behind_cuts_no_end(exchange: Exchange) -> None:
    exchange.fail(".zip", says(exchange.now), times=None)
    with pytest.raises(ClockSkewError, match="behind"):
        newest_day(SYMBOL, LAST, now=clock(exchange.now - DAY))
    # The day is over by either clock, so the archive alone decides.
    assert newest_day(SYMBOL, LAST, now=clock(exchange.now + DAY)).day == LAST
    assert newest_day(SYMBOL, LAST + DAY, now=clock(exchange.now + DAY)).day == LAST


def test_a_clock_that_is_a_minute_off_is_accepted(exchange: Exchange) -> None:
    exchange.fail(".zip", says(exchange.now), times=None)
    for seconds in (-55, 0, 55):
        assert (
            newest_day(SYMBOL, None, now=clock(exchange.now + timedelta(seconds=seconds))).day
            == LAST
        )


def test_the_age_of_an_answer_is_no_skew(exchange: Exchange, today: Callable[[], float]) -> None:
    two_hours_ago = exchange.now - timedelta(hours=2)
    exchange.fail(".zip", says(two_hours_ago, age_s=7200), times=None)
    assert newest_day(SYMBOL, None, now=today).day == LAST
    exchange.script.clear()
    exchange.fail(".zip", says(two_hours_ago), times=None)
    with pytest.raises(ClockSkewError):
        newest_day(SYMBOL, None, now=today)


def test_midnight_in_the_search_changes_nothing(exchange: Exchange) -> None:
    exchange.now = datetime(2025, 1, 2, 11, tzinfo=UTC)
    instants: Iterator[datetime] = iter([datetime(2025, 1, 2, 23, 59, 59, tzinfo=UTC)])

    def ticking() -> float:
        return next(instants, datetime(2025, 1, 3, 0, 0, 1, tzinfo=UTC)).timestamp()

    exchange.fail(".zip", says(datetime(2025, 1, 3, 0, 0, 0, tzinfo=UTC)), times=None)
    assert newest_day(SYMBOL, None, now=ticking).day == date(2025, 1, 1)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"])
def test_the_zone_of_the_machine_changes_nothing(
    exchange: Exchange, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        exchange.now = datetime(2025, 1, 3, 23, 30, tzinfo=UTC)
        assert newest_day(SYMBOL, None, now=clock(exchange.now)).day == LAST
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


# Quotes


def test_a_running_month_of_quotes_has_no_whole_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = QuoteTape.generate("EURUSD", "2024-12-01", "2025-01-20", per_day=100)
    with Exchange(tape, now=datetime(2025, 1, 15, 12, tzinfo=UTC)) as box:
        monkeypatch.setenv("RANGEBAR_EXNESS_URL", box.url)
        monkeypatch.setenv("RANGEBAR_CACHE_DIR", f"{tmp_path}")
        now = clock(box.now)
        assert newest_day("EURUSD", None, venue=EXNESS, now=now).day == date(2024, 12, 31)
        wanted = date(2024, 12, 5)
        assert newest_day("EURUSD", wanted, venue=EXNESS, now=now).day == wanted
        with pytest.raises(ArchiveMissingError):
            newest_day("EURUSD", date(2024, 11, 5), venue=EXNESS, now=now)
