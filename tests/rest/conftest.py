"""Fixtures of the tests of REST: nobody waits, and a budget is of one test."""

from __future__ import annotations

import pytest
from rest_stand import TRIES, Clock, serving

PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, tmp_path):
    pytest.importorskip("httpcore2")
    stamina = pytest.importorskip("stamina")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", str(TRIES))
    # A host that is closed in one test may have the address of a host of the next one.
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    with stamina.set_testing(True, attempts=TRIES, cap=True):
        yield


@pytest.fixture
def stand():
    with serving() as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def rest(stand, clock):
    from rangebar_polars.fetch.binance.rest import BinanceRest

    with BinanceRest(url=stand.url, budget=clock.budget()) as source:
        yield source
