"""A user without keys, and a receiver of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from notify.receiver import Receiver
from rangebar_polars import events
from rangebar_polars._utils import clock
from rangebar_polars.notify import disable_notifications

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("PUSHOVER_API_TOKEN", "PUSHOVER_USER_KEY", "TELEGRAM_TOKEN", "TELEGRAM_CHAT_ID")


@pytest.fixture(autouse=True)
def no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*NAMES, "NOTIFY_URLS", "EVENT_LOG"):
        monkeypatch.delenv(f"RANGEBAR_{name}", raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    disable_notifications()
    yield
    disable_notifications()
    events.clear_hooks()
    clock.install()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as found:
        monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", found.url())
        yield found


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Stand in for Telegram."""
    plugin = pytest.importorskip("apprise.plugins.telegram").NotifyTelegram
    with Receiver() as found:
        monkeypatch.setattr(plugin, "notify_url", f"http://127.0.0.1:{found.port}/bot")
        monkeypatch.setenv("RANGEBAR_TELEGRAM_TOKEN", "123456789:" + "tOkEn-_" * 5)
        monkeypatch.setenv("RANGEBAR_TELEGRAM_CHAT_ID", "-1009876543210")
        yield found


@pytest.fixture
def pushover(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Stand in for Pushover."""
    plugin = pytest.importorskip("apprise.plugins.pushover").NotifyPushover
    with Receiver() as found:
        monkeypatch.setattr(plugin, "notify_url", f"http://127.0.0.1:{found.port}/1/messages.json")
        monkeypatch.setenv("RANGEBAR_PUSHOVER_API_TOKEN", "t" * 30)
        monkeypatch.setenv("RANGEBAR_PUSHOVER_USER_KEY", "u" * 30)
        yield found
