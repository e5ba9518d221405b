"""Settings from the environment, read when they are asked for; no other module reads it."""

from __future__ import annotations

import os

__all__ = ["minimum_threshold_setting"]


def minimum_threshold_setting(symbol: str) -> int | None:
    """Smallest threshold that the user has set for a symbol.

    The setting is the variable `RANGEBAR_MIN_THRESHOLD_<SYMBOL>`, in decimal basis points.

    Raises
    ------
    ValueError
        The variable holds something other than a positive whole number.

    Examples
    --------
    >>> from rangebar_polars.config import minimum_threshold_setting
    >>> minimum_threshold_setting("NOTSET") is None
    True
    """
    name = f"RANGEBAR_MIN_THRESHOLD_{symbol.upper()}"
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        message = (
            f"`{name}` is `{text}`, which is no threshold\n\n"
            "hint: a whole number of decimal basis points: 250 means 0.25 %"
        )
        raise ValueError(message)
    return int(text)
