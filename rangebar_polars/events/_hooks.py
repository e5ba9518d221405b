"""Who listens to which event, and the way of an event to them."""

from __future__ import annotations

import atexit
import logging
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

from rangebar_polars._utils.fork import ForkSafeLock, after_fork_in_child
from rangebar_polars.config import settings
from rangebar_polars.events._kinds import EVENT_NAMES, FAILURES, event_name
from rangebar_polars.events._payload import HookPayload, append_line
from rangebar_polars.events._subscriber import Subscriber
from rangebar_polars.exceptions import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rangebar_polars.events._kinds import Event

    Callback: TypeAlias = Callable[[HookPayload], object]

__all__ = ["clear_hooks", "emit", "emit_hook", "flush_hooks", "register_for_all"]
__all__ += ["register_for_failures", "register_hook", "unregister_hook"]

_LOG = logging.getLogger("rangebar_polars.events")

# Alerts, with what Pushover calls their priority.
_ALERTS: dict[str, Literal["high", "emergency"]] = {
    "symbol_not_registered": "emergency",
    "threshold_violation": "high",
}
# An alert of the last moment is worth a short wait at the end of the program.
_EXIT_WAIT_S = 5.0


class Subscribers:
    """The subscribers of this process."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._all: list[Subscriber] = []
        self._alerts = Subscriber(_send_alert)
        self._alerted: set[tuple[str, str]] = set()
        self._waits_at_exit = False

    def register(self, events: Iterable[str], callback: Callback) -> None:
        """Call the callback on the events too."""
        if not callable(callback):
            raise TypeError(
                f"a callback must be a function; it is of type `{type(callback).__name__}`"
            )
        with self._lock:
            self._wait_at_exit()
            found = self._find(callback)
            if found is None:
                found = Subscriber(callback)
                self._all.append(found)
            found.events.update(events)

    def unregister(self, event: str, callback: Callback) -> bool:
        """Call the callback on the event no more; whether it was registered for it."""
        with self._lock:
            found = self._find(callback)
            if found is None or event not in found.events:
                return False
            found.events.discard(event)
            self._drop_idle()
            return True

    def clear(self, event: str | None) -> None:
        """Forget all subscribers, or all of an event."""
        with self._lock:
            for subscriber in self._all:
                subscriber.events.difference_update(EVENT_NAMES if event is None else {event})
            self._drop_idle()
            if event is None:
                self._alerted.clear()

    def tell(self, payload: HookPayload) -> None:
        """Deliver the payload to the subscribers of its event."""
        with self._lock:
            listeners = [one for one in self._all if payload.event in one.events]
        for subscriber in listeners:
            subscriber.deliver(payload)

    def alert(self, payload: HookPayload) -> None:
        """Send an alert, the first time that this event befalls the symbol."""
        with self._lock:
            key = (payload.event, payload.symbol)
            if key in self._alerted:
                return
            self._alerted.add(key)
            self._wait_at_exit()
        self._alerts.deliver(payload)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is delivered; False if that takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            everyone = [*self._all, self._alerts]
        # Each is asked, also after one that has not finished.
        finished = [one.flush(max(0.0, deadline - time.monotonic())) for one in everyone]
        return all(finished)

    def restart(self) -> None:
        """Begin again in a forked child, which has none of the threads of the subscribers."""
        for subscriber in (*self._all, self._alerts):
            subscriber.restart()

    def _find(self, callback: Callback) -> Subscriber | None:
        return next((one for one in self._all if one.callback == callback), None)

    def _drop_idle(self) -> None:
        for subscriber in self._all:
            if not subscriber.events:
                subscriber.forget()
        self._all = [one for one in self._all if one.events]

    def _wait_at_exit(self) -> None:
        if not self._waits_at_exit:
            self._waits_at_exit = True
            atexit.register(self.flush, _EXIT_WAIT_S)


def _send_alert(payload: HookPayload) -> None:
    from rangebar_polars.notify.pushover import send_critical_alert

    details = ", ".join(f"{key} {value}" for key, value in payload.details.items() if value != "")
    title = f"rangebar: {payload.event.replace('_', ' ')}"
    send_critical_alert(title, f"{payload.symbol}: {details}", priority=_ALERTS[payload.event])


_subscribers = Subscribers()
after_fork_in_child(_subscribers.restart)


def register_hook(event: str | type[Event], callback: Callback) -> None:
    """Call a function on every event of a name.

    Each function has its own thread, in which it gets the payloads in order: it may take its time,
    and may fail, without any effect on the work. Registered twice, it is still called once.

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
    """Call a function on every event that tells of a failure."""
    _subscribers.register(FAILURES, callback)


def register_for_all(callback: Callback) -> None:
    """Call a function on every event."""
    _subscribers.register(EVENT_NAMES, callback)


def unregister_hook(event: str | type[Event], callback: Callback) -> bool:
    """Call a function on an event no more; whether it was registered for it."""
    return _subscribers.unregister(event_name(event), callback)


def clear_hooks(event: str | type[Event] | None = None) -> None:
    """Forget the functions registered for an event, or all of them.

    What was not delivered to them yet is not delivered any more.
    """
    _subscribers.clear(None if event is None else event_name(event))


def flush_hooks(timeout_s: float = 5.0) -> bool:
    """Wait until every subscriber has got every event so far; False if that takes longer."""
    return _subscribers.flush(timeout_s)


def emit_hook(event: str, symbol: str, *, trace_id: str | None = None, **details: object) -> None:
    """Tell the subscribers, the log and the event log of an event.

    Raises
    ------
    ValueError
        There is no event of that name.
    """
    _send(HookPayload.of(event_name(event), symbol, trace_id, details))


def emit(event: Event) -> None:
    """Tell the subscribers, the log and the event log of an event; it raises nothing.

    Examples
    --------
    >>> from rangebar_polars.events import TicksWritten, emit
    >>> emit(TicksWritten("BTCUSDT", days=(), rows=0))
    """
    _send(HookPayload.of(event.name, event.symbol, event.trace_id, event.details()))


def _send(payload: HookPayload) -> None:
    level = logging.WARNING if payload.is_failure else logging.INFO
    _LOG.log(level, "%s %s %s", payload.event, payload.symbol, dict(payload.details))
    _subscribers.tell(payload)
    try:
        chosen = settings()
    except SettingError:
        # The work itself asks for settings and fails there, where it can be put right.
        _LOG.warning("the event `%s` was not logged", payload.event, exc_info=True)
        return
    if chosen.event_log is not None:
        append_line(chosen.event_log, payload.to_line())
    if payload.event in _ALERTS and chosen.pushover_api_token and chosen.pushover_user_key:
        _subscribers.alert(payload)
