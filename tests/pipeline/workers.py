"""Calls of `fetch_ticks` in child processes, which may be killed.

    python workers.py            calls as lines of JSON on stdin, each in a process forked for it
    python workers.py CALL       one call

Forking saves the start of the interpreter; no thread runs before the fork. The id of the process
goes to stdout, then its status.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def call(job: dict) -> None:
    os.environ.update(job["environment"])
    import rangebar_polars as rb

    rb.sample_ticks().lazy().rangebar.bars(250).collect()  # from here on Polars handles signals
    report = rb.fetch_ticks(*job["span"])
    print(json.dumps([report.rows, len(report.fetched)]), file=sys.stderr, flush=True)


def serve() -> None:
    # Imported here, so that children need not import them.
    import httpcore2  # noqa: F401
    import stamina  # noqa: F401
    import tqdm.auto  # noqa: F401

    import rangebar_polars.readers.ticks  # noqa: F401
    from rangebar_polars.storage import gc as collect  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                call(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # some shells have it ignored
        call(json.loads(sys.argv[1]))
    else:
        serve()
