"""The client of the helper: starts it when it is asked, and again after it has ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils import clock
from rangebar_polars.exceptions import RangeBarError, WorkerLostError
from rangebar_polars.live.helper.messages import Message, error_of, read_message, write_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = ["Helper", "HelperFacts"]

#: Imports the package from where this process has it, whatever stands in the working directory.
_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from rangebar_polars.live.helper.__main__ import main; main()"
)


@dataclass(frozen=True, slots=True)
class HelperFacts:
    """How the helper is doing."""

    #: "off", "idle", "running" or "failed".
    state: str
    #: When the last request was answered.
    last_run_at: datetime | None = None
    last_error: str = ""


class _Child:
    """A helper process, and the requests that it has not answered."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - its own code and its own paths
            [sys.executable, "-P", "-c", _START.format(path=[str(one) for one in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Signals of a terminal are for this process.
            process_group=0,
        )
        assert self.process.stdin is not None  # noqa: S101
        self.pending: set[int] = set()
        self.has_ended = False
        self.is_stopping = False
        self.writing = threading.Lock()
        with suppress(OSError):
            write_message(self.process.stdin, Message(options))  # type: ignore[arg-type]

    def send(self, message: Message) -> None:
        with self.writing, suppress(OSError):  # that it has ended is seen by the reader
            write_message(self.process.stdin, message)  # type: ignore[arg-type]

    def stop(self) -> None:
        """End it, whatever it does: all that it writes survives that."""
        self.is_stopping = True
        self.process.kill()


class Helper:
    """A helper process for the bar cache of a folder. Threads share it.

    The process starts with the first call. If it ends, calls that wait raise an error, and the next
    call starts another one. If this process has the embedded cache open, calls do their work here.

    Parameters
    ----------
    cache_dir, dsn
        The cache, and the tick store beside it.
    """

    def __init__(self, cache_dir: Path | str | None = None, dsn: str | None = None) -> None:
        self._options = {"cache_dir": None if cache_dir is None else str(cache_dir), "dsn": dsn}
        self._changed = threading.Condition()
        self._child: _Child | None = None
        self._answers: dict[int, Message] = {}
        self._number = 0
        self._is_closed = False
        self._running = 0
        self._last_run_at: datetime | None = None
        self._last_error = ""

    def call(
        self,
        command: str,
        values: Mapping[str, Any],
        parts: Sequence[bytes] = (),
        *,
        timeout_s: float | None = None,
    ) -> Message:
        """Have a command run, and return its answer.

        Parameters
        ----------
        command, values, parts
            What to do, see `Commands`.
        timeout_s
            Longest wait for the answer; None as long as the helper works.

        Raises
        ------
        WorkerLostError
            The helper has ended, was interrupted or closed, or the time is over.
        RangeBarError
            What the command raised.
        """
        with self._changed:
            self._running += 1
        try:
            answer = self._answer(command, values, parts, timeout_s)
        except RangeBarError as error:
            self._done(str(error).partition("\n")[0])
            raise
        except BaseException:
            self._done("")
            raise
        self._done("")
        return answer

    def _done(self, error: str) -> None:
        with self._changed:
            self._running -= 1
            self._last_run_at, self._last_error = clock.utc_now(), error

    def _answer(
        self,
        command: str,
        values: Mapping[str, Any],
        parts: Sequence[bytes],
        timeout_s: float | None,
    ) -> Message:
        request = Message({"command": command, **values}, tuple(parts))
        if self._has_cache_open():
            from rangebar_polars.live.helper.commands import Commands

            return Commands(**self._options).run(request)
        with self._changed:
            child = self._started()
            self._number += 1
            number = self._number
            child.pending.add(number)
        child.send(Message({"number": number, **request.values}, request.parts))
        with self._changed:
            wait_s = None if timeout_s is None else clock.real_seconds(timeout_s)
            self._changed.wait_for(lambda: number not in child.pending, wait_s)
            child.pending.discard(number)
            answer = self._answers.pop(number, None)
            if answer is None:
                raise WorkerLostError(self._why_lost(child, command))
        if "error" in answer.values:
            raise error_of(answer.values["error"])
        return answer

    def _why_lost(self, child: _Child, command: str) -> str:
        if not child.has_ended:
            return f"the helper has not answered `{command}` in time"
        if child.is_stopping:
            return f"the helper was stopped before it answered `{command}`"
        status = child.process.returncode
        return f"the helper ended with status {status} before it answered `{command}`"

    def _has_cache_open(self) -> bool:
        opening = sys.modules.get("rangebar_polars.clickhouse.open")
        return opening is not None and opening.has_open_folder(**self._options)

    def _started(self) -> _Child:
        """Return the running helper, after starting it if there is none. The lock is held."""
        if self._is_closed:
            raise WorkerLostError("the helper is closed")
        if self._child is None or self._child.has_ended or self._child.is_stopping:
            try:
                child = self._child = _Child(self._options)
            except OSError as error:
                reason = error.strerror or str(error)
                raise WorkerLostError(f"the helper cannot be started: {reason}") from error
            threading.Thread(
                target=self._read, args=(child,), name="rangebar-helper", daemon=True
            ).start()
        return self._child

    def _read(self, child: _Child) -> None:
        stream = child.process.stdout
        assert stream is not None  # noqa: S101
        with suppress(OSError, ValueError):
            while (answer := read_message(stream)) is not None:  # type: ignore[arg-type]
                number = answer.values["number"]
                with self._changed:
                    if number in child.pending:  # else nobody waits for it any more
                        self._answers[number] = answer
                        child.pending.discard(number)
                        self._changed.notify_all()
        child.process.kill()
        child.process.wait()
        stream.close()
        with child.writing, suppress(OSError):  # what was not read is lost
            child.process.stdin.close()  # type: ignore[union-attr]
        with self._changed:
            child.has_ended = True
            child.pending.clear()
            self._changed.notify_all()

    @property
    def facts(self) -> HelperFacts:
        """How it is doing."""
        with self._changed:
            is_there = self._child is not None and not self._child.has_ended
            resting = "failed" if self._last_error else "idle" if is_there else "off"
            state = "running" if self._running else resting
            return HelperFacts(state, self._last_run_at, self._last_error)

    @property
    def process_id(self) -> int | None:
        """The id of the helper process; None while there is none."""
        with self._changed:
            child = self._child
            return None if child is None or child.has_ended else child.process.pid

    def interrupt(self) -> None:
        """End the helper and what it does. The next call starts another one."""
        with self._changed:
            child = self._child
        if child is None:
            return
        child.stop()
        with self._changed:
            self._changed.wait_for(lambda: child.has_ended)

    def close(self) -> None:
        """End the helper for good. Calls that wait raise an error."""
        with self._changed:
            self._is_closed = True
        self.interrupt()
