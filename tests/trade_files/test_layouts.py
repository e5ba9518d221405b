"""Each layout is recognised by its names and values, and read to the canonical columns."""

from __future__ import annotations

import runpy
from pathlib import Path

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.trade_layouts.table import LAYOUTS, NAMES
from trade_files.samples import SAMPLES, content

EVERY = pytest.mark.parametrize("name", SAMPLES)


def written(folder: Path, name: str) -> Path:
    path = folder / "sample.csv"
    path.write_bytes(content(SAMPLES[name]))
    return path


@EVERY
def test_a_sample_is_read_as_what_it_is(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    trades = rb.scan_trades(written(tmp_path, name)).collect()
    assert trades.columns == ["timestamp", *sample.columns]
    assert trades.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert trades["timestamp"][0] == sample.first
    assert trades.drop("timestamp").rows() == sample.rows


@EVERY
def test_a_sample_gives_bars_of_all_its_trades(name: str, tmp_path: Path) -> None:
    plan = rb.scan_trades(written(tmp_path, name))
    trades = plan.collect()
    absent = {field: None for field in ("quantity",) if field not in trades.columns}
    options = {"incomplete": "keep", "columns": {"symbol": None, **absent}}
    bars = trades.rangebar.bars(250, **options)
    assert bars["agg_record_count"].sum() == trades.height
    assert plan.rangebar.bars(250, **options).collect().equals(bars)
    if absent:
        return
    assert bars["volume"].sum() == pytest.approx(trades["quantity"].sum())
    if "is_buyer_maker" in trades.columns:
        for column, is_sell in (("sell_volume", True), ("buy_volume", False)):
            of_side = trades.filter(pl.col("is_buyer_maker") == is_sell)["quantity"].sum()
            assert bars[column].sum() == pytest.approx(of_side)


@EVERY
def test_the_plan_says_which_layout_was_taken(name: str, tmp_path: Path) -> None:
    plan = rb.scan_trades(written(tmp_path, name))
    taken = plan.rangebar.binding().filter(field="layout")
    assert SAMPLES[name].layout in str(taken.row(0))
    # Polars before 2.0 does not show the names of sources.
    if int(pl.__version__.split(".")[0]) >= 2:
        assert f"({SAMPLES[name].layout}, " in plan.explain()


@EVERY
def test_a_layout_may_be_named(name: str, tmp_path: Path) -> None:
    path, layout = written(tmp_path, name), SAMPLES[name].layout.partition(" (")[0]
    named = rb.scan_trades(path, layout=layout).collect()
    assert named.equals(rb.scan_trades(path).collect())


@EVERY
def test_the_wrong_name_is_an_error_that_gives_the_right_one(name: str, tmp_path: Path) -> None:
    layout = SAMPLES[name].layout.partition(" (")[0]
    wrong = "kraken" if layout != "kraken" else "bitget"
    named = "known are .*, `csv`" if layout == "csv" else rf"but of `{layout}[ `]"
    with pytest.raises(TickDataError, match=named) as caught:
        rb.scan_trades(written(tmp_path, name), layout=wrong)
    assert f'layout="{layout}"' in str(caught.value)


def test_each_form_has_a_sample() -> None:
    titles = {sample.layout for sample in SAMPLES.values()}
    assert {layout.title for layout in LAYOUTS} <= titles


def test_an_unknown_layout_is_an_error_that_says_what_it_saw_and_knows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,px,lots\n1704067200000,1.5,2\n")
    with pytest.raises(TickDataError) as caught:
        rb.scan_trades(path)
    text = str(caught.value)
    assert "`when,px,lots`" in text
    assert "`1704067200000,1.5,2`" in text
    assert all(f"`{name}`" in text for name in NAMES)
    # The hint runs.
    hint = text.partition("hint: say which column is which: ")[2]
    trades = eval(f"rb.scan_trades(path, {hint})", {"rb": rb, "path": path}).collect()
    assert trades["price"].to_list() == [1.5]


@pytest.mark.parametrize("text", ["a b c\n", "1,2,3,4\n", "\x00\x01\x02", "{}\n", "<html>\n"])
def test_what_is_no_table_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(TickDataError, match=r"x\.csv"):
        rb.scan_trades(path)


def test_times_that_are_numbers_need_a_unit_in_a_file_of_no_layout(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("timestamp,price,quantity\n1704067200000000,1.5,2\n")
    with pytest.raises(TickDataError, match='time_unit="us"'):
        rb.scan_trades(path)
    trades = rb.scan_trades(path, time_unit="us").collect()
    assert trades["timestamp"].dt.to_string("%Y-%m-%d").to_list() == ["2024-01-01"]


def test_columns_name_fields_of_a_known_layout_too(tmp_path: Path) -> None:
    path = written(tmp_path, "bybit, linear")
    trades = rb.scan_trades(path, columns={"quantity": "foreignNotional"}).collect()
    assert trades["quantity"].to_list() == [2472.5004, 2472.5004]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"layout": "okex"}, ValueError),
        ({"layout": None}, TypeError),
        ({"time_unit": "m"}, ValueError),
        ({"symbol": 5}, TypeError),
        ({"columns": ["price"]}, TypeError),
        ({"columns": {"prize": "price"}}, ValueError),
        ({"columns": {"price": "nope"}}, ValueError),
    ],
)
def test_arguments_are_judged_at_the_call(arguments: dict, error: type, tmp_path: Path) -> None:
    with pytest.raises(error):
        rb.scan_trades(written(tmp_path, "bybit, linear"), **arguments)


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, name in zip(paths, ("kraken", "bitget"), strict=True):
        path.write_bytes(content(SAMPLES[name]))
    with pytest.raises(pl.exceptions.ComputeError, match=r"`bitget`.*`kraken`"):
        rb.scan_trades(paths).collect()


def test_the_reference_is_the_table() -> None:
    root = Path(__file__).resolve().parents[2]
    generate = runpy.run_path(str(root / "docs" / "reference" / "generate.py"))
    assert generate["LAYOUTS_PAGE"].read_text(encoding="utf-8") == generate["layouts_page"]()
