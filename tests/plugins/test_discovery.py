"""Plugins are found through entry points, loaded once and late, and refused for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from plugins.distributions import MOMENTUM, install, provider
from rangebar_polars.exceptions import PluginError, PluginWarning
from rangebar_polars.plugins import (
    FeatureProvider,
    discover_providers,
    enrich_bars,
    reset_provider_cache,
)

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from plugins.conftest import Seen

RETURN = 'return bars.select({0}_x=pl.col("close"))'


def simple(name: str, **more: object) -> str:
    return provider(name, RETURN.format(name), **more)


def test_without_plugins_there_are_none() -> None:
    assert discover_providers() == ()


def test_an_instance_and_a_class_are_found_in_the_order_of_their_names(site: Path) -> None:
    install(site, "dist_a", {"zeta": "dist_a:Provider"}, simple("zeta"))
    install(site, "dist_b", {"point": "dist_b:momentum"}, MOMENTUM)
    found = discover_providers()
    assert [(one.name, one.version) for one in found] == [("momentum", "2.1.0"), ("zeta", "0.3")]
    assert all(isinstance(one, FeatureProvider) for one in found)
    assert found[0] is sys.modules["dist_b"].momentum


def test_plugins_are_loaded_once_a_process(site: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    count = f"with open({str(log)!r}, 'a') as log:\n            log.write('made ')"
    source = simple("alpha") + f"\n    def __init__(self):\n        {count}\n"
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, source)
    first = discover_providers()
    install(site, "dist_b", {"zeta": "dist_b:Provider"}, simple("zeta"))
    assert discover_providers() == first
    assert log.read_text() == "made "
    reset_provider_cache()
    assert [one.name for one in discover_providers()] == ["alpha", "zeta"]
    assert log.read_text() == "made made "


# A fresh process: what the import of the package, and a call that needs no plugin, load.
LATE = """
import sys
import rangebar_polars as rb
import rangebar_polars.plugins
bars = rb.sample_ticks().head(50).rangebar.bars(250)
rb.plugins.enrich_bars(bars, "ETHUSDT", 250, providers=[])
print("dist_a" in sys.modules)
rb.plugins.discover_providers()
print("dist_a" in sys.modules)
"""


def in_a_process(code: str, site: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=site, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_import_of_the_package_loads_no_plugin(site: Path) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    run = in_a_process(LATE, site)
    assert run.stdout.split() == ["False", "True"], run.stderr
    run = in_a_process(LATE, site, RANGEBAR_PLUGINS="off")
    assert run.stdout.split() == ["False", "False"], run.stderr


def test_plugins_that_are_off_are_not_loaded(
    site: Path, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_PLUGINS", "off")
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, "raise AssertionError('loaded')")
    assert discover_providers() == ()
    assert enrich_bars(bars, "ETHUSDT", 250).equals(bars)


BROKEN = {
    "no module": ("missing_module:thing", simple("bad"), "ModuleNotFoundError"),
    "no attribute": ("dist_bad:thing", simple("bad"), "AttributeError"),
    "fails on import": ("dist_bad:Provider", "1 / 0", "ZeroDivisionError: division by zero"),
    "fails when it is made": (
        "dist_bad:Provider",
        "class Provider:\n    def __init__(self):\n        raise KeyError('where')",
        "KeyError: 'where'",
    ),
    "needs arguments": (
        "dist_bad:Provider",
        "class Provider:\n    def __init__(self, period): ...",
        "period",
    ),
    "no provider": ("dist_bad:Provider", "Provider = 3", "no attribute `columns`"),
    "name": ("dist_bad:Provider", simple("Bad"), "`name` must be of a-z"),
    "reserved": ("dist_bad:Provider", simple("lookback"), "names columns of this package"),
    "group": ("dist_bad:Provider", simple("core"), "names columns of this package"),
    "other beginning": (
        "dist_bad:Provider",
        simple("bad", columns='"worse_x"'),
        "`worse_x` does not begin with `bad_`",
    ),
    "column of the catalogue": (
        "dist_bad:Provider",
        simple("kyle", columns='"kyle_lambda_proxy"'),
        "`kyle_lambda_proxy` is one of this package",
    ),
    "column of a frame": (
        "dist_bad:Provider",
        simple("is", columns='"is_closed"'),
        "`is_closed` is one of this package",
    ),
    "column twice": ("dist_bad:Provider", simple("bad", columns='"bad_x", "bad_x"'), "twice"),
    "no columns": ("dist_bad:Provider", simple("bad").replace('("bad_x",)', "()"), "tuple of names"),
    "a text": ("dist_bad:Provider", simple("bad").replace('("bad_x",)', '"bad_x"'), "tuple of names"),
    "min_bars": ("dist_bad:Provider", simple("bad", min_bars=-1), "`min_bars` must be"),
    "version": ("dist_bad:Provider", simple("bad").replace('"0.3"', "3"), "`version` must be"),
    "same name": ("dist_bad:Provider", simple("alpha"), "another provider has the name `alpha`"),
    "same column": (
        "dist_bad:Provider",
        simple("alpha_x", columns='"alpha_x_y"'),
        "the provider `alpha` has the column `alpha_x_y` too",
    ),
}  # fmt: skip


@pytest.fixture
def with_broken(site: Path, request: pytest.FixtureRequest) -> str:
    """Install a good and a broken plugin, and return what is said of the broken one."""
    target, source, said = BROKEN[request.param]
    good = simple("alpha", columns='"alpha_x", "alpha_x_y"')
    good = good.replace('alpha_x=pl.col("close")', 'alpha_x=pl.col("close"), alpha_x_y="open"')
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, good)
    install(site, "dist_bad", {"zzz": target}, source, version="7.2")
    return said


@pytest.mark.parametrize("with_broken", BROKEN, indirect=True)
def test_a_broken_plugin_is_left_out_with_one_warning_and_one_event(
    with_broken: str, seen: Seen, bars: pl.DataFrame
) -> None:
    with pytest.warns(PluginWarning) as caught:
        assert [one.name for one in discover_providers()] == ["alpha"]
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "the plugin `zzz` could not be loaded: " in text
    assert with_broken in text
    assert "hint: RANGEBAR_PLUGINS=strict" in text
    assert caught[0].filename == __file__
    (event,) = seen.named("plugin_enrich_failed")
    assert (event["provider"], event["version"]) == ("zzz", "7.2")
    assert with_broken in str(event["reason"])
    with pytest.warns(PluginWarning) as caught:
        enriched = enrich_bars(bars, "ETHUSDT", 250)
    assert len(caught) == 1
    assert enriched.columns == [*bars.columns, "alpha_x", "alpha_x_y"]
    assert enriched["alpha_x"].equals(bars["close"].alias("alpha_x"))
    assert [one["symbol"] for one in seen.named("plugin_enrich_failed")] == ["", "ETHUSDT"]


@pytest.mark.parametrize("with_broken", BROKEN, indirect=True)
def test_a_broken_plugin_raises_if_plugins_are_strict(
    with_broken: str, bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_PLUGINS", "strict")
    for call in (discover_providers, lambda: enrich_bars(bars, "ETHUSDT", 250)):
        with pytest.raises(PluginError, match="`zzz` could not be loaded") as caught:
            call()
        assert caught.value.provider == "zzz"
        assert isinstance(caught.value.__cause__, Exception)
        assert with_broken in f"{type(caught.value.__cause__).__name__}: {caught.value.__cause__}"


def test_a_lack_of_memory_is_not_the_plugins_fault(site: Path) -> None:
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, "raise MemoryError('full')")
    with pytest.raises(MemoryError, match="full"):
        discover_providers()


def test_metadata_that_cannot_be_read_are_a_warning(site: Path) -> None:
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, simple("alpha"))
    points = site / "dist_a-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "a line without a target\n")
    words = (
        r"^feature plugins cannot be listed: .*; no plugin adds columns\n\nhint: RANGEBAR_PLUGINS"
    )
    with pytest.warns(PluginWarning, match=words):
        assert discover_providers() == ()


def test_a_plugin_may_ask_for_plugins_while_it_is_imported(site: Path) -> None:
    ask = "from rangebar_polars.plugins import discover_providers\nfound = discover_providers()\n"
    install(site, "dist_a", {"alpha": "dist_a:Provider"}, ask + simple("alpha"))
    assert [one.name for one in discover_providers()] == ["alpha"]
    assert sys.modules["dist_a"].found == ()
