"""Runs the command in processes that are forked from one that has imported the package."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_METHOD = "forkserver" if hasattr(os, "fork") else "spawn"
CONTEXT = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["rangebar_polars.cli"])


def forked(words: list[str], *, timeout_s: float = 1200) -> subprocess.CompletedProcess[str]:
    """Run `python -m rangebar_polars` with some words; return what it wrote and its status."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("stdout", "stderr")]
        given = (words, [str(path) for path in paths], dict(os.environ))
        process = CONTEXT.Process(target=_run, args=given)
        process.start()
        try:
            process.join(timeout_s)
            assert process.exitcode is not None, "it takes too long"
        finally:
            process.kill()
            process.join()
        out, errors = (path.read_text(encoding="utf-8") for path in paths)
    return subprocess.CompletedProcess(words, process.exitcode, out, errors)


def _run(words: list[str], paths: list[str], environment: dict[str, str]) -> None:
    for number, path in enumerate(paths, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words
    runpy.run_module("rangebar_polars", run_name="__main__", alter_sys=True)
