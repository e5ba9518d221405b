"""Alerts to a Pushover account: what its server gets."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from rangebar_polars import events
from rangebar_polars.notify import disable_notifications, enable_notifications
from rangebar_polars.notify.pushover import (
    alert_checksum_failure,
    is_configured,
    send_critical_alert,
)

if TYPE_CHECKING:
    from notify.receiver import Receiver

# apprise imports it on Python 3.11
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


def priorities(receiver: Receiver) -> dict[str, str]:
    return {
        form["title"].removeprefix("rangebar: "): form["priority"] for form in receiver.messages
    }


def test_a_wrong_checksum_is_an_emergency(pushover: Receiver) -> None:
    assert is_configured()
    assert alert_checksum_failure("BTCUSDT", date(2026, 11, 2), "ab" * 32, "cd" * 32, "exness")
    (form,) = pushover.messages
    assert (form["priority"], form["retry"], form["expire"]) == ("2", "30", "3600")
    assert form["title"] == "rangebar: checksum failed"
    for part in ("BTCUSDT", "2026-11-02", "exness", "ab" * 32, "cd" * 32):
        assert part in form["message"]
    pushover.status = 500
    assert not alert_checksum_failure("BTCUSDT", "2026-11-02", "a", "b")


def test_priorities_are_those_of_the_events(pushover: Receiver) -> None:
    assert enable_notifications()
    for name in ("checksum_failed", "symbol_not_registered", "sidecar_failed", "trade_conflict"):
        events.emit_hook(name, "BTCUSDT")
    events.emit_hook("sidecar_failed", "BTCUSDT")
    assert events.flush_hooks(600)
    assert priorities(pushover) == {
        "checksum failed": "2", "symbol not registered": "2",
        "sidecar failed": "1", "trade conflict": "0",
    }  # fmt: skip
    # A second incident has its own alert, a repeat within one has none.
    assert len(pushover.messages) == 4
    events.emit_hook("sidecar_live", "BTCUSDT")
    events.emit_hook("sidecar_failed", "BTCUSDT")
    assert events.flush_hooks(600)
    assert [form["priority"] for form in pushover.messages if "failed" in form["title"]].count(
        "1"
    ) == 2


def test_markup_arrives_as_text(pushover: Receiver) -> None:
    assert enable_notifications()
    events.emit_hook("population_failed", "<b>", reason="a & b")
    assert events.flush_hooks(600)
    (form,) = pushover.messages
    assert form["html"] == "1"
    assert form["message"].startswith("&lt;b&gt;: reason a &amp; b (")


def test_alerts_need_no_call_and_come_once(pushover: Receiver) -> None:
    for _ in range(5):
        events.emit(events.ChecksumFailed("BTCUSDT", date(2026, 11, 2), "http://a/b", "ab", "cd"))
    events.emit_hook("population_failed", "BTCUSDT")
    assert events.flush_hooks(600)
    assert priorities(pushover) == {"checksum failed": "2"}
    assert enable_notifications()
    events.emit_hook("checksum_failed", "ETHUSDT")
    assert events.flush_hooks(600)
    # Pushover is enabled, so the alert is not sent a second time.
    assert len(pushover.messages) == 2


def test_disabled_means_that_what_waits_is_dropped(pushover: Receiver) -> None:
    assert enable_notifications()
    pushover.answers.clear()
    events.emit_hook("population_failed", "A")
    pushover.wait_for(lambda: len(pushover.messages) == 1)
    for symbol in "BCD":
        events.emit_hook("population_failed", symbol)
    disable_notifications()
    pushover.answers.set()
    assert events.flush_hooks(600)
    events.emit_hook("population_failed", "E")
    assert events.flush_hooks(600)
    assert len(pushover.messages) == 1


def test_without_keys_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_PUSHOVER_API_TOKEN", "t" * 30)
    assert not is_configured()
    assert not send_critical_alert("a", "b")
    assert not alert_checksum_failure("BTCUSDT", "2026-11-02", "a", "b")


def test_a_wrong_setting_is_logged_and_not_raised(
    pushover: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "none")
    assert not send_critical_alert("a", "b")
    assert "RANGEBAR_HTTP_TRIES" in caplog.text


def test_an_unknown_priority_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean `emergency`"):
        send_critical_alert("a", "b", priority="emergncy")
