"""The registry: what the package knows, what the user's file changes, and minimum thresholds."""

from __future__ import annotations

import os
import re
import tomllib
from datetime import date
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars import _internal
from rangebar_polars.exceptions import SettingError, ThresholdError
from rangebar_polars.symbol_registry import (
    TIER1_SYMBOLS,
    SymbolEntry,
    clear_symbol_registry_cache,
    get_effective_start_date,
    get_registered_symbols,
    get_symbol_entries,
    get_transitions,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINIMA = {
    "BTCUSDT": 250, "ETHUSDT": 250, "LTCUSDT": 500, "BCHUSDT": 500, "DOGEUSDT": 500, "SHIBUSDT": 750,
    "PEPEUSDT": 1000, "WIFUSDT": 1000, "AAVEUSDT": 250, "EURUSD": 50, "UNKNOWNTHING": 1,
}  # fmt: skip
FOREX = "AUDUSD EURGBP EURJPY EURUSD GBPJPY GBPUSD NZDUSD USDCAD USDJPY XAUUSD"
EFFECTIVE = {
    "BTCUSDT": "2018-01-16", "ETHUSDT": "2018-01-16", "BNBUSDT": "2018-01-16",
    "LTCUSDT": "2018-01-16", "BCHUSDT": "2019-11-28", "XLMUSDT": "2018-05-31",
    "ATOMUSDT": "2019-04-29",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that writes the user's file of symbols; before its call there is none."""
    for name in [name for name in os.environ if name.startswith("RANGEBAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def write(text: str) -> Path:
        path = tmp_path / "rangebar-polars" / "symbols.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def crypto() -> list[SymbolEntry]:
    return [entry for entry in get_symbol_entries().values() if entry.asset_class == "crypto"]


def test_the_compiled_registry_is_that_of_the_repository(root: Path) -> None:
    """It is part of the library: `make dev` after an edit."""
    assert _internal.symbols_toml() == (root / "symbols.toml").read_text(encoding="utf-8")


def test_the_registry_has_the_symbols_of_the_reference() -> None:
    entries = crypto()
    assert len(entries) == 30
    assert all(entry.enabled and entry.exchange == "binance" for entry in entries)
    assert [entry.name for entry in entries if entry.market != "spot"] == ["BTCUSD_PERP"]
    assert sum(entry.tier == 1 for entry in entries) == 18
    assert sum(entry.tier is None for entry in entries) == 12
    assert sum(entry.min_threshold is not None for entry in entries) == 19
    assert sum(bool(entry.known_gaps) for entry in entries) == 2
    assert all(entry.listing_date is not None for entry in entries)
    starts = {entry.name: get_effective_start_date(entry.name) for entry in entries}
    assert {name: start for name, start in starts.items() if start} == EFFECTIVE


def test_the_ten_instruments_of_exness_are_there() -> None:
    assert get_registered_symbols(asset_class="forex") == tuple(FOREX.split())
    assert {get_symbol_entries()[name].exchange for name in FOREX.split()} == {"exness"}


def test_tier_1_is_the_eighteen_names() -> None:
    names = [name.removesuffix("USDT") for name in get_registered_symbols(tier=1)]
    assert tuple(names) == TIER1_SYMBOLS
    written = "AAVE ADA AVAX BCH BNB BTC DOGE ETH FIL LINK LTC NEAR SOL SUI UNI WIF WLD XRP"
    assert sorted(rb.TIER1_SYMBOLS) == written.split()


def test_dates_of_an_entry_agree() -> None:
    for entry in get_symbol_entries().values():
        if entry.effective_start is not None:
            assert entry.listing_date < entry.effective_start
            assert entry.reason
        for gap in entry.known_gaps:
            assert entry.listing_date <= gap.start_date <= gap.end_date
            assert gap.end_date < entry.effective_start


def test_the_transition_is_known() -> None:
    (one,) = get_transitions()
    assert (one.name, one.old_symbol, one.new_symbol) == ("MATIC_TO_POL", "MATICUSDT", "POLUSDT")
    assert (one.last_old_date, one.first_new_date) == (date(2024, 9, 10), date(2024, 9, 13))
    assert one.gap_days == (one.first_new_date - one.last_old_date).days - 1 == 2
    assert one.status == "archived"


def test_an_entry_cannot_be_changed() -> None:
    entry = get_symbol_entries()["BTCUSDT"]
    with pytest.raises(AttributeError):
        entry.enabled = False
    with pytest.raises(TypeError):
        get_symbol_entries()["NEWUSDT"] = entry


def test_the_users_file_adds_and_overrides_key_by_key(own: Callable[[str], Path]) -> None:
    before = get_symbol_entries()["SOLUSDT"]
    own(
        '[symbols.newusdt]\nasset_class = "crypto"\nkeywords = ["a", "b"]\n'
        "known_gaps = [{start_date = 2024-01-01, end_date = 2024-01-02, reason = 'pause'}]\n"
        "[symbols.SOLUSDT]\neffective_start = 2021-01-01\nmin_threshold = 100\n"
        "[symbols.BTCUSDT]\nenabled = false\n"
        '[transitions.A_TO_B]\nold_symbol = "A"\nnew_symbol = "B"\nlast_old_date = 2024-01-01\n'
        "first_new_date = 2024-01-02\ngap_days = 0\n"
    )
    entries = get_symbol_entries()
    assert len(entries) == 41
    new = entries["NEWUSDT"]
    assert (new.enabled, new.exchange, new.market, new.tier) == (True, "binance", "spot", None)
    assert new.keywords == ("a", "b")
    assert new.known_gaps[0].end_date == date(2024, 1, 2)
    changed = entries["SOLUSDT"]
    assert (changed.effective_start, changed.min_threshold) == (date(2021, 1, 1), 100)
    assert (changed.listing_date, changed.tier) == (before.listing_date, before.tier)
    assert "BTCUSDT" not in get_registered_symbols()
    assert "BTCUSDT" in get_registered_symbols(enabled_only=False)
    assert [one.status for one in get_transitions()] == ["archived", "placeholder"]
    assert rb.resolve_and_validate_threshold("SOLUSDT", 100) == 100


def test_a_changed_file_or_variable_is_seen_at_once(
    own: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own('[symbols.AAAUSDT]\nasset_class = "crypto"\n')
    assert "AAAUSDT" in get_symbol_entries()
    path = own('[symbols.BBBBUSDT]\nasset_class = "crypto"\n')
    assert "BBBBUSDT" in get_symbol_entries()
    assert "AAAUSDT" not in get_symbol_entries()
    other = tmp_path / "other.toml"
    other.write_text('[symbols.CCCUSDT]\nasset_class = "crypto"\n')
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(other))
    assert "CCCUSDT" in get_symbol_entries()
    assert "BBBBUSDT" not in get_symbol_entries()
    monkeypatch.delenv("RANGEBAR_SYMBOLS")
    path.unlink()
    assert len(get_symbol_entries()) == 40
    clear_symbol_registry_cache()
    assert len(get_symbol_entries()) == 40


WRONG = {
    '[symbols.X]\nasset_class = "crypto"\nteir = 1\n': "`teir` is not a key of [symbols.X]|did you mean `tier`",
    "[symbols.X]\ntier = 1\n": "[symbols.X]|has no key `asset_class`|crypto, forex or equities",
    '[symbols.X]\nasset_class = "kripto"\n': "`asset_class` of [symbols.X]|`kripto`|did you mean `crypto`",
    '[symbols.BTCUSDT]\nlisting_date = "soon"\n': "`listing_date` of [symbols.BTCUSDT]|`soon`",
    "[symbols.BTCUSDT]\nlisting_date = 2024-01-01T00:00:00Z\n": "`listing_date` of [symbols.BTCUSDT]",
    "[symbols.BTCUSDT]\nmin_threshold = 0\n": "`min_threshold` of [symbols.BTCUSDT]|`0`",
    "[symbols.BTCUSDT]\nenabled = 3\n": "`enabled` of [symbols.BTCUSDT]|true or false",
    '[symbols.BTCUSDT]\nkeywords = "coin"\n': "`keywords` of [symbols.BTCUSDT]|list of texts",
    "[symbols.BTCUSDT]\nknown_gaps = [{start_date = 2024-01-01}]\n": "`known_gaps` of [symbols.BTCUSDT]",
    "[symbols.BTCUSDT]\nknown_gaps = [{start_date = 2024-01-02, end_date = 2024-01-01, reason = 'x'}]\n":
        "`known_gaps` of [symbols.BTCUSDT]",
    "symbols = 3\n": "`symbols`",
    "[symbols]\nBTCUSDT = 3\n": "`BTCUSDT`|[symbols.BTCUSDT]",
    "[symbol.BTCUSDT]\ntier = 1\n": "`symbol` is not a table|[symbols.NAME]",
    '[symbols."BTC USDT"]\nasset_class = "crypto"\n': "BTC USDT",
    "[symbols.btcusdt]\ntier = 1\n[symbols.BTCUSDT]\ntier = 2\n": "twice",
    "[transitions.A_TO_B]\nold_symbol = 'A'\n": "[transitions.A_TO_B]|has no key `new_symbol`",
    "[symbols.BTCUSDT\n": "not a TOML file",
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.items(), ids=range(len(WRONG)))
def test_a_wrong_file_of_symbols_is_an_error_naming_file_and_key(
    text: str, said: str, own: Callable[[str], Path]
) -> None:
    path = own(text)
    for door in (get_symbol_entries, get_transitions, get_registered_symbols):
        with pytest.raises(SettingError) as caught:
            door()
        for part in (str(path), *said.split("|")):
            assert part in str(caught.value)


def test_a_file_that_is_named_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOLS", "no/such.toml")
    with pytest.raises(SettingError, match=r"no/such\.toml"):
        get_symbol_entries()


def test_the_head_of_the_file_explains_every_key(root: Path) -> None:
    text = (root / "symbols.toml").read_text(encoding="utf-8")
    head = text.partition("[meta]")[0]
    used = {key for table in tomllib.loads(text)["symbols"].values() for key in table}
    words = set(re.findall(r"\w+", head))
    assert used <= words
    assert set(SymbolEntry.__dataclass_fields__) - {"name"} <= words


@pytest.mark.parametrize(("symbol", "minimum"), MINIMA.items())
def test_a_symbol_has_its_minimum(symbol: str, minimum: int) -> None:
    assert rb.resolve_and_validate_threshold(symbol, minimum) == minimum
    assert rb.resolve_and_validate_threshold(symbol.lower(), minimum) == minimum
    if minimum > 1:
        with pytest.raises(ThresholdError, match=str(minimum)) as caught:
            rb.resolve_and_validate_threshold(symbol, minimum - 1)
        assert caught.value.min_threshold == minimum
        assert caught.value.threshold == minimum - 1
        assert caught.value.symbol == symbol


def test_without_a_symbol_there_is_no_minimum() -> None:
    assert rb.resolve_and_validate_threshold(None, 1) == 1
    assert rb.resolve_and_validate_threshold(None, "tight") == 50


def test_a_preset_may_be_below_the_minimum() -> None:
    with pytest.raises(ThresholdError):
        rb.resolve_and_validate_threshold("BTCUSDT", "tight")


def test_the_setting_of_a_symbol_wins_over_the_registry_over_the_class(
    own: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CRYPTO_MIN_THRESHOLD", "20")
    monkeypatch.setenv("RANGEBAR_UNKNOWN_MIN_THRESHOLD", "30")
    assert rb.resolve_and_validate_threshold("BTCUSDT", 20) == 20
    for symbol, minimum in (("BTCUSDT", 20), ("SHIBUSDT", 750), ("UNKNOWNTHING", 30)):
        with pytest.raises(ThresholdError) as caught:
            rb.resolve_and_validate_threshold(symbol, minimum - 1)
        assert caught.value.min_threshold == minimum
    own("[symbols.SHIBUSDT]\nmin_threshold = 600\n")
    assert rb.resolve_and_validate_threshold("SHIBUSDT", 600) == 600
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_SHIBUSDT", "10")
    assert rb.resolve_and_validate_threshold("SHIBUSDT", 10) == 10
    with pytest.raises(ThresholdError):
        rb.resolve_and_validate_threshold("PEPEUSDT", 10)


@pytest.mark.parametrize("setting", ["ten", "-1", "2.5"])
def test_a_setting_that_is_no_threshold_is_refused(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", setting)
    with pytest.raises(SettingError, match="RANGEBAR_MIN_THRESHOLD_BTCUSDT"):
        rb.resolve_and_validate_threshold("BTCUSDT", 250)


def test_tier_1_pairs_are_symbols_that_pass_the_gate() -> None:
    pairs = rb.tier1_pairs("usdt")
    assert pairs == get_registered_symbols(tier=1)
    assert rb.tier1_pairs() == pairs
    with pytest.raises(ValueError, match="registered against `GOLD`") as caught:
        rb.tier1_pairs("GOLD")
    assert 'rb.tier1_pairs("USDT")' in str(caught.value)


@pytest.mark.parametrize("threshold", ["tight", "micro", 100, "0.1%"])
def test_a_threshold_below_the_minimum_says_where_it_comes_from_and_how_to_lower_it(
    threshold: str | int, own: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(ThresholdError, match=f"a threshold of `{threshold}`") as caught:
            rb.resolve_and_validate_threshold("BTCUSDT", threshold)
        return str(caught.value)

    dbps = rb.resolve_and_validate_threshold(None, threshold)
    said = refused()
    assert f"{dbps}" in said
    assert "the setting `crypto_min_threshold` sets it, for symbols of class crypto" in said
    # Both ways of the hint work when followed.
    set_variable = f"set RANGEBAR_MIN_THRESHOLD_BTCUSDT={dbps}"
    assert set_variable in said
    monkeypatch.setenv(*set_variable.removeprefix("set ").split("="))
    assert rb.resolve_and_validate_threshold("BTCUSDT", threshold) == dbps
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "400")
    assert "the variable RANGEBAR_MIN_THRESHOLD_BTCUSDT sets it" in refused()
    monkeypatch.delenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT")
    assert f"min_threshold = {dbps} below [symbols.BTCUSDT] in " in said
    path = own("[symbols.BTCUSDT]\nmin_threshold = 400\n")
    assert "`min_threshold` of [symbols.BTCUSDT]" in refused()
    assert str(path) in said
    own(f"[symbols.BTCUSDT]\nmin_threshold = {dbps}\n")
    assert rb.resolve_and_validate_threshold("BTCUSDT", threshold) == dbps
