"""The archive as a source: what is taken, what is refused, and which of four answers is given."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from exchange import Answer, Exchange, Tape, faults, spoil, write_archive
from rangebar_polars.events import clear_hooks, flush_hooks, register_for_all, register_hook
from rangebar_polars.exceptions import (
    ArchiveMissingError,
    CorruptSourceError,
    NotYetPublishedError,
    SettingError,
    TickDataError,
    TickOrderError,
    TransientSourceError,
)
from rangebar_polars.fetch import BinanceArchive
from rangebar_polars.fetch import zipped as zipped_files
from rangebar_polars.fetch.binance import csv as agg_trades_csv
from rangebar_polars.fetch.binance.archive import UnverifiedFileWarning
from rangebar_polars.fetch.binance.csv import parse_trades
from rangebar_polars.fetch.transport import Transport
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rangebar_polars.events import HookPayload
    from rangebar_polars.exceptions import SourceError

DAY = "2024-12-31"
OTHER_DAY = "2024-12-30"
TODAY = date(2025, 1, 4)
TRIES = 3


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.generate("BTCUSDT", "2024-12-30", days=4, per_day=300)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as exchange:
        yield exchange


def source(
    place: Exchange | Path, market: str = "spot", *, checksum: str = "require", today: date = TODAY
) -> BinanceArchive:
    url = place.as_uri() if isinstance(place, Path) else place.url
    transport = Transport(url, tries=TRIES, first_wait_s=0.001)
    return BinanceArchive(market, checksum=checksum, transport=transport, today=lambda: today)


def zipped(text: bytes | str, member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return file.getvalue()


def requests_of(box: Exchange, path: str) -> int:
    return len(box.asked(lambda request: request.path == path))


def test_every_day_of_the_tape_comes_back_with_its_origin(box: Exchange, tape: Tape) -> None:
    archive = source(box)
    for day in archive.days("btcusdt", tape.first_day, tape.last_day):
        found = archive.fetch_day("BTCUSDT", day)
        assert_frame_equal(found.ticks, tape.archived(day, day + timedelta(days=1)))
        assert found.ticks.schema == TRADES_SCHEMA
        content = box.content(box.path(day))
        origin = found.origin
        assert (origin.kind, origin.url) == ("archive", box.url + box.path(day))
        assert origin.sha256 == origin.checksum == hashlib.sha256(content).hexdigest()
        assert origin.unit == ("us" if day.year == 2025 else "ms")
        assert origin.etag
        assert datetime.fromisoformat(origin.last_modified).tzinfo is not None
        assert not any((origin.moved, origin.raised, origin.doubled, origin.sentinels))
        assert_frame_equal(archive.read_day("BTCUSDT", f"{day}"), found.ticks)


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("header", [False, True])
def test_markets_and_headers_of_a_folder(market: str, header: bool, tmp_path: Path) -> None:
    tape = Tape.generate("X_PERP", "2024-12-31", 2, per_day=200, market=market)
    write_archive(tmp_path, tape, header=header and market != "spot")
    archive = source(tmp_path, market)
    for day in tape.days:
        found = archive.fetch_day("X_PERP", day)
        assert_frame_equal(found.ticks, tape.archived(day, day + timedelta(days=1)))
        assert found.origin.unit == ("us" if market == "spot" and day.year == 2025 else "ms")


def test_a_month_gives_its_days(tape: Tape, tmp_path: Path) -> None:
    write_archive(tmp_path, tape)
    archive = source(tmp_path)
    days = archive.fetch_month("BTCUSDT", 2024, 12) + archive.fetch_month("BTCUSDT", 2025, 1)
    assert [one.day for one in days] == tape.days
    for one in days:
        assert_frame_equal(one.ticks, tape.archived(one.day, one.day + timedelta(days=1)))
        assert "/monthly/" in one.origin.url


def test_counts_of_a_month_are_those_of_its_days(box: Exchange) -> None:
    path = box.path(DAY, monthly=True)
    box.republish(path, lambda text: spoil.sentinels(3)(spoil.doubled(4)(text)))
    first, second = source(box).fetch_month("BTCUSDT", 2024, 12)
    assert (first.origin.sentinels, second.origin.sentinels) == (3, 0)
    assert (first.origin.doubled, second.origin.doubled) == (4, 0)


# Damage


def two_members(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        text = archive.read(name)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
        archive.writestr("other.csv", text)
    return file.getvalue()


def other_crc(content: bytes) -> bytes:
    out = bytearray(content)
    for place in (content.index(b"PK\x03\x04") + 14, content.rindex(b"PK\x01\x02") + 16):
        out[place] ^= 0xFF
    return bytes(out)


def flipped(content: bytes) -> bytes:
    out = bytearray(content)
    out[len(out) // 2] ^= 1
    return bytes(out)


def bad_letter(content: bytes) -> bytes:
    """Not compressed, with a letter in a number: the line is wrong before the CRC is."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        text = archive.read(name)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    second = text.splitlines()[1]
    return file.getvalue().replace(second, b"x" + second[1:], 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-10],
    "another CRC": other_crc,
    "a bit turned": flipped,
    "a line that is none": bad_letter,
    "another member": lambda _: zipped("1,1,1,1,1,1,True,True\n", "readme.csv"),
    "two members": two_members,
    "an empty member": lambda _: zipped("", f"BTCUSDT-aggTrades-{DAY}.csv"),
    "a page as the member": lambda _: zipped("<html>\n", f"BTCUSDT-aggTrades-{DAY}.csv"),
    "a page": lambda _: b"<!DOCTYPE html><html></html>",
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("checksum", ["require", "warn"])
@pytest.mark.parametrize("block", [1_000, 1 << 20])
def test_a_damaged_file_is_fetched_twice_and_refused(
    damage: str, checksum: str, block: int, box: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In small blocks a line is parsed long before the damage is known.
    monkeypatch.setattr(agg_trades_csv, "BLOCK_BYTES", block)
    monkeypatch.setattr(zipped_files, "INPUT_BYTES", block // 10)
    path = box.path(DAY)
    box.put(path, DAMAGE[damage](box.content(path)))  # and a checksum that agrees
    with pytest.raises(CorruptSourceError) as caught:
        source(box, checksum=checksum).fetch_day("BTCUSDT", DAY)
    assert requests_of(box, path) == 2
    error = caught.value
    assert (error.symbol, f"{error.day}", error.url) == ("BTCUSDT", DAY, box.url + path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_on_the_way_is_mended_by_a_second_copy(
    damage: str, box: Exchange, tape: Tape
) -> None:
    path = box.path(DAY)
    box.fail(path, faults.changed(DAMAGE[damage]))
    assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))
    first, second = box.asked(path)
    assert not first.passes_caches
    assert "fresh" in second.query


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_body_that_breaks_off_is_asked_for_again(keep: float, box: Exchange, tape: Tape) -> None:
    path = box.path(DAY)
    box.fail(path, faults.drop(keep), times=1)
    box.fail(path, faults.truncated(keep), times=1)
    assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))


def test_a_server_without_ranges_is_asked_for_the_whole_again(box: Exchange, tape: Tape) -> None:
    path = box.path(DAY)
    whole = Answer(200, box.content(path), {"ETag": '"x"'})
    box.fail(
        lambda request: "range" in request.headers, lambda _request, _answer: whole, times=None
    )
    box.fail(path, faults.truncated(0.5), times=TRIES - 1)
    assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))
    assert not any("fresh" in request.query for request in box.asked(path))


# Checksums

CHECKSUM_FAULTS = {
    "wrong": (faults.wrong_checksum(), None),
    "malformed": (faults.malformed_checksum(), "malformed"),
    "short": (faults.changed(lambda body: body[1:]), "malformed"),
    "empty": (faults.empty(), "malformed"),
    "a page": (faults.html(), "malformed"),
    "of another file": (faults.checksum_of_other_file(), "other file"),
    "missing": (faults.status(404), ""),
}


@pytest.mark.parametrize("name", CHECKSUM_FAULTS)
def test_a_file_that_no_checksum_proves_is_refused(name: str, box: Exchange) -> None:
    path = box.path(DAY)
    box.fail(path + ".CHECKSUM", CHECKSUM_FAULTS[name][0], times=None)
    with pytest.raises(CorruptSourceError, match="RANGEBAR_CHECKSUM=warn"):
        source(box).fetch_day("BTCUSDT", DAY)


@pytest.mark.parametrize("name", CHECKSUM_FAULTS)
def test_the_policy_warn_takes_it_and_never_calls_it_proved(
    name: str, box: Exchange, tape: Tape
) -> None:
    path = box.path(DAY)
    fault, record = CHECKSUM_FAULTS[name]
    box.fail(path + ".CHECKSUM", fault, times=None)
    with pytest.warns(UnverifiedFileWarning, match="unverified") as caught:
        found = source(box, checksum="warn").fetch_day("BTCUSDT", DAY)
    assert len(caught) == 1
    assert_frame_equal(found.ticks, tape.archived(DAY, "2025-01-01"))
    assert found.origin.sha256 == hashlib.sha256(box.content(path)).hexdigest()
    assert found.origin.checksum != found.origin.sha256
    assert record is None or found.origin.checksum == record
    assert requests_of(box, path) == (1 if name == "missing" else 2)


@pytest.mark.parametrize("name", CHECKSUM_FAULTS)
@pytest.mark.parametrize("checksum", ["require", "warn"])
def test_a_checksum_that_is_wrong_once_is_asked_for_again(
    name: str, checksum: str, box: Exchange, tape: Tape
) -> None:
    box.fail(box.path(DAY) + ".CHECKSUM", CHECKSUM_FAULTS[name][0])
    found = source(box, checksum=checksum).fetch_day("BTCUSDT", DAY)
    assert found.origin.checksum == found.origin.sha256


@pytest.mark.parametrize("checksum", ["require", "warn"])
def test_only_a_checksum_that_stays_wrong_is_an_event(checksum: str, box: Exchange) -> None:
    told: list[HookPayload] = []
    register_hook("checksum_failed", told.append)
    try:
        for name in CHECKSUM_FAULTS:
            # A request past caches has the right one.
            box.fail(box.path(DAY) + ".CHECKSUM", CHECKSUM_FAULTS[name][0])
            source(box, checksum=checksum).fetch_day("BTCUSDT", DAY)
            box.script.clear()
        assert flush_hooks(600)
        assert told == []
        for name in CHECKSUM_FAULTS:
            box.fail(box.path(DAY) + ".CHECKSUM", CHECKSUM_FAULTS[name][0], times=None)
            with warnings.catch_warnings(), suppress(CorruptSourceError):
                warnings.simplefilter("ignore", UnverifiedFileWarning)
                source(box, checksum=checksum).fetch_day("BTCUSDT", DAY)
            box.script.clear()
        assert flush_hooks(600)
    finally:
        clear_hooks()
    # The others have no hash to compare with.
    (payload,) = told
    assert payload.symbol == "BTCUSDT"
    assert payload.details["actual"] == hashlib.sha256(box.content(box.path(DAY))).hexdigest()
    assert payload.details["expected"] != payload.details["actual"]
    assert payload.details["url"] == box.url + box.path(DAY)


@pytest.mark.parametrize("lag", ["checksum", "zip"])
def test_a_cache_that_lags_behind_is_passed(lag: str, box: Exchange) -> None:
    path = box.path(DAY)
    before = source(box).fetch_day("BTCUSDT", DAY)
    box.republish(path, spoil.without_rows(5, 3), lag=lag)
    after = source(box).fetch_day("BTCUSDT", DAY)
    assert after.ticks.height == before.ticks.height - 3
    assert after.origin.sha256 == hashlib.sha256(box.content(path)).hexdigest()


@pytest.mark.parametrize("form", ["{sum} {name}\n", "{sum}  *{name}\r\n", "{SUM}\t{name}"])
def test_forms_of_a_checksum_file(form: str, box: Exchange) -> None:
    path = box.path(DAY)
    total = hashlib.sha256(box.content(path)).hexdigest()
    name = path.rpartition("/")[2]
    box.put(path + ".CHECKSUM", form.format(sum=total, SUM=total.upper(), name=name).encode())
    assert source(box).fetch_day("BTCUSDT", DAY).origin.checksum == total


def test_a_file_that_goes_between_two_tries_is_no_missing_one(box: Exchange) -> None:
    path = box.path(DAY)
    box.fail(path, faults.empty())
    box.fail(path, faults.status(404))
    with pytest.raises(CorruptSourceError):
        source(box).fetch_day("BTCUSDT", DAY)


# Files that are not there


@pytest.mark.parametrize(
    ("today", "kind"),
    [
        ("2024-12-31", NotYetPublishedError),
        ("2025-01-01", NotYetPublishedError),
        ("2025-01-02", NotYetPublishedError),
        ("2025-01-03", ArchiveMissingError),
        ("2026-01-01", ArchiveMissingError),
    ],
)
def test_a_missing_file_may_still_come_or_may_not(
    today: str, kind: type[SourceError], box: Exchange
) -> None:
    box.put(box.path(DAY), None)
    with pytest.raises(ArchiveMissingError) as caught:
        source(box, today=date.fromisoformat(today)).fetch_day("BTCUSDT", DAY)
    assert type(caught.value) is kind
    assert (caught.value.symbol, f"{caught.value.day}") == ("BTCUSDT", DAY)


@pytest.mark.parametrize(
    ("today", "kind"), [("2025-01-08", NotYetPublishedError), ("2025-01-09", ArchiveMissingError)]
)
def test_a_missing_month_may_still_come_or_may_not(
    today: str, kind: type[SourceError], tmp_path: Path
) -> None:
    with pytest.raises(ArchiveMissingError) as caught:
        source(tmp_path, today=date.fromisoformat(today)).fetch_month("BTCUSDT", 2024, 12)
    assert type(caught.value) is kind


def test_days_are_those_published_now_and_asked_for_one_by_one(box: Exchange, tape: Tape) -> None:
    box.put(box.path("2025-01-01"), None)
    days = source(box).days("BTCUSDT", "2024-12-29", "2025-01-05")
    assert next(days) == tape.first_day
    assert len(box.requests) == 2
    assert [f"{day}" for day in days] == ["2024-12-31", "2025-01-02"]
    assert {request.method for request in box.requests} == {"HEAD"}


# No answer

LATER = [500, 502, 503, 504, 429, 408]


@pytest.mark.parametrize("status", LATER)
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    status: int, box: Exchange, tape: Tape
) -> None:
    path = box.path(DAY)
    box.fail(path, faults.status(status), times=TRIES - 1)
    assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))
    assert requests_of(box, path) == TRIES


@pytest.mark.parametrize("fault", [faults.status(503), faults.drop(), faults.truncated(0.5)])
@pytest.mark.parametrize("file", ["zip", "checksum"])
def test_no_answer_says_nothing_about_the_day(fault: object, file: str, box: Exchange) -> None:
    box.fail(box.path(DAY) + (".CHECKSUM" if file == "checksum" else ""), fault, times=None)
    with pytest.raises(TransientSourceError, match="could not be fetched") as caught:
        source(box).fetch_day("BTCUSDT", DAY)
    assert (caught.value.symbol, f"{caught.value.day}") == ("BTCUSDT", DAY)
    assert box.url in caught.value.url
    assert not isinstance(caught.value, (ArchiveMissingError, CorruptSourceError))


@pytest.mark.parametrize("status", [400, 401, 403, 410, 451])
def test_a_refusal_is_not_an_absence(status: int, box: Exchange) -> None:
    box.fail(box.path(DAY), faults.status(status), times=None)
    with pytest.raises(TransientSourceError):
        source(box).fetch_day("BTCUSDT", DAY)
    with pytest.raises(TransientSourceError):
        list(source(box).days("BTCUSDT", DAY, DAY))


def test_a_server_that_is_gone_is_no_answer(tape: Tape) -> None:
    with Exchange(tape) as box:
        archive = source(box)
    with pytest.raises(TransientSourceError):
        archive.fetch_day("BTCUSDT", DAY)
    with pytest.raises(ConnectionError):
        list(archive.days("BTCUSDT", DAY, DAY))


def test_silence_ends_after_the_timeout(
    box: Exchange, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "1")
    # An answer that is no fault may be slow as well; it is asked for again.
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "100")
    box.fail(box.path(DAY), faults.stall())
    box.fail(box.path(DAY), faults.stall(after=0.5))
    assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))


@pytest.mark.parametrize("url", ["ftp://host/", "data.binance.vision", "", "http://", "s3://b"])
def test_an_address_of_no_source_is_refused(url: str) -> None:
    with pytest.raises(SettingError):
        Transport(url)


def test_a_folder_that_does_not_exist_is_no_empty_archive(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no folder"):
        BinanceArchive(url=(tmp_path / "none").as_uri())


def test_another_store_may_carry_the_files(tape: Tape, tmp_path: Path) -> None:
    obstore = pytest.importorskip("obstore")
    store = obstore.store.MemoryStore()
    write_archive(tmp_path, tape)
    for file in tmp_path.rglob("*.*"):
        obstore.put(store, str(file.relative_to(tmp_path)), file.read_bytes())
    archive = BinanceArchive(transport=Transport("memory://", store=store))
    assert_frame_equal(archive.read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))


# Events


def test_downloads_are_told_of_and_an_absence_is_no_failure(box: Exchange) -> None:
    told: list[HookPayload] = []
    register_for_all(told.append)
    try:
        archive = source(box)
        height = archive.read_day("BTCUSDT", DAY).height
        for path, fault, kind in (
            (box.path(DAY), faults.status(404), ArchiveMissingError),
            (box.path(DAY), faults.html(), CorruptSourceError),
            (box.path(DAY), faults.status(503), TransientSourceError),
        ):
            box.fail(path, fault, times=TRIES)
            with pytest.raises(kind):
                archive.fetch_day("BTCUSDT", DAY)
            box.script.clear()
        assert flush_hooks(600)
    finally:
        clear_hooks()
    ends = [one for one in told if one.event != "download_start"]
    # The page is not the published file, either.
    assert [one.event for one in ends] == [
        "download_complete", "checksum_failed", "download_failed", "download_failed"
    ]  # fmt: skip
    wrong = ends.pop(1)
    content = box.content(box.path(DAY))
    assert wrong.details["expected"] == hashlib.sha256(content).hexdigest()
    assert wrong.details["actual"] not in ("", wrong.details["expected"])
    assert wrong.details["day"] == date(2024, 12, 31)
    assert len(told) - len(ends) - 1 == 4
    assert ends[0].details["rows"] == height
    assert ends[0].details["bytes"] == len(box.content(box.path(DAY)))
    assert {one.details["url"] for one in told} == {box.url + box.path(DAY)}
    assert all(one.is_failure and one.details["reason"] for one in ends[1:])


# What stands in the files


def test_forms_of_the_text_give_the_same_trades(box: Exchange, tape: Tape) -> None:
    head = b"agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
    head += b",is_best_match\n"
    forms: list[Callable[[bytes], bytes]] = [
        spoil.crlf,
        spoil.byte_order_mark,
        lambda text: head + text,
        lambda text: text.replace(b"True", b"true").replace(b"False", b"false"),
        lambda text: b"".join(line.rpartition(b",")[0] + b"\n" for line in text.splitlines()),
        lambda text: text + b"\n\n",
        lambda text: text.rstrip(b"\n"),
    ]
    for form in forms:
        box.republish(box.path(DAY), form)
        assert_frame_equal(source(box).read_day("BTCUSDT", DAY), tape.archived(DAY, "2025-01-01"))


def test_mended_rows_are_counted_without_a_warning(box: Exchange, tape: Tape) -> None:
    wanted = tape.archived(DAY, "2025-01-01")
    cases = {
        "moved": spoil.shuffled(5),
        "doubled": spoil.doubled(4),
        "sentinels": spoil.sentinels(3),
    }
    for kind, change in cases.items():
        box.republish(box.path(DAY), change)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = source(box).fetch_day("BTCUSDT", DAY)
        assert_frame_equal(found.ticks, wanted)
        assert getattr(found.origin, kind) > 0, kind


@pytest.mark.parametrize(("back_ms", "refused"), [(1, False), (1000, False), (1001, True)])
def test_a_time_that_runs_back_is_raised_up_to_a_second(
    back_ms: int, refused: bool, box: Exchange, tape: Tape
) -> None:
    times = tape.archived(DAY, "2025-01-01")["timestamp"].dt.epoch("ms")
    row = next(i for i in range(50, 200) if times[i - 1] < times[i] < times[i + 1])
    box.republish(box.path(DAY), spoil.field(row, spoil.TIME, f"{times[row - 1] - back_ms}"))
    if refused:
        with pytest.raises(TickOrderError, match=f"line {row + 1}"):
            source(box).fetch_day("BTCUSDT", DAY)
        return
    found = source(box).fetch_day("BTCUSDT", DAY)
    assert found.origin.raised == 1
    assert found.ticks["timestamp"].dt.epoch("ms")[row] == times[row - 1]


BAD_FIELDS = {
    "no number": (spoil.PRICE, "abc"),
    "price of 0": (spoil.PRICE, "0.00000000"),
    "negative price": (spoil.PRICE, "-1.00000000"),
    "negative quantity": (spoil.QUANTITY, "-0.50000000"),
    "nine decimals of a price": (spoil.PRICE, "94000.000000001"),
    "nine decimals of a quantity": (spoil.QUANTITY, "0.123456789"),
    "a small number with an exponent": (spoil.QUANTITY, "1e-9"),
    "more digits than a double": (spoil.QUANTITY, "123456789.12345680"),
    "a whole number that is no double": (spoil.QUANTITY, "9007199254740993.00000000"),
    "microseconds in a file of milliseconds": (spoil.TIME, "1735603200000000"),
    "a time of another day": (spoil.TIME, "1735603201000"),
    "a time beyond all units": (spoil.TIME, "9223372036854775807"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_row_is_an_error_with_its_line(name: str, box: Exchange) -> None:
    column, text = BAD_FIELDS[name]
    day = OTHER_DAY if name.startswith("a time of") else DAY
    box.republish(box.path(day), spoil.field(20, column, text))
    path = box.path(day)
    with pytest.raises(TickDataError, match=rf"{path}`, line 21\b"):
        source(box).fetch_day("BTCUSDT", day)
    assert requests_of(box, path) == 1  # it is what was published


@pytest.mark.parametrize("day", ["2024-12-31", "2025-01-01"])
def test_a_file_in_the_unit_of_the_other_year_is_an_error(day: str, box: Exchange) -> None:
    rows = (
        box.tapes[0]
        .day(day)
        .with_columns(pl.col("timestamp").dt.epoch("us" if day < "2025" else "ms"))
    )
    order = ["agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "timestamp"]
    text = rows.select(*order, "is_buyer_maker").write_csv(include_header=False).encode()
    box.republish(box.path(day), lambda _: text)
    with pytest.raises(TickDataError, match="line 1: the time"):
        source(box).fetch_day("BTCUSDT", day)


def test_a_second_before_or_after_the_day_is_let_pass(box: Exchange) -> None:
    path, midnight = box.path(DAY), datetime(2024, 12, 31, tzinfo=UTC)
    first = int(midnight.timestamp() * 1000)
    for row, time in ((0, first - 1000), (-1, first + 86_400_000 + 999)):
        box.republish(path, spoil.field(row, spoil.TIME, f"{time}") if row == 0 else last(time))
        assert source(box).read_day("BTCUSDT", DAY)["timestamp"].dt.epoch("ms")[row] == time
    for row, time in ((0, first - 1001), (-1, first + 86_400_000 + 1000)):
        box.republish(path, spoil.field(row, spoil.TIME, f"{time}") if row == 0 else last(time))
        with pytest.raises(TickDataError, match="outside 2024-12-31"):
            source(box).read_day("BTCUSDT", DAY)


def last(time_ms: int) -> Callable[[bytes], bytes]:
    """Set the time of the last row."""
    return lambda text: spoil.field(text.count(b"\n") - 1, spoil.TIME, f"{time_ms}")(text)


def test_two_trades_of_one_id_are_an_error_with_both_lines(box: Exchange) -> None:
    box.republish(box.path(DAY), spoil.conflicting(row=10))
    with pytest.raises(TickDataError, match="lines 11 and 12: conflicting trades"):
        source(box).fetch_day("BTCUSDT", DAY)


def test_a_day_of_a_header_alone_says_why_it_is_empty(box: Exchange) -> None:
    head = (
        b"agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    )
    box.republish(box.path(DAY), lambda _: head)
    found = source(box).fetch_day("BTCUSDT", DAY)
    assert found.ticks.is_empty()
    assert found.ticks.schema == TRADES_SCHEMA
    assert "holds no trade" in found.reason


EXACT = ["0.00000001", "0.1", "61837.63000000", "0.12345678", "22517997.99999999", "22517998.5"]
EXACT += ["61837000.12345678", "9007199254740992", "92233720368.00000000", "1234567890123.50000000"]
EXACT += ["0.10000000000", "99999.99999999", "67108863.99999999", "88888888.00000000000"]


def test_decimal_text_keeps_every_digit() -> None:
    lines = [f"{i},{x},{x},1,1,1735600000000,True" for i, x in enumerate(EXACT, 1)]
    frame = parse_trades(["\n".join(lines).encode()], "day.csv").frame
    assert frame["price"].to_list() == frame["quantity"].to_list() == list(map(float, EXACT))


LOSSY = ["0.000000001", "0.123456789", "61837.630000001", "22517997.999999991", "1e-9"]
LOSSY += ["123456789.12345680", "99999999999.1234567", "9007199254740993", "0.1234567890"]
LOSSY += ["1048576.000000001", "999999.999999999", "22517997.9999999991", "67108863.123456789"]


@pytest.mark.parametrize("text", LOSSY)
@pytest.mark.parametrize("column", [1, 2])
def test_decimal_text_that_would_lose_a_digit_is_named(text: str, column: int) -> None:
    fields = ["2", "1.5", "92233720368.00", "1", "1", "1735600000000", "True"]
    good = ",".join(fields)
    fields[column] = text
    content = "\n".join([good, good, ",".join(fields), good]).encode()
    with pytest.raises(TickDataError, match=rf"line 3: `(price|quantity)` is `{text}`, more"):
        parse_trades([content], "day.csv")


# Real files


def test_real_files_go_through_the_source_day_by_day(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data" / "binance").glob("*.csv"))
    assert files
    for file in files:
        market, symbol, _ = file.name.split("_")
        by_day = lines_by_day(file)
        assert len(by_day) == 2  # each sample crosses a midnight
        for day, lines in by_day.items():
            publish(tmp_path, market, "daily", symbol, f"{day}", lines)
        archive = source(tmp_path, market)
        assert list(archive.days(symbol, min(by_day), max(by_day))) == sorted(by_day)
        for day, lines in by_day.items():
            found = archive.fetch_day(symbol, day)
            assert found.ticks["agg_trade_id"].to_list() == [int(x.split(",")[0]) for x in lines]
            assert found.origin.unit == "ms"
        whole = [line for lines in by_day.values() for line in lines]
        publish(tmp_path, market, "monthly", symbol, f"{min(by_day):%Y-%m}", whole)
        month = archive.fetch_month(symbol, min(by_day).year, min(by_day).month)
        assert [one.day for one in month] == sorted(by_day)
        assert sum(one.ticks.height for one in month) == len(whole)
        publish(tmp_path, market, "daily", symbol, f"{min(by_day)}", whole)
        crossing = len(by_day[min(by_day)])
        with pytest.raises(TickDataError, match=r"line \d+: the time .* is outside") as caught:
            archive.fetch_day(symbol, min(by_day))
        assert int(str(caught.value).split("line ")[1].split(":")[0]) > crossing


def lines_by_day(file: Path) -> dict[date, list[str]]:
    days: dict[date, list[str]] = {}
    for line in file.read_text().splitlines():
        if line[0].isdigit():
            time = datetime.fromtimestamp(int(line.split(",")[5]) / 1000, UTC)
            days.setdefault(time.date(), []).append(line)
    return days


def publish(
    folder: Path, market: str, period: str, symbol: str, when: str, lines: list[str]
) -> None:
    place = {"spot": "spot", "um": "futures/um"}[market]
    path = folder / f"data/{place}/{period}/aggTrades/{symbol}/{symbol}-aggTrades-{when}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zipped("\n".join(lines) + "\n", f"{path.stem}.csv"))
    total = hashlib.sha256(path.read_bytes()).hexdigest()
    Path(f"{path}.CHECKSUM").write_text(f"{total}  {path.name}\n")
