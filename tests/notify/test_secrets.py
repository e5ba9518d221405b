"""Keys reach the services, and nothing else."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from rangebar_polars import events
from rangebar_polars.config import settings
from rangebar_polars.notify import enable_notifications
from rangebar_polars.notify.secrets import hide, secrets_of
from rangebar_polars.notify.services import configured_services
from rangebar_polars.notify.telegram import send_telegram

if TYPE_CHECKING:
    from pathlib import Path

    from notify.receiver import Receiver

# apprise imports it on Python 3.11
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
SECRETS = ("tOkEn", "1009876543210", "123456789", "pAsSwOrD", "pAtH", "vAlUe", "t" * 30, "u" * 30)


def judge(text: str) -> None:
    assert [one for one in SECRETS if one in text] == []


def test_no_key_is_in_a_debug_log(
    telegram: Receiver, pushover: Receiver, receiver: Receiver, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in (None, "urllib3", "requests"):  # other libraries may have set theirs
        caplog.set_level(logging.DEBUG, name)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    secret = receiver.url("/pAtH-of-it/x?-key=vAlUe-1").replace("//", "//user:pAsSwOrD%21@")
    monkeypatch.setenv("RANGEBAR_NOTIFY_URLS", f"{secret},xml://nobody:pAsSwOrD@127.0.0.1:1/pAtH")
    try:
        assert enable_notifications()
        events.emit_hook("download_failed", "BTCUSDT")
        assert events.flush_hooks(600)
        telegram.status = pushover.status = receiver.status = 500
        events.emit_hook("checksum_failed", "BTCUSDT")
        assert events.flush_hooks(600)
        assert not send_telegram("x")
    finally:
        logging.getLogger().removeHandler(handler)
    assert "/pAtH-of-it/x" in receiver.paths[0]
    assert "tOkEn" in telegram.paths[0]
    assert pushover.messages[0]["token"] == "t" * 30
    text = stream.getvalue()
    # The libraries do log, each of them.
    assert "sendMessage HTTP/1.1" in text
    assert "Telegram POST URL" in text
    assert "pAtH" not in text
    judge(text + caplog.text + "".join(capfd.readouterr()))
    judge("".join(f"{record.__dict__}" for record in caplog.records))
    judge(repr(configured_services(settings())) + repr(settings()))


def test_no_key_is_in_a_debug_log_of_a_process(telegram: Receiver, tmp_path: Path) -> None:
    """As a user sees it, from the first import on, with an address that cannot be reached."""
    code = f"""
import logging, sys
logging.basicConfig(level=logging.DEBUG, filename="log.txt")
from apprise.plugins.telegram import NotifyTelegram
from rangebar_polars.events import emit_hook
from rangebar_polars.notify.sending import notifications
from rangebar_polars.notify.telegram import enable_telegram_notifications, send_telegram
NotifyTelegram.notify_url = "http://127.0.0.1:{telegram.port}/bot"
assert enable_telegram_notifications()
emit_hook("download_failed", "BTCUSDT")
assert notifications.flush(1000.0)
assert send_telegram("text")
NotifyTelegram.notify_url = "http://127.0.0.1:1/bot"
assert not send_telegram("text")
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, env={**os.environ, "RANGEBAR_EVENT_LOG": "events.jsonl"},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert len(telegram.messages) == 2
    log = (tmp_path / "log.txt").read_text()
    assert log.count("sendMessage HTTP/1.1") == 2
    assert "Connection refused" in log
    judge(log + (tmp_path / "events.jsonl").read_text())


def test_a_traceback_of_a_library_is_cleared_too(caplog: pytest.LogCaptureFixture) -> None:
    hide({"pAsSwOrD/x"})
    log = logging.getLogger("urllib3.connectionpool")
    try:
        raise OSError("no answer of http://a/pAsSwOrD/x and pAsSwOrD%2Fx")  # noqa: TRY301
    except OSError:
        log.warning("failed: %s", "pAsSwOrD/x", exc_info=True, stack_info=True)
        assert "pAsSwOrD" in traceback.format_exc()
    judge(caplog.text + repr(caplog.records[0].__dict__))
    assert "no answer of http://a/… and …" in caplog.text
    # Records without a secret are as they were.
    log.warning("%d of %d", 1, 2)
    assert caplog.records[1].args == (1, 2)


@pytest.mark.parametrize(
    ("address", "hidden", "shown"),
    [
        ("json://127.0.0.1:9000", set(), set()),
        ("json://localhost/hook?format=html&overflow=split", {"hook"}, {"html", "split"}),
        ("discord://4174216298/JHMHI8qBe7", {"4174216298", "JHMHI8qBe7"}, {"discord"}),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnl", {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnl"}, set()),
        (
            "mailtos://me:p%40ss@mail.example.org?to=a@b.org",
            {"p@ss", "p%40ss"},
            {"mail.example.org"},
        ),
        ("json://host:8080/?+X-Token=abc123", {"abc123"}, {"X-Token"}),
    ],
)
def test_parts_of_an_address_that_may_be_keys(
    address: str, hidden: set[str], shown: set[str]
) -> None:
    found = secrets_of(address)
    assert found >= hidden
    assert not found & shown
    assert hidden or not found
