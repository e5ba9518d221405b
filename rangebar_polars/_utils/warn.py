"""Warnings that point at the caller's own line."""

from __future__ import annotations

import inspect
import warnings

__all__ = ["warn_caller"]


def warn_caller(message: str | Warning, category: type[Warning] | None = None) -> None:
    """Warn as of the line outside this package that the call came from.

    The category of a warning that has been made already is its class.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and _is_skipped(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_skipped(module: str) -> bool:
    """Whether a frame is of this package, or of a decorator between it and the caller."""
    return module.partition(".")[0] in {"rangebar_polars", "contextlib", "functools"}
