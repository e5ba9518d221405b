"""Alerts through Pushover, to the account whose keys the user has set."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, urlencode

from rangebar_polars._text import printable
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings

__all__ = ["is_configured", "send_critical_alert"]

# An emergency alert repeats at this interval until it is acknowledged or expires.
_REPEAT_S = 30
_EXPIRE_S = 3600


def is_configured() -> bool:
    """Return whether the settings `pushover_api_token` and `pushover_user_key` are both set."""
    chosen = settings()
    return bool(chosen.pushover_api_token and chosen.pushover_user_key)


def send_critical_alert(
    title: str,
    message: str,
    url: str | None = None,
    url_title: str | None = None,
    *,
    priority: Literal["high", "emergency"] = "emergency",
) -> bool:
    """Send an alert, which by default repeats every 30 s until it is acknowledged.

    Parameters
    ----------
    title, message
        Text of the alert.
    url, url_title
        A link below the text, and its title.
    priority
        `"emergency"` repeats; `"high"` does not.

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
    >>> from rangebar_polars.notify.pushover import is_configured, send_critical_alert
    >>> is_configured() or send_critical_alert("Title", "Nothing is sent without keys.")
    False
    """
    chosen = settings()
    if not (chosen.pushover_api_token and chosen.pushover_user_key):
        return False
    options = {"priority": priority, "url": url, "url_title": url_title}
    if priority == "emergency":
        options |= {"interval": str(_REPEAT_S), "expire": str(_EXPIRE_S)}
    query = urlencode(
        {name: printable(value) for name, value in options.items() if value is not None}
    )
    user, token = (
        quote(key, safe="") for key in (chosen.pushover_user_key, chosen.pushover_api_token)
    )
    service = import_extra("apprise", "notify").Apprise()
    return bool(service.add(f"pover://{user}@{token}/?{query}")) and bool(
        service.notify(title=printable(title), body=printable(message))
    )
