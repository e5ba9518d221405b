"""What can go wrong with an answer. Each function makes a fault; several compose in order."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from dataclasses import replace
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

from exchange.archive import zip_of
from exchange.wire import NOTHING, Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.script import Fault
    from exchange.wire import Request

    Row = dict[str, object]

__all__ = [
    "bad_crc",
    "banned",
    "changed",
    "changed_page",
    "checksum_of_other_file",
    "chunked",
    "drop",
    "empty",
    "empty_page",
    "flip",
    "gzipped",
    "holed_page",
    "html",
    "malformed_checksum",
    "malformed_json",
    "overlapping_page",
    "ranges_ignored",
    "redirected",
    "repeated_page",
    "replaced",
    "short_page",
    "shortened",
    "shuffled_page",
    "stall",
    "status",
    "too_many",
    "trickle",
    "trickled_head",
    "truncated",
    "two_members",
    "unframed",
    "wrong_checksum",
    "wrong_member",
]

HTML = b"<!DOCTYPE html>\n<html><body><h1>We will be back soon</h1></body></html>\n"


# Status


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Another status; `_` in the name of a header stands for `-`."""
    return lambda _request, _answer: Answer(code, body).with_headers(**headers)


def too_many(retry_after: float | datetime | None = 1, code: int = 429) -> Fault:
    """429 with `Retry-After` in seconds, as an HTTP date, or without."""
    refusal = json_answer({"code": -1003, "msg": "Too many requests."}, code)
    if isinstance(retry_after, datetime):
        refusal = refusal.with_headers(Retry_After=format_datetime(retry_after, usegmt=True))
    elif retry_after is not None:
        refusal = refusal.with_headers(Retry_After=str(retry_after))
    return lambda _request, _answer: refusal


def banned(retry_after: float | datetime | None = 120) -> Fault:
    """418: the address is banned."""
    return too_many(retry_after, 418)


# The connection


def drop(after: float | None = None, *, reset: bool = True) -> Fault:
    """End the connection before any byte, or after a share of the body: 0 means after the headers."""

    def fault(_request: Request, answer: Answer) -> Answer:
        cut = NOTHING if after is None else int(after * len(answer.body))
        return replace(answer, cut=cut, reset=reset)

    return fault


def truncated(keep: float = 0.5) -> Fault:
    """The full Content-Length, but a quiet end before it is reached."""
    return drop(keep, reset=False)


def stall(seconds: float = 600.0, after: float | None = None) -> Fault:
    """Silence before any byte, or after a share of the body; ends early when the box is closed."""

    def fault(_request: Request, answer: Answer) -> Answer:
        if after is None:
            return replace(answer, wait_s=seconds)
        return replace(answer, piece=max(1, int(after * len(answer.body))), pause_s=seconds)

    return fault


def trickle(piece: int = 1_024, pause_s: float = 0.01) -> Fault:
    """The body in small pieces with pauses between."""
    return lambda _request, answer: replace(answer, piece=piece, pause_s=pause_s)


def trickled_head(piece: int = 1, pause_s: float = 0.01) -> Fault:
    """Headers and body in small pieces with pauses between."""
    return lambda _request, answer: replace(answer, piece=piece, pause_s=pause_s, slow_head=True)


# HTTP as mirrors and proxies speak it: no fault, but no `Content-Length` of the file either


def chunked() -> Fault:
    """The body in chunks, without its length."""
    return lambda _request, answer: replace(answer, framing="chunked")


def unframed() -> Fault:
    """The body without its length; the end of the connection is its end."""
    return lambda _request, answer: replace(answer, framing="close")


def gzipped() -> Fault:
    """The body compressed on the way, whether or not that was asked for."""
    return lambda _request, answer: replace(
        answer, body=gzip.compress(answer.body), framing="chunked"
    ).with_headers(Content_Encoding="gzip")


def redirected(location: str, code: int = 302) -> Fault:
    """Another address instead of the file; `{path}` stands for that of the request."""
    return lambda request, _answer: Answer(code).with_headers(
        Location=location.format(path=request.path)
    )


def ranges_ignored() -> Fault:
    """The whole file, also where a part of it was asked for."""
    return lambda request, _answer: request.whole()


# Any body


def changed(change: Callable[[bytes], bytes]) -> Fault:
    """The body as a function makes it, with its own length."""
    return lambda _request, answer: replace(answer, body=change(answer.body))


def replaced(body: bytes) -> Fault:
    """Another body."""
    return changed(lambda _: body)


def empty() -> Fault:
    """200 without a byte."""
    return replaced(b"")


def html() -> Fault:
    """A page for people, with status 200."""
    return lambda _request, answer: replace(answer, body=HTML).with_headers(
        Content_Type="text/html"
    )


def shortened(keep: float = 0.5) -> Fault:
    """Less of the body, with a length that agrees."""
    return changed(lambda body: body[: int(keep * len(body))])


def flip(at: float = 0.5, bit: int = 0) -> Fault:
    """One bit turned, at a share of the body."""

    def flipped(body: bytes) -> bytes:
        out = bytearray(body)
        out[min(int(at * len(out)), len(out) - 1)] ^= 1 << bit
        return bytes(out)

    return changed(flipped)


# Zip files


def members(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def wrong_member(name: str = "readme.txt") -> Fault:
    """A sound zip whose one file has another name."""
    return changed(lambda body: zip_of(dict.fromkeys([name], *members(body).values())))


def two_members(name: str = "other.csv") -> Fault:
    """A sound zip with the same file twice, the second under another name."""

    def doubled(body: bytes) -> bytes:
        content = members(body)
        return zip_of(content | {name: next(iter(content.values()))})

    return changed(doubled)


def bad_crc() -> Fault:
    """A zip that says another CRC than its file has, in both places."""

    def spoiled(body: bytes) -> bytes:
        out = bytearray(body)
        for place in (body.index(b"PK\x03\x04") + 14, body.rindex(b"PK\x01\x02") + 16):
            out[place] ^= 0xFF
        return bytes(out)

    return changed(spoiled)


# Checksums


def wrong_checksum() -> Fault:
    """The sum of something else."""
    return changed(lambda body: (b"1" if body[:1] != b"1" else b"2") + body[1:])


def malformed_checksum(text: bytes = b"not a checksum\n") -> Fault:
    """Text that is no checksum."""
    return replaced(text)


def checksum_of_other_file(name: str = "OTHER-aggTrades-2020-01-01.zip") -> Fault:
    """The right sum under the name of another file."""
    return changed(lambda body: body.split()[0] + b"  " + name.encode() + b"\n")


# Pages of REST


def changed_page(change: Callable[[list[Row]], list[Row]]) -> Fault:
    """The page as a function makes it of its rows."""
    return changed(lambda body: json.dumps(change(json.loads(body))).encode())


def short_page(rows: int = 7) -> Fault:
    """The first rows of the page only."""
    return changed_page(lambda page: page[:rows])


def empty_page() -> Fault:
    """A page without rows."""
    return changed_page(lambda _: [])


def holed_page(rows: int = 3) -> Fault:
    """A page that lacks some rows in its middle."""
    return changed_page(lambda page: page[: len(page) // 2] + page[len(page) // 2 + rows :])


def shuffled_page(seed: int = 0) -> Fault:
    """The rows of the page out of order."""
    return changed_page(lambda page: random.Random(seed).sample(page, len(page)))


def malformed_json() -> Fault:
    """A body that ends inside a row."""
    return changed(lambda body: body[: len(body) * 2 // 3].rstrip(b"]}"))


def overlapping_page(rows: int = 5) -> Fault:
    """The page that begins some ids before the one asked for."""

    def fault(request: Request, answer: Answer) -> Answer:
        if "fromId" not in request.query:
            raise ValueError(f"`{request.target}` does not ask by id")
        earlier = max(0, int(request.query["fromId"]) - rows)
        return replace(answer, body=request.again(fromId=str(earlier)).body)

    return fault


def repeated_page() -> Fault:
    """The page before the one asked for."""

    def fault(request: Request, answer: Answer) -> Answer:
        return overlapping_page(int(request.query.get("limit", "500")))(request, answer)

    return fault
