"""Fixtures of the tests of plugins: no plugin is left, and events are collected."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars import events
from rangebar_polars.plugins import reset_provider_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget plugins, and their modules, before and after a test."""
    monkeypatch.delenv("RANGEBAR_PLUGINS", raising=False)
    before = set(sys.modules)
    reset_provider_cache()
    yield
    reset_provider_cache()
    for name in set(sys.modules) - before:
        if "/site-packages/" not in (
            getattr(sys.modules[name], "__file__", None) or "/site-packages/"
        ):
            del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of which this process imports, as of site-packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    """Return bars of one series with all columns that plugins get."""
    return rb.sample_ticks().rangebar.bars(250, features="microstructure").head(60)


class Seen:
    """Events of plugins."""

    def __init__(self) -> None:
        self.payloads: list[events.HookPayload] = []

    def __call__(self, payload: events.HookPayload) -> None:
        self.payloads.append(payload)

    def named(self, name: str) -> list[dict[str, object]]:
        assert events.flush_hooks(60)
        return [{"symbol": one.symbol, **one.details} for one in self.payloads if one.event == name]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Return the events of plugins."""
    listener = Seen()
    events.register_hook("plugin_enrich_failed", listener)
    events.register_hook("plugin_enrich_complete", listener)
    yield listener
    events.clear_hooks()
