"""Sidecars that a test starts, tells to stop, and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live.market import wait_for
from rangebar_polars._files.failpoints import Step, on_failpoint
from rangebar_polars._utils import clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from exchange import Exchange

TESTS = Path(__file__).resolve().parents[1]
#: How much faster the clocks of a sidecar run, unless a test says otherwise.
RATE = 10.0


# In the child


def run_job(job: dict[str, Any]) -> int:
    """Run a sidecar in this process, as a job says, and return its exit code."""
    from rangebar_polars.cli import main
    from rangebar_polars.live.log import log_to
    from rangebar_polars.sidecar import SidecarConfig, run_sidecar
    from storage.disks import KillAt

    clock.install(offset_s=job["offset_s"], rate=job["rate"])
    with ExitStack() as stack:
        if job["kill"] is not None:
            step, number = job["kill"]
            stack.enter_context(on_failpoint(KillAt(Step(step), number)))
        if job["count_in"] is not None:
            stack.enter_context(on_failpoint(Count(job["count_in"])))
        if job["command"] is not None:
            return main(job["command"])
        stack.enter_context(log_to(sys.stderr, as_json=True))
        options = {"on_bars": _CALLBACKS[job["on_bars"]]} if job["on_bars"] else {"ndjson": True}
        return int(run_sidecar(SidecarConfig(**job["config"], **options)))


class Count:
    """An observer that appends the name of each step to a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, step: Step) -> None:
        if step.area == "live":
            os.write(self._file, f"{step}\n".encode())


def _raise_always(frame: object) -> None:
    raise KeyError("no bar is good enough")


def _hang(frame: object) -> None:
    threading.Event().wait()


def _exit_program(frame: object) -> None:
    raise SystemExit(7)


_CALLBACKS = {"raise": _raise_always, "hang": _hang, "exit": _exit_program}


# In the test


@dataclass
class Sidecar:
    """A sidecar in a process of its own."""

    parent: Sidecars
    process: int
    symbols: list[str]
    output: Path
    errors: Path
    folder: Path
    status: int | None = None

    def is_running(self) -> bool:
        if self.status is None and (answer := self.parent.ask(f"ask {self.process}").strip()):
            self.status = int(answer)
        return self.status is None

    def signal(self, number: int) -> None:
        os.kill(self.process, number)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if self.is_running():
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that ended it."""
        wait_for(lambda: not self.is_running(), self.said)
        status = self.status
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def stop(self) -> int:
        """Tell it to stop, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def said(self) -> str:
        """What it wrote to stderr."""
        return self.errors.read_text() if self.errors.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        found = []
        for line in self.said().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def names(self) -> set[str]:
        """Names of the events that it logged."""
        return {str(one.get("event")) for one in self.events()}

    def lines(self) -> list[dict[str, Any]]:
        """The bars that it wrote, without a line that has no end."""
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def state(self, symbol: str = "") -> dict[str, Any]:
        """What its state file says of a symbol; nothing if it is that of another process."""
        name = symbol or self.symbols[0]
        path = self.folder / "ticks" / "v1" / "binance" / "spot" / name / "live" / "state.json"
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if found.get("pid") == self.process else {}

    def wait_state(self, state: str, symbol: str = "") -> None:
        wait_for(
            lambda: self.state(symbol).get("state") == state or self._fail_if_ended(),
            lambda: (self.state(symbol), self.said()),
        )

    def wait_applied(self, last_id: int, symbol: str = "") -> None:
        """Wait until it has applied an id."""
        wait_for(
            lambda: (
                (self.state(symbol).get("applied_id") or -1) >= last_id or self._fail_if_ended()
            ),
            lambda: (last_id, self.state(symbol), self.said()),
        )

    def _fail_if_ended(self) -> bool:
        assert self.is_running(), self.said()
        return False


class Sidecars:
    """A process that forks sidecars on one store and one exchange."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.all: list[Sidecar] = []
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "live" / "sidecar_worker.py")],
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

    def start(
        self,
        exchange: Exchange,
        cache: Path,
        /,
        *,
        kill: tuple[Step, int] | None = None,
        count_in: Path | None = None,
        rate: float = RATE,
        offset_s: float = 0.0,
        on_bars: str | None = None,
        command: list[str] | None = None,
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **config: Any,
    ) -> Sidecar:
        """Start a sidecar. `config` are fields of `SidecarConfig`."""
        number = len(self.all)
        written, errors = (self._folder / f"{kind}-{number}" for kind in ("output", "errors"))
        output = written if output is None else output
        config = {"symbols": ["BTCUSDT"], "thresholds": [250, 500], "health_port": 0} | config
        config = {"cache_dir": str(cache), "cache": False, "max_lag_s": 1e6} | config
        # No test depends on how fast bars are delivered at the end.
        config = {"shutdown_timeout_s": 120.0 * rate} | config
        job = {
            "config": config,
            "kill": kill,
            "count_in": None if count_in is None else str(count_in),
            "rate": rate,
            "offset_s": offset_s,
            "on_bars": on_bars,
            "command": command,
            "environment": {
                **exchange.environment,
                "RANGEBAR_HTTP_TRIES": "2",
                **(environment or {}),
            },
            "output": str(output),
            "errors": str(errors),
        }
        symbols = config["symbols"]
        names = [symbols] if isinstance(symbols, str) else list(symbols)
        process = int(self.ask(f"start {json.dumps(job)}"))
        sidecar = Sidecar(self, process, names, output, errors, cache)
        self.all.append(sidecar)
        return sidecar

    def end_all(self) -> None:
        """Kill those that still run."""
        for one in self.all:
            one.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
