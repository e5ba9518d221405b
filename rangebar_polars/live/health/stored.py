"""The status of streamed symbols as other processes see it: from locks, state files and manifests.

No port is asked and no cache is opened, so it works beside a writer in any state and without one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.disk import Disk
from rangebar_polars._utils import clock
from rangebar_polars.exceptions import ManifestError, StorageError
from rangebar_polars.live.health.status import SymbolStatus, json_value
from rangebar_polars.live.protocol.states import State
from rangebar_polars.storage.layout import symbol_dirs
from rangebar_polars.storage.live.state_file import read_state, state_age_s
from rangebar_polars.storage.live.writer_lock import has_writer, writer_process
from rangebar_polars.storage.manifest.entry import SETTLED
from rangebar_polars.storage.manifest.versions import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from rangebar_polars.live.health.status import ProcessStatus
    from rangebar_polars.storage.layout import SymbolDir

__all__ = [
    "NOT_RESPONDING",
    "UNKNOWN",
    "WRITER_GONE",
    "StoredStatus",
    "state_content",
    "stored_status",
    "stored_statuses",
]

#: States that are none of a writer.
WRITER_GONE, NOT_RESPONDING, UNKNOWN = "writer gone", "not responding", "unknown"
#: A writer replaces its state file every 5 s. One that missed this twice is stopped or blocked.
LONGEST_AGE_S = 15.0

_STATES = frozenset(State)
_LONGEST_TEXT = 500
#: The keys of the symbol's block of `/health`.
_BLOCK = tuple(one.name for one in fields(SymbolStatus) if not one.metadata.get("hidden"))
_PROCESS = ("pid", "host", "version")


def state_content(
    symbol: SymbolStatus,
    process: ProcessStatus,
    *,
    live_from: date | None,
    health_address: str | None,
) -> dict[str, Any]:
    """Return what the state file of a symbol says about its status.

    Parameters
    ----------
    symbol, process
        The newest status.
    live_from
        The first day that this writer journals.
    health_address
        Host and port of the HTTP interface; None if it is off.
    """
    return {
        **symbol.to_dict(),
        **{name: value for name, value in process.to_dict().items() if name in _PROCESS},
        "live_from": None if live_from is None else live_from.isoformat(),
        "health": health_address,
    }


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """The status of a symbol as its files show it.

    Parameters
    ----------
    symbol, source, market
        What is streamed.
    state
        A state of `/health`, or "writer gone" if no process holds the lock, "not responding" if the
        state file of the writer is older than 15 s, or "unknown" if it cannot be read.
    reason
        Why; without a writer, the last state it was in.
    detail
        The same in words.
    applied_id
        The applied id; without a state file, the last id of the newest stored day.
    last_trade_age_s, lag_s, gaps_open
        As in `/health`; the age is that of now.
    bars_today
        By threshold, the bars that have ended today, in UTC.
    finalized_through
        The last finalized day; without a state file, the newest day that will not grow.
    pid, host, health
        The process, its machine and the address of its HTTP interface.
    state_age_s
        Age of the state file.
    state_file
        The symbol's block of `/health` and the process, as far as they can be read.
    """

    symbol: str
    source: str
    market: str
    state: str
    reason: str = ""
    detail: str = ""
    applied_id: int | None = None
    last_trade_age_s: float | None = None
    lag_s: float | None = None
    gaps_open: int | None = None
    bars_today: tuple[tuple[int, int], ...] = ()
    finalized_through: date | None = None
    pid: int | None = None
    host: str = ""
    health: str | None = None
    state_age_s: float | None = None
    state_file: dict[str, Any] | None = None

    @property
    def is_live(self) -> bool:
        """Whether a process streams the symbol, and everything is applied."""
        return self.state == State.LIVE

    def to_dict(self) -> dict[str, Any]:
        """Return the state file with what the other files show in its place, as JSON has it."""
        age_s = self.last_trade_age_s
        through = self.finalized_through
        shown = {
            "symbol": self.symbol,
            "source": self.source,
            "market": self.market,
            "state": self.state,
            "reason": self.reason or None,
            "detail": self.detail,
            "applied_id": self.applied_id,
            "last_trade_age_s": None if age_s is None else round(age_s, 3),
            "finalized_through": None if through is None else through.isoformat(),
            "pid": self.pid,
            "state_age_s": None if self.state_age_s is None else round(self.state_age_s, 3),
            "bars_today": {str(threshold): bars for threshold, bars in self.bars_today},
        }
        return {**json_value(self.state_file or {}), **shown}


def stored_statuses(root: Path, symbol: str | None = None) -> list[StoredStatus]:
    """Return the status of every symbol that is or was streamed into a tick store, in their order.

    Parameters
    ----------
    root
        The folder of the store, as `TickStorage.root` names it.
    symbol
        Only this symbol, in any market.

    Raises
    ------
    StorageError
        A folder cannot be listed.
    """
    found = [one for one in symbol_dirs(root, None, None, symbol, Disk()) if _is_streamed(one)]
    found.sort(key=lambda one: (one.source, one.market, one.symbol))
    return [stored_status(one) for one in found]


def _is_streamed(symbol_dir: SymbolDir) -> bool:
    try:
        return symbol_dir.live.is_dir()
    except OSError:
        return False


def stored_status(symbol_dir: SymbolDir) -> StoredStatus:
    """Return the status of one symbol. What cannot be read is "unknown"."""
    names = (symbol_dir.symbol, symbol_dir.source, symbol_dir.market)
    # The lock first: a writer that begins meanwhile shows up with the state of the one before.
    try:
        is_held = has_writer(symbol_dir)
    except StorageError as error:
        return StoredStatus(*names, state=UNKNOWN, detail=str(error).partition("\n")[0])
    state, age_s = read_state(symbol_dir), state_age_s(symbol_dir)
    if state is None or age_s is None:
        return _without_state(symbol_dir, names, is_held=is_held)
    known = {name: state.get(name) for name in (*_BLOCK, *_PROCESS, "live_from", "health")}
    shown, reason, detail = _state_of(known, age_s, is_held=is_held)
    trade_age_s = _number(known["last_trade_age_s"])
    return StoredStatus(
        *names,
        state=shown,
        reason=reason,
        detail=detail,
        applied_id=_whole(known["applied_id"]),
        last_trade_age_s=None if trade_age_s is None else trade_age_s + age_s,
        lag_s=_number(known["lag_s"]) if is_held else None,
        gaps_open=_whole(known["gaps_open"]),
        bars_today=_bars_today(known),
        finalized_through=_day(known["finalized_through"]),
        pid=_whole(known["pid"]) if is_held else None,
        host=_text(known["host"]),
        health=_text(known["health"]) or None,
        state_age_s=age_s,
        state_file=known,
    )


def _state_of(known: dict[str, Any], age_s: float, *, is_held: bool) -> tuple[str, str, str]:
    """Return state, reason and detail."""
    state, reason, detail = (_text(known[name]) for name in ("state", "reason", "detail"))
    if state not in _STATES:
        state, reason = UNKNOWN, ""
    if not is_held:
        return WRITER_GONE, f"was {state}" if state != State.STOPPED else state, ""
    if age_s > LONGEST_AGE_S:
        text = f"its state file is {age_s:.0f} s old; is the process stopped?"
        return NOT_RESPONDING, f"was {state}", text
    return state, reason, detail


def _without_state(
    symbol_dir: SymbolDir, names: tuple[str, str, str], *, is_held: bool
) -> StoredStatus:
    """Return what the lock and the manifests show."""
    applied_id, through, detail = None, None, "no state file"
    try:
        applied_id, through = _stored_days(symbol_dir)
    except (ManifestError, StorageError) as error:
        detail = str(error).partition("\n")[0]
    return StoredStatus(
        *names,
        state=UNKNOWN if is_held else WRITER_GONE,
        detail=detail if is_held else "",
        applied_id=applied_id,
        finalized_through=through,
        pid=writer_process(symbol_dir) if is_held else None,
    )


def _stored_days(symbol_dir: SymbolDir) -> tuple[int | None, date | None]:
    """Return the last id of the newest stored day, and the newest day that will not grow."""
    last_id, through = None, None
    for month in reversed(symbol_dir.months()):
        days = read_manifest(symbol_dir, month).days
        for day in sorted(days, reverse=True):
            entry = days[day]
            if last_id is None and entry.is_stored:
                last_id = entry.last_id
            if through is None and entry.state in SETTLED:
                through = day
        if through is not None:
            break
    return last_id, through


def _bars_today(known: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the bars of today by threshold; 0 if the last trades are of another day."""
    applied_at = _time(known["applied_at"])
    is_today = applied_at is not None and applied_at.date() == clock.utc_now().date()
    found = []
    series = known["series"]
    for one in series if isinstance(series, list) else ():
        values = one if isinstance(one, dict) else {}
        threshold, bars = _whole(values.get("threshold")), _whole(values.get("bars"))
        if threshold is not None and bars is not None:
            found.append((threshold, bars if is_today else 0))
    return tuple(found)


# Values of a file that anyone may have written


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _text(value: object) -> str:
    return " ".join(value.split())[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(_text(value))
    except ValueError:
        return None


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
