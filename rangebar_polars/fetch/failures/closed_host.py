"""The file that closes a host for all processes of a store, because the host has asked for it."""

from __future__ import annotations

import json
import logging
import re
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from rangebar_polars._files.atomic import temporary_name
from rangebar_polars._files.locks import FileLock, deadline_after, wait_a_little

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rangebar_polars._utils.address import Address
    from rangebar_polars.fetch.binance.rate_limit import WeightBudget

__all__ = ["LONGEST_CLOSED_S", "ClosedHost"]

_LOG = logging.getLogger("rangebar_polars.fetch")

#: The exchange bans an address for at most three days. A longer time is not believed.
LONGEST_CLOSED_S = 3 * 86_400.0
#: How much the clock may be set back step by step while a host is closed.
_DRIFT_S = 1.0
#: Longest wait for another process that writes the same file.
_LOCK_WAIT_S = 1.0
_LARGEST_FILE = 4_096


class _Closing(NamedTuple):
    """Until when a host is closed, in seconds since 1970, and for how long it was closed."""

    until: float
    retry_after_s: float

    def left_s(self, now: float) -> float:
        """Return for how many seconds it still holds.

        The clock may have jumped since it was written. A time that is further ahead than the host
        had asked for is not believed.
        """
        left_s = self.until - now
        return min(left_s, self.retry_after_s) if left_s <= self.retry_after_s + _DRIFT_S else 0.0


class ClosedHost:
    """The file that closes a host for all processes of a store.

    Disk errors are logged and otherwise ignored: this process knows when the host is closed.

    Parameters
    ----------
    folder
        The cache folder.
    address
        The address of the host.
    now
        Seconds since 1970 by the clock of this machine.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars._utils.address import Address
    >>> from rangebar_polars.fetch.binance.rate_limit import WeightBudget
    >>> from rangebar_polars.fetch.failures.closed_host import ClosedHost
    >>> folder, address = Path(mkdtemp()), Address("https://api.binance.com")
    >>> ClosedHost(folder, address, lambda: 100.0).close(20.0)
    >>> budget = WeightBudget(clock=lambda: 7.0)
    >>> ClosedHost(folder, address, lambda: 105.0).apply(budget)
    >>> budget.closed_for()
    15.0
    """

    def __init__(self, folder: Path, address: Address, now: Callable[[], float]) -> None:
        parts = urlsplit(address.full)
        name = re.sub(r"[^a-z0-9.-]", "_", (parts.hostname or "").lower())
        port = "" if parts.port is None else f"_{parts.port}"
        self.path = folder / "live" / "rest" / f"{name}{port}.json"
        self._now = now
        #: What the budget knows already. Its time is monotonic, and no jump of the clock changes it.
        self._applied: _Closing | None = None

    def apply(self, budget: WeightBudget) -> None:
        """Close the budget for as long as the file says."""
        found = self._read()
        if found is None or found == self._applied:
            return
        left_s = found.left_s(self._now())
        if left_s > 0:
            budget.close(left_s)
            self._applied = found

    def close(self, seconds: float) -> None:
        """Write that the host is closed for a number of seconds, unless it already is for longer."""
        closing = _Closing(self._now() + seconds, seconds)
        try:
            with self._locked():
                found = self._read()
                if found is not None and found.left_s(self._now()) > seconds:
                    return
                self._write(closing)
        except OSError as error:
            _LOG.warning("`%s` could not be written: %s", self.path, error.strerror or error)
        self._applied = closing

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the file, if it can be had soon."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        deadline = deadline_after(_LOCK_WAIT_S)
        with suppress(OSError):  # a file system without locks
            while not lock.try_acquire() and wait_a_little(deadline):
                pass
        try:
            yield
        finally:
            lock.release()

    def _write(self, closing: _Closing) -> None:
        until = datetime.fromtimestamp(closing.until, UTC)
        values = {"closed_until": until.isoformat(), "retry_after_s": closing.retry_after_s}
        temporary = self.path.with_name(temporary_name(self.path.name))
        try:
            temporary.write_text(json.dumps(values), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _read(self) -> _Closing | None:
        """Return what the file says; None if there is no file or it cannot be read."""
        try:
            with self.path.open("rb") as file:
                values: Any = json.loads(file.read(_LARGEST_FILE))
            until = datetime.fromisoformat(values["closed_until"])
            retry_after_s = float(values["retry_after_s"])
            found = _Closing(until.timestamp(), retry_after_s)
        # JSON of other kinds and types raises any of these.
        except (OSError, ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
            return None
        return found if 0 < retry_after_s <= LONGEST_CLOSED_S else None
