"""An HTTP proxy for tunnels (CONNECT), which can refuse them and die."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

from exchange.server import RESET, hang_up

__all__ = ["Proxy"]

LONGEST_HEAD = 65_536


class Proxy:
    """A proxy on a free port of the loopback: `http://127.0.0.1:port`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Targets of all requests so far, such as "127.0.0.1:443".
        self.asked: list[str] = []
        self._refusal: int | None = None
        self._silent = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, status: int | None = 403) -> None:
        """Answer further requests with a status; None accepts them again."""
        self._refusal = status

    def fall_silent(self) -> None:
        """Accept further connections, and never answer."""
        self._silent = True

    def cut(self) -> None:
        """Reset all tunnels."""
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                hang_up(each)

    def close(self) -> None:
        """Die: end all tunnels and refuse connections."""
        self._closed = True
        # Wakes `accept`, which does not notice that its socket is closed.
        hang_up(self._listener)
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join()

    def _start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
            if self._closed:
                hang_up(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        upstream = None
        try:
            target = self._target(client)
            if target is None:
                return
            host, _, port = target.rpartition(":")
            upstream = socket.create_connection((host, int(port)), timeout=60)
            upstream.settimeout(None)
            with self._lock:
                self._sockets.add(upstream)
            if self._closed:
                return
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._carry(client, upstream)
        except OSError:
            pass  # either side is gone, as it may
        finally:
            for each in (client, upstream):
                if each is not None:
                    with self._lock:
                        self._sockets.discard(each)
                    each.close()

    def _target(self, client: socket.socket) -> str | None:
        """The host of a request that is to be carried; None if it is answered here."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(4_096)
            if not part or len(head) > LONGEST_HEAD:
                return None
            head += part
        target = head.split()[1].decode()
        self.asked.append(target)
        if self._silent:
            while client.recv(4_096):
                pass
            return None
        if self._refusal is not None:
            head = f"HTTP/1.1 {self._refusal} Refused\r\nContent-Length: 0\r\n\r\n"
            client.sendall(head.encode())
            return None
        return target

    @staticmethod
    def _carry(client: socket.socket, upstream: socket.socket) -> None:
        other = {client: upstream, upstream: client}
        with selectors.DefaultSelector() as selector:
            for each in other:
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65_536)
                    if not data:
                        return
                    other[key.fileobj].sendall(data)
