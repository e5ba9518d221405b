"""Progress bars for long operations, one at a time."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress"]

SHOWN_AFTER_SECONDS = 0.5


@contextmanager
def progress(
    total: int | None, what: str, unit: str, *, verbose: bool
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, and yield a function that advances it.

    A bar within the block of another one takes its place until it ends. Nothing is shown if
    `verbose` is False, outside of terminals and notebooks, or without the library tqdm.

    Examples
    --------
    >>> from rangebar_polars._utils.progress import progress
    >>> with progress(2, "fetch BTCUSDT", "day", verbose=False) as advance:
    ...     advance(1)
    """
    shown = verbose and (_in_notebook() or (sys.stderr is not None and sys.stderr.isatty()))
    bar_type = _bar_type() if shown else None
    if bar_type is None:
        yield _nothing
        return
    with _BARS.shown(bar_type, total, what, unit) as bar:
        yield bar.advance


class _Bar:
    """A bar that counts on while another one is shown in its place."""

    def __init__(self, bar: Any) -> None:  # noqa: ANN401
        self._bar = bar
        self._lock = Lock()
        self._is_hidden = False
        self._pending = 0

    def advance(self, count: int) -> None:
        """Count finished work."""
        with self._lock:
            if self._is_hidden:
                self._pending += count
            else:
                self._bar.update(count)

    def hide(self) -> None:
        """Remove the bar from the screen."""
        with self._lock:
            self._is_hidden = True
            self._bar.clear()

    def show(self) -> None:
        """Show the bar again, with what was counted meanwhile."""
        with self._lock:
            self._is_hidden = False
            self._bar.update(self._pending)
            self._pending = 0
            self._bar.refresh()


class _Bars:
    """The bars that are open, of which the last is shown."""

    def __init__(self) -> None:
        self._open: list[_Bar] = []

    @contextmanager
    def shown(
        self,
        bar_type: Any,  # noqa: ANN401
        total: int | None,
        what: str,
        unit: str,
    ) -> Iterator[_Bar]:
        """Show a bar in the place of the one that is shown."""
        outer = self._open[-1] if self._open else None
        if outer is not None:
            outer.hide()
        # The position keeps tqdm from moving the cursor to a line of its own for each bar.
        options = {"delay": SHOWN_AFTER_SECONDS, "position": 0, "leave": outer is None}
        try:
            with bar_type(total=total, desc=what, unit=unit, **options) as made:
                bar = _Bar(made)
                self._open.append(bar)
                try:
                    yield bar
                finally:
                    self._open.remove(bar)
        finally:
            if outer is not None:
                outer.show()


_BARS = _Bars()


def _bar_type() -> Any:  # noqa: ANN401
    """Return the class of bars; None without the library tqdm."""
    try:
        # Without ipywidgets, the bar of notebooks would warn and fall back to that of terminals.
        if _in_notebook() and find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def _nothing(_count: int) -> None:
    """Show nothing."""


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this code."""
    return "ipykernel" in sys.modules
