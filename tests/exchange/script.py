"""The script of what goes wrong: which requests meet which faults, and how often."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exchange.wire import Answer, Request

__all__ = ["Fault", "Match", "Rule", "Script", "matches"]

#: What a fault makes of the answer to a request.
Fault: TypeAlias = "Callable[[Request, Answer], Answer]"


class HasTarget(Protocol):
    """Anything that a rule can match: a request, later a subscription."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def target(self) -> str: ...


Match: TypeAlias = "str | re.Pattern[str] | Callable[..., bool]"


def matches(match: Match, request: HasTarget) -> bool:
    """Whether a request is meant.

    A text is part of path and query; one that ends in `.zip` ends the path too, since an archive's
    name begins that of its checksum.
    """
    if isinstance(match, str):
        if match.endswith(".zip"):
            return request.path.endswith(match)
        return match in request.target
    if isinstance(match, re.Pattern):
        return match.search(request.target) is not None
    return bool(match(request))


@dataclass(eq=False)
class Rule:
    """Faults for the next requests that match."""

    match: Match
    faults: tuple[Fault, ...]
    #: Requests left to meet the faults; None: all.
    times: int | None = 1
    #: Matching requests that pass before.
    after: int = 0
    method: str | None = None
    #: Requests that met the faults.
    met: int = 0

    def means(self, request: HasTarget) -> bool:
        if self.times == 0 or self.method not in (None, request.method):
            return False
        return matches(self.match, request)

    def cancel(self) -> None:
        """Let all further requests pass."""
        self.times = 0


class Script:
    """Rules in order: the first that means a request and is not used up applies, alone."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def faults_for(self, request: HasTarget) -> Sequence[Fault]:
        """Faults that this request meets; counts it."""
        with self._lock:
            for rule in self._rules:
                if not rule.means(request):
                    continue
                if rule.after:
                    rule.after -= 1
                    continue
                rule.met += 1
                if rule.times is not None:
                    rule.times -= 1
                return rule.faults
        return ()
