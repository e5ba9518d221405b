"""Messages through Telegram, to the chat whose bot and number the user has set."""

from __future__ import annotations

import html
from typing import Literal

from rangebar_polars._text import printable
from rangebar_polars.config import settings
from rangebar_polars.exceptions import unknown_choice
from rangebar_polars.notify.enabling import enable_services
from rangebar_polars.notify.services import (
    post,
    sending_settings,
    telegram_address,
    telegram_service,
)
from rangebar_polars.notify.split import split_html, split_text

__all__ = [
    "enable_failure_notifications",
    "enable_telegram_notifications",
    "is_configured",
    "send_telegram",
]

_FORMATS = {"HTML": "html", "Markdown": "v1", "MarkdownV2": "v2", None: "html"}


def is_configured() -> bool:
    """Return whether the settings `telegram_token` and `telegram_chat_id` are both set."""
    return telegram_service(settings()) is not None


def send_telegram(
    message: str,
    *,
    parse_mode: Literal["HTML", "Markdown", "MarkdownV2"] | None = "HTML",
    disable_notification: bool = False,
) -> bool:
    """Send a message to the user's Telegram chat.

    A message of more than 4096 characters is sent in parts. They end at a line break or a space if
    there is one, and tags of HTML that are open at the end of a part continue in the next one. Each
    part takes at most 10 s, and after a part that is not accepted, none is sent.

    Parameters
    ----------
    message
        Text of the message.
    parse_mode
        The markup in it, by Telegram's rules; None if there is none.
    disable_notification
        Whether the message arrives without a sound.

    Returns
    -------
    bool
        Whether Telegram accepted all parts. False without keys, when nothing is sent, and for an empty
        message.

    Raises
    ------
    ValueError
        There is no such parse mode.
    MissingExtraError
        The keys are set, and the extra `notify` is not installed.

    Examples
    --------
    >>> from rangebar_polars.notify.telegram import is_configured, send_telegram
    >>> is_configured() or send_telegram("<b>Done</b>: nothing is sent without keys.")
    False
    """
    if parse_mode not in _FORMATS:
        raise ValueError(
            unknown_choice("parse_mode", str(parse_mode), ("HTML", "Markdown", "MarkdownV2"))
        )
    chosen = sending_settings()
    service = None if chosen is None else telegram_service(chosen)
    text = printable(message).strip()
    if service is None or not text:
        return False
    address = telegram_address(service.keys, _FORMATS[parse_mode], is_silent=disable_notification)
    if parse_mode is None:
        text = html.escape(text, quote=False)
    parts = split_html(text) if _FORMATS[parse_mode] == "html" else split_text(text)
    return all(post("telegram", address, "", part, "info", service.keys) for part in parts)


def enable_telegram_notifications() -> bool:
    """Send all events to the user's Telegram chat; those that report no failure arrive silently.

    This replaces an earlier call of this function, `enable_failure_notifications` and
    `enable_notifications`.

    Returns
    -------
    bool
        Whether the chat is set up. False without keys, when nothing changes.

    Raises
    ------
    MissingExtraError
        The keys are set, and the extra `notify` is not installed.

    Examples
    --------
    >>> from rangebar_polars.notify.telegram import enable_telegram_notifications
    >>> enable_telegram_notifications()
    False
    """
    return _enable(failures_only=False)


def enable_failure_notifications() -> bool:
    """Send the events that report a failure to the user's Telegram chat.

    This replaces an earlier call of this function, `enable_telegram_notifications` and
    `enable_notifications`.

    Returns
    -------
    bool
        Whether the chat is set up. False without keys, when nothing changes.

    Raises
    ------
    MissingExtraError
        The keys are set, and the extra `notify` is not installed.

    Examples
    --------
    >>> from rangebar_polars.notify.telegram import enable_failure_notifications
    >>> enable_failure_notifications()
    False
    """
    return _enable(failures_only=True)


def _enable(*, failures_only: bool) -> bool:
    service = telegram_service(settings())
    return service is not None and enable_services([service], failures_only=failures_only)
