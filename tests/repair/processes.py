"""The command `rangebar repair` as a process, which a test kills or holds at a step."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live.commands import Program

if TYPE_CHECKING:
    from exchange import Exchange
    from rangebar_polars._files.failpoints import Step

#: Kills the process at the n-th time of a step, or holds it there until a file exists.
WATCH = """
import json, os, time
from rangebar_polars._files import failpoints
job = json.loads({job!r})
def observe(step):
    if job["trace"] and step.value in job["traced"]:
        with open(job["trace"], "a") as file:
            file.write(step.value + "\\n")
    if step.value != job["step"]:
        return
    job["count"] -= 1
    if job["count"]:
        return
    if not job["gate"]:
        os.kill(os.getpid(), 9)
    open(job["gate"] + ".held", "w").close()
    while not os.path.exists(job["gate"]):
        time.sleep(0.01)
watching = failpoints.on_failpoint(observe)
watching.__enter__()
"""


def watched(
    step: Step | None = None,
    *,
    count: int = 1,
    gate: Path | None = None,
    trace: Path | None = None,
    traced: tuple[Step, ...] = (),
) -> str:
    """Python that a process runs at its start.

    Without a gate, the process is killed at the step. With one, it makes the file `{gate}.held` and
    waits for the gate. Steps that are traced become lines of a file.
    """
    job = {
        "step": None if step is None else step.value,
        "count": count,
        "gate": str(gate or ""),
        "trace": str(trace or ""),
        "traced": [one.value for one in traced],
    }
    return WATCH.format(job=json.dumps(job))


def held(gate: Path) -> bool:
    """Whether a process waits for a gate."""
    return gate.with_name(gate.name + ".held").exists()


class Repair(Program):
    """`rangebar repair` with lines of JSON."""

    def __init__(
        self, exchange: Exchange, cache: Path, folder: Path, *options: str, **others: Any
    ) -> None:
        words = ["-m", "rangebar_polars", "repair", "--json", *options]
        super().__init__(words, exchange, cache, folder, **others)

    def report(self) -> dict[str, Any]:
        """Wait for its end, and return its last report; it must be one of a pass that healed."""
        assert self.ended() == 0, (self.texts, self.said())
        assert "Traceback" not in self.said()
        return self.read()[-1]


def is_open(process: int, path: Path) -> bool:
    """Whether a process has a file open (Linux)."""
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if link.readlink() == path:
                return True
    return False
