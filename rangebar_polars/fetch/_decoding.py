"""Decompression of bodies that a server or a proxy has compressed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["EncodingError", "decoded"]

PIECE_BYTES = 1 << 20
# Text of trades compresses to a tenth. A much higher ratio is meant to exhaust memory.
LARGEST_RATIO = 100
ALWAYS_ALLOWED_BYTES = 1 << 20
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
KNOWN = ("gzip", "x-gzip", "deflate")


class EncodingError(Exception):
    """Raised when a body does not match its `Content-Encoding`."""


def decoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Decompress a body in pieces of limited size.

    Raises
    ------
    EncodingError
        The encoding is unknown, the data are damaged or truncated, or their ratio is too high.

    Examples
    --------
    >>> import gzip
    >>> from rangebar_polars.fetch._decoding import decoded
    >>> b"".join(decoded([gzip.compress(b"1,2")], "gzip"))
    b'1,2'
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if not codings:
        yield from pieces
        return
    if len(codings) > 1 or codings[0] not in KNOWN:
        raise EncodingError(f"the body is encoded as `{encoding[:40]}`, which was not requested")
    bytes_in = bytes_out = 0
    decoder = None
    for piece in pieces:
        bytes_in += len(piece)
        rest, is_full = piece, False
        while rest or is_full:
            if decoder is None or decoder.eof:  # gzip may consist of several members
                decoder = zlib.decompressobj(GZIP_OR_ZLIB)
            out = decoder.decompress(rest, PIECE_BYTES)
            rest = decoder.unconsumed_tail or decoder.unused_data
            is_full = len(out) == PIECE_BYTES and not decoder.eof
            bytes_out += len(out)
            if bytes_out > ALWAYS_ALLOWED_BYTES + LARGEST_RATIO * bytes_in:
                raise EncodingError(
                    f"{bytes_in} bytes of the body decompress to more than {bytes_out}"
                )
            if out:
                yield out
    if decoder is not None and not decoder.eof:
        raise EncodingError("the compressed body is truncated")
