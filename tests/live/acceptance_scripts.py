"""Scripts of users, which acceptance tests run in processes of their own; they know the public names alone."""

from __future__ import annotations

__all__ = ["CALLBACK", "FOLLOWER", "PLANNER", "READER"]

#: Reads bars for each line of stdin: an end, a threshold, and whether to use the cache. With an address
#: of a health interface, it first reads the id that is applied.
READER = """
import json, sys, urllib.request
from datetime import datetime
import rangebar_polars as rb

symbol, start, *health = sys.argv[1:]
start = datetime.fromisoformat(start)
for line in sys.stdin:
    end, threshold, use_cache = json.loads(line)
    applied_id = None
    for address in health:
        with urllib.request.urlopen(address) as answer:
            applied_id = json.load(answer)["symbols"][0]["applied_id"]
    bars = rb.get_range_bars(
        symbol, start, datetime.fromisoformat(end), threshold, anchor=start, use_cache=use_cache)
    times = bars.index.tz_localize("UTC")
    rows = [
        [time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), *map(float, row)]
        for time, row in zip(times, bars[["Open", "High", "Low", "Close", "Volume"]].to_numpy())
    ]
    print(json.dumps({"applied_id": applied_id, "rows": rows}), flush=True)
"""

#: Writes each bar as a line, and the status when it is asked; the line `close` on stdin ends it.
FOLLOWER = """
import asyncio, json, sys, threading
from datetime import datetime
import polars as pl
import rangebar_polars as rb

how, symbol, start, *thresholds = sys.argv[1:]
start = datetime.fromisoformat(start)
live = rb.live_bars(symbol, list(map(int, thresholds)), since=start)
lock = threading.Lock()

def say(value):
    with lock:
        print(json.dumps(value, default=str), flush=True)

def serve():
    for line in sys.stdin:
        if line.strip() == "close":
            return live.close()
        say({"status": live.status()})

def show(frame):
    times = [name for name, kind in frame.schema.items() if kind.is_temporal()]
    for row in frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).to_dicts():
        say(row)

async def run():
    async for frame in live:
        show(frame)

threading.Thread(target=serve, daemon=True).start()
if how == "async":
    asyncio.run(run())
else:
    for frame in live:
        show(frame)
"""

#: Runs a sidecar whose callback writes each bar as a line. At the end, it says which threads are left.
CALLBACK = """
import json, os, sys, threading, time
import polars as pl
from rangebar_polars.sidecar import SidecarConfig, run_sidecar

job = json.loads(sys.argv[1])

def on_bars(frame):
    times = [name for name, kind in frame.schema.items() if kind.is_temporal()]
    for row in frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).to_dicts():
        print(json.dumps(row))
    sys.stdout.flush()
    while not os.path.exists(job["gate"]):
        time.sleep(0.01)
    time.sleep(job["pause_s"])

report = run_sidecar(SidecarConfig(on_bars=on_bars, **job["config"]))
left = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
print(json.dumps({"bars": report.bars, "undelivered": report.undelivered, "threads": left}), flush=True)
sys.exit(int(report))
"""

#: Plans a read of ticks for each line of stdin, and collects the plan of the line before.
PLANNER = """
import json, sys
from datetime import datetime
import polars as pl
import rangebar_polars as rb

symbol, start = sys.argv[1:]
start = datetime.fromisoformat(start)
plan = None
for line in sys.stdin:
    end = datetime.fromisoformat(line.strip())
    plan, old = rb.scan_ticks(symbol, start, end), plan
    ids = [] if old is None else old.select("agg_trade_id").collect()["agg_trade_id"].to_list()
    print(json.dumps({"ids": ids}), flush=True)
"""
