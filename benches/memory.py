"""Peak memory of a process that makes bars of a Parquet file through the lazy entry point.

    python memory.py FILE [FEATURE …]       prints bytes and bars

On Linux the peak of a new process begins at that of the one which started it, however briefly it
was a copy of that. So a small process stands between the benchmark, which holds trades, and the
one that is measured.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEASURED = "--measured"
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024
THRESHOLD = 250


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS


def wanted(features: Sequence[str]) -> str | list[str]:
    """The argument `features` for these words."""
    return list(features) if len(features) > 1 else "".join(features) or "core"


def bars_of(path: str, features: Sequence[str]) -> dict[str, int]:
    """Makes the bars in this process."""
    import polars as pl

    import rangebar_polars as rb

    imported = peak()
    bars = rb.rangebar(pl.scan_parquet(path)).bars(THRESHOLD, features=wanted(features)).collect()
    return {"peak": peak(), "imported": imported, "bars": bars.height}


def lazy_peak(path: Path, tries: int = 3, features: Sequence[str] = ()) -> dict[str, int]:
    """What the best of some processes needed for this file."""
    command = [sys.executable, "-P", __file__, str(path), *features]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(tries)
    ]
    return min(runs, key=lambda run: run["peak"])


def main() -> None:
    """Measures in a process of its own."""
    if MEASURED in sys.argv:
        print(json.dumps(bars_of(sys.argv[1], sys.argv[2:-1])))
        return
    subprocess.run([sys.executable, "-P", __file__, *sys.argv[1:], MEASURED], check=True)


if __name__ == "__main__":
    main()
