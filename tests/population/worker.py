"""Calls in processes of their own, each forked from this one, which may be killed at any moment.

Forking saves the start of the interpreter; no thread runs, and no engine is there, before the fork.
A line on stdin is `start` with a job as JSON, `wait` or `ask` with the id of a process; the answer
is the id, once the process is about to begin, its status when it has ended, or nothing if it runs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def do(job: dict, ready: int) -> None:
    """Make one call, by module and name."""
    os.environ.update(job["environment"])
    time.tzset()
    import chdb  # noqa: F401 - its threads must not be forked

    module, _, name = job["call"].partition(":")
    call = getattr(importlib.import_module(module), name)
    os.write(ready, b".")
    print(json.dumps(call(**job["arguments"])), flush=True)


def start(job: dict) -> int:
    """Fork a process that is about to make a call; its output goes to a file."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            do(job, writing)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def serve() -> None:
    # Imported here, so that children need not import them.
    import clickhouse_connect  # noqa: F401
    import httpcore2  # noqa: F401
    import stamina  # noqa: F401
    import tqdm.auto  # noqa: F401

    for name in ("clickhouse.cache", "populate.populate", "readers.bars", "storage.gc"):
        importlib.import_module(f"rangebar_polars.{name}")

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
