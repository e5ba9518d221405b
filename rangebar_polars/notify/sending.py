"""The notifications of this process: which events go to which service, and the threads that send."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import ForkSafeLock, after_fork_in_child
from rangebar_polars.notify.coalescing import MessagePlan
from rangebar_polars.notify.services import LogFailures, pushover_service
from rangebar_polars.notify.wording import note_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rangebar_polars.config import Settings
    from rangebar_polars.events._payload import HookPayload
    from rangebar_polars.notify.coalescing import Message
    from rangebar_polars.notify.services import Service

__all__ = ["NotificationCounts", "notification_counts", "notifications", "send_status"]

_LOG = logging.getLogger("rangebar_polars.notify")


@dataclass(slots=True)
class NotificationCounts:
    """What became of the notifications to one service."""

    #: Messages that the service accepted.
    sent: int = 0
    #: Events that were no message of their own.
    coalesced: int = 0
    #: Messages that the service did not accept.
    failed: int = 0


class Route:
    """The way of events to one service, with a thread that runs while something waits.

    Parameters
    ----------
    service
        Where the messages go.
    wants
        Decides which events become messages.
    counts
        Counts of the service, also those of earlier routes.
    """

    def __init__(
        self, service: Service, wants: Callable[[HookPayload], bool], counts: NotificationCounts
    ) -> None:
        self.service = service
        self._wants = wants
        self._counts = counts
        self._plan = MessagePlan()
        self._coalesced = 0
        self._changed = Condition()
        self._worker: Thread | None = None
        self._is_sending = False
        self._is_closed = False

    def take(self, payload: HookPayload) -> None:
        """Take an event. This never waits for the service."""
        with self._changed:
            if not self._is_closed:
                now = clock.monotonic()
                if self._plan.take(payload, now, is_wanted=self._wants(payload)):
                    self._wake()
                self._count_coalesced()

    def take_status(self, text: str) -> None:
        """Take a status to send."""
        with self._changed:
            if not self._is_closed:
                self._plan.take_status(text)
                self._wake()

    def finish(self) -> None:
        """Send everything that waits now, repeats included."""
        with self._changed:
            self._plan.finish()
            self._wake()

    def close(self, *, is_dropped: bool) -> None:
        """Take no further events; send what waits, or drop it."""
        with self._changed:
            self._is_closed = True
            if is_dropped:
                self._plan, self._coalesced = MessagePlan(), 0
            self._plan.finish()
            self._wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message that is due is sent; return False on a timeout."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, clock.real_seconds(timeout_s))

    def restart(self) -> None:
        """Reset the route in a forked child; the parent sends what was waiting."""
        self._plan = MessagePlan()
        self._coalesced = 0
        self._changed = Condition()
        self._worker = None
        self._is_sending = False

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return self._worker is None

    def _is_idle(self) -> bool:
        if self._worker is None:
            return True
        due_at = self._plan.due_at
        return not self._is_sending and (due_at is None or due_at > clock.monotonic())

    def _count_coalesced(self) -> None:
        self._counts.coalesced += self._plan.coalesced - self._coalesced
        self._coalesced = self._plan.coalesced

    def _wake(self) -> None:
        if self._worker is not None and self._worker.is_alive():
            self._changed.notify_all()
        elif self._plan.due_at is not None:
            worker = Thread(
                target=self._work, name=f"rangebar-notify-{self.service.name}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError:  # the interpreter is shutting down, or there are too many threads
                _LOG.warning("no thread could be started for notifications", exc_info=True)
            else:
                self._worker = worker

    def _work(self) -> None:
        while (message := self._next()) is not None:
            is_sent = self._send(message)
            with self._changed:
                self._is_sending = False
                if is_sent:
                    self._counts.sent += 1
                else:
                    self._counts.failed += 1

    def _next(self) -> Message | None:
        """Wait for the next message; without anything that waits, the thread ends."""
        with self._changed:
            while True:
                now = clock.monotonic()
                message = self._plan.next_message(now)
                self._count_coalesced()
                if message is not None:
                    self._is_sending = True
                    return message
                due_at = self._plan.due_at
                if due_at is None:
                    self._worker = None
                self._changed.notify_all()
                if due_at is None:
                    return None
                self._changed.wait(clock.real_seconds(max(0.0, due_at - now)))

    def _send(self, message: Message) -> bool:
        with LogFailures():
            return self.service.send(note_of(message))
        return False


class Notifications:
    """The routes of this process, which get the events once `rangebar_polars.events` is connected."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._routes: list[Route] = []
        #: Sends alerts to the user's Pushover account, which nobody has to enable.
        self._alerts: Route | None = None
        #: Replaced routes that still send.
        self._closing: list[Route] = []
        self._counts: dict[str, NotificationCounts] = {}

    def enable(self, services: Iterable[Service], wants: Callable[[HookPayload], bool]) -> None:
        """Send events to services, in place of those so far."""
        with self._lock:
            routes = [self._route(service, wants) for service in services]
            self._close(self._routes, is_dropped=False)
            self._routes = routes

    def disable(self) -> None:
        """Send nothing, not even what waits."""
        with self._lock:
            self._close(self._every(), is_dropped=True)
            self._routes, self._alerts, self._closing = [], None, []

    def take(self, payload: HookPayload) -> None:
        """Take an event for the services that are enabled."""
        with self._lock:
            for route in self._routes:
                route.take(payload)

    def alert(self, payload: HookPayload, chosen: Settings) -> None:
        """Take an alert for the user's Pushover account, unless it is enabled anyway."""
        with self._lock:
            service = pushover_service(chosen)
            if service is None or any(one.service.kind == "pushover" for one in self._routes):
                return
            if self._alerts is None or self._alerts.service != service:
                if self._alerts is not None:
                    self._close([self._alerts], is_dropped=False)
                self._alerts = self._route(service, _every_event)
            self._alerts.take(payload)

    def take_status(self, text: str) -> None:
        """Take a status for the services that are enabled."""
        with self._lock:
            for route in self._routes:
                route.take_status(text)

    def finish(self) -> None:
        """Send everything that waits now, because the program ends."""
        for route in self._every():
            route.finish()

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message that is due is sent; return False on a timeout."""
        deadline = clock.monotonic() + timeout_s
        # Flush each of them, also after a timeout of one.
        done = [one.flush(max(0.0, deadline - clock.monotonic())) for one in self._every()]
        return all(done)

    def restart(self) -> None:
        """Reset the routes in a forked child, which does not have their threads."""
        self._closing = []
        for route in self._every():
            route.restart()

    def counts(self) -> dict[str, NotificationCounts]:
        """Return the counts by the name of the service."""
        with self._lock:
            return {
                name: NotificationCounts(one.sent, one.coalesced, one.failed)
                for name, one in self._counts.items()
            }

    def _route(self, service: Service, wants: Callable[[HookPayload], bool]) -> Route:
        counts = self._counts.setdefault(service.name, NotificationCounts())
        return Route(service, wants, counts)

    def _close(self, routes: list[Route], *, is_dropped: bool) -> None:
        for route in routes:
            route.close(is_dropped=is_dropped)
        self._closing = [one for one in (*self._closing, *routes) if not one.is_done]

    def _every(self) -> list[Route]:
        alerts = [] if self._alerts is None else [self._alerts]
        return [*self._routes, *alerts, *self._closing]


notifications = Notifications()
after_fork_in_child(notifications.restart)


def _every_event(_payload: HookPayload) -> bool:
    return True


def notification_counts() -> dict[str, NotificationCounts]:
    """Return the messages sent and failed and the events coalesced, by the name of the service.

    Examples
    --------
    >>> from rangebar_polars.notify.sending import notification_counts
    >>> sum(one.failed for one in notification_counts().values())
    0
    """
    return notifications.counts()


def send_status(text: str) -> None:
    """Send a text without a sound to the services that are enabled, without waiting for them.

    While a service has reached its limit of messages, only the newest status waits for it.

    Examples
    --------
    >>> from rangebar_polars.notify.sending import send_status
    >>> send_status("BTCUSDT live")
    """
    notifications.take_status(text)
