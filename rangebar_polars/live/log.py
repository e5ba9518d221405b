"""The log of live bars: a line for each event, as `key=value` or JSON.

The logger is `rangebar_polars.live`. Events of one kind and symbol are logged once in 10 s; the next
line says how many there were meanwhile.
"""

from __future__ import annotations

import json
import logging
import math
import re
from contextlib import contextmanager
from datetime import UTC, date, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, TextIO

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import scrubbed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LOGGER", "JsonFormatter", "KeyValueFormatter", "LiveLog", "log_to"]

LOGGER = "rangebar_polars.live"
#: One line for a kind and symbol within this time.
INTERVAL_S = 10.0
#: Kinds and symbols that are remembered, at most.
_MOST_KEYS = 10_000
_LONGEST_VALUE = 2_000
_FLOAT_DIGITS = 6
_PLAIN = re.compile(r"[^\s\"'=\\]+")
#: The attribute of a record that holds the fields of an event.
_FIELDS = "live_fields"


class LiveLog:
    """Logs events, one of a kind and symbol within 10 s. Any thread may call it.

    Parameters
    ----------
    logger
        Where lines go; `rangebar_polars.live` by default.

    Examples
    --------
    >>> import sys
    >>> from rangebar_polars.live.log import LiveLog, log_to
    >>> log = LiveLog()
    >>> with log_to(sys.stdout, has_time=False):
    ...     log.event("gap_detected", "BTCUSDT", is_failure=True, first_id=7, now=0.0)
    ...     log.event("gap_detected", "BTCUSDT", is_failure=True, first_id=12, now=4.0)
    ...     log.event("gap_detected", "BTCUSDT", is_failure=True, first_id=30, now=11.0)
    level=warning event=gap_detected symbol=BTCUSDT first_id=7
    level=warning event=gap_detected symbol=BTCUSDT first_id=30 repeated=1
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger(LOGGER) if logger is None else logger
        self._lock = Lock()
        #: When a kind and symbol was logged, how often it came since, and the level.
        self._seen: dict[tuple[str, str], tuple[float, int, int]] = {}

    def event(
        self,
        kind: str,
        symbol: str = "",
        *,
        is_failure: bool = False,
        now: float | None = None,
        **values: object,
    ) -> None:
        """Log an event, unless one of its kind and symbol was logged within 10 s."""
        now = clock.monotonic() if now is None else now
        level = logging.WARNING if is_failure else logging.INFO
        key = (kind, symbol)
        with self._lock:
            logged_at, repeated, _ = self._seen.get(key, (-math.inf, 0, level))
            if now - logged_at < INTERVAL_S:
                self._seen[key] = (logged_at, repeated + 1, level)
                return
            if len(self._seen) >= _MOST_KEYS:
                self._forget(now)
            self._seen[key] = (now, 0, level)
        self._write(level, key, {**values, **({"repeated": repeated} if repeated else {})})

    def line(self, kind: str, symbol: str = "", **values: object) -> None:
        """Log a line each time, at level DEBUG: for `verbose`."""
        self._write(logging.DEBUG, (kind, symbol), values)

    def flush(self, now: float | None = None, *, everything: bool = False) -> None:
        """Log how often events were left out, once their 10 s have passed, or at the end.

        The event loop calls it about once a second.
        """
        now = clock.monotonic() if now is None else now
        due = []
        with self._lock:
            for key, (logged_at, repeated, level) in self._seen.items():
                if repeated and (everything or now - logged_at >= INTERVAL_S):
                    due.append((key, repeated, level))
            for key, _, level in due:
                self._seen[key] = (now, 0, level)
        for key, repeated, level in due:
            self._write(level, key, {"repeated": repeated})

    def _forget(self, now: float) -> None:
        """Forget what is old, or the oldest half of all."""
        old = [key for key, (at, _, _) in self._seen.items() if now - at >= INTERVAL_S]
        for key in old or list(self._seen)[: _MOST_KEYS // 2]:
            del self._seen[key]

    def _write(self, level: int, key: tuple[str, str], values: Mapping[str, object]) -> None:
        kind, symbol = key
        found = {"event": kind, **({"symbol": symbol} if symbol else {}), **values}
        fields = {name: _value(value) for name, value in found.items()}
        # A handler of the user gets the same text without time and level.
        self._logger.log(level, "%s", _pairs(fields), extra={_FIELDS: fields})


class _Formatter(logging.Formatter):
    """Base class: the fields of a record, which may be one of another module."""

    def __init__(self, *, has_time: bool = True) -> None:
        super().__init__()
        self._has_time = has_time

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields of the line."""
        head: dict[str, Any] = {}
        if self._has_time:
            head["time"] = _value(clock.utc_now())
        head["level"] = record.levelname.lower()
        known = getattr(record, _FIELDS, None)
        fields = {**head, **(known or {"message": _value(record.getMessage())})}
        if record.exc_info:
            fields["traceback"] = scrubbed(self.formatException(record.exc_info))
        return fields


class KeyValueFormatter(_Formatter):
    """Writes a line such as `time=… level=info event=sidecar_live symbol=BTCUSDT`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return _pairs(self.fields(record))


class JsonFormatter(_Formatter):
    """Writes a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(self.fields(record), ensure_ascii=True, allow_nan=False)


@contextmanager
def log_to(
    stream: TextIO, *, as_json: bool = False, is_verbose: bool = False, has_time: bool = True
) -> Iterator[None]:
    """Write the log of live bars to a stream within the block.

    Parameters
    ----------
    stream
        Where lines go, such as `sys.stderr`.
    as_json
        Whether lines are JSON.
    is_verbose
        Whether DEBUG lines are written, too.
    has_time
        Whether lines begin with the time.
    """
    handler = _QuietHandler(stream)
    handler.setFormatter((JsonFormatter if as_json else KeyValueFormatter)(has_time=has_time))
    logger = logging.getLogger(LOGGER)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if is_verbose else logging.INFO)
    # A root handler would write each line again.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class _QuietHandler(logging.StreamHandler[TextIO]):
    """Drops lines that cannot be written: a closed stderr must not stop a sidecar."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as the library has it
        """Do nothing. The library would print a traceback to stderr."""


def _value(value: object) -> Any:  # noqa: ANN401 - whatever JSON can have
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return round(value, _FLOAT_DIGITS) if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_value(one) for one in value]
    return scrubbed(str(value))[:_LONGEST_VALUE]


def _pairs(fields: Mapping[str, Any]) -> str:
    """Return fields as `key=value`, with quotes around values that contain spaces or quotes."""
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items())


def _word(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) is not None and value.isprintable()
        return value if is_plain else json.dumps(value)
    return json.dumps(value)
