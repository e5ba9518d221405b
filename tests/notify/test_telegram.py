"""Messages to a Telegram chat: what its server gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rangebar_polars import events
from rangebar_polars.notify.telegram import (
    enable_failure_notifications,
    enable_telegram_notifications,
    is_configured,
    send_telegram,
)

if TYPE_CHECKING:
    from notify.receiver import Receiver

# apprise imports it on Python 3.11
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


def emit_one_of_each() -> None:
    events.emit_hook("ticks_written", "BTCUSDT", rows=5)
    events.emit_hook("gap_detected", "BTCUSDT", first_id=7)
    assert events.flush_hooks(600)


def test_a_message_reaches_the_chat_of_the_user(telegram: Receiver) -> None:
    assert is_configured()
    assert send_telegram("<b>Alert:</b> a &lt; b")
    (message,) = telegram.messages
    assert telegram.paths == ["/bot123456789:" + "tOkEn-_" * 5 + "/sendMessage"]
    assert message["chat_id"] == -1009876543210
    assert message["text"] == "<b>Alert:</b> a &lt; b"
    assert (message["parse_mode"], message["disable_notification"]) == ("HTML", False)
    assert send_telegram("quiet", disable_notification=True)
    assert telegram.messages[1]["disable_notification"] is True


@pytest.mark.parametrize(
    ("parse_mode", "sent", "text", "mode"),
    [
        ("HTML", "<i>a</i>\nb", "<i>a</i>\nb", "HTML"),
        ("Markdown", "*a* _b_ [c](http://d)", "*a* _b_ [c](http://d)", "MARKDOWN"),
        ("MarkdownV2", r"*a* \- 1\.5 ||b||", r"*a* \- 1\.5 ||b||", "MarkdownV2"),
        (None, "1 < 2 & <b>", "1 &lt; 2 &amp; &lt;b&gt;", "HTML"),
    ],
)
def test_markup_is_that_of_the_parse_mode(
    parse_mode: str | None, sent: str, text: str, mode: str, telegram: Receiver
) -> None:
    assert send_telegram(sent, parse_mode=parse_mode)
    (message,) = telegram.messages
    assert (message["text"], message["parse_mode"]) == (text, mode)


def test_a_long_message_is_sent_in_parts(telegram: Receiver) -> None:
    assert send_telegram("<b>" + "a" * 5000 + "</b>")
    texts = [message["text"] for message in telegram.messages]
    assert [len(text) for text in texts] == [4096, 5000 - (4096 - 7) + 7]
    assert all(text.startswith("<b>a") and text.endswith("a</b>") for text in texts)


def test_after_a_part_that_is_refused_none_is_sent(telegram: Receiver) -> None:
    telegram.status = 400
    assert not send_telegram("a" * 9000)
    assert len(telegram.messages) == 1


def test_all_events_are_sent_and_successes_silently(telegram: Receiver) -> None:
    assert enable_telegram_notifications()
    emit_one_of_each()
    silent = {
        message["text"].splitlines()[0]: message["disable_notification"]
        for message in telegram.messages
    }
    assert silent == {
        "<b>rangebar: ticks written</b>": True,
        "<b>rangebar: gap detected</b>": False,
    }
    assert {message["parse_mode"] for message in telegram.messages} == {"HTML"}


def test_failures_are_sent_audibly_and_nothing_else(telegram: Receiver) -> None:
    assert enable_failure_notifications()
    emit_one_of_each()
    events.emit_hook("population_failed", "<b>", reason="a & b")
    assert events.flush_hooks(600)
    first, second = telegram.messages
    assert first["text"].startswith("<b>rangebar: gap detected</b>\nBTCUSDT: first id 7 (")
    assert second["text"].startswith(
        "<b>rangebar: population failed</b>\n&lt;b&gt;: reason a &amp; b ("
    )
    assert not first["disable_notification"]
    assert not second["disable_notification"]


def test_a_second_call_replaces_the_first(telegram: Receiver) -> None:
    assert enable_telegram_notifications()
    assert enable_failure_notifications()
    emit_one_of_each()
    assert len(telegram.messages) == 1


def test_without_keys_nothing_is_sent_or_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_TELEGRAM_TOKEN", "1:2")
    for call in (is_configured, enable_telegram_notifications, enable_failure_notifications):
        assert call() is False
    assert send_telegram("text") is False


def test_keys_that_apprise_rejects_count_as_none(
    telegram: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANGEBAR_TELEGRAM_TOKEN", "sEcReT/token?a=b")
    assert not enable_telegram_notifications()
    assert not send_telegram("text")
    assert "sEcReT" not in caplog.text
    assert telegram.messages == []


@pytest.mark.parametrize("parse_mode", ["html", "XML", 7])
def test_an_unknown_parse_mode_is_refused(parse_mode: object) -> None:
    with pytest.raises(ValueError, match="parse_mode"):
        send_telegram("text", parse_mode=parse_mode)


def test_an_empty_message_is_not_sent(telegram: Receiver) -> None:
    assert not send_telegram(" \n")
    assert telegram.messages == []
