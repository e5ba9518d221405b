"""Which events go to which of the user's services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.config import settings
from rangebar_polars.events import connect_notifier
from rangebar_polars.notify.sending import notifications
from rangebar_polars.notify.services import configured_services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rangebar_polars.events import HookPayload
    from rangebar_polars.notify.services import Service

__all__ = ["disable_notifications", "enable_notifications", "enable_services"]


def enable_services(services: Iterable[Service], *, failures_only: bool) -> bool:
    """Send events to those services that are valid, in place of the services so far.

    Returns
    -------
    bool
        Whether there is one. If not, nothing changes.
    """
    valid = [one for one in services if one.is_valid()]
    if valid:
        connect_notifier(notifications)
        notifications.enable(valid, _is_failure if failures_only else _every_event)
    return bool(valid)


def _every_event(_payload: HookPayload) -> bool:
    return True


def _is_failure(payload: HookPayload) -> bool:
    return payload.is_failure


def enable_notifications(*, failures_only: bool = True) -> bool:
    """Send events to every service that the user has set up.

    These are Telegram, Pushover and the addresses of the setting `notify_urls`. A thread sends, so no
    work waits for a service. The first event of a kind and symbol is a message at once, repeats within
    300 s become one line, and beyond 20 messages in 10 minutes a service gets one digest. The program
    waits up to 5 s at its end for what is not sent yet. A second call replaces the first, as do
    `enable_telegram_notifications` and `enable_failure_notifications`.

    Parameters
    ----------
    failures_only
        Whether only events that report a failure are sent. Otherwise, all others are sent, too, on
        Telegram without a sound.

    Returns
    -------
    bool
        Whether a service is set up. False without keys, when nothing changes.

    Raises
    ------
    MissingExtraError
        Keys are set, and the extra `notify` is not installed.
    SettingError
        A setting is not valid.

    Examples
    --------
    >>> from rangebar_polars.notify import disable_notifications, enable_notifications
    >>> enable_notifications()
    False
    >>> disable_notifications()
    """
    return enable_services(configured_services(settings()), failures_only=failures_only)


def disable_notifications() -> None:
    """Stop sending events to services, and drop messages that are not sent yet.

    Alerts to Pushover, which need no call, begin again with the next event.

    Examples
    --------
    >>> from rangebar_polars.notify import disable_notifications
    >>> disable_notifications()
    """
    notifications.disable()
