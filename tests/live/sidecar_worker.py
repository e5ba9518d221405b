"""Sidecars in processes of their own, each forked from this one, which may be killed at any moment.

Forking saves the start of the interpreter. Polars is imported before the fork, and makes no query: its
threads start in the children. A line on stdin is `start` with a job as JSON, or `ask` or `wait` with
the id of a process; the answer is the id, or its status when it has ended, or nothing if it runs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def do(job: dict) -> int:
    """Run a sidecar as a job says, and return its exit code."""
    os.environ.update(job["environment"])
    from live.sidecars import run_job

    return run_job(job)


def start(job: dict) -> int:
    """Fork a process that runs a sidecar; its output goes to files."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for number, path in ((1, job["output"]), (2, job["errors"])):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, number)
        status = do(job)
    except SystemExit as error:
        status = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    for name in ("websockets.asyncio.client", "msgspec", "prometheus_client", "httpcore2", "tqdm"):
        importlib.import_module(name)
    for name in ("sidecar", "cli", "fetch.binance.rest", "storage.disks"):
        package = "" if name == "storage.disks" else "rangebar_polars."
        importlib.import_module(package + name)
    importlib.import_module("live.sidecars")

    for line in sys.stdin:
        word, _, rest = line.partition(" ")
        if word == "start":
            print(start(json.loads(rest)), flush=True)
        elif word == "ask":
            child, status = os.waitpid(int(rest), os.WNOHANG)
            print(status if child else "", flush=True)
        else:
            print(os.waitpid(int(rest), 0)[1], flush=True)


if __name__ == "__main__":
    serve()
