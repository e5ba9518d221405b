"""`finmlkit`: OHLCV and directional features of bars that are given by where they end.

    NUMBA_NUM_THREADS=1 python finmlkit_worker.py FOLDER TRADES_PER_BAR

The folder holds `price.npy`, `quantity.npy` and `side.npy` (1 for a buyer, -1 for a seller).
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from finmlkit.bar.base import comp_bar_directional_features, comp_bar_ohlcv
from serve import serve


def main() -> None:
    """Loads the trades and serves."""
    folder, length = Path(sys.argv[1]), int(sys.argv[2])
    price, quantity, side = (np.load(folder / f"{n}.npy") for n in ("price", "quantity", "side"))
    # A bar is the trades after one index up to and with the next.
    ends = np.append(np.arange(-1, len(price) - 1, length), len(price) - 1).astype(np.int64)

    def features() -> tuple:
        ohlcv = comp_bar_ohlcv(price, quantity, ends)
        return ohlcv, comp_bar_directional_features(price, quantity, ends, side)

    def columns() -> dict[str, np.ndarray]:
        (opened, high, low, close, _, _, count, _), directional = features()
        return {
            "open": opened,
            "high": high,
            "low": low,
            "close": close,
            "agg_record_count": count,
            "ticks_buy": directional[0],
        }

    serve(f"finmlkit {version('finmlkit')}", features, columns)


if __name__ == "__main__":
    main()
