"""The helper process: reads requests from stdin, and writes answers to stdout.

It ends when stdin closes, whatever it does then: everything it writes survives a kill.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from rangebar_polars._utils.caught import Caught
from rangebar_polars.live.helper.commands import Commands
from rangebar_polars.live.helper.messages import (
    Message,
    error_values,
    read_message,
    write_message,
)

if TYPE_CHECKING:
    from typing import BinaryIO

#: The live process comes first.
NICENESS = 10
#: How often it looks whether its parent is still there: a fork of that may hold stdin open.
LOOK_S = 1.0


class _Helper:
    """Runs requests: those that write one after another, those that only read beside them."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source, self._target = source, target
        self._lock = threading.Lock()
        self._commands: Commands | None = None
        self._writes: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def run(self) -> None:
        for waiting in (self._writes, self._reads):
            threading.Thread(target=self._work, args=(waiting,), daemon=True).start()
        options = read_message(self._source)
        if options is None:
            return
        self._commands = Commands(options.values.get("cache_dir"), options.values.get("dsn"))
        while (request := read_message(self._source)) is not None:
            is_read = request.values["command"] in Commands.READS
            (self._reads if is_read else self._writes).put(request)

    def _work(self, waiting: queue.SimpleQueue[Message]) -> None:
        while True:
            request = waiting.get()
            answer = self._answer(request)
            # A parent that has ended closes stdin, too, and that ends this process.
            with self._lock, suppress(OSError):
                write_message(self._target, answer)

    def _answer(self, request: Message) -> Message:
        number = {"number": request.values["number"]}
        assert self._commands is not None  # noqa: S101
        # The client raises it.
        with Caught() as caught:
            done = self._commands.run(request)
            return Message({**number, **done.values}, done.parts)
        assert caught.error is not None  # noqa: S101
        return Message({**number, "error": error_values(caught.error)})


class _Stdin:
    """Standard input that ends when the parent does."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parent = os.getppid()
        self._data = bytearray()
        self._has_ended = False

    def readline(self) -> bytes:
        while (end := self._data.find(b"\n") + 1) == 0 and self._fill():
            pass
        return self._take(end)

    def read(self, length: int) -> bytes:
        while len(self._data) < length and self._fill():
            pass
        return self._take(min(length, len(self._data)))

    def _take(self, length: int) -> bytes:
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken

    def _fill(self) -> bool:
        while not self._has_ended:
            ready, _, _ = select.select([self._descriptor], [], [], LOOK_S)
            if ready:
                data = os.read(self._descriptor, 1 << 16)
                self._data += data
                self._has_ended = not data
                return bool(data)
            self._has_ended = os.getppid() != self._parent
        return False


def main() -> None:
    """Serve the parent process until it closes stdin."""
    # Ctrl-C is for the parent, which then ends this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    warnings.simplefilter("ignore")
    # Nothing else than answers may reach the parent.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _Helper(_Stdin(0), target).run()  # type: ignore[arg-type]
    finally:
        sys.stderr.flush()
        # A population may be under way in a thread.
        os._exit(0)


if __name__ == "__main__":
    main()
