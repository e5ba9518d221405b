"""The one CSV in a zip file, in pieces, with its length and checksum proved at the end.

Nothing in the file is trusted with memory: data are decompressed in pieces of limited size, never
beyond the length that the directory declares, and a length that no table of trades compresses to is
refused before any of it is decompressed.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import TYPE_CHECKING, Protocol
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile

from rangebar_polars.exceptions import RangeBarError, TickDataError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from zipfile import ZipInfo

__all__ = ["PIECE_BYTES", "DamagedFileError", "is_zip", "member_pieces"]

ZIP_MAGIC = b"PK"
ENCRYPTED = 1  # bit 0 of the flags of a member
LOCAL_HEADER_BYTES = 30
INPUT_BYTES = 256 << 10  # what they inflate to stays in the caches of a processor
#: Largest piece of decompressed data.
PIECE_BYTES = 1 << 20
#: An archive holds one file; each entry of a directory takes memory of its own.
LARGEST_DIRECTORY_BYTES = 1 << 20
# Tables of trades shrink to a fifth, the most regular ones to a fiftieth.
LARGEST_RATIO = 200
ALWAYS_ALLOWED_BYTES = 64 << 20
LZMA_HEADER_BYTES = 4
LZMA_PROPERTIES_BYTES = 5
SMALLEST_DICTIONARY = 4096
FETCH_AGAIN = "fetch the file again"


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
        with ZipFile(DirectoryReader(content)) as archive:
            info = only_member(archive, source, member)
            check_length(info)
            with archive.open(info):  # checks the header that stands before the data
                pass
        yield from proved(inflated(content, info), info)
    except (RangeBarError, MemoryError):
        raise
    # Each of the parsers has errors of its own, and more of them with each version.
    except Exception as error:
        what = f"{error}" or type(error).__name__
        raise DamagedFileError(
            with_hint(f"`{source}` is a damaged zip file: {what[:200]}", FETCH_AGAIN)
        ) from error


class DirectoryReader(io.BytesIO):
    """A zip file of which only the directory is read: none of its parts is large."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes, at most those of a directory of thousands of entries."""
        if size is not None and size > LARGEST_DIRECTORY_BYTES:
            raise BadZipFile(f"its directory is larger than {LARGEST_DIRECTORY_BYTES} bytes")
        return super().read(size)


def only_member(archive: ZipFile, source: str, member: str | None) -> ZipInfo:
    """The CSV in the archive."""
    names = archive.namelist()
    if member is not None and names != [member]:
        held = ", ".join(f"`{name[:80]}`" for name in names[:3]) or "nothing"
        raise DamagedFileError(
            with_hint(f"`{source}` holds {held} instead of `{member}`", FETCH_AGAIN)
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


def check_length(info: ZipInfo) -> None:
    """Refuse a declared length that no table of trades compresses to."""
    if info.file_size > ALWAYS_ALLOWED_BYTES + LARGEST_RATIO * info.compress_size:
        raise BadZipFile(
            f"{info.compress_size} bytes of it are said to hold {info.file_size}, more than trades "
            "can be compressed to"
        )


def proved(pieces: Iterator[bytes], info: ZipInfo) -> Iterator[bytes]:
    """The same pieces, never more of them than the directory declares, and with its checksum."""
    checksum, size = 0, 0
    for piece in pieces:
        size += len(piece)
        if size > info.file_size:
            raise BadZipFile(f"the data are longer than the {info.file_size} bytes declared")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if size != info.file_size or checksum != info.CRC:
        raise BadZipFile(f"wrong length or CRC-32 of `{info.filename[:80]}`")


class Decoder(Protocol):
    """A decompressor of the standard library that can be told how much to give at most."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


class Deflate:
    """The decompressor of zlib, which gives back what it has not taken, like the two others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = b""

    @property
    def eof(self) -> bool:
        """Whether the compressed data have ended."""
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        """What stands behind their end."""
        return self._decoder.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Decompress more data, and what is left of those before."""
        given = self._rest + data if data and self._rest else self._rest or data
        piece = self._decoder.decompress(given, max_length)
        self._rest = self._decoder.unconsumed_tail
        return piece


def inflated(content: bytes, info: ZipInfo) -> Iterator[bytes]:
    """Pieces of a member; twice as fast as `ZipExtFile`, which moves them three times."""
    data = compressed_data(content, info)
    if info.compress_type == ZIP_STORED:
        yield from (bytes(data[at : at + INPUT_BYTES]) for at in range(0, len(data), INPUT_BYTES))
        return
    if info.compress_type == ZIP_LZMA:
        decoder, begin = lzma_decoder(data, info)
    else:
        decoder, begin = decoder_of(info.compress_type), 0
    left = info.file_size
    for at in range(begin, len(data), INPUT_BYTES):
        piece = decoder.decompress(data[at : at + INPUT_BYTES], PIECE_BYTES)
        while piece:
            left -= len(piece)
            yield piece
            piece = b"" if decoder.eof else decoder.decompress(b"", PIECE_BYTES)
        if decoder.eof and at + INPUT_BYTES < len(data):
            break
    # The end of LZMA data need not be marked.
    is_ended = decoder.eof if info.compress_type != ZIP_LZMA else left == 0
    if not is_ended or decoder.unused_data:
        raise BadZipFile("the compressed data end in another place than the directory says")


def decoder_of(compress_type: int) -> Decoder:
    """Decompressor of a method of compression."""
    known: dict[int, Callable[[], Decoder]] = {
        ZIP_DEFLATED: Deflate,
        ZIP_BZIP2: bz2.BZ2Decompressor,
    }
    if compress_type not in known:
        raise BadZipFile(f"the compression method {compress_type} is not supported")
    return known[compress_type]()


def lzma_decoder(data: memoryview, info: ZipInfo) -> tuple[Decoder, int]:
    """Decompressor for the properties that stand before LZMA data, and where the data begin."""
    begin = LZMA_HEADER_BYTES + LZMA_PROPERTIES_BYTES
    size = int.from_bytes(data[2:LZMA_HEADER_BYTES], "little")
    if len(data) < begin or size != LZMA_PROPERTIES_BYTES:
        raise BadZipFile("the properties of its LZMA data are damaged")
    coded, dictionary = data[LZMA_HEADER_BYTES], int.from_bytes(data[5:begin], "little")
    # Distances never reach beyond the data, so a larger dictionary would only take memory.
    dictionary = max(SMALLEST_DICTIONARY, min(dictionary, info.file_size))
    properties = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary}
    properties |= {"lc": coded % 9, "lp": coded // 9 % 5, "pb": coded // 45}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[properties]), begin


def compressed_data(content: bytes, info: ZipInfo) -> memoryview:
    """The compressed data of a member."""
    header = content[info.header_offset : info.header_offset + LOCAL_HEADER_BYTES]
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = info.header_offset + LOCAL_HEADER_BYTES + sum(lengths)
    data = memoryview(content)[start : start + info.compress_size]
    if len(data) != info.compress_size:
        raise BadZipFile("the file ends within the compressed data")
    return data
