"""One pass: discover, repair, verify, record."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rangebar_polars._files.atomic import disk_errors
from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._files.locks import LockFile, wait_a_little
from rangebar_polars._utils import clock
from rangebar_polars._utils.caught import Caught
from rangebar_polars.events import emit_hook
from rangebar_polars.exceptions import (
    LeaseError,
    MissingExtraError,
    SettingError,
    StorageError,
)
from rangebar_polars.fetch.source import Caller, request_context
from rangebar_polars.ingest.id_gap import first_line
from rangebar_polars.kintsugi import actions
from rangebar_polars.kintsugi.checked import Checked
from rangebar_polars.kintsugi.discover import bars_of, discover, in_order
from rangebar_polars.kintsugi.ledger import UNREPAIRABLE, Ledger
from rangebar_polars.kintsugi.shards import (
    BAR_KINDS,
    KintsugiReport,
    KintsugiResult,
    is_healed,
)
from rangebar_polars.kintsugi.verify import bars_fault, ticks_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rangebar_polars.kintsugi.actions import Done
    from rangebar_polars.kintsugi.scope import Scope
    from rangebar_polars.kintsugi.shards import Shard

__all__ = ["Limits", "RepairPass"]

_FOLDER = "kintsugi"
#: Kinds of tasks that say that ticks are missing.
_LACKS = frozenset({"tick_gap", "tick_missing", "tick_quarantined"})


class _NotHealedError(Exception):
    """Raised when the detectors find the cause of a task again, or other bars than those stored."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a pass may do.

    Parameters
    ----------
    max_p2_jobs
        Most tasks of priority P2.
    max_days
        Tasks of priority P3 begin while fewer days were rebuilt.
    deadline_s
        Seconds after which no task of priority P2 or P3 begins; None for no limit.
    max_stale_hours
        How old the first day without bars may be.
    """

    max_p2_jobs: int = 1
    max_days: int = 400
    deadline_s: float | None = None
    max_stale_hours: float = 72.0


class RepairPass:
    """A pass over the symbols of a scope.

    Parameters
    ----------
    scope
        The symbols.
    limits
        How much it may do.
    verbose
        Whether populations show progress.
    is_stopped
        Returns whether the pass is to end before the next task.
    """

    def __init__(
        self,
        scope: Scope,
        limits: Limits,
        *,
        verbose: bool = False,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scope = scope
        self._limits = limits
        self._verbose = verbose
        self._is_stopped = is_stopped
        self._folder = scope.storage.root.parent.parent / _FOLDER
        self._begun_at = clock.monotonic()
        self._p2_jobs = self._days = 0
        self._results: list[KintsugiResult] = []
        self._failures: list[str] = []
        #: Tasks of missing ticks that were skipped.
        self._left: list[Shard] = []

    def planned(self) -> KintsugiReport:
        """Return the tasks. Nothing is written, sent to repair, or locked."""
        checked = Checked(self._folder / "checked.json")
        found = discover(self._scope, checked, self._limits.max_stale_hours, self._is_late)
        ledger = Ledger(self._ledger_path)
        results = (
            KintsugiResult(shard, healed=False, attempts=ledger.tries(shard.key).attempts)
            for shard in found.shards
        )
        return KintsugiReport(tuple(results), tuple(found.failures))

    def run(self) -> KintsugiReport:
        """Repair what is found. A second pass on the same cache folder waits."""
        try:
            with _lock(self._folder / ".lock", self._is_stopped), self._requesting():
                checked = Checked(self._folder / "checked.json")
                found = discover(self._scope, checked, self._limits.max_stale_hours, self._is_late)
                self._failures += found.failures
                self._write("times of checks", checked.save)
                self._repair_all(found.shards, Ledger(self._ledger_path))
        except (StorageError, OSError) as error:  # of the lock
            self._failures.append(f"{self._folder}: {first_line(error)}")
        report = KintsugiReport(tuple(self._results), tuple(self._failures))
        counts: dict[str, int] = {}
        for result in report:
            counts[result.action] = counts.get(result.action, 0) + 1
        symbols = ", ".join(self._scope.symbols)
        emit_hook(
            "kintsugi_pass_complete",
            symbols,
            status=report.status,
            tasks=len(report),
            counts=counts,
        )
        return report

    def _repair_all(self, shards: Sequence[Shard], ledger: Ledger) -> None:
        """Repair what is urgent first, then, symbol by symbol, what can wait."""
        self._repair([shard for shard in shards if shard.priority != "P3"], ledger)
        later: dict[tuple[str, str, str], list[Shard]] = {}
        for shard in shards:
            if shard.priority == "P3":
                later.setdefault((shard.symbol, shard.source, shard.market), []).append(shard)
        for of_symbol in later.values():
            self._repair(of_symbol, ledger)

    def _repair(self, shards: Sequence[Shard], ledger: Ledger) -> None:
        """Repair ticks, then the bars that are to be computed again."""
        places: set[tuple[str, str, str]] = set()
        for shard in shards:
            if shard.kind not in BAR_KINDS and self._try(shard, ledger):
                places.add((shard.symbol, shard.source, shard.market))
        bars = [shard for shard in shards if shard.kind in BAR_KINDS]
        for shard in in_order([*bars, *self._found_after(places, bars)]):
            self._try(shard, ledger)

    def _write(self, what: str, write: Callable[[], object]) -> None:
        """Write a file of the pass. Without it, what earlier passes did is unknown to the next one."""
        try:
            write()
        except (StorageError, OSError) as error:
            self._failures.append(f"{what}: {first_line(error)}")

    @property
    def _ledger_path(self) -> Path:
        return self._folder / "ledger.jsonl"

    def _requesting(self) -> Any:  # noqa: ANN401 - a context manager
        return request_context(caller=Caller.HELPER, cache_dir=self._scope.cache_dir)

    def _is_late(self) -> bool:
        limit_s = self._limits.deadline_s
        return limit_s is not None and clock.monotonic() - self._begun_at >= limit_s

    def _found_after(
        self, places: set[tuple[str, str, str]], known: list[Shard]
    ) -> Iterator[Shard]:
        """Yield the tasks of bars that follow from repaired ticks."""
        keys = {shard.key for shard in known} | {result.shard.key for result in self._results}
        for symbol, source, market in sorted(places):
            found = bars_of(self._scope, symbol, source, market)
            self._failures += [one for one in found.failures if one not in self._failures]
            yield from (shard for shard in found.shards if shard.key not in keys)

    # One task

    def _try(self, shard: Shard, ledger: Ledger) -> bool:
        """Repair a task, prove that, and record it; return False if a limit does not allow it."""
        reason = self._why_not(shard, ledger)
        if reason:
            tries = ledger.tries(shard.key)
            self._results.append(
                KintsugiResult(
                    shard, healed=False, error=reason, action="skipped", attempts=tries.attempts
                )
            )
            if shard.kind in _LACKS:
                self._left.append(shard)
            return False
        if not ledger.tries(shard.key).is_open:
            emit_hook("gap_detected", shard.symbol, **_fields(shard))
        if shard.kind == "archive_changed":
            emit_hook("archive_republished", shard.symbol, **_fields(shard))
        failpoint(Step.TASK_PLANNED)
        begun_at = clock.monotonic()
        done, error = self._repaired(shard)
        result = _result(shard, done, error, clock.monotonic() - begun_at)
        if is_healed(result.action):
            failpoint(Step.VERIFIED)
        result = replace(result, attempts=ledger.tries(shard.key).attempts + 1)
        self._write("ledger", lambda: ledger.append(result, {"rows": done.rows}))
        failpoint(Step.LEDGER_WRITTEN)
        self._results.append(result)
        self._p2_jobs += shard.priority == "P2"
        self._days += done.days
        if result.healed:
            emit_hook("gap_healed", shard.symbol, **_fields(shard))
        elif ledger.tries(shard.key).failures == UNREPAIRABLE and result.action == "failed":
            emit_hook("gap_unrepairable", shard.symbol, error=result.error, **_fields(shard))
        return True

    def _why_not(self, shard: Shard, ledger: Ledger) -> str:
        """Return why a task is left to a later pass; empty if it is not."""
        if self._is_stopped():
            return "the pass was stopped"
        if not ledger.is_due(shard.key) and not self._was_rebuilt(shard):
            return "it failed before, and is tried again later"
        if shard.kind in BAR_KINDS and (left := self._lacking(shard)) is not None:
            return f"its ticks are left to a later pass: {left}"
        return "" if shard.priority in ("P0", "P1") else self._limit_of(shard)

    def _lacking(self, shard: Shard) -> Shard | None:
        """Return a skipped task of ticks that a rebuild needs; it goes on to the last stored day."""
        place = shard.symbol, shard.source, shard.market
        for left in self._left:
            is_here = (left.symbol, left.source, left.market) == place
            if is_here and left.days[-1] >= shard.days[0]:
                return left
        return None

    def _was_rebuilt(self, shard: Shard) -> bool:
        """Return whether an earlier task of the pass has rebuilt the bars of a series already."""
        return shard.kind != "head_behind" and any(
            result.healed and result.shard.kind in BAR_KINDS and result.shard.series == shard.series
            for result in self._results
        )

    def _limit_of(self, shard: Shard) -> str:
        """Return the limit that a task which can wait has met; empty for none."""
        limits = self._limits
        if self._is_late():
            return f"the pass has taken its {limits.deadline_s:g} s"
        if shard.priority == "P2" and self._p2_jobs >= limits.max_p2_jobs:
            return f"a pass repairs at most {limits.max_p2_jobs} tasks of priority P2"
        if shard.priority == "P3" and self._days >= limits.max_days:
            return (
                f"the pass has rebuilt {self._days} days, and at most {limits.max_days} are allowed"
            )
        return ""

    def _repaired(self, shard: Shard) -> tuple[Done, BaseException | None]:
        """Do the repair, and prove it; return what was done, and what went wrong."""
        done = actions.Done()
        with Caught() as caught:
            done = self._do(shard)
            fault = self._fault(shard)
            if fault:
                raise _NotHealedError(f"it was repaired, but {fault}")
        if isinstance(caught.error, (SettingError, MissingExtraError)):
            raise caught.error
        return done, caught.error

    def _do(self, shard: Shard) -> Done:
        scope = self._scope
        if shard.kind == "orphan_journal":
            return actions.compact_journal(shard, scope)
        if shard.kind == "head_behind":
            return actions.populate_head(shard, scope, verbose=self._verbose)
        if shard.kind in BAR_KINDS:
            return self._rebuilt(shard)
        return actions.repair_ticks(shard, scope)

    def _rebuilt(self, shard: Shard) -> Done:
        """Rebuild the bars of a series, unless an earlier task of the pass has done it."""
        found = bars_of(self._scope, shard.symbol, shard.source, shard.market)
        own = [
            other
            for other in found.shards
            if other.series == shard.series and other.kind != "head_behind"
        ]
        if not own:
            return actions.Done()
        first_day = min(day for other in own for day in other.days)
        last_day = max(day for other in own for day in other.days)
        days = tuple(sorted({first_day, last_day}))
        return actions.rebuild(replace(shard, days=days), self._scope, verbose=self._verbose)

    def _fault(self, shard: Shard) -> str:
        if shard.kind in BAR_KINDS:
            return bars_fault(shard, self._scope)
        return ticks_fault(shard, self._scope)


@contextmanager
def _lock(path: Path, is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of passes over a cache folder; wait for another one, which may take hours."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = LockFile(path)
    try:
        # A pass that was stopped begins no task, so it may look beside another one.
        while not file.try_lock() and not is_stopped():
            wait_a_little(math.inf)
        yield
    finally:
        file.close()


def _fields(shard: Shard) -> dict[str, Any]:
    return {
        "kind": shard.kind,
        "source": shard.source,
        "market": shard.market,
        "days": [day.isoformat() for day in (shard.days[:1] + shard.days[-1:])],
        "first_id": shard.first_id,
        "last_id": shard.last_id,
        "reason": shard.reason,
    }


def _result(
    shard: Shard, done: Done, error: BaseException | None, seconds: float
) -> KintsugiResult:
    action, text = done.action, None
    if isinstance(error, LeaseError):
        action, text = "waiting", first_line(error)
    elif isinstance(error, actions.SkippedError):
        action, text = "skipped", str(error)
    elif error is not None:
        action, text = "failed", first_line(error)
    return KintsugiResult(
        shard,
        healed=is_healed(action),
        bars_written=done.bars,
        duration_seconds=seconds,
        ariadne_used=done.used_ids,
        ouroboros_splits=done.splits,
        error=text,
        action=action,
        verified=error is None,
    )
