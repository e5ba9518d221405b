"""Other libraries, each in an interpreter of its own that the user names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from timing import Sample

WORKERS = Path(__file__).resolve().parent / "peers"


class SkippedError(Exception):
    """A row that cannot be measured here; the text says why."""


class Worker:
    """A running worker: see `peers/serve.py` for what it understands."""

    def __init__(self, variable: str, script: str, *arguments: object, **environment: str) -> None:
        python = os.environ.get(variable)
        if not python:
            raise SkippedError(f"{variable} is not set")
        if shutil.which(python) is None:
            raise SkippedError(f"{variable}: no program at {python}")
        # An own folder to work in: the library may write where it stands.
        self._folder = tempfile.TemporaryDirectory()
        self._errors = Path(self._folder.name, "stderr").open("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(WORKERS / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=self._folder.name,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment,
        )
        self.name: str = self._answer()

    def run(self, repeats: int, *settings: int) -> Sample:
        """One pass, as timed by the worker."""
        return Sample(*self._ask("run", repeats, *settings))

    def bars(self, *settings: int) -> dict[str, np.ndarray]:
        """The bars it makes."""
        path = Path(self._folder.name, "bars.npz")
        self._ask("bars", str(path), *settings)
        with np.load(path) as columns:
            return dict(columns)

    def close(self) -> None:
        """Ends the worker."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def _ask(self, *request: object) -> list[float] | int:
        with suppress(BrokenPipeError):  # the missing answer says it
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> object:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        last = (self._errors.read().strip() or "it ended without a word").splitlines()[-1]
        raise SkippedError(f"the other library's process failed: {last}")
