"""The columns of plugins: their values, what a plugin gets, and what becomes of one that fails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import rangebar_polars as rb
from plugins.distributions import MOMENTUM, install
from rangebar_polars.exceptions import (
    BarDataError,
    MissingColumnError,
    PluginError,
    PluginWarning,
    ThresholdError,
)
from rangebar_polars.plugins import enrich_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plugins.conftest import Seen


class Plugin:
    """A provider of a function."""

    version = "0.1"

    def __init__(
        self,
        enrich: Callable[..., Any],
        *,
        name: str = "test",
        columns: tuple[str, ...] | None = None,
        min_bars: int = 0,
    ) -> None:
        self.name = name
        self.columns = columns or (f"{name}_x",)
        self.min_bars = min_bars
        self._enrich = enrich

    def enrich(self, bars: pl.DataFrame, symbol: str, threshold_decimal_bps: int) -> pl.DataFrame:
        return self._enrich(bars, symbol, threshold_decimal_bps)


def closes(bars: pl.DataFrame, symbol: str, threshold: int) -> pl.DataFrame:
    return bars.select(test_x=pl.col("close"))


def test_columns_of_installed_plugins_are_added(site: Path, bars: pl.DataFrame, seen: Seen) -> None:
    install(site, "dist_a", {"momentum": "dist_a:momentum"}, MOMENTUM)
    enriched = enrich_bars(bars, "ETHUSDT", 250)
    assert enriched.drop("momentum_2").equals(bars)
    close = bars["close"].to_list()
    want = [None, None, *(b / a - 1 for a, b in zip(close, close[2:], strict=False))]
    assert enriched["momentum_2"].to_list() == want
    assert enriched.schema["momentum_2"] == pl.Float64
    assert seen.named("plugin_enrich_failed") == []
    (event,) = seen.named("plugin_enrich_complete")
    assert event == {
        "symbol": "ETHUSDT", "provider": "momentum", "version": "2.1.0",
        "threshold": 250, "rows": bars.height,
    }  # fmt: skip


def test_a_plugin_gets_the_columns_of_bars_the_symbol_and_the_threshold(
    bars: pl.DataFrame,
) -> None:
    got: list[Any] = []

    def keep(*given: Any) -> pl.DataFrame:
        got.append(given)
        return closes(*given)

    several = rb.sample_ticks().with_columns(symbol=pl.lit("ETHUSDT"))
    keyed = several.rangebar.bars([250], group_by="symbol", features="microstructure")
    enrich_bars(keyed.head(60), "ETHUSDT", "0.25%", providers=[Plugin(keep)])
    frame, symbol, threshold = got[0]
    assert (symbol, threshold) == ("ETHUSDT", 250)
    assert type(threshold) is int
    catalogue = rb.columns().filter(pl.col("group").is_in(["core", "microstructure"]))["name"]
    call = {"bar_id", "threshold", "is_closed", "ended_by"}
    assert frame.columns == [name for name in catalogue if name not in call]
    assert frame.equals(bars.select(frame.columns))


def test_the_first_rows_and_nan_are_null(bars: pl.DataFrame) -> None:
    def values(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        return frame.select(
            test_x=pl.when(pl.int_range(pl.len()) == 7).then(math.nan).otherwise(1.0)
        )

    got = enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(values, min_bars=3)])["test_x"]
    assert got.is_null().arg_true().to_list() == [0, 1, 2, 7]
    assert got.drop_nulls().unique().to_list() == [1.0]


def test_other_columns_of_the_result_are_ignored(bars: pl.DataFrame) -> None:
    def more(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        return frame.with_columns(test_x=pl.col("close"), close=pl.lit(0.0), test_y=pl.lit("text"))

    got = enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(more)])
    assert got.columns == [*bars.columns, "test_x"]
    assert got["close"].equals(bars["close"])


def test_a_plugin_that_works_in_place_changes_only_its_own_frame(bars: pl.DataFrame) -> None:
    def in_place(frame: pl.DataFrame, *_: object) -> pl.DataFrame:
        frame[0, "open"] = -1.0
        frame.drop_in_place("high")
        frame.insert_column(0, pl.Series("test_x", [2.0] * frame.height))
        return frame

    before = bars.clone()
    other = Plugin(lambda frame, *_: frame.select(other_x="open"), name="other")
    got = enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(in_place), other])
    assert bars.equals(before)
    assert got["test_x"].unique().to_list() == [2.0]
    assert got["other_x"].equals(bars["open"].alias("other_x"))


def test_bars_may_be_enriched_again(bars: pl.DataFrame) -> None:
    once = enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(closes)])
    assert enrich_bars(once, "ETHUSDT", 250, providers=[Plugin(closes)]).equals(once)


def test_no_bars_and_no_plugins(bars: pl.DataFrame) -> None:
    def never(*_: object) -> pl.DataFrame:
        raise AssertionError

    empty = enrich_bars(bars.clear(), "ETHUSDT", 250, providers=[Plugin(never)])
    assert empty.schema == {**bars.schema, "test_x": pl.Float64}
    assert enrich_bars(bars, "ETHUSDT", 250, providers=[]).equals(bars)


FAILING: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
    "fails in Polars": (lambda bars, *_: bars.select("nothing"), "ColumnNotFoundError"),
    "returns nothing": (lambda *_: None, "it returned `NoneType`"),
    "returns a plan": (lambda bars, *_: bars.lazy(), "it returned `LazyFrame`"),
    "fewer rows": (lambda bars, *_: closes(bars, "", 0).head(3), "returned 3 rows for 60 bars"),
    "no column": (lambda bars, *_: bars, "no column `test_x`"),
    "Float32": (
        lambda bars, *_: bars.select(test_x=pl.col("close").cast(pl.Float32)),
        "`test_x` has data type `Float32`",
    ),
    "infinite": (
        lambda bars, *_: bars.select(test_x=pl.lit(1.0) / (pl.int_range(pl.len()) - 4)),
        "`test_x` is infinite in row 4",
    ),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_plugin_that_fails_gives_nulls_a_warning_and_an_event(
    case: str, bars: pl.DataFrame, seen: Seen
) -> None:
    function, said = FAILING[case]
    good = Plugin(lambda frame, *_: frame.select(good_x="close"), name="good")
    with pytest.warns(PluginWarning) as caught:
        got = enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(function), good])
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith("the plugin `test` 0.1 failed on `ETHUSDT`: ")
    assert said in text
    assert "; its columns are null\n\nhint: RANGEBAR_PLUGINS=strict" in text
    assert caught[0].filename == __file__
    assert got.drop("test_x", "good_x").equals(bars)
    assert got["test_x"].dtype == pl.Float64
    assert got["test_x"].null_count() == bars.height
    assert got["good_x"].equals(bars["close"].alias("good_x"))
    (event,) = seen.named("plugin_enrich_failed")
    assert (event["symbol"], event["provider"], event["version"]) == ("ETHUSDT", "test", "0.1")
    assert said in str(event["reason"])
    assert [one["provider"] for one in seen.named("plugin_enrich_complete")] == ["good"]


@pytest.mark.parametrize("case", FAILING)
def test_a_plugin_that_fails_raises_if_plugins_are_strict(
    case: str, bars: pl.DataFrame, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_PLUGINS", "strict")
    function, said = FAILING[case]
    with pytest.raises(PluginError) as caught:
        enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(function)])
    assert said in str(caught.value)
    assert "null" not in str(caught.value)
    assert caught.value.provider == "test"
    assert caught.value.__cause__ is not None
    assert len(seen.named("plugin_enrich_failed")) == 1


def test_a_lack_of_memory_and_an_interruption_are_raised(bars: pl.DataFrame) -> None:
    for error in (MemoryError, KeyboardInterrupt):

        def full(*_: object, error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(full)])


def test_the_warning_names_a_column_that_the_bars_do_not_have() -> None:
    bars = rb.sample_ticks().rangebar.bars(250)
    plugin = Plugin(lambda frame, *_: frame.select(test_x="ofi"))
    with pytest.warns(PluginWarning, match='features="microstructure"') as caught:
        enrich_bars(bars, "ETHUSDT", 250, providers=[plugin])
    assert "ofi" in str(caught[0].message)
    assert enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(closes)])["test_x"].null_count() == 0


def test_plugins_that_are_off_add_no_column(
    bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_PLUGINS", "off")
    assert enrich_bars(bars, "ETHUSDT", 250, providers=[Plugin(closes)]).equals(bars)


def refused(error: type[Exception], said: str, *arguments: Any, **keywords: Any) -> None:
    with pytest.raises(error, match=said):
        enrich_bars(*arguments, **keywords)


def test_bars_that_are_not_those_of_one_series_are_refused(bars: pl.DataFrame) -> None:
    trades = rb.sample_ticks()
    several = trades.rangebar.bars([250, 500])
    two = pl.concat([trades.with_columns(coin=pl.lit(one)) for one in ("A", "B")])
    for frame, key in ((several, "threshold"), (two.rangebar.bars(250, group_by="coin"), "coin")):
        refused(BarDataError, f"(?s)several series: `{key}`.*partition_by", frame, "ETHUSDT", 250)
        refused(
            BarDataError,
            key,
            frame.select(pl.all().exclude(key), key).select(key, *bars.columns[1:5]),
            "ETHUSDT",
            250,
        )
    moved = bars.select("close", "open_time", "close_time")
    assert enrich_bars(moved, "ETHUSDT", 250, providers=[Plugin(closes)]).height == bars.height
    unfinished = trades.rangebar.bars(250, incomplete="keep", reset="day")
    refused(BarDataError, 'bars.filter\\("is_closed"\\)', unfinished, "ETHUSDT", 250)
    refused(BarDataError, "runs back", bars.reverse(), "ETHUSDT", 250)
    refused(MissingColumnError, "no column of bars", pl.DataFrame({"a": [1]}), "ETHUSDT", 250)


def test_wrong_arguments_are_refused(bars: pl.DataFrame) -> None:
    refused(TypeError, r"bars.collect\(\)", bars.lazy(), "ETHUSDT", 250)
    refused(TypeError, "from_pandas", bars.to_pandas(), "ETHUSDT", 250)
    refused(TypeError, "`symbol` must be a text", bars, 250, "ETHUSDT")
    refused(ThresholdError, "0.25", bars, "ETHUSDT", 0.25)
    refused(TypeError, "did you mean `providers`", bars, "ETHUSDT", 250, provider=[])
    refused(ValueError, "no attribute `columns`", bars, "ETHUSDT", 250, providers=["laguerre"])
    one = Plugin(closes)
    refused(ValueError, "has the name `test`", bars, "ETHUSDT", 250, providers=[one, one])
    bad = Plugin(closes, name="Test")
    refused(ValueError, "`name` must be of a-z", bars, "ETHUSDT", 250, providers=[bad])
