"""Notes to a service manager, which a real datagram socket receives."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading

import pytest

from live.boards import until
from rangebar_polars._utils import clock
from rangebar_polars.live.health.systemd import ServiceManager

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no datagram sockets with paths")


class Manager:
    """A service manager that receives notes."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        self.socket.settimeout(30)

    def take(self) -> str:
        return self.socket.recv(4_096).decode()

    def taken(self) -> list[str]:
        """Return the notes that have arrived."""
        self.socket.settimeout(0)
        found = []
        try:
            while True:
                found.append(self.socket.recv(4_096).decode())
        except BlockingIOError:
            return found


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """Yield a manager that the environment names, in both kinds of addresses."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("no abstract sockets")
    name = f"@rangebar-test-{os.getpid()}-{id(request)}"
    manager = Manager(name if request.param == "abstract" else str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    manager.socket.close()


def test_the_notes_of_a_run(manager) -> None:
    service = ServiceManager.from_environment()
    assert service is not None
    assert service.ready()
    assert manager.take() == "READY=1"
    assert service.status("live: BTCUSDT\nREADY=0 €")
    assert manager.take() == "STATUS=live: BTCUSDT READY=0 €"
    assert service.watchdog()
    assert manager.take() == "WATCHDOG=1"
    assert service.stopping()
    assert manager.take() == "STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "@", "relative", "vsock:2:1234"])
def test_without_a_manager_there_is_none(address, monkeypatch) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert ServiceManager.from_environment() is None


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        ("120000000", None, 60.0),
        ("120000000", "own", 60.0),
        ("120000000", "1", None),
        ("0", None, None),
        ("-5", None, None),
        ("two", None, None),
        ("²", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_that_of_the_environment(usec, pid, interval_s, manager, monkeypatch):
    # The id of this process in its name would make another test of it in each worker.
    pid = str(os.getpid()) if pid == "own" else pid
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert ServiceManager.from_environment().watchdog_interval_s == interval_s


def test_notes_come_when_they_are_due(manager) -> None:
    service = ServiceManager(manager.address, watchdog_s=8.0)
    sent = []
    for second in range(21):
        service.turned(lambda: "live", now=float(second))
        sent += [(second, note) for note in manager.taken()]
    assert [at for at, note in sent if note == "WATCHDOG=1"] == [0, 4, 8, 12, 16, 20]
    assert [at for at, note in sent if note == "STATUS=live"] == [0, 10, 20]


def test_without_a_watchdog_only_the_line_is_replaced(manager) -> None:
    service = ServiceManager(manager.address)
    for second in range(25):
        service.turned(lambda: "live", now=float(second))
    assert manager.taken() == ["STATUS=live"] * 3


def test_a_manager_that_is_away_stops_nothing_and_is_reported_once(tmp_path, caplog) -> None:
    address = str(tmp_path / "away")
    service = ServiceManager(address, watchdog_s=8.0)
    with caplog.at_level(logging.WARNING, "rangebar_polars.live"):
        assert not service.ready()
        for second in range(3):
            service.turned(lambda: "live", now=float(second))
        assert len(caplog.records) == 1
        manager = Manager(address)
        # What was not taken is sent again soon.
        service.turned(lambda: "live", now=3.0)
        assert manager.taken() == ["WATCHDOG=1", "STATUS=live"]
        manager.socket.close()
        assert not service.stopping()
        assert len(caplog.records) == 2


def test_an_address_that_no_socket_can_have_is_reported(caplog) -> None:
    assert not ServiceManager("/" + "a" * 300).ready()
    assert not ServiceManager("/tmp/a\0b").ready()
    assert "takes no notes" in caplog.text


def test_a_manager_that_does_not_read_stops_nothing(manager) -> None:
    service = ServiceManager(manager.address)
    while service.status("x" * 500):
        pass
    assert len(manager.taken()) > 1
    assert service.status("again")


@pytest.fixture
def rate():
    yield lambda number: clock.install(rate=number)
    clock.install()


def test_the_watchdog_is_fed_while_the_loop_turns_and_not_while_it_is_blocked(
    manager, rate
) -> None:
    rate(100.0)
    shall_block, blocks, release = (threading.Event() for _ in range(3))

    async def main() -> None:
        service = ServiceManager(manager.address, watchdog_s=2.0)
        feeding = asyncio.ensure_future(service.run(lambda: "live"))
        while not shall_block.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0)
        blocks.set()
        release.wait()  # the loop stands here
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    try:
        notes = [manager.take() for _ in range(5)]
        assert notes.count("WATCHDOG=1") >= 3
        shall_block.set()
        assert blocks.wait(30)
        manager.taken()
        begun = clock.monotonic()
        # Many intervals.
        until(lambda: clock.monotonic() - begun > 20)
        assert manager.taken() == []
    finally:
        shall_block.set()
        release.set()
        thread.join()
