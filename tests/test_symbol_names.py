"""Names of symbols: which pass, their canonical form, and the folders that they map to."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars._utils.symbol_names import (
    LONGEST_FOLDER_NAME,
    canonical_name,
    file_name_part,
    folder_name,
    name_of_folder,
    shortened,
)
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.exceptions import SymbolNotRegisteredError
from rangebar_polars.sources import canonical_symbol
from rangebar_polars.storage import TickStorage
from rangebar_polars.symbol_registry import get_registered_symbols, validate_symbol_registered

RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"COM{i}" for i in range(10)),
    *(f"LPT{i}" for i in range(10)),
}
ODD = [
    "con",
    "NUL.USD",
    ".BXBT",
    "BRK.",
    "ß",
    "\u0131",
    "İ",
    "ς",
    "ΐ",
    "ǆ",
    "e\u0301",
    "\u1e96",
    "Å",
    "K",
]


def is_symbol(text: str) -> bool:
    try:
        canonical_name(text)
    except ValueError:
        return False
    return True


texts = st.one_of(
    st.text(
        st.characters(categories=("L", "Nd", "M"), include_characters="_-./"),
        min_size=1,
        max_size=12,
    ),
    st.text("abcXYZ019_-./", min_size=1, max_size=30),
    st.sampled_from(ODD),
)
symbols = texts.filter(is_symbol).map(canonical_name)


@given(symbols)
def test_a_canonical_name_is_its_own_and_in_nfc(name):
    assert canonical_name(name) == name
    assert unicodedata.is_normalized("NFC", name)
    assert canonical_name(unicodedata.normalize("NFD", name)) == name


@given(symbols)
def test_the_folder_of_a_name_leads_back_to_it(name):
    assert name_of_folder(folder_name(name)) == name


@given(symbols, symbols)
def test_different_names_have_different_folders_whatever_the_letter_case(one, other):
    assume(one != other)
    assert folder_name(one).casefold() != folder_name(other).casefold()
    assert file_name_part(one).casefold() != file_name_part(other).casefold()


@given(symbols)
def test_a_folder_is_a_safe_name_on_every_system(name):
    folder = folder_name(name)
    assert re.fullmatch(r"[A-Z0-9_%.-]+", folder)
    assert 0 < len(folder) <= LONGEST_FOLDER_NAME
    assert not folder.startswith(".")
    assert not folder.endswith(".")
    assert folder.partition(".")[0] not in RESERVED


@given(st.from_regex(r"[A-Z0-9][A-Z0-9_]{0,20}", fullmatch=True))
def test_plain_names_are_their_own_folders_as_before(name):
    assume(name not in RESERVED)
    assert folder_name(name) == name
    assert canonical_name(name.lower()) == name


@given(st.text(max_size=20))
def test_any_text_is_a_symbol_or_a_value_error(text):
    if is_symbol(text):
        assert not re.search(r"[\x00-\x1f\x7f\\:*?\"<>| ]|\.\.", canonical_symbol(text))
    else:
        with pytest.raises(ValueError, match="is not a symbol"):
            canonical_symbol(text)


@given(st.text("%ABab01.", max_size=8))
def test_a_folder_of_anything_else_has_no_name(folder):
    name = name_of_folder(folder)
    assert name is None or folder_name(name) == folder


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "..", "A..B", "../BTC", "A/../B", "A//B", "/ES", "ES/", "A/./B", "-", "_", "A B",
        "A\x00B", "A\nB", "A\\B", "A:B", "A*", "A?", "A<B", 'A"B', "A|B", "A%B", "A\u200bB", "\u3164",
        "A\u202eB", "A\ufe0f", "²", "½", "€", "💰", "\u0301A", "A\ud800",
    ],
)  # fmt: skip
def test_nothing_else_is_a_symbol(text):
    with pytest.raises(ValueError, match="is not a symbol"):
        canonical_symbol(text)


@pytest.mark.parametrize(
    ("text", "name", "folder"),
    [
        ("btcusdt", "BTCUSDT", "BTCUSDT"),
        ("btcusd_perp", "BTCUSD_PERP", "BTCUSD_PERP"),
        (" btc-usdt ", "BTC-USDT", "BTC-USDT"),
        ("eur/usd", "EUR/USD", "EUR%2FUSD"),
        ("brk.b", "BRK.B", "BRK.B"),
        (".bxbt", ".BXBT", "%2EBXBT"),
        ("brk.", "BRK.", "BRK%2E"),
        ("con", "CON", "%43ON"),
        ("con.usd", "CON.USD", "%43ON.USD"),
        ("币安人生usdt", "币安人生USDT", "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"),
        ("straße", "STRAßE", "STRA%C3%9FE"),
        ("ελ", "ΕΛ", "%CE%95%CE%9B"),
        ("\u0131", "\u0131", "%C4%B1"),
        ("cafe\u0301", "CAFÉ", "CAF%C3%89"),
        ("बिटकॉइन", "बिटकॉइन", None),
    ],
)
def test_examples(text, name, folder):
    assert canonical_symbol(text) == name
    assert folder in (None, folder_name(name))


def test_a_name_that_is_too_long_for_a_folder_is_refused():
    assert canonical_symbol("A" * LONGEST_FOLDER_NAME)
    for text in ("A" * (LONGEST_FOLDER_NAME + 1), "币" * 17):
        with pytest.raises(ValueError, match="too long for a symbol"):
            canonical_symbol(text)


def test_names_of_lease_files_stay_and_do_not_collide():
    one = BarSpec("a-b", "c", "X", 250, "year").series
    other = BarSpec("a", "b-c", "X", 250, "year").series
    names = {series(date(2024, 1, 1)).lease_key.file_name for series in (one, other)}
    assert len(names) == 2
    longest = BarSpec("k" + "-" * 31, "-" * 32, "A-" * 75, 250, "year").series(date(2024, 1, 1))
    assert len(longest.lease_key.file_name) <= 200
    assert shortened("x" * 161, 160) != shortened("x" * 162, 160)


@pytest.mark.parametrize("symbol", ["BTC-USDT", "EUR/USD", "BRK.B", "币安人生USDT", ".BXBT", "NUL"])
def test_a_symbol_of_any_kind_is_stored_and_listed(symbol, tmp_path, monkeypatch):
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    storage = TickStorage(tmp_path)
    ticks = rb.sample_ticks().head(100)
    storage.write_ticks(symbol.lower(), ticks)
    day = ticks["timestamp"][0].date()
    assert storage.get_ticks(symbol, day, day).equals(ticks)
    assert storage.list_symbols() == [symbol]
    assert storage.verify()["symbol"].to_list() == [symbol]
    assert storage.verify(symbol)["state"].to_list() == ["ok"]
    plan = rb.scan_ticks(symbol, day, day, fetch=False, cache_dir=tmp_path)
    assert plan.select(pl.len()).collect().item() == 100
    assert storage.delete_ticks(symbol) == [day]


@pytest.mark.parametrize("symbol", ["BTC-USDT", "EUR/USD", "BRK.B", "币安人生USDT"])
def test_the_hint_of_the_gate_registers_the_symbol(symbol, tmp_path, monkeypatch):
    file = tmp_path / "symbols.toml"
    file.write_text("")
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))
    with pytest.raises(SymbolNotRegisteredError) as caught:
        validate_symbol_registered(symbol)
    table, line = re.search(r"add to .*:\n(\[.*\])\n(.*)\n", str(caught.value)).groups()
    file.write_text(f"{table}\n{line}\n", encoding="utf-8")
    assert validate_symbol_registered(symbol.lower()) == symbol
    assert {symbol, "BTCUSDT"} <= set(get_registered_symbols())
