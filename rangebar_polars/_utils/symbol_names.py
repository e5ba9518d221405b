"""Names of symbols: which are valid, their canonical form, and the names of their folders.

The folder of a symbol has a name of ASCII capitals, digits, `_`, `-`, `.` and `%`. It therefore
neither depends on the Unicode rules of a file system nor collides on one that ignores letter case.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from urllib.parse import unquote

from rangebar_polars._text import LONGEST_NAME
from rangebar_polars.exceptions import with_hint

__all__ = [
    "SYMBOL_HINT",
    "canonical_name",
    "file_name_part",
    "folder_name",
    "has_symbol_characters",
    "name_of_folder",
    "shortened",
    "toml_key",
    "upper_name",
    "variable_suffix",
]

SYMBOL_HINT = "use letters of any script, digits and `_-./`, as in BTCUSDT, BTC-USDT or BRK.B"

#: Longest name of a folder, which leaves room for the other parts of a file name.
LONGEST_FOLDER_NAME = 150

_PLAIN = re.compile(r"[A-Z0-9][A-Z0-9_]*")
_PUNCTUATION = frozenset("_-./")
# Names that Windows reserves in every folder, with any ending.
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(?=\.|$)", re.IGNORECASE)
_UNESCAPED = re.compile(r"[A-Za-z0-9_.-]")
# Letters and marks that no font shows: two names could differ in them alone.
_INVISIBLE = frozenset(
    chain(
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)


def upper_name(symbol: str) -> str:
    """Return a name without blanks around it, in NFC and in upper case.

    Only letters with one capital that has one small form change, so that different symbols stay
    different: `ß` and `ς` stay as they are.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import upper_name
    >>> upper_name(" btc-usdt "), upper_name("straße"), upper_name("币安人生usdt")
    ('BTC-USDT', 'STRAßE', '币安人生USDT')
    """
    if symbol.isascii() or len(symbol) > LONGEST_NAME:  # which is no symbol
        return symbol.strip().upper()
    text = unicodedata.normalize("NFC", symbol.strip())
    return unicodedata.normalize("NFC", "".join(map(_capital, text)))


def _capital(letter: str) -> str:
    capital = letter.upper()
    is_pair = len(capital) == 1 and capital.lower() == letter.lower()
    return capital if is_pair else letter


@lru_cache(maxsize=4096)
def canonical_name(symbol: str) -> str:
    """Return the canonical form of a symbol.

    Raises
    ------
    ValueError
        The text is not a symbol. The message says why.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import canonical_name
    >>> canonical_name("btcusd_perp"), canonical_name("eur/usd"), canonical_name("币安人生usdt")
    ('BTCUSD_PERP', 'EUR/USD', '币安人生USDT')
    """
    name = upper_name(symbol)
    if _PLAIN.fullmatch(name):
        too_long = len(name) > LONGEST_FOLDER_NAME
    elif not has_symbol_characters(name):
        raise ValueError(with_hint(f"`{_shown(symbol)}` is not a symbol", SYMBOL_HINT))
    else:
        too_long = len(folder_name(name)) > LONGEST_FOLDER_NAME
    if too_long:
        raise ValueError(
            with_hint(
                f"`{_shown(symbol)}` is too long for a symbol",
                f"the name of its folder may have {LONGEST_FOLDER_NAME} characters, and a letter "
                "other than A to Z takes 6 to 12 of them",
            )
        )
    return name


def has_symbol_characters(name: str) -> bool:
    """Return whether a text has only characters of symbols, in an order that symbols have.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import has_symbol_characters
    >>> [has_symbol_characters(text) for text in ("BRK.B", ".BXBT", "A..B", "A B", "", "-./")]
    [True, True, False, False, False, False]
    """
    follows_letter = has_letter = False
    for character in name:
        category = unicodedata.category(character)
        is_letter = category in ("Lu", "Ll", "Lt", "Lm", "Lo")
        is_mark = category in ("Mn", "Mc") and follows_letter
        if ord(character) in _INVISIBLE:
            return False
        if not (is_letter or is_mark or category == "Nd" or character in _PUNCTUATION):
            return False
        follows_letter = is_letter or is_mark
        has_letter = has_letter or is_letter or category == "Nd"
    return has_letter and ".." not in name and not _has_empty_parts(name)


def _has_empty_parts(name: str) -> bool:
    """Return whether a part between two slashes is empty or a single dot."""
    return any(part in ("", ".") for part in name.split("/"))


def folder_name(name: str) -> str:
    """Return the name of the folder of a symbol, a source or a market.

    Characters other than letters and digits of ASCII, `_`, `-` and `.` are percent-encoded, and so
    is a dot at either end and the first character of a name that Windows reserves.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import folder_name
    >>> [folder_name(name) for name in ("BTCUSDT", "BTC-USDT", "EUR/USD", "币USDT", ".BXBT", "CON")]
    ['BTCUSDT', 'BTC-USDT', 'EUR%2FUSD', '%E5%B8%81USDT', '%2EBXBT', '%43ON']
    """
    encoded = [item if _UNESCAPED.fullmatch(item) else _percent(item) for item in name]
    for index in (0, len(encoded) - 1):
        if encoded[index] == ".":
            encoded[index] = _percent(".")
    if _RESERVED.match(name):
        encoded[0] = _percent(name[0])
    return "".join(encoded)


def name_of_folder(folder: str) -> str | None:
    """Return the name that has this folder, or None for a folder of something else.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import name_of_folder
    >>> name_of_folder("EUR%2FUSD"), name_of_folder("%41BC"), name_of_folder("%")
    ('EUR/USD', None, None)
    """
    try:
        name = unquote(folder, errors="strict")
    except UnicodeDecodeError:
        return None
    return name if name and folder_name(name) == folder else None


def file_name_part(name: str) -> str:
    """Return a name for a file name whose parts are joined by `-`.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import file_name_part
    >>> file_name_part("BTC-USDT"), file_name_part("BTCUSD_PERP")
    ('BTC%2DUSDT', 'BTCUSD_PERP')
    """
    return folder_name(name).replace("-", "%2D")


def shortened(name: str, longest: int) -> str:
    """Return a file name, with a hash in place of its end if it is too long.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import shortened
    >>> shortened("A" * 100, 160) == "A" * 100, len(shortened("A" * 1000, 160))
    (True, 160)
    """
    if len(name) <= longest:
        return name
    digest = blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: longest - len(digest) - 1]}~{digest}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def toml_key(name: str) -> str:
    """Return a symbol as the key of a TOML table, in quotation marks where TOML needs them.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import toml_key
    >>> toml_key("BTC-USDT"), toml_key("BRK.B")
    ('BTC-USDT', '"BRK.B"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def variable_suffix(name: str) -> str:
    """Return a symbol as a part of the name of an environment variable.

    Examples
    --------
    >>> from rangebar_polars._utils.symbol_names import variable_suffix
    >>> variable_suffix("BTCUSDT"), variable_suffix("BRK.B")
    ('BTCUSDT', 'BRK_B')
    """
    return re.sub(r"[-./]", "_", name)


def _shown(symbol: str) -> str:
    """Return a text for a message, with characters that cannot be printed escaped."""
    text = symbol if len(symbol) <= 60 else f"{symbol[:60]}…"  # noqa: PLR2004
    return "".join(item if item.isprintable() else ascii(item)[1:-1] for item in text)
