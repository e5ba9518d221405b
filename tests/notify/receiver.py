"""A server on loopback that receives notifications, and can refuse them or never answer."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable

#: How long a test waits for what must happen.
PATIENCE_S = 600.0


class Receiver:
    """Receives JSON messages and forms, in order."""

    def __init__(self) -> None:
        self.status = 200
        #: Cleared: requests are read and not answered until it is set.
        self.answers = threading.Event()
        self.answers.set()
        self.paths: list[str] = []
        self.messages: list[dict] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, rest: str = "") -> str:
        """Return the address as a target of JSON messages."""
        return f"json://127.0.0.1:{self.port}{rest}"

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition about the messages holds."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S)

    @property
    def texts(self) -> list[str]:
        return [message["message"] for message in self.messages]

    def _take(self, path: str, message: dict) -> None:
        with self._changed:
            self.paths.append(path)
            self.messages.append(message)
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                is_form = "urlencoded" in self.headers["Content-Type"]
                form = {key: values[0] for key, values in parse_qs(body).items()}
                receiver._take(self.path, form if is_form else json.loads(body))
                receiver.answers.wait(PATIENCE_S)
                try:
                    self.send_response(receiver.status)
                    self.end_headers()
                    self.wfile.write(b'{"ok": true, "status": 1, "result": {}}')
                except OSError:
                    pass  # the other side has given up

            def log_message(self, *_arguments: object) -> None:
                pass

        Handler.daemon_threads = True
        return Handler
