"""Text of notifications: what happened, about which symbol, on which machine."""

from __future__ import annotations

import html
import socket
from typing import TYPE_CHECKING, Literal, NamedTuple

from rangebar_polars import _internal
from rangebar_polars._text import count_text, printable, shown
from rangebar_polars.notify.coalescing import Digest, First, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rangebar_polars.events._payload import HookPayload
    from rangebar_polars.notify.coalescing import Line, Message

__all__ = ["Note", "Priority", "escaped", "note_of"]

Priority = Literal["normal", "high", "emergency"]

#: Characters of a notification with its title, as it is sent.
LONGEST = 1000
LONGEST_FIELD = 300
LONGEST_TITLE = 100
LONGEST_SYMBOL = 50
LISTED = 10

#: Priorities by event, in ascending order. All other events are normal.
PRIORITIES: dict[str, Priority] = {
    "sidecar_failed": "high",
    "symbol_not_registered": "emergency",
    "checksum_failed": "emergency",
}


class Note(NamedTuple):
    """A notification as it is sent, in which `&`, `<` and `>` are HTML entities."""

    title: str
    text: str
    is_failure: bool
    priority: Priority = "normal"


def note_of(message: Message) -> Note:
    """Return the notification for a message of a plan.

    Examples
    --------
    >>> from rangebar_polars.events import HookPayload
    >>> from rangebar_polars.notify.coalescing import First
    >>> from rangebar_polars.notify.wording import note_of
    >>> note = note_of(First(HookPayload("gap_detected", "BTCUSDT", details={"first_id": 7})))
    >>> note.title
    'rangebar: gap detected'
    >>> note.text.partition(" (")[0]
    'BTCUSDT: first id 7'
    """
    if isinstance(message, First):
        payload = message.payload
        title = _title(_words(payload.event))
        text = _signed([_described(payload)], title)
        priority = PRIORITIES.get(payload.event, "normal")
        return Note(title, text, payload.is_failure, priority)
    if isinstance(message, Status):
        title = _title("status")
        return Note(title, _signed([message.text], title), is_failure=False)
    others = message.others if isinstance(message, Digest) else 0
    if isinstance(message, Digest):
        events = sum(line.count for line in message.lines) + others
        title = _title(f"{count_text(events, 'event')} in one message")
    elif len(message.lines) == 1:
        title = _title(_words(message.lines[0].event))
    else:
        title = _title("repeated events")
    return Note(
        title,
        _signed([_repeated(line) for line in message.lines], title, others),
        any(line.is_failure for line in message.lines),
        _priority(message.lines),
    )


def escaped(text: str, longest: int) -> str:
    """Escape a text for HTML, and shorten it to a number of characters as escaped.

    Examples
    --------
    >>> from rangebar_polars.notify.wording import escaped
    >>> escaped("a < b", 20), escaped("a < b", 6)
    ('a &lt; b', 'a …')
    """
    # Escaping only lengthens a text.
    pieces = [html.escape(one, quote=False) for one in printable(text[: longest + 1])]
    if sum(map(len, pieces)) > longest:
        while pieces and sum(map(len, pieces)) > longest - 1:
            pieces.pop()
        pieces.append("…")
    return "".join(pieces)


def _title(words: str) -> str:
    return escaped(f"rangebar: {words}", LONGEST_TITLE)


def _words(event: str) -> str:
    return event.replace("_", " ")


def _symbol(symbol: object) -> str:
    return " ".join(shown(str(symbol), LONGEST_SYMBOL).split())


def _described(payload: HookPayload) -> str:
    """Describe one event: symbol and fields."""
    details = payload.to_dict()["details"]
    fields = details.items() if isinstance(details, dict) else ()
    texts = [f"{_words(name)} {_value(value)}" for name, value in fields if value not in (None, "")]
    return f"{_symbol(payload.symbol)}: {', '.join(texts)}" if texts else _symbol(payload.symbol)


def _value(value: object) -> str:
    if isinstance(value, list):
        more = [f"{len(value) - LISTED} more"] if len(value) > LISTED else []
        return " ".join([*(shown(one, LONGEST_FIELD) for one in value[:LISTED]), *more])
    return shown(value, LONGEST_FIELD)


def _repeated(line: Line) -> str:
    """Describe repeats of an event in a line."""
    more = "" if line.has_first else " more"
    seconds = f"{line.seconds:,.0f}"
    return f"{_words(line.event)}, {_symbol(line.symbol)}: {line.count}{more} in {seconds} s"


def _priority(lines: Sequence[Line]) -> Priority:
    """Return the priority of a message: that of the events that are no message of their own."""
    found = {PRIORITIES.get(line.event, "normal") for line in lines if line.has_first}
    return next((one for one in ("emergency", "high") if one in found), "normal")


def _signed(lines: Sequence[str], title: str, others: int = 0) -> str:
    """Join the lines that fit, with machine and version."""
    signature = escaped(f" ({socket.gethostname()}, rangebar-polars {_internal.__version__})", 100)
    room = LONGEST - len(title) - len(signature)
    left_out = count_text(len(lines), "further line") if len(lines) > 1 else ""
    tail_room = len(f"\n{others} other events\nand {left_out}")
    shown_lines: list[str] = []
    for position, line in enumerate(lines):
        text = escaped(line, room)
        used = sum(len(one) + 1 for one in shown_lines) + len(text)
        if used + (tail_room if len(lines) > 1 or others else 0) > room:
            shown_lines.append(f"and {count_text(len(lines) - position, 'further line')}")
            break
        shown_lines.append(text)
    if others:
        shown_lines.append(f"and {count_text(others, 'other event')}")
    return "\n".join(shown_lines) + signature
