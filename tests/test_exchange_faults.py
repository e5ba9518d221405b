"""The exchange in a box itself: what goes wrong with its answers, and how often."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from exchange import Exchange, Tape, faults
from exchange.client import ask, page

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = "2024-12-31"
PAGE = "/api/v3/aggTrades?symbol=BTCUSDT"


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.generate(per_day=800, seed=3)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as opened:
        yield opened


def zip_error(body: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return "" if archive.testzip() is None else "crc"
    except zipfile.BadZipFile:
        return "no zip"


def test_a_fault_meets_as_many_requests_as_it_should(box: Exchange) -> None:
    path = box.path(DAY)
    box.fail(path, faults.status(503, b"away"), times=2, after=1)
    box.fail(path, faults.too_many(7))
    rule = box.fail(path, faults.empty(), times=None, method="GET")
    got = [ask(box, path) for _ in range(6)]
    # The rules stand in a queue; while the first lets one pass, the second meets it.
    assert [one.status for one in got] == [429, 503, 503, 200, 200, 200]
    assert got[0].headers["Retry-After"] == "7"
    assert [len(one.body) for one in got[3:]] == [0, 0, 0]
    assert rule.met == 3
    assert int(ask(box, path, "HEAD").headers["Content-Length"]) > 0
    assert ask(box, path + ".CHECKSUM").body
    rule.cancel()
    assert ask(box, path).body == box.content(path)
    assert [request.status for request in box.asked(path)][:3] == [429, 503, 503]


def test_rules_match_parts_patterns_and_functions(box: Exchange) -> None:
    box.fail("limit=1", faults.status(500))
    box.fail(re.compile(r"fromId=\d*7$"), faults.status(501))
    box.fail(lambda request: request.headers.get("x-test") == "1", faults.status(502))
    assert ask(box, f"{PAGE}&limit=1").status == 500
    assert ask(box, f"{PAGE}&fromId=17").status == 501
    assert ask(box, "/api/v3/time", X_Test="1").status == 502
    assert ask(box, f"{PAGE}&fromId=17").status == 200
    box.fail("", faults.status(500), times=None)
    box.script.clear()
    assert ask(box, "/api/v3/time").status == 200


def test_a_date_may_say_when_to_come_back(box: Exchange) -> None:
    box.fail("/api", faults.too_many(datetime(2030, 1, 1, tzinfo=UTC)))
    box.fail("/api", faults.banned(120))
    got = ask(box, PAGE)
    assert got.headers["Retry-After"] == "Tue, 01 Jan 2030 00:00:00 GMT"
    assert json.loads(got.body)["code"] == -1003
    assert ask(box, PAGE).status == 418


def test_connections_end_before_after_and_inside_an_answer(box: Exchange) -> None:
    path = box.path(DAY)
    size = len(box.content(path))
    box.fail(path, faults.drop())
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(box, path)
    box.fail(path, faults.drop(reset=False))
    with pytest.raises(http.client.RemoteDisconnected):
        ask(box, path)
    for after in (0, 0.5):
        box.fail(path, faults.drop(after))
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            ask(box, path)
    box.fail(path, faults.truncated(0.25))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(box, path)
    assert len(caught.value.partial) == size // 4
    assert caught.value.expected == size - size // 4
    assert ask(box, path).body == box.content(path)


def test_a_reset_is_no_end(box: Exchange) -> None:
    box.fail("/api/v3/time", faults.drop())
    with socket.create_connection(("127.0.0.1", int(box.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET /api/v3/time HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


ZIP_FAULTS = {
    "shortened": (faults.shortened(), "no zip"),
    "html": (faults.html(), "no zip"),
    "empty": (faults.empty(), "no zip"),
    "replaced": (faults.replaced(b"PK"), "no zip"),
    "bad crc": (faults.bad_crc(), "error"),
    "wrong member": (faults.wrong_member(), ""),
    "two members": (faults.two_members(), ""),
}


@pytest.mark.parametrize("name", ZIP_FAULTS)
def test_bodies_are_broken_as_told(box: Exchange, name: str) -> None:
    fault, error = ZIP_FAULTS[name]
    path = box.path(DAY)
    box.fail(path, fault)
    got = ask(box, path)
    assert got.status == 200
    assert int(got.headers["Content-Length"]) == len(got.body)
    assert got.body != box.content(path)
    if error == "error":
        assert zip_error(got.body)
        return
    assert zip_error(got.body) == error
    if not error:
        with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
            expected = {
                "wrong member": ["readme.txt"],
                "two members": [f"BTCUSDT-aggTrades-{DAY}.csv", "other.csv"],
            }
            assert archive.namelist() == expected[name]


def test_a_flip_changes_one_bit(box: Exchange) -> None:
    path = box.path(DAY)
    sound = box.content(path)
    for at, bit in ((0.0, 0), (0.5, 7), (1.0, 3)):
        box.fail(path, faults.flip(at, bit))
        got = ask(box, path).body
        changed = [(a ^ b) for a, b in zip(got, sound, strict=True) if a != b]
        assert changed == [1 << bit]


def test_checksums_are_wrong_as_told(box: Exchange) -> None:
    path = box.path(DAY) + ".CHECKSUM"
    sound = box.content(path)
    for fault in (faults.wrong_checksum(), faults.malformed_checksum()):
        box.fail(path, fault)
        got = ask(box, path).body
        assert got[:64] != sound[:64]
    box.fail(path, faults.checksum_of_other_file())
    got = ask(box, path).body
    assert got[:64] == sound[:64]
    assert got[66:] == b"OTHER-aggTrades-2020-01-01.zip\n"


def test_a_slow_body_arrives_whole(box: Exchange) -> None:
    path = box.path(DAY) + ".CHECKSUM"
    box.fail(path, faults.trickle(20, 0.005))
    began = time.monotonic()
    assert ask(box, path).body == box.content(path)
    assert time.monotonic() - began >= 0.015


def read_answer(connection: http.client.HTTPConnection) -> bytes:
    with connection.getresponse() as response:
        return response.read()


@pytest.mark.parametrize("after", [None, 0.5])
def test_a_stall_ends_by_the_patience_of_the_client(box: Exchange, after: float | None) -> None:
    box.fail(DAY, faults.stall(after=after))
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=600)
    connection.request("GET", box.path(DAY))
    patience = connection.sock.settimeout
    if after is None:
        patience(0.05)
        with pytest.raises(TimeoutError):
            read_answer(connection)
    else:
        with connection.getresponse() as response:
            size = int(response.headers["Content-Length"])
            assert len(response.read(int(size * after))) == int(size * after)
            patience(0.05)
            with pytest.raises(TimeoutError):
                response.read(1)
    connection.close()


def ids(rows: list[dict]) -> list[int]:
    return [row["a"] for row in rows]


def test_pages_are_wrong_as_told(box: Exchange, tape: Tape) -> None:
    first = tape.id_span("2024-12-30")[0] + 50
    target = f"{PAGE}&fromId={first}&limit=20"
    sound = ids(page(box, target))
    wrong = {}
    for name in ("short_page", "empty_page", "holed_page", "shuffled_page", "overlapping_page"):
        box.fail("/aggTrades", getattr(faults, name)())
        wrong[name] = ids(page(box, target))
    assert wrong["short_page"] == sound[:7]
    assert wrong["empty_page"] == []
    assert wrong["holed_page"] == sound[:10] + sound[13:]
    assert wrong["shuffled_page"] != sorted(wrong["shuffled_page"]) == sound
    assert wrong["overlapping_page"] == list(range(first - 5, first + 15))
    box.fail("/aggTrades", faults.repeated_page())
    assert ids(page(box, target)) == list(range(first - 20, first))
    box.fail("/aggTrades", faults.malformed_json())
    with pytest.raises(json.JSONDecodeError):
        page(box, target)
    assert ids(page(box, target)) == sound


def test_faults_compose_in_order(box: Exchange) -> None:
    box.fail("/aggTrades", faults.short_page(2), faults.changed(lambda body: body + b" "))
    got = ask(box, f"{PAGE}&limit=9")
    assert got.body.endswith(b"] ")
    assert len(json.loads(got.body)) == 2
