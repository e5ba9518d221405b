"""Wall time and monotonic time of the package, which a test can shift and speed up.

Modules read the clock here and nowhere else, except for the ages of files and for waits on locks,
which other processes share (`tests/test_clock.py` lists those modules).
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = [
    "async_sleep",
    "install",
    "monotonic",
    "real_seconds",
    "sleep",
    "unix_seconds",
    "utc_now",
]


@dataclass(frozen=True, slots=True)
class _Rates:
    """How the clocks of the package follow the clocks of the system."""

    rate: float = 1.0
    #: Readings of the system's wall clock and of ours at the same moment.
    system_wall: float = 0.0
    wall: float = 0.0
    #: The same for the monotonic clocks.
    system_monotonic: float = 0.0
    monotonic: float = 0.0


_rates = _Rates()


def install(offset_s: float = 0.0, rate: float = 1.0) -> None:
    """Shift wall time, and speed up wall time and monotonic time.

    Wall time starts `offset_s` away from the system's, and both clocks then run `rate` times as fast.
    Monotonic time never goes back, so the clock can be installed again at any moment. Without
    arguments, wall time is the system's again.

    Parameters
    ----------
    offset_s
        Seconds between the wall time of the package and that of the system.
    rate
        Seconds of the package that pass in one second.

    Raises
    ------
    ValueError
        An argument is not finite, or the rate is not positive.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> from rangebar_polars._utils import clock
    >>> clock.install(offset_s=86_400.0)
    >>> clock.utc_now() - datetime.now(UTC) > timedelta(hours=23)
    True
    >>> clock.install()
    """
    global _rates  # noqa: PLW0603 - one clock for the whole process
    if not math.isfinite(offset_s):
        raise ValueError(f"`offset_s` must be a finite number of seconds, not {offset_s}")
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"`rate` must be a positive number, not {rate}")
    before = _rates
    system_wall, system_monotonic = time.time(), time.monotonic()
    is_plain = offset_s == 0 and rate == 1
    _rates = _Rates(
        rate=rate,
        # At 0 nothing is rounded: wall time is exactly the system's.
        system_wall=0.0 if is_plain else system_wall,
        wall=0.0 if is_plain else system_wall + offset_s,
        system_monotonic=system_monotonic,
        monotonic=_monotonic_of(before, system_monotonic),
    )


def unix_seconds() -> float:
    """Return wall time in seconds since 1970."""
    now = _rates
    return now.wall + (time.time() - now.system_wall) * now.rate


def utc_now() -> datetime:
    """Return wall time as a datetime in UTC.

    Examples
    --------
    >>> from rangebar_polars._utils.clock import utc_now
    >>> str(utc_now().tzinfo)
    'UTC'
    """
    return datetime.fromtimestamp(unix_seconds(), UTC)


def monotonic() -> float:
    """Return monotonic time in seconds. Only differences have a meaning."""
    return _monotonic_of(_rates, time.monotonic())


def _monotonic_of(rates: _Rates, system: float) -> float:
    return rates.monotonic + (system - rates.system_monotonic) * rates.rate


def sleep(seconds: float) -> None:
    """Wait for a number of seconds of the package's clock."""
    time.sleep(real_seconds(seconds))


async def async_sleep(seconds: float) -> None:
    """Wait for a number of seconds of the package's clock, while other coroutines run."""
    await asyncio.sleep(real_seconds(seconds))


def real_seconds(seconds: float) -> float:
    """Return how long the system takes for a number of seconds of the package's clock.

    It is the value for a timeout of another library, such as a socket's or a condition's.

    Examples
    --------
    >>> from rangebar_polars._utils import clock
    >>> clock.real_seconds(30.0)
    30.0
    """
    return seconds / _rates.rate
