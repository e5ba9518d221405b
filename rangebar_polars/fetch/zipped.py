"""The one CSV in a zip file, in pieces, with its length and checksum proved at the end."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from rangebar_polars.exceptions import TickDataError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zipfile import ZipInfo

__all__ = ["DamagedFileError", "is_zip", "member_pieces"]

ZIP_MAGIC = b"PK"
ENCRYPTED = 1  # bit 0 of the flags of a member
LOCAL_HEADER_BYTES = 30
INPUT_BYTES = 256 << 10  # what they inflate to stays in the caches of a processor


class DamagedFileError(TickDataError):
    """A file that is not whole, or not the file it should be; a new copy may be."""


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip file.

    Examples
    --------
    >>> from rangebar_polars.fetch.zipped import is_zip
    >>> is_zip(b"1,61837.63,0.02")
    False
    """
    return head.startswith(ZIP_MAGIC)


def member_pieces(content: bytes, source: str, member: str | None = None) -> Iterator[bytes]:
    r"""The CSV in a zip file, piece by piece.

    Parameters
    ----------
    content
        The zip file.
    source
        Its name, for messages.
    member
        Name that the CSV must have, with nothing beside it; any one CSV if None.

    Raises
    ------
    DamagedFileError
        No zip file, a damaged one, or one that holds something else. Damage may only be known at
        the end: what came before is not to be trusted until the pieces are exhausted.

    Examples
    --------
    >>> import io, zipfile
    >>> from rangebar_polars.fetch.zipped import member_pieces
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    ...     archive.writestr("day.csv", "1,2\n3,4\n")
    >>> b"".join(member_pieces(file.getvalue(), "day.zip", "day.csv"))
    b'1,2\n3,4\n'
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            info = only_member(archive, source, member)
            with archive.open(info) as file:  # checks the header that stands before the data
                if info.compress_type == ZIP_DEFLATED:
                    yield from inflated(content, info)
                else:
                    yield from iter(lambda: file.read(INPUT_BYTES), b"")
    except (BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DamagedFileError(
            with_hint(f"`{source}` is a damaged zip file: {error}", "fetch the file anew")
        ) from error


def only_member(archive: ZipFile, source: str, member: str | None) -> ZipInfo:
    """The CSV in the archive."""
    names = archive.namelist()
    if member is not None and names != [member]:
        held = ", ".join(f"`{name}`" for name in names[:3]) or "nothing"
        raise DamagedFileError(
            with_hint(f"`{source}` holds {held} instead of `{member}`", "fetch the file anew")
        )
    found = [name for name in names if name.lower().endswith(".csv")]
    if len(found) != 1:
        raise DamagedFileError(
            with_hint(f"`{source}` holds {len(found)} CSV files", "an archive holds one")
        )
    info = archive.getinfo(found[0])
    if info.flag_bits & ENCRYPTED:
        raise DamagedFileError(with_hint(f"`{source}` is encrypted", "an archive is not"))
    return info


def inflated(content: bytes, info: ZipInfo) -> Iterator[bytes]:
    """Pieces of a deflated member; twice as fast as `ZipExtFile`, which moves them three times."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    checksum, size = 0, 0
    for deflated in deflated_pieces(content, info):
        piece = decoder.decompress(deflated)
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        if piece:
            yield piece
    if not decoder.eof or decoder.unused_data:
        raise BadZipFile("the compressed data end in another place than the directory says")
    if size != info.file_size or checksum != info.CRC:
        raise BadZipFile(f"wrong length or CRC-32 of `{info.filename}`")


def deflated_pieces(content: bytes, info: ZipInfo) -> Iterator[memoryview]:
    """Parts of the compressed data of a member."""
    header = content[info.header_offset : info.header_offset + LOCAL_HEADER_BYTES]
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = info.header_offset + LOCAL_HEADER_BYTES + sum(lengths)
    data = memoryview(content)[start : start + info.compress_size]
    if len(data) != info.compress_size:
        raise BadZipFile("the file ends within the compressed data")
    return (data[at : at + INPUT_BYTES] for at in range(0, len(data), INPUT_BYTES))
