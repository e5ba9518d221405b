"""The seam between readers and plugins: context rows, several series, and what a read asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import rangebar_polars as rb
from plugins.distributions import MOMENTUM, install, provider
from plugins.test_enrich import Plugin
from rangebar_polars import estimators
from rangebar_polars.exceptions import PluginError, PluginWarning
from rangebar_polars.plugins.call import begin_call, call_of
from rangebar_polars.plugins.provider import declare

if TYPE_CHECKING:
    from pathlib import Path

    from plugins.conftest import Seen
    from rangebar_polars.plugins.call import PluginCall


def flow(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
    return frame.select(estimators.vpin(8).alias("flow_vpin"))


def ratio(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
    return frame.select(ratio_x=pl.col("close") / pl.col("close").shift(1))


def both() -> PluginCall:
    plugins = [
        Plugin(flow, name="flow", columns=("flow_vpin",), min_bars=7),
        Plugin(ratio, name="ratio", min_bars=1),
    ]
    return call_of([declare(one) for one in plugins])


def read(call: PluginCall, bars: pl.DataFrame, start: int) -> pl.DataFrame:
    """Read the plugin columns from row `start` on, as a reader does."""
    first = max(0, start - call.min_bars)
    return call.columns_of(
        bars.slice(first), context=start - first, symbol="ETHUSDT", threshold=250
    )


def test_values_do_not_depend_on_where_a_read_begins(bars: pl.DataFrame) -> None:
    whole = read(both(), bars, 0)
    assert whole.columns == ["flow_vpin", "ratio_x"]
    assert whole["flow_vpin"].is_null().arg_true().to_list() == list(range(7))
    assert whole["ratio_x"].is_null().arg_true().to_list() == [0]
    for start in range(1, bars.height + 1):
        assert read(both(), bars, start).equals(whole.slice(start)), start


def test_each_plugin_gets_its_own_context(bars: pl.DataFrame) -> None:
    got: dict[str, int] = {}

    def keep(name: str, function: Any) -> Any:
        def enrich(frame: pl.DataFrame, *more: object) -> pl.DataFrame:
            got[name] = frame.height
            return function(frame, *more)

        return enrich

    plugins = [
        Plugin(keep("flow", flow), name="flow", columns=("flow_vpin",), min_bars=7),
        Plugin(keep("ratio", ratio), name="ratio", min_bars=1),
    ]
    call = call_of([declare(one) for one in plugins])
    assert call.min_bars == 7
    values = call.columns_of(bars.head(17), context=12, symbol="ETHUSDT", threshold=250)
    assert values.height == 5
    assert got == {"flow": 12, "ratio": 6}


def test_bars_that_are_not_closed_get_null_and_count_for_nothing() -> None:
    # `max_gap` ends bars in the middle of a series.
    bars = rb.sample_ticks().rangebar.bars(
        250, incomplete="keep", max_gap="1m", features="microstructure"
    )
    orphans = (~bars["is_closed"]).arg_true().to_list()
    assert len(orphans) > 2
    assert orphans[0] < bars.height - 10
    values = read(both(), bars, 0)
    assert values.height == bars.height
    closed = read(both(), bars.filter("is_closed"), 0)
    assert values.filter(bars["is_closed"]).equals(closed)
    assert values[orphans].null_count().row(0) == (len(orphans), len(orphans))
    start = orphans[0] + 3
    part = both().columns_of(bars, context=start, symbol="ETHUSDT", threshold=250)
    assert part.equals(values.slice(start))


def test_a_plugin_that_fails_in_one_series_has_no_values_in_any(
    bars: pl.DataFrame, seen: Seen
) -> None:
    calls: list[str] = []

    def moody(frame: pl.DataFrame, symbol: str, threshold: int) -> pl.DataFrame:
        calls.append(symbol)
        if symbol == "B":
            raise RuntimeError(symbol)
        return frame.select(moody_x="close")

    call = call_of([declare(Plugin(moody, name="moody")), declare(Plugin(ratio, name="ratio"))])
    with pytest.warns(PluginWarning) as caught:
        parts = [
            bars.hstack(call.columns_of(bars, context=0, symbol=symbol, threshold=250))
            for symbol in "ABCD"
        ]
    assert len(caught) == 1
    assert calls == ["A", "B"]
    assert len(seen.named("plugin_enrich_failed")) == 1
    frame = call.settle(pl.concat(parts))
    assert frame["moody_x"].null_count() == frame.height == 4 * bars.height
    assert frame["moody_x"].dtype == pl.Float64
    assert frame["ratio_x"].null_count() == 4
    assert frame.columns == parts[0].columns


def test_a_read_asks_for_all_plugins_or_some_by_name(site: Path) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    body = 'return bars.select(alpha_x="close")'
    install(site, "dist_b", {"alpha": "dist_b:Provider"}, provider("alpha", body, min_bars=40))
    assert begin_call(True).columns == ("alpha_x", "momentum_2")
    assert begin_call(True).min_bars == 40
    assert begin_call(["momentum"]).columns == ("momentum_2",)
    assert begin_call(("momentum", "alpha", "alpha")).columns == ("alpha_x", "momentum_2")
    assert begin_call([]).columns == begin_call(False).columns == ()
    assert begin_call(False).min_bars == 0
    with pytest.raises(ValueError, match=r"(?s)`include_plugin_features`.*`momentun`.*`momentum`"):
        begin_call(["momentun"])
    for wrong in ("momentum", None, 1, [1], {"momentum": 1}):
        with pytest.raises(TypeError, match="include_plugin_features=True"):
            begin_call(wrong)


def test_a_read_without_plugins_loads_none(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, "raise AssertionError")
    assert begin_call(False).columns == begin_call([]).columns == ()
    monkeypatch.setenv("RANGEBAR_PLUGINS", "off")
    assert begin_call(True).columns == begin_call(["alpha"]).columns == ()


def test_a_plugin_that_cannot_be_loaded_is_reported_if_it_is_asked_for(
    site: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    install(site, "dist_b", {"alpha": "dist_b:Provider"}, "raise OSError('no licence')")
    assert begin_call(["momentum"]).columns == ("momentum_2",)
    assert seen.named("plugin_enrich_failed") == []
    for include in (True, ["alpha", "momentum"]):
        with pytest.warns(PluginWarning, match="no licence") as caught:
            assert begin_call(include, "ETHUSDT").columns == ("momentum_2",)
        assert len(caught) == 1
    assert [one["symbol"] for one in seen.named("plugin_enrich_failed")] == ["ETHUSDT"] * 2
    monkeypatch.setenv("RANGEBAR_PLUGINS", "strict")
    assert begin_call(["momentum"]).columns == ("momentum_2",)
    with pytest.raises(PluginError, match="no licence"):
        begin_call(True)


def test_a_name_that_no_plugin_has_reports_the_plugins_that_cannot_be_loaded(
    site: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    # The name of the entry point need not be that of the plugin.
    install(site, "dist_b", {"entry": "dist_b:Provider"}, "raise OSError('no licence')")
    with (
        pytest.warns(PluginWarning, match="`entry` could not be loaded: OSError: no licence"),
        pytest.raises(ValueError, match="unknown value `alpha`; choose from `momentum`"),
    ):
        begin_call(["momentum", "alpha"], "ETHUSDT")
    assert [one["provider"] for one in seen.named("plugin_enrich_failed")] == ["entry"]
    monkeypatch.setenv("RANGEBAR_PLUGINS", "strict")
    with pytest.raises(PluginError, match="no licence"):
        begin_call(["alpha"])


def test_a_name_that_no_plugin_has_reports_a_list_that_cannot_be_read(site: Path) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    points = site / "dist_a-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "a line without a target\n")
    with (
        pytest.warns(PluginWarning, match="^feature plugins cannot be listed: "),
        pytest.raises(ValueError, match="unknown value `momentum`; no plugin is loaded"),
    ):
        begin_call(["momentum"])
