"""Notes to systemd, or to another service manager that reads the same datagrams.

The protocol is that of sd_notify(3). It needs no library.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Self

from rangebar_polars._utils import clock
from rangebar_polars.config import variables_set

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ServiceManager"]

_LOG = logging.getLogger("rangebar_polars.live")
#: How often the line of `systemctl status` is replaced.
STATUS_S = 10.0
#: When a note that was not taken is sent again.
AGAIN_S = 1.0
#: A manager with a watchdog must hear from a service twice in its interval.
_WATCHDOG_PART = 2
_LONGEST_STATUS = 500


class ServiceManager:
    """The service manager that started this process. No call waits or raises.

    Parameters
    ----------
    address
        Path of its datagram socket, or a name in the abstract namespace that begins with `@`.
    watchdog_s
        The interval within which it expects to hear from the service; None without a watchdog.
    """

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        #: The longest time between two notes; None without a watchdog.
        self.watchdog_interval_s = None if watchdog_s is None else watchdog_s / _WATCHDOG_PART
        self._watchdog_at = float("-inf")
        self._status_at = float("-inf")
        self._has_failed = False

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the manager that the environment names; None without one.

        The variables are `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. A watchdog that is
        meant for another process is ignored.
        """
        found = variables_set("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address = found.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or address == "@":
            return None
        usec, pid = found.get("WATCHDOG_USEC", ""), found.get("WATCHDOG_PID", "")
        is_meant = not pid or pid == str(os.getpid())
        is_number = usec.isascii() and usec.isdecimal() and int(usec) > 0
        return cls(address, int(usec) / 1e6 if is_meant and is_number else None)

    def ready(self) -> bool:
        """Say that the service has started; return whether the manager took it."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """Say that the service stops."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """Replace the line that the manager shows about the service."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        return self._send(f"STATUS={line}")

    def watchdog(self) -> bool:
        """Say that the service is alive."""
        return self._send("WATCHDOG=1")

    def turned(self, describe: Callable[[], str], now: float | None = None) -> None:
        """Send what is due. The event loop calls it each time it turns.

        Parameters
        ----------
        describe
            Returns the line to show; called every 10 s.
        now
            Monotonic time; that of the clock by default.
        """
        now = clock.monotonic() if now is None else now
        interval_s = self.watchdog_interval_s
        if interval_s is not None and now >= self._watchdog_at:
            again_s = min(AGAIN_S, interval_s / _WATCHDOG_PART)
            self._watchdog_at = now + (interval_s if self.watchdog() else again_s)
        if now >= self._status_at:
            self._status_at = now + (STATUS_S if self.status(describe()) else AGAIN_S)

    async def run(self, describe: Callable[[], str]) -> None:
        """Call `turned` in the event loop as often as it is due, until it is cancelled."""
        while True:
            self.turned(describe)
            due_at = self._status_at
            if self.watchdog_interval_s is not None:
                due_at = min(due_at, self._watchdog_at)
            await clock.async_sleep(max(0.0, due_at - clock.monotonic()))

    def _send(self, text: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A manager that does not read must not stop the loop.
                sender.settimeout(0)
                sender.sendto(text.encode("utf-8", "replace"), self._address)
        except (OSError, ValueError) as error:
            if not self._has_failed:
                self._has_failed = True
                _LOG.warning("the service manager takes no notes: %s", error)
            return False
        self._has_failed = False
        return True
