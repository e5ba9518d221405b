"""The exchange in a box itself: its tape, its archives, its server."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, Tape, faults, spoil, unit_of, write_archive
from exchange.client import ask, page
from exchange.fixtures import exchange, exchange_tape  # noqa: F401
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = "2024-12-31"
PAGE = "/api/v3/aggTrades?symbol=BTCUSDT"


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.generate(per_day=800, seed=3)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as opened:
        yield opened


def future(market: str = "um") -> Tape:
    symbol = {"um": "BTCUSDT", "cm": "BTCUSD_PERP"}[market]
    return Tape.generate(
        symbol, market=market, per_day=500, price_digits=1, quantity_digits=3, seed=5
    )


# The tape


def test_the_same_arguments_give_the_same_tape() -> None:
    one, two, other = (Tape.generate(per_day=500, seed=seed) for seed in (1, 1, 2))
    assert_frame_equal(one.ticks, two.ticks)
    assert not one.ticks.equals(other.ticks)
    assert one.ticks.schema == TRADES_SCHEMA


def test_ids_rise_and_times_never_run_back(tape: Tape) -> None:
    assert (tape.ticks["agg_trade_id"].diff().drop_nulls() > 0).all()
    assert tape.ticks["timestamp"].is_sorted()
    assert (tape.ticks["first_trade_id"] <= tape.ticks["last_trade_id"]).all()
    # Only where an id is absent do the ids of the single trades break.
    follows = tape.ticks["first_trade_id"] == tape.ticks["last_trade_id"].shift() + 1
    assert (~follows).sum() == len(tape.source_absent)
    assert (tape.ticks["last_trade_id"] > tape.ticks["first_trade_id"]).mean() > 0.1


def test_a_dense_day_has_bursts_in_order() -> None:
    dense = Tape.generate(start="2025-03-09", days=1, per_day=200_000)
    assert dense.ticks["timestamp"].is_sorted()
    millis = dense.ticks["timestamp"].dt.epoch("ms")
    assert 0.25 < (millis.diff() == 0).mean() < 0.6
    assert millis.value_counts()["count"].max() >= 300
    # Inside a millisecond some microseconds are equal, and some are not.
    assert 0.01 < (dense.ticks["timestamp"].dt.epoch("us").diff() == 0).mean() < 0.5


def test_days_begin_and_end_at_their_edges_and_the_unit_changes_with_the_year(tape: Tape) -> None:
    for day in tape.days:
        times = tape.day(day)["timestamp"]
        assert times[0] == datetime(day.year, day.month, day.day, tzinfo=UTC)
        fine = timedelta(microseconds=999 if unit_of("spot", day) == "us" else 0)
        assert times[-1] == times[0] + timedelta(days=1, milliseconds=-1) + fine
        whole = times.dt.microsecond() % 1_000 == 0
        assert whole.all() == (day.year == 2024)
    assert pl.concat(tape.day(day) for day in tape.days).equals(tape.ticks)
    assert future().ticks.select((pl.col("timestamp").dt.epoch("us") % 1_000 == 0).all()).item()


def test_prices_and_quantities_are_the_doubles_of_their_decimal_text(tape: Tape) -> None:
    for value in tape.ticks["price"].head(300):
        assert float(f"{value:.2f}") == value
    for value in tape.ticks["quantity"].head(300):
        assert float(f"{value:.5f}") == value
    assert (tape.ticks["quantity"] > 0).all()


def test_ids_run_on_over_an_empty_day() -> None:
    quiet = Tape.generate(per_day=300, empty_days=["2024-12-31"], absent=0, archive_lacks=0)
    assert quiet.day("2024-12-31").height == 0
    assert quiet.id_span("2024-12-30")[1] + 1 == quiet.id_span("2025-01-01")[0]
    with Exchange(quiet) as box:
        assert ask(box, box.path("2024-12-31")).status == 404
        assert ask(box, box.path("2025-01-01")).status == 200


def test_absent_ids_are_nowhere_and_lacking_ids_in_rest_alone(tape: Tape, tmp_path: Path) -> None:
    assert len(tape.source_absent) == 2
    assert len(tape.archive_lacks) == 1
    for first, last in tape.source_absent:
        assert tape.ids(first, last).height == 0
        assert tape.ids(first - 1, last + 1).height == 2
    (first, last) = tape.archive_lacks[0]
    assert tape.ids(first, last).height == last - first + 1
    write_archive(tmp_path, tape)
    archived = rb.scan_agg_trades(f"{tmp_path}/data/spot/daily/**/*.zip").collect()
    expected = tape.ticks.filter(~pl.col("agg_trade_id").is_between(first, last))
    assert_frame_equal(archived, expected)
    with Exchange(tape) as box:
        asked = f"{PAGE}&fromId={first}&limit={last - first + 1}"
        assert [row["a"] for row in page(box, asked)] == list(range(first, last + 1))
        absent, after = tape.source_absent[0]
        assert page(box, f"{PAGE}&fromId={absent}&limit=1")[0]["a"] == after + 1


def test_a_tape_is_told_to_lack_more(tape: Tape) -> None:
    first, last = tape.id_span(DAY)
    less = tape.with_absent(last, last + 2).with_archive_lack(first, first)
    assert less.ids(last, last + 2).height == 0
    assert less.archived(DAY, "2025-01-01")["agg_trade_id"][0] == first + 1
    assert tape.ids(last, last + 2).height == 3


# Archives


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_archives_hold_the_tape(
    tape: Tape, market: str, header: bool, period: str, tmp_path: Path
) -> None:
    mine = tape if market == "spot" else future(market)
    write_archive(tmp_path, mine, header=header)
    files = sorted(tmp_path.glob(f"data/**/{period}/aggTrades/{mine.symbol}/*.zip"))
    assert len(files) == {"daily": 4, "monthly": 2}[period]
    read = rb.scan_agg_trades(files).collect()
    assert_frame_equal(read, mine.archived("2024-12-01", "2025-02-01"))
    for file in files:
        member = zipfile.ZipFile(file)
        with member:
            (name,) = member.namelist()
            lines = member.read(name).splitlines()
        assert name == f"{file.stem}.csv"
        assert (lines[0][:1] == b"a") == (header and market != "spot")
        fields = lines[1].split(b",")
        assert len(fields) == (8 if market == "spot" else 7)
        micro = market == "spot" and "2025" in name
        assert len(fields[5]) == (16 if micro else 13)
        assert fields[6] in {"spot": (b"True", b"False")}.get(market, (b"true", b"false"))


def test_digits_are_written_as_each_market_writes_them(tmp_path: Path) -> None:
    def first(mine: Tape) -> list[str]:
        with Exchange(mine) as box:
            content = box.content(box.path(mine.first_day))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(archive.namelist()[0]).decode().split("\n")[0].split(",")

    row = {"price": 30_000.0, "quantity": 0.5}
    for mine, texts in (
        (Tape.generate(per_day=300, absent=0, archive_lacks=0), ["30000.00000000", "0.50000000"]),
        (future(), ["30000", "0.5"]),
    ):
        flat = mine.ticks.with_columns(**{name: pl.lit(value) for name, value in row.items()})
        changed = Tape(mine.symbol, flat, mine.market, mine.price_digits, mine.quantity_digits)
        assert first(changed)[1:3] == texts


def test_a_file_over_http_has_what_a_client_needs(box: Exchange) -> None:
    path = box.path(DAY)
    got = ask(box, path)
    assert got.body == box.content(path)
    assert int(got.headers["Content-Length"]) == len(got.body)
    assert got.headers["Last-Modified"] == "Wed, 01 Jan 2025 10:00:00 GMT"
    etag = got.headers["ETag"]
    total, name = ask(box, path + ".CHECKSUM").body.decode().split("  ")
    assert total == hashlib.sha256(got.body).hexdigest()
    assert name == f"BTCUSDT-aggTrades-{DAY}.zip\n"
    head = ask(box, path, "HEAD")
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert ask(box, path, If_None_Match=etag).status == 304
    assert ask(box, path, If_Match='"other"').status == 412
    assert ask(box, path, "PROPFIND").status == 405


@pytest.mark.parametrize("text", ["bytes=10-19", "bytes=10-", "bytes=-7", "bytes=0-99999999"])
def test_ranges_are_parts_of_the_file(box: Exchange, text: str) -> None:
    whole = box.content(box.path(DAY))
    first, last = text.removeprefix("bytes=").split("-")
    part = whole[int(first) : int(last) + 1 if last else None] if first else whole[-int(last) :]
    got = ask(box, box.path(DAY), Range=text)
    assert (got.status, got.body) == (206, part)
    assert got.headers["Content-Range"].endswith(f"/{len(whole)}")
    assert ask(box, box.path(DAY), Range="bytes=99999999-").status == 416


def test_obstore_reads_files_ranges_and_what_is_not_there(box: Exchange) -> None:
    obstore = pytest.importorskip("obstore")
    from obstore.store import HTTPStore

    store = HTTPStore.from_url(box.url, client_options={"allow_http": True})
    path = box.path(DAY).lstrip("/")
    content = box.content("/" + path)
    result = obstore.get(store, path)
    assert bytes(result.bytes()) == content
    assert result.meta["e_tag"] == ask(box, "/" + path).headers["ETag"]
    assert obstore.head(store, path)["size"] == len(content)
    assert bytes(obstore.get_range(store, path, start=5, end=9)) == content[5:9]
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "data/none.zip")


def test_files_appear_at_ten_the_next_day(box: Exchange, tape: Tape) -> None:
    day, month = box.path(DAY), box.path(DAY, monthly=True)
    for now, statuses in (
        (datetime(2025, 1, 1, 9, 59, tzinfo=UTC), (404, 404)),
        (datetime(2025, 1, 1, 10, 0, tzinfo=UTC), (200, 200)),
    ):
        box.now = now
        assert (ask(box, day).status, ask(box, day + ".CHECKSUM").status) == statuses
        assert ask(box, month).status == statuses[0]
    assert ask(box, box.path("2025-01-01")).status == 404
    assert ask(box, box.path("2025-01-01", monthly=True)).status == 404
    assert ask(box, box.path(DAY).replace("BTC", "XYZ")).status == 404


def test_a_changed_archive_has_a_checksum_and_an_etag_of_its_own(box: Exchange) -> None:
    path = box.path(DAY)
    before = ask(box, path)
    box.republish(path, spoil.field(0, 1, "1.00000000"))
    after = ask(box, path)
    assert after.body != before.body
    assert after.headers["ETag"] != before.headers["ETag"]
    assert ask(box, path + ".CHECKSUM").body[:64].decode() == hashlib.sha256(after.body).hexdigest()
    box.put(path, None)
    assert ask(box, path).status == ask(box, path + ".CHECKSUM").status == 404
    box.put(path + ".CHECKSUM", b"abc")
    assert ask(box, path + ".CHECKSUM").body == b"abc"


@pytest.mark.parametrize("late", ["checksum", "zip"])
def test_a_cache_on_the_way_serves_the_old_file_until_it_is_passed_by(
    tape: Tape, late: str
) -> None:
    with Exchange(tape) as box:
        path = box.path(DAY)
        other = path + ".CHECKSUM"
        late_path, prompt_path = (other, path) if late == "checksum" else (path, other)
        old, old_prompt = ask(box, late_path).body, ask(box, prompt_path).body
        box.republish(path, spoil.doubled(), lag=late, tries=3)
        assert ask(box, late_path).body == old
        assert ask(box, prompt_path).body != old_prompt
        new = ask(box, late_path + "?again=1").body
        assert new != old
        assert ask(box, late_path, Cache_Control="no-cache").body == new
        assert [ask(box, late_path).body for _ in range(3)] == [old, old, new]


# Rows that are wrong


def republished(change: object, tape: Tape, folder: Path) -> pl.DataFrame:
    with Exchange(tape) as box:
        box.republish(box.path(DAY), change)
        box.write(folder)
        return rb.scan_agg_trades(folder / box.path(DAY).lstrip("/")).collect()


@pytest.mark.parametrize(
    "change",
    [spoil.doubled(), spoil.shuffled(), spoil.sentinels()],
    ids=["copies", "order", "no trade"],
)
def test_rows_that_can_be_mended_give_the_tape_with_a_warning(
    change: object, tape: Tape, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=DAY):
        read = republished(change, tape, tmp_path)
    assert_frame_equal(read, tape.archived(DAY, "2025-01-01"))


@pytest.mark.parametrize("change", [spoil.crlf, spoil.byte_order_mark])
def test_other_line_ends_and_marks_give_the_tape(
    change: object, tape: Tape, tmp_path: Path
) -> None:
    assert_frame_equal(republished(change, tape, tmp_path), tape.archived(DAY, "2025-01-01"))


def test_other_changes_are_in_the_rows(tape: Tape, tmp_path: Path) -> None:
    truth = tape.archived(DAY, "2025-01-01")
    for number, change in enumerate((spoil.without_rows(5, 2), spoil.moved_to_other_day())):
        read = republished(change, tape, tmp_path / str(number))
        assert read.height == truth.height - (0 if number else 2)
        assert not read.equals(truth)
    with pytest.raises((TickDataError, pl.exceptions.ComputeError)):
        republished(spoil.conflicting(), tape, tmp_path / "c")


# The server


def fail_inside(tape: Tape) -> None:
    with Exchange(tape) as box:
        box.fail("/api", faults.overlapping_page())
        assert ask(box, PAGE).status == 500


def test_a_fault_that_fails_is_told_when_the_box_closes(tape: Tape) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        fail_inside(tape)
    assert "does not ask by id" in str(caught.value.exceptions[0])


def test_a_box_closes_at_once_whatever_its_clients_do(
    tape: Tape, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    box = Exchange(tape)
    with box:
        port = int(box.url.rpartition(":")[2])
        path = box.path(DAY)
        box.fail(path, faults.stall(3600.0))
        box.fail("/api/v3/time", faults.trickle(1, 3600.0))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for connection, target in zip(idle, ("", path, "/api/v3/time"), strict=True):
            if target:
                connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # One goes away before it has read its answer, one speaks no HTTP.
        rude = socket.create_connection(("127.0.0.1", port))
        rude.sendall(f"GET {box.path('2025-01-01')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        rude.close()
        with socket.create_connection(("127.0.0.1", port)) as strange:
            strange.sendall(b"\x16\x03\x01 no http\r\n\r\n")
            strange.recv(1_000)
        while not (box.asked(path) and box.asked("/api/v3/time")):
            time.sleep(0.001)
        began = time.perf_counter()
    # Its answers take an hour.
    assert time.perf_counter() - began < 600
    for connection in idle:
        connection.close()
    assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    box.close()


def test_many_clients_are_served_at_a_time(box: Exchange, tape: Tape) -> None:
    firsts = tape.ticks["agg_trade_id"].gather_every(50).to_list()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda first: page(box, f"{PAGE}&fromId={first}&limit=50"), firsts))
    assert [row["a"] for rows in got for row in rows] == tape.ticks["agg_trade_id"].to_list()
    assert len(box.asked("/aggTrades")) == len(firsts)
    assert {request.number for request in box.requests} == set(range(len(firsts)))


def test_one_connection_carries_many_requests(box: Exchange) -> None:
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=600)
    for _ in range(5):
        connection.request("GET", f"{PAGE}&limit=5")
        assert len(json.loads(connection.getresponse().read())) == 5
    connection.close()


def test_the_fixture_points_the_settings_at_the_box(exchange: Exchange, tmp_path: Path) -> None:  # noqa: F811
    for name in ("BINANCE_ARCHIVE", "BINANCE_REST", "EXNESS"):
        assert os.environ[f"RANGEBAR_{name}_URL"] == exchange.url
    assert os.environ["RANGEBAR_CACHE_DIR"].startswith(str(tmp_path))
    assert exchange.tapes[0].days == [date(2024, 12, 30) + timedelta(days=n) for n in range(4)]
    assert ask(exchange, exchange.path("2025-01-02")).status == 200
