"""The command `rangebar`, also as `python -m rangebar_polars`."""

import sys

from rangebar_polars.cli import main

if __name__ == "__main__":
    sys.exit(main())
