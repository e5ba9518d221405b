"""What is asked and what is answered, apart from sockets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

__all__ = ["NOTHING", "Answer", "Request", "file_answer", "json_answer"]

#: A cut before the first byte of the answer.
NOTHING = -1


@dataclass(frozen=True)
class Answer:
    """An answer, and how it is sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Content-Length, where it is not the body's.
    length: int | None = None
    #: How the other side learns where the body ends: "length", "chunked", or "close".
    framing: str = "length"
    #: Bytes of the body after which the connection ends; `NOTHING`: not even headers.
    cut: int | None = None
    #: End a cut by a reset, which the other side sees as an error, not as an end.
    reset: bool = False
    #: Seconds before the first byte.
    wait_s: float = 0.0
    #: The body is sent in pieces of so many bytes with pauses between; 0: at once.
    piece: int = 0
    pause_s: float = 0.0
    #: The headers are sent in pieces, too.
    slow_head: bool = False

    def with_headers(self, **headers: str) -> Answer:
        """The answer with more headers; `_` in a name stands for `-`."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})

    @property
    def json(self) -> object:
        return json.loads(self.body)

    def head(self) -> bytes:
        """Status line and headers."""
        reason = HTTPStatus(self.status).phrase if self.status in _KNOWN else "Unknown"
        length = len(self.body) if self.length is None else self.length
        headers: dict[str, object] = dict(self.headers)
        if self.framing == "length":
            headers["Content-Length"] = length
        elif self.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if self.cut is not None or self.framing == "close":
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def framed(self, body: bytes | memoryview) -> bytes | memoryview:
        """The body as it is sent, in chunks of a thousand bytes where it is chunked."""
        if self.framing != "chunked":
            return body
        parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
        chunks = [b"%x\r\n%s\r\n" % (len(part), bytes(part)) for part in parts]
        return b"".join([*chunks, b"" if self.cut is not None else b"0\r\n\r\n"])


_KNOWN = {int(status) for status in HTTPStatus}


@dataclass(eq=False)
class Request:
    """A request, as it is logged; `status` is None until it is answered."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    #: Seconds by the monotonic clock.
    at_s: float
    #: The answer to this request with other values in its query, without faults.
    again: Callable[..., Answer] = field(repr=False)
    #: The answer to this request without its `Range`.
    whole: Callable[[], Answer] | None = field(repr=False, default=None)
    status: int | None = None

    @property
    def target(self) -> str:
        """Path and query."""
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.path}?{query}" if query else self.path

    @property
    def passes_caches(self) -> bool:
        """Whether a cache on the way would be passed by."""
        control = self.headers.get("cache-control", "") + self.headers.get("pragma", "")
        return bool(self.query) or "no-cache" in control or "no-store" in control


def json_answer(value: object, status: int = 200) -> Answer:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json;charset=UTF-8"})


def file_answer(body: bytes, modified: datetime, headers: Mapping[str, str]) -> Answer:
    """A file, a range of it, or that the asker has it already."""
    etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    answer = Answer(
        200,
        body,
        {
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Last-Modified": format_datetime(modified.replace(microsecond=0), usegmt=True),
            "Accept-Ranges": "bytes",
        },
    )
    if headers.get("if-match", etag) not in (etag, "*"):
        return replace(answer, status=412, body=b"")
    if headers.get("if-none-match") == etag:
        return replace(answer, status=304, body=b"")
    if "range" in headers and headers.get("if-range", etag) == etag:
        return ranged(answer, headers["range"])
    return answer


def ranged(answer: Answer, text: str) -> Answer:
    """One range of the body."""
    size = len(answer.body)
    first, _, last = text.removeprefix("bytes=").partition("-")
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        return replace(answer, status=416, body=b"").with_headers(Content_Range=f"bytes */{size}")
    part = replace(answer, status=206, body=answer.body[start:end])
    return part.with_headers(Content_Range=f"bytes {start}-{end - 1}/{size}")
