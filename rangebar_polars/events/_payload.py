"""The payload of an event, and its form as a line of JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

from rangebar_polars._utils import clock
from rangebar_polars.events._kinds import EVENT_NAMES, FAILURES

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

__all__ = ["HookPayload", "append_line", "generate_trace_id"]

_LOG = logging.getLogger("rangebar_polars.events")


def generate_trace_id(prefix: str = "rb") -> str:
    """Make an id that connects the events of one operation.

    Examples
    --------
    >>> from rangebar_polars.events import generate_trace_id
    >>> len(generate_trace_id("job"))
    12
    """
    return f"{prefix}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class HookPayload:
    """One event, as it is passed to subscribers."""

    event: str
    symbol: str
    timestamp: datetime = field(default_factory=clock.utc_now)
    details: Mapping[str, object] = field(default_factory=dict)
    is_failure: bool = False
    trace_id: str | None = None

    @classmethod
    def of(
        cls, event: str, symbol: str, trace_id: str | None, details: Mapping[str, object]
    ) -> HookPayload:
        """Make the payload of an event that happens now."""
        return cls(
            event=event,
            symbol=symbol,
            # All subscribers share this object.
            details=MappingProxyType(dict(details)),
            is_failure=event in FAILURES,
            trace_id=trace_id,
        )

    def to_dict(self) -> dict[str, object]:
        """Convert the payload to types of JSON.

        Examples
        --------
        >>> from datetime import UTC, date, datetime
        >>> from rangebar_polars.events import HookPayload
        >>> now = datetime(2024, 3, 1, tzinfo=UTC)
        >>> HookPayload("ticks_written", "BTCUSDT", now, {"day": date(2024, 2, 29)}).to_dict()
        {'event': 'ticks_written', 'symbol': 'BTCUSDT', 'timestamp': '2024-03-01T00:00:00+00:00', \
'details': {'day': '2024-02-29'}, 'is_failure': False, 'trace_id': None}
        """
        return {
            "event": self.event,
            "symbol": self.symbol,
            "timestamp": self.timestamp.isoformat(),
            "details": _plain(self.details),
            "is_failure": self.is_failure,
            "trace_id": self.trace_id,
        }

    def to_json(self) -> str:
        """Format the payload as JSON on one line."""
        return json.dumps(self.to_dict())

    def to_line(self) -> str:
        """Format the payload as a line of an event log, which is one flat JSON object."""
        common = {
            "timestamp": self.timestamp.isoformat(),
            "component": EVENT_NAMES.get(self.event, self.event),
            "event_type": self.event,
            "symbol": self.symbol,
            "trace_id": self.trace_id,
        }
        details = {key: _plain(value) for key, value in self.details.items()}
        return json.dumps(details | common) + "\n"


def _plain(value: object) -> object:
    """Convert a value to types of JSON, with null for NaN and infinities."""
    if isinstance(value, (str, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return str(value)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file in one write, so that lines of several processes do not mix."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            data = line.encode()
            if os.write(descriptor, data) < len(data):
                raise OSError(f"only part of a line was written to `{path}`")
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        _LOG.warning("the event log `%s` could not be written", path, exc_info=True)
