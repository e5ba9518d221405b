"""Minimum thresholds by symbol: setting, registry, class."""

from __future__ import annotations

import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import ThresholdError

MINIMA = {
    "BTCUSDT": 250, "ETHUSDT": 250, "LTCUSDT": 500, "BCHUSDT": 500, "DOGEUSDT": 500, "SHIBUSDT": 750,
    "PEPEUSDT": 1000, "WIFUSDT": 1000, "AAVEUSDT": 250, "EURUSD": 50, "UNKNOWNTHING": 1,
}  # fmt: skip


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


def test_the_setting_of_a_symbol_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_SHIBUSDT", "10")
    assert rb.resolve_and_validate_threshold("SHIBUSDT", 10) == 10
    with pytest.raises(ThresholdError):
        rb.resolve_and_validate_threshold("PEPEUSDT", 10)


@pytest.mark.parametrize("setting", ["ten", "-1", "2.5"])
def test_a_setting_that_is_no_threshold_is_refused(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", setting)
    with pytest.raises(ValueError, match="RANGEBAR_MIN_THRESHOLD_BTCUSDT"):
        rb.resolve_and_validate_threshold("BTCUSDT", 250)


def test_the_eighteen_names_are_those_of_the_reference() -> None:
    names = "AAVE ADA AVAX BCH BNB BTC DOGE ETH FIL LINK LTC NEAR SOL SUI UNI WIF WLD XRP"
    assert sorted(rb.TIER1_SYMBOLS) == names.split()
