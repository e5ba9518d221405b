"""What a check finds, and checks that run at once, each for a limited time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars.exceptions import RangeBarError, split_hint
from rangebar_polars.fetch.prefetch import DaemonTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Check", "Finding", "of_error", "run_checks"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    #: Part of the machine, such as "bar cache".
    area: str
    #: What was checked.
    name: str
    #: "note" is not as it could be, and does no harm.
    state: Literal["ok", "note", "problem"]
    text: str
    #: What to do about it; empty if there is nothing to do.
    hint: str = ""


class Check(NamedTuple):
    """A check, and how long it may take."""

    area: str
    name: str
    work: Callable[[], Iterable[Finding]]
    limit_s: float


def of_error(area: str, name: str, error: BaseException) -> Finding:
    r"""Return the problem that an error describes.

    Examples
    --------
    >>> from rangebar_polars.maintenance.doctor.findings import of_error
    >>> of_error("folders", "cache_dir", OSError("no access\n\nhint: chmod")).hint
    'chmod'
    """
    text, hint = split_hint(error)
    lines = " ".join(text.split())
    return Finding(area, name, "problem", lines or type(error).__name__, hint.strip())


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Run checks, each in a thread of its own, and return what they find in the order of the checks.

    A check that does not end in time is a problem. Its thread does not keep the process running.

    Examples
    --------
    >>> from threading import Event
    >>> from rangebar_polars.maintenance.doctor.findings import Check, run_checks
    >>> run_checks([Check("network", "host", Event().wait, 0.01)])[0].text
    'no answer within 0.01 s'
    """
    begun = clock.monotonic()
    tasks = [DaemonTask(_outcome, check) for check in checks]
    found: list[Finding] = []
    for check, task in zip(checks, tasks, strict=True):
        left_s = max(0.0, begun + check.limit_s - clock.monotonic())
        try:
            found += task.result(left_s)
        except TimeoutError:
            text = f"no answer within {check.limit_s:g} s"
            found.append(Finding(check.area, check.name, "problem", text))
    return found


def _outcome(check: Check) -> list[Finding]:
    """Return what a check finds; an error ends it and is one more finding."""
    found: list[Finding] = []
    try:
        found.extend(check.work())
    except (RangeBarError, pl.exceptions.PolarsError, OSError, ValueError) as error:
        found.append(of_error(check.area, check.name, error))
    return found
