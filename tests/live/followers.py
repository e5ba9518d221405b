"""Processes that read bars, and that iterate over `live_bars`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from live.acceptance_scripts import FOLLOWER, READER
from live.commands import Program
from live.market import wait_for
from live.plain_truth import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from exchange import Exchange


#: Columns of a bar as `get_range_bars` gives them.
READ = ("close_time", "open", "high", "low", "close", "volume")


class Reader(Program):
    """Calls `get_range_bars` from a time on; with an address, it asks there first what is applied."""

    def __init__(
        self,
        exchange: Exchange,
        cache: Path,
        folder: Path,
        start: datetime,
        health: str = "",
        **options: Any,
    ) -> None:
        words = ["-c", READER, exchange.tapes[0].symbol, start.isoformat(), *filter(None, [health])]
        super().__init__(words, exchange, cache, folder, **options)
        self._asked = 0

    def bars(self, end: datetime, threshold: int, *, use_cache: bool) -> dict[str, Any]:
        """`rows` of the bars, and the `applied_id` of before."""
        self._asked += 1
        self.process.stdin.write(json.dumps([end.isoformat(), threshold, use_cache]) + "\n")
        self.process.stdin.flush()
        wait_for(lambda: len(self.texts) >= self._asked or self._fail_if_ended(), self.said)
        return self.read()[-1]

    def _fail_if_ended(self) -> bool:
        assert self.process.poll() is None, self.said()
        return False


def as_read(true: Truth) -> list[list[Any]]:
    """Bars as a `Reader` must give them."""
    return [[bar[name] for name in READ] for bar in true.bars]


class Follower(Program):
    """Iterates over the bars of the exchange's first symbol; `how` is "plain" or "async"."""

    def __init__(
        self,
        exchange: Exchange,
        cache: Path,
        folder: Path,
        how: str,
        start: datetime,
        thresholds: Sequence[int],
        **options: Any,
    ) -> None:
        self.exchange, self.start, self.thresholds = exchange, start, thresholds
        self.tape = exchange.tapes[0]
        words = ["-c", FOLLOWER, how, self.tape.symbol, start.isoformat(), *map(str, thresholds)]
        super().__init__(words, exchange, cache, folder, **options)
        self._asked = 0

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def status(self) -> dict[str, Any]:
        """What `status()` says of the symbol."""
        self._asked += 1
        self.tell("status")
        wait_for(lambda: len(self._statuses()) >= self._asked, self.said)
        found = self._statuses()[-1]
        return found[0] if found else {}

    def _statuses(self) -> list[list[dict[str, Any]]]:
        return [one["status"] for one in self.read() if "status" in one]

    def wait_state(self, state: str) -> None:
        wait_for(lambda: self.status().get("state") == state, lambda: (self.status(), self.said()))

    def count(self) -> int:
        return len([one for one in self.read() if "threshold" in one])

    def wait_all(self) -> None:
        """Wait until it has given each bar up to now, and compare all of them with the truth."""
        for threshold in self.thresholds:
            true = Truth.of(self.tape, threshold, [self.start], until=self.exchange.now)
            due = len(true.bars)
            assert due > 5
            wait_for(
                lambda t=threshold, n=due: len(self.lines(self.tape.symbol, t)) >= n,
                lambda: (self.count(), self.status(), self.said()),
            )
            true.assert_equals(self.lines(self.tape.symbol, threshold))

    def close(self) -> None:
        """Let it call `close()`, which ends its loop and the process."""
        self.tell("close")
        assert self.ended() == 0, self.said()
        assert "Traceback" not in self.said()
