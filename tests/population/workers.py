"""Processes that a test starts, pauses at a step, and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parents[1]
#: Longer than any call takes; a longer wait is a hang.
LONGEST_S = 600.0


@dataclass
class Child:
    """A call in a process of its own."""

    workers: Workers
    process: int
    output_file: Path
    status: int | None = None

    @property
    def output(self) -> str:
        """Its output so far, errors included."""
        return self.output_file.read_text()

    def is_running(self) -> bool:
        """Whether it is still running."""
        if self.status is None and (answer := self.workers.ask(f"ask {self.process}").strip()):
            self.status = int(answer)
        return self.status is None

    def kill(self) -> int:
        """Kill it; return the signal that ended it, 0 if it had ended before."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; return the signal that ended it, or 0. Its own error fails the test."""
        if self.status is None:
            self.status = int(self.workers.ask(f"wait {self.process}"))
        assert os.WIFSIGNALED(self.status) or self.status == 0, self.output
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    def error(self) -> str:
        """Wait for its end, which must be an error; return its output."""
        if self.status is None:
            self.status = int(self.workers.ask(f"wait {self.process}"))
        assert os.WIFEXITED(self.status), "it was killed"
        assert self.status, f"it did not fail: {self.output}"
        return self.output

    def result(self) -> Any:
        """Return the result of its call."""
        assert self.ended() == 0, "it was killed"
        return json.loads(self.output.splitlines()[-1])


class Workers:
    """A process that forks others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._children: list[Child] = []
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "population" / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "POLARS_MAX_THREADS": "1"},
        )

    def ask(self, line: str) -> str:
        """Send a line, and return the answer."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def start(self, call: str, *, environment: dict[str, str] | None = None, **arguments: Any):
        """Start a process that is about to make a call of `population.calls`."""
        output = self._folder / f"output-{len(self._children)}"
        job = {
            "call": f"population.calls:{call}",
            "arguments": arguments,
            "environment": {**_settings(), **(environment or {})},
            "output": str(output),
        }
        child = Child(self, int(self.ask(f"start {json.dumps(job)}")), output)
        self._children.append(child)
        return child

    def end_all(self) -> None:
        """Kill the processes that still run."""
        for child in self._children:
            if child.status is None:
                with suppress(ProcessLookupError):
                    os.kill(child.process, signal.SIGKILL)
                child.status = int(self.ask(f"wait {child.process}"))

    def stop(self) -> None:
        self.end_all()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _settings() -> dict[str, str]:
    """Return the settings of the test, which a child that was forked earlier does not have."""
    return {name: value for name, value in os.environ.items() if name.startswith("RANGEBAR_")}


def held(folder: Path, number: int) -> None:
    """Wait until a process pauses for the n-th time."""
    wait_for((folder / f"{number}").exists)


def go_on(folder: Path, number: int) -> None:
    """Let it continue from its n-th pause."""
    (folder / f"{number}.go").touch()


def go_on_to_the_end(folder: Path) -> None:
    """Let it continue from all further pauses."""
    (folder / "all.go").touch()


def wait_for(what: Callable[[], Any]) -> Any:
    """Poll until the answer is true."""
    deadline = time.monotonic() + LONGEST_S
    while not (found := what()):
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.002)
    return found
