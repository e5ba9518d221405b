"""Messages between a live process and its helper: a line of JSON, and the bytes that follow it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from rangebar_polars import exceptions
from rangebar_polars.bar_series.identity import BarRules, BarSpec, instant_of
from rangebar_polars.exceptions import RangeBarError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from rangebar_polars.bar_series.identity import BarSeries

__all__ = [
    "Message",
    "day_of",
    "error_of",
    "error_values",
    "read_message",
    "series_of",
    "series_values",
    "spec_of",
    "spec_values",
    "write_message",
]

#: Member of a line with the lengths of the parts that follow it.
_PARTS = "parts"


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or an answer to one."""

    #: Values that JSON knows.
    values: Mapping[str, Any]
    #: What JSON does not know: states of series, and bars as Arrow files.
    parts: tuple[bytes, ...] = ()


def write_message(stream: BinaryIO, message: Message) -> None:
    """Write a message whole, and flush it."""
    lengths = [len(part) for part in message.parts]
    line = json.dumps({**message.values, _PARTS: lengths}, separators=(",", ":"))
    stream.write(b"".join((line.encode(), b"\n", *message.parts)))
    stream.flush()


def read_message(stream: BinaryIO) -> Message | None:
    """Read the next message; return None at the end of the stream, even within a message.

    Raises
    ------
    ValueError
        The line is not one that `write_message` writes.

    Examples
    --------
    >>> from io import BytesIO
    >>> from rangebar_polars.live.helper.messages import Message, read_message, write_message
    >>> stream = BytesIO()
    >>> write_message(stream, Message({"number": 1}, (b"state",)))
    >>> _ = stream.seek(0)
    >>> read_message(stream)
    Message(values={'number': 1}, parts=(b'state',))
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    values = json.loads(line)
    parts = []
    for length in values.pop(_PARTS):
        part = stream.read(length)
        if len(part) < length:
            return None
        parts.append(part)
    return Message(values, tuple(parts))


# Values in messages


def spec_values(spec: BarSpec) -> dict[str, Any]:
    """Return a spec as values that JSON knows."""
    rules = spec.rules
    return {
        "source": spec.source,
        "market": spec.market,
        "symbol": spec.symbol,
        "threshold": spec.threshold,
        "reset": spec.reset,
        "rules": [rules.prevent_same_timestamp_close, rules.max_gap_us, rules.bar_semantics],
    }


def spec_of(values: Mapping[str, Any]) -> BarSpec:
    """Return the spec of `spec_values`."""
    return BarSpec(
        values["source"],
        values["market"],
        values["symbol"],
        values["threshold"],
        values["reset"],
        BarRules(*values["rules"]),
    )


def series_values(series: BarSeries) -> dict[str, Any]:
    """Return a series as values that JSON knows."""
    return {**spec_values(series.spec), "anchor_us": series.anchor_us}


def series_of(values: Mapping[str, Any]) -> BarSeries:
    """Return the series of `series_values`.

    Examples
    --------
    >>> from datetime import date
    >>> from rangebar_polars.bar_series.identity import BarSpec
    >>> from rangebar_polars.live.helper.messages import series_of, series_values
    >>> series = BarSpec.of("BTCUSDT", 250).series(date(2026, 11, 2))
    >>> series_of(series_values(series)) == series
    True
    """
    return spec_of(values).series(instant_of(values["anchor_us"]))


def day_of(text: str | None) -> date | None:
    """Return the day of an ISO text; None for None."""
    return None if text is None else date.fromisoformat(text)


# Errors in messages

#: Exceptions that a message alone makes, the more special ones first.
_KINDS = (
    "CacheUnavailableError",
    "CacheSchemaError",
    "CacheError",
    "LeaseError",
    "CoverageError",
    "TransientSourceError",
    "SourceError",
    "TickDataError",
    "CheckpointError",
    "StorageError",
    "SettingError",
    "ClockSkewError",
    "MissingExtraError",
    "WorkerLostError",
)


def error_values(error: BaseException) -> dict[str, str]:
    """Return an error as values that JSON knows."""
    names = {kind.__name__ for kind in type(error).__mro__}
    kind = next((name for name in _KINDS if name in names), "RangeBarError")
    if isinstance(error, RangeBarError):
        return {"kind": kind, "text": str(error)}
    return {
        "kind": "WorkerLostError",
        "text": f"the helper failed: {type(error).__name__}: {error}",
    }


def error_of(values: Mapping[str, str]) -> RangeBarError:
    """Return the error of `error_values`, of the same class or of one that it derives from."""
    kind = getattr(exceptions, values["kind"], WorkerLostError)
    error: RangeBarError = kind(values["text"])
    return error
