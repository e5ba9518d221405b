"""A process that delivers bars and may be killed; jobs are lines of JSON on stdin.

It forks a process for each job, which saves the start of the interpreter; no thread runs before.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def do(job: dict) -> None:
    from live.bar_world import BarWorld
    from live.consumer_kit import Reports, consumer
    from rangebar_polars._files.failpoints import Step, on_failpoint
    from rangebar_polars.live.consumers import CallbackReceiver, NdjsonReceiver
    from storage.disks import KillAt

    folder = Path(job["folder"])
    world = BarWorld(8, (2, 9))
    applied = folder / "applied"
    world.applied_id = int(applied.read_text()) if applied.exists() else 30
    out = os.open(folder / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write_lines(frame):
        columns = ("threshold", "last_agg_trade_id", "is_replay")
        lines = [json.dumps(row) for row in frame.select(columns).iter_rows(named=True)]
        os.write(out, ("\n".join(lines) + "\n").encode())

    with ExitStack() as stack:
        if job["step"]:
            stack.enter_context(on_failpoint(KillAt(Step[job["step"]], job["number"])))
        if job["kind"] == "callback":
            receiver = CallbackReceiver(write_lines)
        else:
            receiver = NdjsonReceiver(stack.enter_context(os.fdopen(out, "a", closefd=False)))
        found = consumer(world, folder, receiver, Reports(), kind=job["kind"])
        found.begin("BTCUSDT", world.starts(), [], world.applied_id)
        found.live("BTCUSDT", world.applied_id)
        # Before the first bar: whoever is killed before this has delivered nothing.
        while not list(folder.glob("live/cursors/*/[!.]*.json")):
            Event().wait(0.001)
        while world.applied_id < world.last_id:
            bars = world.apply(job["batch"])
            # What a journal does: trades are stored before their bars are delivered.
            (folder / "new").write_text(str(world.applied_id))
            (folder / "new").replace(applied)
            if bars:
                found.queue("BTCUSDT", bars, world.applied_id)
                while job["waits"] and found.status().pending:
                    Event().wait(0.001)
        done = Event()
        found.close(done.set)
        assert done.wait(60.0)


def serve() -> None:
    # So that no child has to import them.
    import live.consumer_kit  # noqa: F401
    import storage.disks  # noqa: F401

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
    serve()
