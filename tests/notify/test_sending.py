"""Events on their way to services: nothing is delayed, lost or sent twice."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from notify.receiver import PATIENCE_S, Receiver
from rangebar_polars import events
from rangebar_polars._utils import clock
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.exceptions import MissingExtraError, SettingError
from rangebar_polars.notify import disable_notifications, enable_notifications, services
from rangebar_polars.notify.sending import notification_counts, send_status

if TYPE_CHECKING:
    from collections.abc import Callable

# apprise imports it on Python 3.11
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


def tell(count: int, event: str = "download_failed", symbol: str = "BTCUSDT") -> None:
    for _ in range(count):
        events.emit_hook(event, symbol)


def counts_of(name: str, before: dict) -> tuple[int, int, int]:
    """Return what was sent, coalesced and failed since `before`."""
    now, then = notification_counts()[name], before.get(name)
    if then is None:
        return now.sent, now.coalesced, now.failed
    return now.sent - then.sent, now.coalesced - then.coalesced, now.failed - then.failed


def test_200_events_are_two_messages_the_second_with_199(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = notification_counts()
    assert enable_notifications() is True
    tell(200)
    assert events.flush_hooks(PATIENCE_S)
    (message,) = receiver.messages
    assert (message["title"], message["type"]) == ("rangebar: download failed", "failure")
    # 300 s later by the clock of the package, which another event lets the thread notice.
    monkeypatch.setattr(services, "MESSAGE_S", 1e9)
    clock.install(rate=3600.0)
    tell(1, symbol="ETHUSDT")
    receiver.wait_for(lambda: len(receiver.messages) == 3)
    assert receiver.texts[1].startswith("ETHUSDT (")
    assert receiver.texts[2].startswith("download failed, BTCUSDT: 199 more in ")
    assert events.flush_hooks(PATIENCE_S)
    assert counts_of("json", before) == (3, 199, 0)


def test_successes_are_sent_only_if_wanted(receiver: Receiver) -> None:
    assert enable_notifications()
    tell(1, "ticks_written")
    assert events.flush_hooks(PATIENCE_S)
    assert receiver.messages == []
    assert enable_notifications(failures_only=False)
    tell(1, "ticks_written")
    assert events.flush_hooks(PATIENCE_S)
    (message,) = receiver.messages
    assert (message["title"], message["type"]) == ("rangebar: ticks written", "info")


def test_a_second_call_replaces_the_first_and_loses_nothing(receiver: Receiver) -> None:
    assert enable_notifications()
    receiver.answers.clear()
    tell(1, symbol="A")
    receiver.wait_for(lambda: len(receiver.messages) == 1)
    tell(3, symbol="A")
    tell(1, symbol="B")
    assert enable_notifications()
    tell(1, symbol="C")
    receiver.answers.set()
    assert events.flush_hooks(PATIENCE_S)
    texts = [text.partition(" (")[0] for text in receiver.texts]
    assert sorted(texts) == ["A", "B", "C", "download failed, A: 3 more in 0 s"]


def test_every_configured_service_gets_the_message(
    receiver: Receiver, telegram: Receiver, pushover: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as other:
        monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", f"{receiver.url('/a')}, {other.url('/b')}")
        assert enable_notifications()
        tell(1)
        assert events.flush_hooks(PATIENCE_S)
        every = (receiver, other, telegram, pushover)
        assert [len(one.messages) for one in every] == [1, 1, 1, 1]
    assert {"json", "json-2", "telegram", "pushover"} <= set(notification_counts())


def test_a_service_that_hangs_delays_neither_the_work_nor_other_services(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as hanging:
        hanging.answers.clear()
        monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", f"{hanging.url()},{receiver.url()}")
        assert enable_notifications()
        # Nothing is answered before all is told and the other service has its messages.
        for number in range(1000):
            tell(1, symbol=f"S{number % 7}")
        receiver.wait_for(lambda: len(receiver.messages) == 7)
        assert len(hanging.messages) == 1
        assert not events.flush_hooks(0)
        hanging.answers.set()
        assert events.flush_hooks(PATIENCE_S)
        assert len(hanging.messages) == 7


def test_a_message_takes_10_s_and_a_service_that_still_hangs_gets_no_further_one(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Apprise itself would wait for minutes.
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", receiver.url("/?rto=600&cto=600"))
    before = notification_counts()
    assert enable_notifications()
    receiver.answers.clear()
    clock.install(rate=100.0)
    tell(1, symbol="A")
    tell(1, symbol="B")
    assert events.flush_hooks(PATIENCE_S)
    assert counts_of("json", before)[2] == 2
    assert len(receiver.messages) == 1
    receiver.answers.set()
    for thread in threading.enumerate():
        if thread.name == "rangebar-message":
            thread.join(PATIENCE_S)
    tell(1, symbol="C")
    assert events.flush_hooks(PATIENCE_S)
    assert len(receiver.messages) == 2


def test_a_service_that_refuses_is_counted_and_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    before = notification_counts()
    receiver.status = 500
    assert enable_notifications()
    tell(3)
    assert events.flush_hooks(PATIENCE_S)
    assert counts_of("json", before) == (0, 2, 1)
    assert "json did not accept a notification" in caplog.text
    receiver.status = 200
    tell(1, symbol="ETHUSDT")
    assert events.flush_hooks(PATIENCE_S)
    assert counts_of("json", before) == (1, 2, 1)


def test_no_thread_is_left_when_all_is_sent(receiver: Receiver) -> None:
    assert enable_notifications()
    before = set(threading.enumerate())
    tell(1)
    workers = [one for one in threading.enumerate() if one.name.startswith("rangebar-notify")]
    assert events.flush_hooks(PATIENCE_S)
    for worker in workers:
        worker.join(PATIENCE_S)
    after = set(threading.enumerate()) - before
    assert not any(one.name.startswith("rangebar") for one in after)
    assert len(after) <= 1  # that of the receiver


def test_a_status_is_a_message_of_its_own(receiver: Receiver) -> None:
    send_status("nobody is enabled")
    assert enable_notifications()
    send_status("BTCUSDT live, applied 12:00:00")
    assert events.flush_hooks(PATIENCE_S)
    (message,) = receiver.messages
    assert (message["title"], message["type"]) == ("rangebar: status", "info")
    assert message["message"].startswith("BTCUSDT live, applied 12:00:00 (")


def test_addresses_that_apprise_rejects_are_left_out_and_not_shown(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", "nosuchservice://hIdDeN/path,slack://hIdDeN")
    assert enable_notifications() is False
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", f"slack://hIdDeN,{receiver.url()}")
    assert enable_notifications() is True
    tell(1)
    assert events.flush_hooks(PATIENCE_S)
    assert len(receiver.messages) == 1
    assert "apprise does not accept its keys" in caplog.text
    assert "hIdDeN" not in caplog.text


def test_a_call_without_keys_changes_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enable_notifications()
    monkeypatch.delenv("RANGEBAR_NOTIFY_URLS")
    assert enable_notifications() is False
    tell(1)
    assert events.flush_hooks(PATIENCE_S)
    assert len(receiver.messages) == 1
    disable_notifications()
    tell(1, symbol="ETHUSDT")
    assert events.flush_hooks(PATIENCE_S)
    assert len(receiver.messages) == 1


def test_a_wrong_setting_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", "sEcReT")
    with pytest.raises(SettingError, match="RANGEBAR_NOTIFY_URLS") as caught:
        enable_notifications()
    assert "sEcReT" not in str(caught.value)


def missing(module: str, extra: str) -> object:
    if module == "apprise":
        raise MissingExtraError.of("apprise", extra)
    return import_extra(module, extra)


def test_without_the_extra_the_call_says_what_to_install(
    receiver: Receiver,
    pushover: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(services, "import_extra", missing)
    with pytest.raises(MissingExtraError, match=r"rangebar-polars\[notify\]"):
        enable_notifications()
    # An alert that nobody asked for is only logged.
    tell(1, "checksum_failed")
    assert events.flush_hooks(PATIENCE_S)
    assert "a notification was not sent" in caplog.text
    assert pushover.messages == []


def test_without_keys_no_connection_is_made_and_apprise_is_not_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(services, "import_extra", refuse)
    assert enable_notifications() is False
    tell(1)
    tell(1, "checksum_failed")
    assert events.flush_hooks(PATIENCE_S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of threads")
def test_a_forked_child_sends_its_own_events(receiver: Receiver) -> None:
    assert enable_notifications()
    tell(1, symbol="PARENT")
    assert events.flush_hooks(PATIENCE_S)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tell(1, symbol="CHILD")
            status = 0 if events.flush_hooks(PATIENCE_S) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert [text.partition(" (")[0] for text in receiver.texts] == ["PARENT", "CHILD"]


@pytest.mark.parametrize("emit", [lambda: tell(1), lambda: send_status("a")])
def test_a_plugin_that_raises_is_a_message_that_failed(
    emit: Callable[[], None], receiver: Receiver, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    plugin = pytest.importorskip("apprise.plugins.custom_json").NotifyJSON
    assert enable_notifications()

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(plugin, "send", fail)
    before = notification_counts()
    emit()
    assert events.flush_hooks(PATIENCE_S)
    assert counts_of("json", before) == (0, 0, 1)
    assert receiver.messages == []
