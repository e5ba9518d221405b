"""Worker processes that run jobs on a store and may be killed.

    python workers.py            jobs as lines of JSON on stdin, each in a process forked for it
    python workers.py JOB        one job

Forking saves the start of the interpreter; no thread runs before the fork.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def do(job: dict) -> None:
    from contextlib import ExitStack

    from rangebar_polars._files.failpoints import Step, on_failpoint
    from rangebar_polars.storage.parquet import TickStorage
    from storage import jobs
    from storage.disks import KillAt

    storage = TickStorage(job["folder"])
    with ExitStack() as stack:
        if "step" in job:
            stack.enter_context(on_failpoint(KillAt(Step[job["step"]], job["number"])))
        getattr(jobs, job["action"])(storage, *job.get("arguments", ()))


def serve() -> None:
    """Fork a process for each job, and print its status."""
    import rangebar_polars.storage.parquet  # noqa: F401 - so that no child has to import it

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                do(json.loads(line))
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        do(json.loads(sys.argv[1]))
    else:
        serve()
