"""Secrets of addresses: they reach the server that is asked, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import traceback
import warnings
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from exchange import Exchange, QuoteTape, faults
from pipeline.oracle import SPAN
from rangebar_polars import events
from rangebar_polars._utils.address import Address, fault_of, scrubbed, shown
from rangebar_polars.clickhouse.connection import driver
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    CacheUnavailableError,
    RangeBarError,
    SettingError,
    SourceError,
)
from rangebar_polars.fetch import BinanceArchive, BinanceRest, Exness
from rangebar_polars.fetch.http_probe import ProbingTransport
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from pathlib import Path

USER, PASSWORD, TOKEN = "leserin", "geheim/1@#", "geheim2token"
LOGIN = f"{USER}:geheim%2F1%40%23@"
SECRETS = ("geheim", "leserin", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
DAY = "2024-12-31"

pytestmark = pytest.mark.usefixtures("quick_retries")


def secret_url(box: Exchange) -> str:
    return f"{box.url.replace('//', '//' + LOGIN)}?token={TOKEN}"


def judge(text: str) -> None:
    """No secret is in a text."""
    assert [secret for secret in SECRETS if secret in text] == []


def judge_error(error: BaseException) -> None:
    """No secret is in an error, in those that led to it, or in what it carries."""
    judge("".join(traceback.format_exception(error)))
    judge(repr(vars(error)))


@pytest.fixture
def secret_exchange(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """An exchange whose address in the settings holds secrets."""
    for name in exchange.environment:
        # Streams take no secrets.
        if not name.endswith("_STREAM_URL"):
            monkeypatch.setenv(name, secret_url(exchange))
    # REST refuses parameters that it does not know.
    rest = secret_url(exchange).partition("?")[0]
    monkeypatch.setenv("RANGEBAR_BINANCE_REST_URL", rest)
    return exchange


def test_secrets_reach_the_server_and_no_file_no_event_and_no_log(
    secret_exchange: Exchange,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(tmp_path / "events.jsonl"))
    box = secret_exchange
    box.put(box.path(DAY), None)  # REST is asked for this day
    box.fail(box.path("2025-01-01"), faults.status(503))
    seen: list[events.HookPayload] = []
    events.register_for_all(seen.append)
    try:
        assert len(rb.fetch_ticks(*SPAN).fetched) == 4
        assert events.flush_hooks()
    finally:
        events.clear_hooks()
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert {request.headers["authorization"] for request in box.requests} == {f"Basic {login}"}
    assert {request.query["token"] for request in box.asked("/data/")} == {TOKEN}
    for path in [*(tmp_path / "cache").rglob("*"), tmp_path / "events.jsonl"]:
        if path.is_file() and path.suffix != ".parquet":
            judge(path.read_text(encoding="utf-8", errors="replace"))
    assert any(one.details.get("url") for one in seen)
    judge(repr(seen) + json.dumps([one.to_dict() for one in seen]))
    judge(caplog.text + "".join(capsys.readouterr()))


FAULTS = {
    "a refusal": faults.status(403),
    "a server's fault": faults.status(503),
    "no answer": faults.drop(),
    "a body cut off": faults.truncated(0.5),
    "a page for people": faults.html(),
    "no file": faults.status(404),
    "a refusal that repeats the question": lambda request, _: faults.status(
        400, json.dumps({"code": -1, "msg": f"{request.headers['authorization']} " * 9}).encode()
    )(request, _),
    "a redirect": faults.redirected("http://leserin:geheim1@[::1"),
    "a redirect without an end": faults.redirected("{path}?signature=geheim3"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_error_of_a_source_shows_a_secret(
    name: str, secret_exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "2")
    secret_exchange.fail("", FAULTS[name], times=None)
    url = secret_url(secret_exchange)
    questions = (
        lambda: BinanceArchive().read_day("BTCUSDT", DAY),
        lambda: BinanceArchive(url=url).fetch_month("BTCUSDT", 2024, 12),
        lambda: BinanceRest().fetch_day("BTCUSDT", DAY),
        lambda: Exness(url=url).read_day("EURUSD", DAY),
    )
    for question in questions:
        with pytest.raises(SourceError) as caught:
            question()
        judge_error(caught.value)
        assert secret_exchange.url in str(caught.value)
        assert secret_exchange.url in caught.value.url


def test_a_proxy_that_gives_no_answer_does_not_show_its_password(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    exchange.fail("", faults.drop(), times=None)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for proxy in (
        secret_url(exchange),
        "http://leserin:geheim1@127.0.0.1:1",
        "http://a:geheim@b:c",
    ):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(RangeBarError) as caught:
            BinanceArchive(url="http://archive.invalid").read_day("BTCUSDT", DAY)
        judge_error(caught.value)


def test_sources_and_settings_show_no_secret(
    secret_exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secret_url(secret_exchange)
    monkeypatch.setenv("RANGEBAR_CLICKHOUSE_DSN", f"http://{LOGIN}host:8123?password_file=geheim")
    with BinanceRest() as rest:
        things = [settings(), Transport(url), ProbingTransport(url), Exness(), rest, rest.url]
        things += [Transport(url).url, Transport(url).url_of("a"), BinanceArchive()]
        things += [settings().clickhouse_dsn, settings().binance_archive_url, resolve()]
        for thing in things:
            judge(f"{thing!r} {thing} {[thing]}")
    assert settings().binance_archive_url.startswith(f"http://{LOGIN}")


def test_an_address_keeps_its_secrets_where_it_is_used() -> None:
    full = f"https://{LOGIN}host/a?token={TOKEN}"
    address = Address(full)
    for one in (
        address,
        Address(address),
        pickle.loads(pickle.dumps(address)),
        copy.deepcopy(address),
    ):
        assert (one.full, one == full, one.credentials) == (full, True, (USER, PASSWORD))
        judge(f"{one} {one!r} {one:>90} %s %r" % (one, one))


MALFORMED = [
    "leserin:geheim1@host",
    "http://leserin:geheim1/@host",
    "http://leserin:12/geheim@host:8123",
    "http://leserin:12?geheim@host",
    "http://leserin:12#geheim@host",
    "http://leserin:geheim1@host:99999",
    "http://leserin:geheim1@host:port",
    "http://leserin:geheim1@[::1",
    "http://leserin:geheim1@",
    "ftp://leserin:geheim1@host?sig=geheim",
    "http:/leserin:geheim1@host",
    "//leserin:geheim1@host",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_no_refusal_of_an_address_shows_a_secret(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(shown(text))
    for ask in (resolve, Transport, lambda url: BinanceRest(url=url)):
        with pytest.raises(SettingError) as caught:
            ask(text)
        judge_error(caught.value)
    monkeypatch.setenv("RANGEBAR_EXNESS_URL", text)
    with pytest.raises(SettingError) as caught:
        Exness()
    judge_error(caught.value)


def test_what_stands_behind_the_host_is_no_password() -> None:
    assert fault_of("http://leserin:12/3@host:8123") == "has an `@` behind the host"
    assert fault_of("http://leserin:12%2F3@host:8123") is None
    assert fault_of("file:///data/a@b?c") is None
    assert shown("file:///data/a@b?c") == "file:///data/a@b?c"
    with pytest.raises(SettingError, match="%2F"):
        resolve("http://leserin:12/3@host:8123")


# The bar cache


@pytest.mark.parametrize(
    "options",
    ["?user=leserin&password=geheim%2F1%40%23", "?username=leserin&password=geheim/1%40%23"],
)
def test_user_and_password_of_a_dsn_may_stand_in_its_options(
    options: str, exchange: Exchange
) -> None:
    target = resolve(f"{exchange.url}/bars{options}&connect_timeout=7")
    assert target.address == f"{exchange.url}/bars"
    assert target.dsn.credentials == (USER, PASSWORD)
    assert target.dsn.endswith("?connect_timeout=7")
    judge(repr(target))
    pytest.importorskip("clickhouse_connect")
    with pytest.raises(CacheUnavailableError) as caught, rb.open_cache(f"{exchange.url}{options}"):
        pass
    judge_error(caught.value)
    asked = exchange.requests[0]
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert asked.headers["authorization"] == f"Basic {login}"
    judge(asked.target)


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("http://leserin:geheim1@host?user=leserin", "twice"),
        ("http://host?user=leserin&username=geheim", "twice"),
        ("http://host/a?database=b", "another database"),
        ("http://leserin:geheim1@host?no_such_option=geheim", "no_such_option"),
        ("http://leserin:geheim1@host?host=geheim", "host"),
    ],
)
def test_options_of_a_dsn_that_cannot_be_meant_are_refused(dsn: str, said: str) -> None:
    pytest.importorskip("clickhouse_connect")
    with pytest.raises(SettingError, match=said) as caught, rb.open_cache(dsn):
        pass
    judge_error(caught.value)


@pytest.mark.parametrize("door", [driver.opening, driver.reading, driver.writing])
def test_what_the_driver_says_of_an_address_is_scrubbed(door: object) -> None:
    pytest.importorskip("clickhouse_connect")
    lost = ConnectionError("no proxy at http://leserin:geheim1@proxy:8080/?token=geheim2")
    lost.__cause__ = OSError("http://leserin:geheim1@proxy:8080/")
    with pytest.raises(RangeBarError) as caught, door("http://host/db"):
        raise lost
    judge_error(caught.value)
    assert "http://proxy:8080/" in str(caught.value)


def test_a_text_of_a_library_keeps_all_but_secrets() -> None:
    text = "GET https://leserin:geheim1@host/a?X-Amz-Signature=geheim&n=1: password is geheim4"
    assert scrubbed(text, "http://x:geheim4@y") == (
        "GET https://host/a?X-Amz-Signature=…&n=1: password is …"
    )


def test_a_population_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("clickhouse_connect")
    with Exchange(QuoteTape.generate("EURUSD", "2024-12-30", "2025-01-02")) as box:
        dsn = secret_url(box)
        calls = (
            lambda: rb.populate_cache_resumable("BTCUSDT", DAY, DAY, dsn=dsn),
            lambda: rb.get_range_bars("BTCUSDT", DAY, DAY, dsn=dsn, fetch_if_missing=False),
        )
        for call in calls:
            with warnings.catch_warnings(record=True) as warned, pytest.raises(Exception) as caught:  # noqa: PT011
                call()
            assert isinstance(caught.value, RangeBarError)
            judge_error(caught.value)
            judge(repr([str(one.message) for one in warned]))
