"""A process that streams a symbol into a store; each line on stdin asks for its status.

Its arguments are the offset of its clock in seconds, the start of its bars, and the symbol.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    offset_s, since, symbol = sys.argv[1:]
    from rangebar_polars._utils import clock

    clock.install(offset_s=float(offset_s))
    from rangebar_polars.live.bars import live_bars

    with live_bars(symbol, [250, 500], since=since) as live:
        for _ in sys.stdin:
            (status,) = live.status() or [{}]
            known = {name: status.get(name) for name in ("state", "reason", "applied_id")}
            print(json.dumps(known), flush=True)


if __name__ == "__main__":
    main()
