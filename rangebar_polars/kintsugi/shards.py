"""Repair tasks, what became of them, and the report of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import polars as pl

from rangebar_polars._utils.span import describe_days

if TYPE_CHECKING:
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries

__all__ = [
    "BAR_KINDS",
    "HEALED",
    "KINDS",
    "Action",
    "Kind",
    "KintsugiReport",
    "KintsugiResult",
    "Priority",
    "Shard",
    "Status",
]

Kind: TypeAlias = Literal[
    "head_behind",
    "orphan_journal",
    "tick_gap",
    "tick_missing",
    "tick_quarantined",
    "stale_unit",
    "unit_damaged",
    "state_unreadable",
    "open_generation",
    "archive_changed",
    "tail_overdue",
]
Priority: TypeAlias = Literal["P0", "P1", "P2", "P3"]
Action: TypeAlias = Literal["planned", "repaired", "absent", "waiting", "skipped", "failed"]
Status: TypeAlias = Literal["clean", "healed", "open", "unknown"]

KINDS: tuple[Kind, ...] = get_args(Kind)
#: Kinds that concern stored bars. The others concern ticks.
BAR_KINDS = frozenset(
    {"head_behind", "stale_unit", "unit_damaged", "state_unreadable", "open_generation"}
)
#: Actions after which nothing is left to do.
HEALED: frozenset[Action] = frozenset({"repaired", "absent"})


@dataclass(frozen=True, slots=True)
class Shard:
    """One cause to repair.

    Parameters
    ----------
    symbol
        The symbol.
    threshold_decimal_bps
        The threshold, if the task concerns exactly one series.
    gap_start_ms, gap_end_ms
        Times of the trades before and after it, in milliseconds since 1970; None without one.
    gap_hours
        The hours between them.
    priority
        "P0" to "P3".
    last_agg_trade_id_before
        The id of the trade before it.
    ouroboros_boundaries
        The resets of its series that lie inside it.
    kind
        What is wrong.
    source, market
        Where the symbol is traded.
    series
        The series whose bars it concerns.
    first_id, last_id
        The missing ids, both included.
    days
        The UTC days that it concerns.
    reason
        What was found.
    """

    symbol: str
    threshold_decimal_bps: int | None
    gap_start_ms: int | None
    gap_end_ms: int | None
    gap_hours: float
    priority: Priority
    last_agg_trade_id_before: int | None
    ouroboros_boundaries: tuple[datetime, ...]
    kind: Kind
    source: str
    market: str
    series: tuple[BarSeries, ...] = ()
    first_id: int | None = None
    last_id: int | None = None
    days: tuple[date, ...] = ()
    reason: str = ""

    @property
    def key(self) -> str:
        """The name of the task in the ledger: its kind, and where it is."""
        where = [f"{self.kind} {self.source}.{self.market} {self.symbol}"]
        where += [f"{one.spec.threshold}.{one.spec.reset}.{one.anchor_us}" for one in self.series]
        if self.first_id is not None:
            where.append(f"{self.first_id}-{self.last_id}")
        elif self.kind != "head_behind" and self.days:
            where.append(f"{self.days[0]}-{self.days[-1]}")
        return " ".join(where)

    def __str__(self) -> str:
        at = f" at {self.threshold_decimal_bps} dbps" if self.threshold_decimal_bps else ""
        days = f", {describe_days(self.days)}" if self.days else ""
        ids = "" if self.first_id is None else f", ids {self.first_id} to {self.last_id}"
        return f"{self.priority} {self.kind}: {self.symbol} ({self.source} {self.market}){at}{days}{ids}"

    def to_dict(self) -> dict[str, Any]:
        """Return the task as values that JSON knows."""
        return {
            "symbol": self.symbol,
            "threshold_decimal_bps": self.threshold_decimal_bps,
            "gap_start_ms": self.gap_start_ms,
            "gap_end_ms": self.gap_end_ms,
            "gap_hours": self.gap_hours,
            "priority": self.priority,
            "last_agg_trade_id_before": self.last_agg_trade_id_before,
            "ouroboros_boundaries": [one.isoformat() for one in self.ouroboros_boundaries],
            "kind": self.kind,
            "source": self.source,
            "market": self.market,
            "series": [str(one) for one in self.series],
            "first_id": self.first_id,
            "last_id": self.last_id,
            "days": [one.isoformat() for one in self.days],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class KintsugiResult:
    """What became of a task.

    Parameters
    ----------
    shard
        The task.
    healed
        Whether nothing is left to do.
    bars_written
        Number of bars that were stored.
    duration_seconds
        How long it took.
    ariadne_used
        Whether ids were requested from the exchange.
    ouroboros_splits
        Number of segments whose bars were rebuilt.
    error
        Why it is open; None if it is not.
    action
        "planned", "repaired", "absent" (the source does not have the ids, which is recorded now),
        "waiting" (another process holds a lease), "skipped" (a limit, or it is not due) or "failed".
    verified
        Whether the detectors find nothing any more, and rebuilt bars were computed a second time.
    attempts
        Number of passes that have tried it.
    """

    shard: Shard
    healed: bool
    bars_written: int = 0
    duration_seconds: float = 0.0
    ariadne_used: bool = False
    ouroboros_splits: int = 0
    error: str | None = None
    action: Action = "planned"
    verified: bool = False
    attempts: int = 0

    def __str__(self) -> str:
        done = f" ({self.bars_written:,} bars)" if self.bars_written else ""
        why = f": {self.error}" if self.error else ""
        return f"{self.shard}: {self.action}{done}{why}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON knows."""
        return {
            **self.shard.to_dict(),
            "action": self.action,
            "healed": self.healed,
            "bars_written": self.bars_written,
            "duration_seconds": self.duration_seconds,
            "ariadne_used": self.ariadne_used,
            "ouroboros_splits": self.ouroboros_splits,
            "error": self.error,
            "verified": self.verified,
            "attempts": self.attempts,
        }


_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "source": pl.String(),
        "market": pl.String(),
        "kind": pl.String(),
        "priority": pl.String(),
        "threshold_decimal_bps": pl.UInt32(),
        "first_day": pl.Date(),
        "last_day": pl.Date(),
        "first_id": pl.Int64(),
        "last_id": pl.Int64(),
        "gap_hours": pl.Float64(),
        "action": pl.String(),
        "healed": pl.Boolean(),
        "verified": pl.Boolean(),
        "bars_written": pl.Int64(),
        "duration_seconds": pl.Float64(),
        "attempts": pl.Int64(),
        "reason": pl.String(),
        "error": pl.String(),
    }
)


@dataclass(frozen=True, slots=True)
class KintsugiReport(Sequence[KintsugiResult]):
    """The results of a pass, in the order in which they were tried.

    Parameters
    ----------
    results
        One for each task.
    failures
        Detectors that failed, and why: what they would have found is unknown.
    """

    results: tuple[KintsugiResult, ...] = ()
    failures: tuple[str, ...] = field(default=())

    @property
    def status(self) -> Status:
        """What a pass leaves.

        "unknown" if a detector failed, else "open" if a task is open, "healed", or "clean".
        """
        if self.failures:
            return "unknown"
        if any(not result.healed for result in self.results):
            return "open"
        return "healed" if self.results else "clean"

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> KintsugiResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[KintsugiResult]: ...
    def __getitem__(self, index: int | slice) -> KintsugiResult | Sequence[KintsugiResult]:
        return self.results[index]

    def __str__(self) -> str:
        lines = [str(result) for result in self.results]
        lines += [f"unknown: {failure}" for failure in self.failures]
        return "\n".join([*lines, f"status: {self.status}"])

    def to_frame(self) -> pl.DataFrame:
        """Return a frame with a row for each task."""
        rows = [
            {
                **result.to_dict(),
                "first_day": min(result.shard.days, default=None),
                "last_day": max(result.shard.days, default=None),
            }
            for result in self.results
        ]
        return pl.DataFrame(
            [[row[name] for name in _SCHEMA] for row in rows], schema=_SCHEMA, orient="row"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON knows."""
        return {
            "status": self.status,
            "tasks": [result.to_dict() for result in self.results],
            "failures": list(self.failures),
        }


def is_healed(action: Action) -> bool:
    """Return whether nothing is left to do after an action."""
    return action in HEALED
