"""Progress bars for long operations."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress"]

SHOWN_AFTER_SECONDS = 0.5


@contextmanager
def progress(
    total: int | None, what: str, unit: str, *, verbose: bool
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield a function that advances it.

    Nothing is shown if `verbose` is False, outside of terminals and notebooks, or without the
    library tqdm.

    Examples
    --------
    >>> from rangebar_polars._utils.progress import progress
    >>> with progress(2, "BTCUSDT", "day", verbose=False) as advance:
    ...     advance(1)
    """
    shown = verbose and (_in_notebook() or (sys.stderr is not None and sys.stderr.isatty()))
    if not shown:
        yield _nothing
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _nothing
        return
    with tqdm(total=total, desc=what, unit=unit, delay=SHOWN_AFTER_SECONDS) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


def _nothing(_count: int) -> None:
    """Show nothing."""


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this code."""
    return "ipykernel" in sys.modules
