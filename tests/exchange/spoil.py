"""What can be wrong with the rows of an archive: functions for `Exchange.republish`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[bytes], bytes]

__all__ = [
    "byte_order_mark",
    "conflicting",
    "crlf",
    "doubled",
    "field",
    "moved_to_other_day",
    "sentinels",
    "shuffled",
    "without_rows",
]

PRICE, QUANTITY, TIME = 1, 2, 5


def rows(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    """A change of the lines, without a header."""

    def spoil(text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        head = 0 if lines[0][:1].isdigit() else 1
        return b"".join(lines[:head] + change(lines[head:]))

    return spoil


def doubled(count: int = 5) -> Change:
    """The first rows stand once more at the end."""
    return rows(lambda lines: lines + lines[:count])


def shuffled(block: int = 50, seed: int = 0) -> Change:
    """Rows out of order within blocks."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        rng = random.Random(seed)
        parts = [lines[start : start + block] for start in range(0, len(lines), block)]
        return [line for part in parts for line in rng.sample(part, len(part))]

    return rows(spoil)


def without_rows(first: int, count: int = 1) -> Change:
    """Rows left out."""
    return rows(lambda lines: lines[:first] + lines[first + count :])


def field(row: int, column: int, text: str) -> Change:
    """One field as another text."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        fields = lines[row].rstrip(b"\n").split(b",")
        fields[column] = text.encode()
        return [*lines[:row], b",".join(fields) + b"\n", *lines[row + 1 :]]

    return rows(spoil)


def conflicting(row: int = 10, price: str = "1.00000000") -> Change:
    """A second row of the same id with another price."""
    again = field(0, PRICE, price)
    return rows(lambda lines: [*lines[: row + 1], again(lines[row]), *lines[row + 1 :]])


def sentinels(count: int = 3) -> Change:
    """Rows that stand for no trade, at the begin, as in files of 2018: their ids come before."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        first, *_, time = lines[0].rstrip(b"\n").split(b",")[: TIME + 1]
        tail = b",".join(lines[0].rstrip(b"\n").split(b",")[TIME + 1 :])
        ids = range(int(first) - count, int(first))
        return [b"%d,0,0,-1,-1,%s,%s\n" % (number, time, tail) for number in ids] + lines

    return rows(spoil)


def moved_to_other_day(days: int = 1, *, unit_per_s: int = 1_000) -> Change:
    """The last row's time days later."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        time = int(lines[-1].split(b",")[TIME]) + days * 86_400 * unit_per_s
        return [*lines[:-1], field(0, TIME, str(time))(lines[-1])]

    return rows(spoil)


def crlf(text: bytes) -> bytes:
    """Line ends of two signs."""
    return text.replace(b"\n", b"\r\n")


def byte_order_mark(text: bytes) -> bytes:
    """A byte order mark in front."""
    return b"\xef\xbb\xbf" + text
