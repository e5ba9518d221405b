"""HTTP as servers, mirrors and proxies speak it: framing, redirects, proxies, and limits of time and size."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, faults
from pipeline.oracle import SPAN, judge, point_at
from rangebar_polars._utils.address import Address
from rangebar_polars.exceptions import CorruptSourceError, SettingError, TransientSourceError
from rangebar_polars.fetch import BinanceArchive, BinanceRest, Exness
from rangebar_polars.fetch import transport as transport_module
from rangebar_polars.fetch._decoding import (
    ALWAYS_ALLOWED_BYTES,
    LARGEST_RATIO,
    EncodingError,
    decoded,
)
from rangebar_polars.fetch._http import HttpClient, RequestFailedError
from rangebar_polars.fetch._wire import Limits, Meter, TooSlowError
from rangebar_polars.fetch.http_probe import ProbingTransport
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exchange import Answer, Fault, Request, Tape

DAY = "2024-12-31"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture(autouse=True)
def no_network_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES), *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def other() -> Iterator[Exchange]:
    """Another server with the same files."""
    with Exchange() as box:
        yield box


# Framing

FRAMINGS = {
    "chunked": faults.chunked(),
    "chunked and compressed": faults.gzipped(),
    "until the connection ends": faults.unframed(),
    "ranges ignored": faults.ranges_ignored(),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_ticks_are_fetched_however_an_answer_is_framed(
    name: str, exchange: Exchange, exchange_tape: Tape
) -> None:
    exchange.put(exchange.path(DAY), None)  # this day comes from REST
    rule = exchange.fail("", FRAMINGS[name], times=None)
    report = rb.fetch_ticks(*SPAN)
    assert (len(report.fetched), rule.met > 0) == (4, True)
    rule.cancel()
    judge(exchange, exchange_tape)


@pytest.mark.parametrize("name", FRAMINGS)
def test_quotes_are_fetched_however_an_answer_is_framed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = QuoteTape.generate("EURUSD", "2024-12-30", "2025-01-02")
    with Exchange(tape) as box:
        point_at(box, monkeypatch, tmp_path)
        box.fail("", FRAMINGS[name], times=None)
        found = Exness().read_day("EURUSD", DAY)
    assert found.height == tape.day(DAY).height


def test_a_file_that_is_cut_in_a_chunk_is_fetched_again(
    exchange: Exchange, exchange_tape: Tape
) -> None:
    rule = exchange.fail(exchange.path(DAY), faults.chunked(), faults.drop(0.5, reset=False))
    assert_frame_equal(
        BinanceArchive().read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01")
    )
    assert rule.met == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "deflate"])
def test_a_body_in_an_encoding_that_cannot_be_read_is_no_answer(
    encoding: str, exchange: Exchange
) -> None:
    exchange.fail(
        exchange.path(DAY),
        lambda _, answer: answer.with_headers(Content_Encoding=encoding),
        times=None,
    )
    with pytest.raises(TransientSourceError, match="could not be fetched"):
        BinanceArchive().read_day("BTCUSDT", DAY)


def test_a_compressed_body_that_is_cut_off_is_not_taken_for_the_whole() -> None:
    packed = gzip.compress(bytes(range(256)) * 100)
    assert b"".join(decoded([packed[:9], packed[9:]], "gzip")) == bytes(range(256)) * 100
    with pytest.raises(EncodingError, match="truncated"):
        list(decoded([packed[:-9]], "gzip"))


def test_a_body_that_grows_beyond_reason_is_given_up_before_it_fills_memory() -> None:
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([coder.compress(bytes(1 << 20)) for _ in range(300)]) + coder.flush()
    pieces: list[int] = []
    with pytest.raises(EncodingError, match="decompress to more than"):
        pieces.extend(map(len, decoded([bomb], "gzip")))
    assert sum(pieces) <= ALWAYS_ALLOWED_BYTES + LARGEST_RATIO * len(bomb)


def test_a_server_without_head_is_asked_by_get(exchange: Exchange) -> None:
    exchange.fail(lambda request: request.method == "HEAD", faults.status(405), times=None)
    days = BinanceArchive().days("BTCUSDT", "2024-12-28", "2025-01-02")
    assert [f"{day}" for day in days] == ["2024-12-30", DAY, "2025-01-01", "2025-01-02"]


# The rest of a file


def test_the_rest_of_a_file_is_asked_for_by_its_range(exchange: Exchange) -> None:
    path = exchange.path(DAY)
    content = exchange.content(path)
    exchange.fail(path, faults.truncated(0.5))
    assert Transport(exchange.url).get(path.lstrip("/")).content == content
    first, second = exchange.asked(path)
    assert ("range" in first.headers, second.status) == (False, 206)
    begin = int(second.headers["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < begin <= len(content) // 2


@pytest.mark.parametrize("name", ["ranges ignored", "another file by now", "another part", "416"])
def test_a_rest_that_does_not_fit_is_not_joined_to_the_beginning(
    name: str, exchange: Exchange
) -> None:
    path = exchange.path(DAY)
    exchange.fail(path, faults.truncated(0.5))
    if name == "another file by now":
        exchange.fail(
            lambda request: request.path == path and "range" in request.headers,
            lambda request, _: (exchange.put(path, b"other" * 1000), request.again())[1],
        )
    elif name == "ranges ignored":
        exchange.fail(path, faults.ranges_ignored(), times=None)
    elif name == "another part":
        exchange.fail(path, lambda _, answer: answer.with_headers(Content_Range="bytes 1-9/99"))
    else:
        exchange.fail(path, faults.status(416))
    got = Transport(exchange.url).get(path.lstrip("/"))
    assert got.content == exchange.content(path)


# Redirects


def test_redirects_lead_to_the_file(exchange: Exchange, other: Exchange) -> None:
    path = exchange.path(DAY)
    exchange.fail(path, faults.redirected(f"{other.url}{{path}}"), times=None)
    exchange.fail(path + ".CHECKSUM", faults.redirected("{path}", code=307), times=1)
    assert BinanceArchive().read_day("BTCUSDT", DAY).height
    assert other.asked(path)
    archive = BinanceArchive()
    assert [f"{day}" for day in archive.days("BTCUSDT", DAY, DAY)] == [DAY]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("{path}", "more than 10 times"),
        ("file:///etc/passwd", "not a web address"),
        ("http://", "."),
    ],
)
def test_a_redirect_that_leads_nowhere_is_no_answer(
    location: str, said: str, exchange: Exchange
) -> None:
    exchange.fail(exchange.path(DAY), faults.redirected(location), times=None)
    with pytest.raises(TransientSourceError, match=said):
        BinanceArchive().read_day("BTCUSDT", DAY)


def test_a_password_is_not_sent_to_where_a_redirect_leads(
    exchange: Exchange, other: Exchange
) -> None:
    path = exchange.path(DAY)
    exchange.fail(path, faults.redirected(f"{other.url}{{path}}"))
    url = exchange.url.replace("//", "//reader:geheim1@")
    assert Transport(url).get(path.lstrip("/")).content == other.content(path)
    assert "authorization" in exchange.asked(path)[0].headers
    assert "authorization" not in other.asked(path)[0].headers


# Limits


def limits(monkeypatch: pytest.MonkeyPatch, silence_s: float, total_s: float, rate: int) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", f"{silence_s}")
    monkeypatch.setenv("RANGEBAR_HTTP_TOTAL_TIMEOUT_S", f"{total_s}")
    monkeypatch.setenv("RANGEBAR_HTTP_MIN_BYTES_PER_S", f"{rate}")
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")


TRICKLES = {
    # Each pause is far shorter than the time-out of a silence, the whole far longer than a test.
    "a body": faults.trickle(piece=1, pause_s=0.1),
    "headers": faults.trickled_head(piece=1, pause_s=0.1),
}
#: A limit that ends the answer, and what the error says: seconds of silence and in total, rate.
ENDS = {
    "rate": ((1.0, 3600.0, 1_000_000), "slower than 1000000 bytes per second"),
    "total": ((60.0, 1.0, 0), "no whole answer within 1 s"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", TRICKLES)
def test_an_answer_that_trickles_is_given_up(
    name: str, end: str, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, said = ENDS[end]
    limits(monkeypatch, *numbers)
    exchange.fail("", TRICKLES[name], times=None)
    with pytest.raises(TransientSourceError, match=said):
        BinanceArchive().read_day("BTCUSDT", DAY)
    with pytest.raises(TransientSourceError, match=said), BinanceRest() as rest:
        rest.newest_id("BTCUSDT")
    if name == "headers":
        with pytest.raises(TransientSourceError, match=said):
            ProbingTransport(exchange.url).exists("none.zip")


def test_a_fast_answer_is_not_too_slow_however_long_it_took_to_come() -> None:
    now = [0.0]
    meter = Meter(Limits(silence_s=30, total_s=100, min_bytes_per_s=1000), lambda: now[0])
    now[0] = 29.0  # nothing came until then
    for second in range(60):
        now[0] = 29.0 + second
        meter.count(1000)
    assert meter.timeout(30) == 100 - 88
    now[0] = 101.0
    with pytest.raises(TooSlowError, match="no whole answer within 100 s"):
        meter.timeout(30)


def test_a_file_that_becomes_slow_in_its_middle_is_given_up() -> None:
    now = [0.0]
    meter = Meter(Limits(silence_s=30, total_s=3600, min_bytes_per_s=1000), lambda: now[0])
    for second in range(31):
        now[0] = float(second)
        meter.count(1_000_000)
    for second in range(31, 60):
        now[0] = float(second)
        meter.count(1)
    now[0] = 60.0
    with pytest.raises(TooSlowError, match="slower than 1000"):
        meter.count(1)


def test_a_file_that_is_too_large_is_refused_by_its_length(exchange: Exchange) -> None:
    path = exchange.path(DAY)
    exchange.fail(path, lambda _, answer: replace(answer, length=1 << 40), times=None)
    with pytest.raises(TransientSourceError, match="larger than"):
        BinanceArchive().read_day("BTCUSDT", DAY)


def test_a_checksum_of_the_size_of_an_archive_is_not_fetched(exchange: Exchange) -> None:
    exchange.fail(".CHECKSUM", faults.replaced(b"1" * 100_000), faults.chunked(), times=None)
    with pytest.raises(TransientSourceError, match="larger than 65536 bytes"):
        BinanceArchive().read_day("BTCUSDT", DAY)


def test_a_body_that_never_ends_is_given_up(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "LARGEST_FILE_BYTES", 100_000)
    path = exchange.path(DAY)
    exchange.fail(path, faults.replaced(b"1" * 100_001), faults.chunked(), times=None)
    with pytest.raises(TransientSourceError, match="larger than 100000 bytes"):
        BinanceArchive().read_day("BTCUSDT", DAY)


# What the environment says of the network

WRONG_PROXIES = [
    "socks5://127.0.0.1:1",
    "ftp://127.0.0.1:1",
    "http://[::1",
    "http://",
    "http://h:x",
]


@pytest.mark.parametrize("proxy", WRONG_PROXIES)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
def test_a_proxy_that_cannot_be_used_is_named_and_a_file_needs_none(
    variable: str,
    proxy: str,
    exchange: Exchange,
    exchange_tape: Tape,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = exchange.write(tmp_path / "archive")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv(variable, proxy)
    ask = (
        lambda: BinanceArchive().read_day("BTCUSDT", DAY),
        lambda: list(BinanceArchive().days("BTCUSDT", DAY, DAY)),
        lambda: BinanceRest().newest_id("BTCUSDT"),
    )
    for question in ask:
        with pytest.raises(SettingError, match=f"(?i)`{variable}`"):
            question()
    local = BinanceArchive(url=archive.as_uri())
    assert_frame_equal(local.read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert_frame_equal(
        BinanceArchive().read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01")
    )


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_gone_are_named_where_they_are_needed(
    variable: str,
    exchange: Exchange,
    exchange_tape: Tape,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = tmp_path / "gone.pem"
    monkeypatch.setenv(variable, str(gone))
    secure = exchange.url.replace("http:", "https:")
    with pytest.raises(SettingError, match=f"`{variable}` is `{gone}`"):
        BinanceArchive(url=secure).read_day("BTCUSDT", DAY)
    with pytest.raises(SettingError, match=variable), BinanceRest(url=secure) as rest:
        rest.newest_id("BTCUSDT")
    assert_frame_equal(
        BinanceArchive().read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01")
    )
    archive = exchange.write(tmp_path / "archive")
    local = BinanceArchive(url=archive.as_uri())
    assert_frame_equal(local.read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01"))


def test_a_proxy_carries_the_requests(
    exchange: Exchange, exchange_tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", exchange.url.replace("//", "//reader:geheim1@"))
    archive = BinanceArchive(url="http://archive.invalid")
    assert_frame_equal(archive.read_day("BTCUSDT", DAY), exchange_tape.archived(DAY, "2025-01-01"))
    asked: Request = exchange.asked(".zip")[0]
    assert asked.headers["host"] == "archive.invalid"
    assert asked.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "date",
    ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +9999", "?"],
)
def test_a_date_that_is_none_is_passed_over(date: str, exchange: Exchange) -> None:
    def dated(_request: Request, answer: Answer) -> Answer:
        odd = {"Date": date, "Last_Modified": date, "Age": "9" * 5000}
        return answer.with_headers(**odd, X_MBX_USED_WEIGHT_1M="9" * 5000)

    exchange.fail("", dated, times=None)
    assert BinanceArchive().fetch_day("BTCUSDT", DAY).origin.last_modified == ""
    with BinanceRest() as rest:
        assert rest.newest_id("BTCUSDT")
    assert ProbingTransport(exchange.url).exists(exchange.path(DAY).lstrip("/"))


def test_whatever_a_library_raises_is_a_failed_request(exchange: Exchange) -> None:
    client = HttpClient()
    label = "a" * 70  # too long for a name of a host
    for text in (
        f"http://{label}.invalid/",
        exchange.url.replace("127.0.0.1", "127.0.0.1.invalid"),
    ):
        with pytest.raises(RequestFailedError), client.ask("GET", Address(text)):
            pass
    client.close()


def test_a_page_of_html_in_every_framing_is_still_corrupt(exchange: Exchange) -> None:
    framings: list[Fault] = [faults.chunked(), faults.gzipped(), faults.unframed()]
    for framing in framings:
        exchange.fail(exchange.path(DAY), faults.html(), framing, times=2)
        with pytest.raises(CorruptSourceError):
            BinanceArchive().read_day("BTCUSDT", DAY)
