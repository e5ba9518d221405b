"""Parsing of the `.CHECKSUM` files of the Binance archive."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MISSING", "PublishedChecksum", "parse_checksum"]

SUFFIX = ".CHECKSUM"
MALFORMED = "malformed"
OTHER_FILE = "other file"
LONGEST_BYTES = 1000
LINE = re.compile(rb"\s*([0-9a-fA-F]{64})\s+\*?([^\s*][^\r\n]*?)\s*")


class PublishedChecksum(NamedTuple):
    """A published SHA-256 in lower-case hex, or the reason why there is none."""

    #: The hash in hex, `MALFORMED` or `OTHER_FILE`; empty if there is no checksum file.
    record: str
    #: Why there is no hash to compare with; empty if there is one.
    fault: str = ""

    def fault_of(self, sha256: str) -> str:
        """Describe why a file with this hash is not verified; empty if it is."""
        if self.fault or self.record == sha256:
            return self.fault
        return f"its SHA-256 is `{sha256}`, the published one `{self.record}`"


#: The result for a file without a checksum file.
MISSING = PublishedChecksum("", "there is no checksum file beside it")


def parse_checksum(content: bytes, name: str) -> PublishedChecksum:
    r"""Parse the checksum file of the file `name`.

    Examples
    --------
    >>> from rangebar_polars.fetch.checksum import parse_checksum
    >>> parse_checksum(b"ab" * 32 + b"  day.zip\n", "day.zip").fault
    ''
    >>> parse_checksum(b"ab" * 32 + b"  other.zip\n", "day.zip").fault
    'its checksum file is about `other.zip`'
    """
    found = LINE.fullmatch(content) if len(content) <= LONGEST_BYTES else None
    if found is None:
        start = content[:40].decode("ascii", "replace")
        return PublishedChecksum(
            MALFORMED, f"its checksum file begins with {start!r}, which is not a SHA-256"
        )
    about = found[2].decode("utf-8", "replace")
    if about != name:
        return PublishedChecksum(OTHER_FILE, f"its checksum file is about `{about}`")
    return PublishedChecksum(found[1].decode("ascii").lower())
