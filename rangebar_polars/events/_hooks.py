"""Registration of callbacks for events, and delivery of events to them."""

from __future__ import annotations

import atexit
import logging
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import ForkSafeLock, after_fork_in_child
from rangebar_polars.config import settings
from rangebar_polars.events._kinds import EVENT_NAMES, FAILURES, event_name
from rangebar_polars.events._payload import HookPayload, append_line
from rangebar_polars.events._subscriber import Subscriber
from rangebar_polars.exceptions import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rangebar_polars.config import Settings
    from rangebar_polars.events._kinds import Event

    Callback: TypeAlias = Callable[[HookPayload], object]

__all__ = ["clear_hooks", "connect_notifier", "emit", "emit_hook", "flush_hooks"]
__all__ += ["register_for_all", "register_for_failures", "register_hook", "unregister_hook"]

_LOG = logging.getLogger("rangebar_polars.events")

# Alerts, which go to Pushover without a call if the user has set the keys.
_ALERTS = frozenset({"symbol_not_registered", "threshold_violation", "checksum_failed"})
# The exit of the program waits this long for what is not delivered.
_EXIT_WAIT_S = 5.0


class Notifier(Protocol):
    """What sends events to services. No method but `flush` waits."""

    def take(self, payload: HookPayload) -> None:
        """Take an event for the services that are enabled."""
        ...

    def alert(self, payload: HookPayload, chosen: Settings) -> None:
        """Take an alert."""
        ...

    def finish(self) -> None:
        """Send everything that waits, because the program ends."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until every message that is due is sent; return False on a timeout."""
        ...


class Subscribers:
    """The subscribers of this process."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._all: list[Subscriber] = []
        self._notifier: Notifier | None = None
        self._waits_at_exit = False

    def register(self, events: Iterable[str], callback: Callback) -> None:
        """Add events to those on which the callback is called."""
        if not callable(callback):
            raise TypeError(
                f"a callback must be callable; it is of type `{type(callback).__name__}`"
            )
        with self._lock:
            self._wait_at_exit()
            found = self._find(callback)
            if found is None:
                found = Subscriber(callback)
                self._all.append(found)
            found.events.update(events)

    def unregister(self, event: str, callback: Callback) -> bool:
        """Remove an event from those of the callback; return whether it was registered."""
        with self._lock:
            found = self._find(callback)
            if found is None or event not in found.events:
                return False
            found.events.discard(event)
            self._drop_idle()
            return True

    def clear(self, event: str | None) -> None:
        """Remove all subscribers, or those of one event."""
        with self._lock:
            for subscriber in self._all:
                subscriber.events.difference_update(EVENT_NAMES if event is None else {event})
            self._drop_idle()

    def connect(self, notifier: Notifier) -> None:
        """Pass all events to a notifier."""
        with self._lock:
            self._notifier = notifier
            self._wait_at_exit()

    def publish(self, payload: HookPayload) -> None:
        """Deliver the payload to the subscribers of its event."""
        with self._lock:
            subscribers = [item for item in self._all if payload.event in item.events]
        for subscriber in subscribers:
            subscriber.deliver(payload)

        if self._notifier is not None:
            self._notifier.take(payload)

    def alert(self, payload: HookPayload, chosen: Settings) -> None:
        """Send an alert to the user's Pushover account."""
        from rangebar_polars.notify.sending import notifications

        self.connect(notifications)
        notifications.alert(payload, chosen)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all events are delivered; return False on a timeout."""
        deadline = clock.monotonic() + timeout_s
        with self._lock:
            waiting = [item.flush for item in self._all]
            if self._notifier is not None:
                waiting.append(self._notifier.flush)
        # Flush each of them, also after a timeout of one.
        finished = [flush(max(0.0, deadline - clock.monotonic())) for flush in waiting]
        return all(finished)

    def end(self, timeout_s: float) -> None:
        """Deliver what waits before the program ends."""
        if self._notifier is not None:
            self._notifier.finish()
        self.flush(timeout_s)

    def restart(self) -> None:
        """Reset the subscribers in a forked child, which does not have their threads."""
        for subscriber in self._all:
            subscriber.restart()

    def _find(self, callback: Callback) -> Subscriber | None:
        return next((item for item in self._all if item.callback == callback), None)

    def _drop_idle(self) -> None:
        for subscriber in self._all:
            if not subscriber.events:
                subscriber.discard_waiting()
        self._all = [item for item in self._all if item.events]

    def _wait_at_exit(self) -> None:
        if not self._waits_at_exit:
            self._waits_at_exit = True
            atexit.register(self.end, _EXIT_WAIT_S)


_subscribers = Subscribers()
after_fork_in_child(_subscribers.restart)


def register_hook(event: str | type[Event], callback: Callback) -> None:
    """Call a function on every event of one kind.

    Each function runs in its own thread, which passes it the payloads in order. A slow or failing
    function does not affect the work. A function that is registered twice is called once.

    Parameters
    ----------
    event
        A name of `EVENT_NAMES`, or a class of events.
    callback
        A function of one `HookPayload`.

    Raises
    ------
    ValueError
        There is no event of that name.

    Examples
    --------
    >>> from rangebar_polars import events
    >>> seen = []
    >>> events.register_hook("gap_detected", seen.append)
    >>> events.emit_hook("gap_detected", "BTCUSDT", missing=3)
    >>> events.flush_hooks()
    True
    >>> seen[0].symbol, dict(seen[0].details)
    ('BTCUSDT', {'missing': 3})
    >>> events.unregister_hook("gap_detected", seen.append)
    True
    """
    _subscribers.register({event_name(event)}, callback)


def register_for_failures(callback: Callback) -> None:
    """Call a function on every event that reports a failure."""
    _subscribers.register(FAILURES, callback)


def register_for_all(callback: Callback) -> None:
    """Call a function on every event."""
    _subscribers.register(EVENT_NAMES, callback)


def connect_notifier(notifier: Notifier) -> None:
    """Pass every event to a notifier. Of several, the last one counts."""
    _subscribers.connect(notifier)


def unregister_hook(event: str | type[Event], callback: Callback) -> bool:
    """Stop calling a function on an event; return whether it was registered for it."""
    return _subscribers.unregister(event_name(event), callback)


def clear_hooks(event: str | type[Event] | None = None) -> None:
    """Remove the functions registered for an event, or for all events.

    Events that are not delivered yet are dropped.
    """
    _subscribers.clear(None if event is None else event_name(event))


def flush_hooks(timeout_s: float = 5.0) -> bool:
    """Wait until every event so far is delivered; return False on a timeout."""
    return _subscribers.flush(timeout_s)


def emit_hook(event: str, symbol: str, *, trace_id: str | None = None, **details: object) -> None:
    """Send an event to the subscribers, the logger and the event log.

    Raises
    ------
    ValueError
        There is no event of that name.
    """
    _send(HookPayload.of(event_name(event), symbol, trace_id, details))


def emit(event: Event) -> None:
    """Send an event to the subscribers, the logger and the event log, without ever raising.

    Examples
    --------
    >>> from rangebar_polars.events import TicksWritten, emit
    >>> emit(TicksWritten("BTCUSDT", days=(), rows=0))
    """
    _send(HookPayload.of(event.name, event.symbol, event.trace_id, event.details()))


def _send(payload: HookPayload) -> None:
    level = logging.WARNING if payload.is_failure else logging.INFO
    _LOG.log(level, "%s %s %s", payload.event, payload.symbol, dict(payload.details))
    _subscribers.publish(payload)
    try:
        chosen = settings()
    except SettingError:
        # The work reads the settings too, and raises there.
        _LOG.warning("the event `%s` was not logged", payload.event, exc_info=True)
        return
    if chosen.event_log is not None:
        append_line(chosen.event_log, payload.to_line())
    if payload.event in _ALERTS and chosen.pushover_api_token and chosen.pushover_user_key:
        _subscribers.alert(payload, chosen)
