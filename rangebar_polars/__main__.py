"""Entry point of `python -m rangebar_polars`, which runs the command `rangebar`."""

import sys

from rangebar_polars.cli import main

if __name__ == "__main__":
    sys.exit(main())
