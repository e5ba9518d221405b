"""The services that the user has set up, and one message to one of them."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from rangebar_polars._text import printable
from rangebar_polars._utils import clock
from rangebar_polars._utils.fork import ForkSafeLock
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import RangeBarError, SettingError
from rangebar_polars.notify.secrets import hide, secrets_of
from rangebar_polars.notify.wording import Note

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rangebar_polars.config import Settings
    from rangebar_polars.notify.wording import Priority

__all__ = [
    "LogFailures",
    "Service",
    "configured_services",
    "post",
    "pushover_address",
    "pushover_service",
]
__all__ += ["sending_settings", "telegram_address", "telegram_service"]

_LOG = logging.getLogger("rangebar_polars.notify")

#: How long one message may take.
MESSAGE_S = 10.0
# An emergency repeats at this interval until it is acknowledged or expires.
EMERGENCY_REPEAT_S = 30
EMERGENCY_EXPIRE_S = 3600


def telegram_address(
    keys: tuple[str, ...], text_format: str = "html", *, is_silent: bool = False
) -> str:
    """Return the apprise address of a Telegram chat, with options of a message."""
    options = {"silent": "yes" if is_silent else "no", "preview": "no"}
    options |= {"mdv": text_format} if text_format in {"v1", "v2"} else {}
    options["format"] = "markdown" if "mdv" in options else text_format
    token, chat_id = keys
    return f"tgram://{quote(token, safe=':')}/{quote(chat_id, safe=':@')}/?{urlencode(options)}"


def pushover_address(keys: tuple[str, ...], priority: Priority, **options: str | None) -> str:
    """Return the apprise address of a Pushover account, with options of a message."""
    token, user = keys
    options |= {"priority": priority}
    if priority == "emergency":
        # In newer releases of apprise, `retry` is an option of every service.
        asset = import_extra("apprise", "notify").AppriseAsset
        interval = "interval" if hasattr(asset, "default_service_retry") else "retry"
        options |= {interval: str(EMERGENCY_REPEAT_S), "expire": str(EMERGENCY_EXPIRE_S)}
    query = urlencode(
        {key: printable(value) for key, value in options.items() if value is not None}
    )
    return f"pover://{quote(user, safe='')}@{quote(token, safe='')}/?{query}"


@dataclass(frozen=True, slots=True)
class Service:
    """A service that messages go to."""

    name: str
    kind: Literal["telegram", "pushover", "other"]
    #: A key and the account, or an apprise address.
    keys: tuple[str, ...] = field(repr=False)

    def address(self, note: Note) -> str:
        """Return the apprise address for a notification."""
        if self.kind == "telegram":
            return telegram_address(self.keys, is_silent=not note.is_failure)
        if self.kind == "pushover":
            return pushover_address(self.keys, note.priority, format="html")
        return self.keys[0]

    def send(self, note: Note) -> bool:
        """Send a notification, and return whether the service accepted it."""
        title, text = note.title, note.text
        if self.kind == "telegram":
            title, text = "", f"<b>{title}</b>\n{text}"
        kind = "failure" if note.is_failure else "info"
        return post(self.name, self.address(note), title, text, kind, self.keys)

    def is_valid(self) -> bool:
        """Return whether apprise knows the service and accepts the keys; if not, log it."""
        apprise = import_extra("apprise", "notify")
        hide({*self.keys, *secrets_of(self.keys[0])})
        is_valid = bool(_apprise(apprise).add(self.address(Note("", "", is_failure=False))))
        if not is_valid:
            _LOG.warning(
                "notifications cannot go to %s: apprise does not accept its keys", self.name
            )
        return is_valid


def telegram_service(chosen: Settings) -> Service | None:
    """Return the user's Telegram chat; None without keys."""
    if not (chosen.telegram_token and chosen.telegram_chat_id):
        return None
    return Service("telegram", "telegram", (chosen.telegram_token, chosen.telegram_chat_id))


def pushover_service(chosen: Settings) -> Service | None:
    """Return the user's Pushover account; None without keys."""
    if not (chosen.pushover_api_token and chosen.pushover_user_key):
        return None
    return Service("pushover", "pushover", (chosen.pushover_api_token, chosen.pushover_user_key))


def configured_services(chosen: Settings) -> list[Service]:
    """Return all services that the user has set up."""
    found = [one for one in (telegram_service(chosen), pushover_service(chosen)) if one is not None]
    names: set[str] = set()
    for address in chosen.notify_urls or ():
        scheme = address.partition("://")[0].lower()
        name = next(
            one
            for number in range(1, len(names) + 2)
            if (one := scheme if number == 1 else f"{scheme}-{number}") not in names
        )
        names.add(name)
        found.append(Service(name, "other", (address,)))
    return found


def sending_settings() -> Settings | None:
    """Return the settings, or None with a log record if one is not valid: sending raises nothing."""
    try:
        return settings()
    except SettingError as error:
        _LOG.warning("nothing is sent: %s", error)
        return None


def post(
    name: str, address: str, title: str, text: str, kind: str, secrets: tuple[str, ...]
) -> bool:
    """Send a message to an apprise address, and return whether the service accepted it in time.

    Raises
    ------
    MissingExtraError
        The extra `notify` is not installed.
    """
    apprise = import_extra("apprise", "notify")
    hide({*secrets, *secrets_of(address)})

    def send() -> bool:
        service = _apprise(apprise)
        return bool(service.add(address)) and bool(
            service.notify(title=title, body=text, notify_type=kind)
        )

    is_sent = _calls.run(address.partition("?")[0], send)
    if not is_sent:
        _LOG.warning("%s did not accept a notification", name)
    return is_sent


def _apprise(apprise: Any) -> Any:  # noqa: ANN401 - releases have different types
    """Return a sender that works in the calling thread, so that the end of the program stops it."""
    kind = apprise.AppriseAsset
    options = {"service_timeout": 0} if hasattr(kind, "_service_timeout") else {}
    return apprise.Apprise(asset=kind(async_mode=False, secure_logging=True, **options))


class _Calls:
    """Calls that may hang, each of them in a thread of its own."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._hanging: dict[str, Thread] = {}

    def run(self, place: str, call: Callable[[], bool]) -> bool:
        """Run a call, at most for `MESSAGE_S`; while an earlier call of the place hangs, not at all."""
        with self._lock:
            self._hanging = {key: one for key, one in self._hanging.items() if one.is_alive()}
            if place in self._hanging:
                return False
        results: list[bool] = []
        thread = Thread(
            target=lambda: results.append(_quiet(call)), name="rangebar-message", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            return _quiet(call)
        thread.join(clock.real_seconds(MESSAGE_S))
        if thread.is_alive():
            with self._lock:
                self._hanging[place] = thread
        return bool(results and results[0])


_calls = _Calls()


class LogFailures(AbstractContextManager[None]):
    """Logs and suppresses an exception of a message, for which nobody waits or which returns False."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        # The text of other errors can contain an address with its keys.
        reason = str(error) if isinstance(error, RangeBarError) else type(error).__name__
        _LOG.warning("a notification was not sent: %s", reason)
        return True


def _quiet(call: Callable[[], bool]) -> bool:
    with LogFailures():
        return call()
    return False
