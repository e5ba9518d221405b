"""Configurations of a sidecar that are refused, and what a message says."""

from __future__ import annotations

import pytest

from rangebar_polars.sidecar import SidecarConfig, run_sidecar


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"symbols": []}, ValueError, "`symbols` is empty"),
        ({"symbols": 5}, TypeError, "`symbol` must be text or a list of texts"),
        ({"symbols": {"BTCUSDT"}}, TypeError, "no order"),
        ({"thresholds": []}, ValueError, "`thresholds` is empty"),
        ({"health_port": 65_536}, ValueError, "`health_port` must be at most 65535"),
        ({"health_port": -1}, ValueError, "`health_port` must be a number of at least 0"),
        ({"health_port": "8081"}, ValueError, "`health_port`"),
        ({"heartbeat_s": 0}, ValueError, "`heartbeat_s`"),
        ({"max_lag_s": float("nan")}, ValueError, "`max_lag_s`"),
        ({"shutdown_timeout_s": float("inf")}, ValueError, "`shutdown_timeout_s`"),
        ({"cache": "no"}, TypeError, "`cache`"),
        ({"on_error": "ignore"}, ValueError, "`retry`, `skip`"),
        ({"notify": "all"}, ValueError, "`failures`, `off`"),
        ({"on_bars": "print"}, ValueError, "`on_bars` must be a function"),
    ],
)
def test_a_value_that_is_not_valid_is_named(fields, error, words):
    with pytest.raises(error, match=words):
        SidecarConfig(**{"symbols": "BTCUSDT"} | fields)


def test_a_sidecar_takes_a_configuration():
    with pytest.raises(TypeError, match=r"`config` must be a SidecarConfig(.|\n)*hint: Sidecar"):
        run_sidecar({"symbols": "BTCUSDT"})
