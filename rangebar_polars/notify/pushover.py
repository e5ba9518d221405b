"""Alerts through Pushover, to the account whose keys the user has set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._text import printable, shown
from rangebar_polars.config import settings
from rangebar_polars.exceptions import unknown_choice
from rangebar_polars.notify.services import (
    post,
    pushover_address,
    pushover_service,
    sending_settings,
)

if TYPE_CHECKING:
    from datetime import date

    from rangebar_polars.notify.wording import Priority

__all__ = ["alert_checksum_failure", "is_configured", "send_critical_alert"]

_PRIORITIES = ("normal", "high", "emergency")


def is_configured() -> bool:
    """Return whether the settings `pushover_api_token` and `pushover_user_key` are both set."""
    return pushover_service(settings()) is not None


def send_critical_alert(
    title: str,
    message: str,
    url: str | None = None,
    url_title: str | None = None,
    *,
    priority: Priority = "emergency",
) -> bool:
    """Send an alert, which by default repeats every 30 s until it is acknowledged.

    The call takes at most 10 s.

    Parameters
    ----------
    title, message
        Text of the alert.
    url, url_title
        A link below the text, and its title.
    priority
        `"emergency"` repeats; `"high"` and `"normal"` do not.

    Returns
    -------
    bool
        Whether Pushover accepted the alert. False without keys, when nothing is sent.

    Raises
    ------
    ValueError
        There is no such priority.
    MissingExtraError
        The keys are set, and the extra `notify` is not installed.

    Examples
    --------
    >>> from rangebar_polars.notify.pushover import is_configured, send_critical_alert
    >>> is_configured() or send_critical_alert("Title", "Nothing is sent without keys.")
    False
    """
    if priority not in _PRIORITIES:
        raise ValueError(unknown_choice("priority", str(priority), _PRIORITIES))
    chosen = sending_settings()
    service = None if chosen is None else pushover_service(chosen)
    if service is None:
        return False
    address = pushover_address(service.keys, priority, url=url, url_title=url_title)
    return post("pushover", address, printable(title), printable(message), "failure", service.keys)


def alert_checksum_failure(
    symbol: str,
    date: date | str,
    expected_hash: str,
    actual_hash: str,
    data_source: str = "binance",
) -> bool:
    """Send an emergency about a file that does not have its published checksum.

    The package emits the event `checksum_failed` for such a file, which sends the same alert. This
    function is for files that your own program downloads.

    Parameters
    ----------
    symbol
        Symbol of the file.
    date
        UTC day of the file.
    expected_hash, actual_hash
        The published hash and that of the file, in hex.
    data_source
        Where the file comes from.

    Returns
    -------
    bool
        Whether Pushover accepted the alert. False without keys, when nothing is sent.

    Raises
    ------
    MissingExtraError
        The keys are set, and the extra `notify` is not installed.

    Examples
    --------
    >>> from rangebar_polars.notify.pushover import alert_checksum_failure
    >>> alert_checksum_failure("BTCUSDT", "2024-03-01", "ab" * 32, "cd" * 32)
    False
    """
    message = (
        f"{shown(symbol)}: the file of {shown(date)} from {shown(data_source)} has the hash "
        f"{shown(actual_hash)}; the published one is {shown(expected_hash)}"
    )
    return send_critical_alert("rangebar: checksum failed", message)
