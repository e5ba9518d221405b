"""Splitting of long messages into parts that Telegram accepts."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["split_html", "split_text"]

#: Characters of a message, in units of UTF-16 as Telegram counts them.
LONGEST = 4096
# Tags within one another that are closed and opened again. Telegram rejects more in one message.
MOST_OPEN = 100
# A tag, an entity, or one character.
_PIECE = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)[^<>]*>|&#?\w{1,20};|.", re.DOTALL)
_WITHOUT_END = ("br", "hr", "img")
_BASIC_PLANE = 0xFFFF


class _Piece(NamedTuple):
    """A part of a text that is not split."""

    text: str
    #: Name of the tag that it opens or closes, if it does.
    opens: str = ""
    closes: str = ""

    @property
    def length(self) -> int:
        return sum(1 + (ord(one) > _BASIC_PLANE) for one in self.text)

    @property
    def is_shown(self) -> bool:
        return not (self.opens or self.closes or self.text.isspace())


def split_text(text: str, longest: int = LONGEST) -> list[str]:
    """Split a text into parts, at line breaks or spaces if there are any.

    Examples
    --------
    >>> from rangebar_polars.notify.split import split_text
    >>> split_text("one two three", 8)
    ['one two', 'three']
    """
    return _split([_Piece(one) for one in text], longest)


def split_html(text: str, longest: int = LONGEST) -> list[str]:
    """Split HTML into parts, neither in a tag nor in an entity.

    A tag that is open at the end of a part is closed there, and opened again in the next one. Such
    tags count towards the length of both.

    Examples
    --------
    >>> from rangebar_polars.notify.split import split_html
    >>> split_html("<b>one &amp; two</b>", 16)
    ['<b>one &amp;</b>', '<b>two</b>']
    """
    pieces = []
    for found in _PIECE.finditer(text):
        name = "" if found[0].endswith("/>") else (found[2] or "").lower()
        name = "" if name in _WITHOUT_END else name
        pieces.append(_Piece(found[0], *(("", name) if found[1] else (name, ""))))
    return _split(pieces, longest)


def _split(pieces: list[_Piece], longest: int) -> list[str]:
    parts: list[str] = []
    start = 0
    opened: tuple[_Piece, ...] = ()
    while start < len(pieces):
        end, opened_at_end = _end_of_part(pieces, start, opened, longest)
        inner = pieces[start:end]
        if any(piece.is_shown for piece in inner):
            before = "".join(piece.text for piece in opened)
            text = "".join(piece.text for piece in inner).strip()
            parts.append(before + text + _closing(opened_at_end))
        start, opened = end, opened_at_end
    return parts


def _end_of_part(
    pieces: list[_Piece], start: int, opened: tuple[_Piece, ...], longest: int
) -> tuple[int, tuple[_Piece, ...]]:
    """Return where the part ends that begins at `start`, and the tags that are open there."""
    length = sum(piece.length for piece in opened)
    closing = len(_closing(opened))
    # The last position behind a break of each kind, in the second half of the part.
    breaks: dict[str, tuple[int, tuple[_Piece, ...]]] = {}
    for position in range(start, len(pieces)):
        piece = pieces[position]
        length += piece.length
        after = opened
        if piece.opens or piece.closes:
            after = _after(opened, piece)
            closing = len(_closing(after))
        # A piece is not split, however long. Spaces at the end of a part are left out.
        is_full = length + closing > longest and not piece.text.isspace()
        if is_full and position > start:
            return breaks.get("\n") or breaks.get(" ") or (position, opened)
        opened = after
        if piece.text in ("\n", " ") and length > longest // 2:
            breaks[piece.text] = (position + 1, opened)
    return len(pieces), opened


def _after(opened: tuple[_Piece, ...], piece: _Piece) -> tuple[_Piece, ...]:
    """Return the tags that are open after a piece."""
    if piece.opens:
        return (*opened, piece) if len(opened) < MOST_OPEN else opened
    if piece.closes:
        for position in range(len(opened) - 1, -1, -1):
            if opened[position].opens == piece.closes:
                return opened[:position] + opened[position + 1 :]
    return opened


def _closing(opened: tuple[_Piece, ...]) -> str:
    return "".join(f"</{piece.opens}>" for piece in reversed(opened))
