"""A row of the table, and what its figure must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench, Result


class Goal(NamedTuple):
    """What a figure must reach, and what would be good."""

    sign: str  # of the comparison: "≥", "≤", or "1 ±" for a distance
    least: float
    aim: float | None = None
    unit: str = ""

    def reached(self, value: float) -> str:
        """How far the value gets, in a word."""
        if not self._holds(value, self.least):
            return "missed"
        if self.aim is None:
            return "reached"
        return "aim reached" if self._holds(value, self.aim) else "reached, not the aim"

    def _holds(self, value: float, bound: float) -> bool:
        if self.sign == "1 ±":
            return abs(value - 1) <= bound
        return value >= bound if self.sign == "≥" else value <= bound


@dataclass(frozen=True)
class Case:
    """A row: its name for `--only`, its words, its goal, and how it is measured."""

    name: str
    work: str  # with numbers of rows left open
    goal: Goal
    measure: Callable[[Bench], Result]
