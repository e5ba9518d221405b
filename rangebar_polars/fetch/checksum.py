"""What a `.CHECKSUM` file of the Binance archive promises about the file beside it."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MISSING", "Promise", "promise_of"]

SUFFIX = ".CHECKSUM"
MALFORMED = "malformed"
OTHER_FILE = "other file"
LONGEST_BYTES = 1000
LINE = re.compile(rb"\s*([0-9a-fA-F]{64})\s+\*?([^\s*][^\r\n]*?)\s*")


class Promise(NamedTuple):
    """A published SHA-256 in lower-case hex, or what there is instead of one."""

    #: Hex; empty where nothing was found; else one of the words above.
    record: str
    #: Why there is nothing to compare with; empty where there is.
    fault: str = ""

    def fault_of(self, sha256: str) -> str:
        """Why a file of this hash is not the one that was promised; empty if it is."""
        if self.fault or self.record == sha256:
            return self.fault
        return f"its SHA-256 is `{sha256}`, the published one `{self.record}`"


#: The promise of a file that has no checksum beside it.
MISSING = Promise("", "there is no checksum file beside it")


def promise_of(content: bytes, name: str) -> Promise:
    r"""What a checksum file says about the file `name`.

    Examples
    --------
    >>> from rangebar_polars.fetch.checksum import promise_of
    >>> promise_of(b"ab" * 32 + b"  day.zip\n", "day.zip").fault
    ''
    >>> promise_of(b"ab" * 32 + b"  other.zip\n", "day.zip").fault
    'its checksum file is about `other.zip`'
    """
    found = LINE.fullmatch(content) if len(content) <= LONGEST_BYTES else None
    if found is None:
        start = content[:40].decode("ascii", "replace")
        return Promise(MALFORMED, f"its checksum file begins with {start!r}, which is no SHA-256")
    about = found[2].decode("utf-8", "replace")
    if about != name:
        return Promise(OTHER_FILE, f"its checksum file is about `{about}`")
    return Promise(found[1].decode("ascii").lower())
