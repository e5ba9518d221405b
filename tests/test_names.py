"""One vocabulary: the short names of arguments beside those of the reference library."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars import _typing
from rangebar_polars._utils.arguments.names import NAMES
from rangebar_polars.readers.cached import get_n_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = ("ETHUSDT", "2024-08-08", "2024-08-08")
# The functions, and the typed keywords that stand for the names that their parameters do not have.
FUNCTIONS: dict[str, tuple[Callable[..., Any], type]] = {
    "get_range_bars": (rb.get_range_bars, _typing.RangeBarNames),
    "get_n_range_bars": (rb.get_n_range_bars, _typing.NewestNames),
    "scan_range_bars": (rb.scan_range_bars, _typing.ScanNames),
    "scan_ticks": (rb.scan_ticks, _typing.TickNames),
    "populate_cache_resumable": (rb.populate_cache_resumable, _typing.PopulateNames),
    "precompute_range_bars": (rb.precompute_range_bars, _typing.PrecomputeNames),
    "get_cached_bars": (rb.get_cached_bars, _typing.CachedNames),
    "get_n_bars": (get_n_bars, _typing.NewestCachedNames),
    "count_bars": (rb.count_bars, _typing.CountNames),
    "coverage": (rb.coverage, _typing.CoverageNames),
}
EVERY = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rb.TickStorage(tmp_path).write_ticks("ETHUSDT", rb.sample_ticks())
    return tmp_path


@EVERY
def test_a_signature_shows_both_names_of_each_argument(name: str) -> None:
    function, typed = FUNCTIONS[name]
    shown = inspect.signature(function).parameters
    own = set(inspect.signature(inspect.unwrap(function)).parameters) - {"_names"}
    for short, long in NAMES.items():
        if {short, long} & own:
            assert {short, long} <= set(shown), (short, long)
    assert set(shown) - own == set(typed.__annotations__)
    assert "_names" not in shown


@EVERY
def test_a_further_name_shows_what_it_stands_for(name: str) -> None:
    function, typed = FUNCTIONS[name]
    for alias in typed.__annotations__:
        assert f"<{_other(alias)}>" in str(inspect.signature(function).parameters[alias])


def _other(name: str) -> str:
    both = {**NAMES, **{long: short for short, long in NAMES.items()}}
    return both[name]


@EVERY
def test_the_docstring_lists_the_other_names(name: str) -> None:
    function, typed = FUNCTIONS[name]
    doc = inspect.getdoc(function) or ""
    if "Returns\n-------" in doc:
        assert "Other names of" in doc
        assert all(alias in doc for alias in typed.__annotations__)


@EVERY
def test_both_names_at_once_are_refused_by_name(name: str) -> None:
    function, _ = FUNCTIONS[name]
    shown = inspect.signature(function).parameters
    own = inspect.signature(inspect.unwrap(function), follow_wrapped=False).parameters
    for short, long in NAMES.items():
        # Where both are arguments of their own, the columns of both are given.
        if short in shown and not {short, long} <= set(own):
            with pytest.raises(TypeError, match=f"`{short}` and `{long}` are two names"):
                function("ETHUSDT", **{short: None, long: None})


def test_a_position_counts_as_a_name() -> None:
    with pytest.raises(TypeError, match="`start` and `start_date`"):
        rb.get_range_bars("ETHUSDT", "2024-08-08", start="2024-08-08")
    with pytest.raises(TypeError, match="`threshold` and `threshold_decimal_bps`"):
        rb.get_range_bars(*DAY, 250, threshold=500)
    with pytest.raises(TypeError, match="`reset` and `ouroboros_mode`"):
        rb.get_range_bars(*DAY, reset="year", ouroboros_mode="year")


def test_a_missing_argument_is_named_by_both_names() -> None:
    with pytest.raises(TypeError, match="`end_date`, also called `end`"):
        rb.get_range_bars("ETHUSDT", start="2024-08-08")
    with pytest.raises(TypeError, match="`start`, also called `start_date`"):
        rb.scan_ticks("ETHUSDT")
    with pytest.raises(TypeError, match="`start_date`, also called `start`"):
        rb.populate_cache_resumable("ETHUSDT")


@EVERY
def test_a_call_that_python_would_refuse_says_what_to_write(name: str) -> None:
    function, _ = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty]
    values: dict[str, object] = dict.fromkeys(required, "2024-01-01")
    for missing in required:
        given = {other: value for other, value in values.items() if other != missing}
        with pytest.raises(TypeError, match=f"^`{name}` needs the argument `{missing}`") as caught:
            function(**given)
        hint = str(caught.value).partition("\n\nhint: write ")[2]
        written = ast.parse(f"function({hint})", mode="eval").body
        assert isinstance(written, ast.Call)
        assert [keyword.arg for keyword in written.keywords] == [missing]
    with pytest.raises(TypeError, match=f"^`{name}` was given too many positional arguments"):
        function(*range(20))
    with pytest.raises(TypeError, match=f"^`{name}` was given `symbol` twice"):
        function("ETHUSDT", symbol="ETHUSDT")


def test_short_and_long_names_read_the_same_bars(folder: Path) -> None:
    short = rb.get_range_bars(
        "ETHUSDT", start=DAY[1], end=DAY[2], threshold="0.5%", reset="month", fetch=False,
        incomplete="keep", cache_dir=folder,
    )  # fmt: skip
    long = rb.get_range_bars(
        "ETHUSDT", start_date=DAY[1], end_date=DAY[2], threshold_decimal_bps=500, ouroboros="month",
        fetch_if_missing=False, include_incomplete=True, cache_dir=folder,
    )  # fmt: skip
    assert short.equals(long)
    assert not short["is_closed"].iloc[-1]
    lazy = [
        rb.scan_range_bars("ETHUSDT", cache_dir=folder, **options).collect()
        for options in (
            {"start": DAY[1], "end": DAY[2], "threshold": 500, "features": "microstructure"},
            {
                "start_date": DAY[1], "end_date": DAY[2], "threshold_decimal_bps": 500,
                "include_microstructure": True,
            },
        )
    ]  # fmt: skip
    assert lazy[0].equals(lazy[1])
    assert set(rb.MICROSTRUCTURE_COLUMNS) <= set(lazy[0].columns)


def test_short_and_long_names_populate_and_count_the_same(folder: Path) -> None:
    whole = {"cache_dir": folder, "verbose": False}
    written = rb.populate_cache_resumable(
        "ETHUSDT", start=DAY[1], end=DAY[2], threshold=500, reset=None, **whole
    )
    again = rb.populate_cache_resumable(*DAY, threshold_decimal_bps=500, ouroboros="none", **whole)
    assert (int(written) > 0, int(again)) == (True, 0)
    counts = [
        rb.count_bars("ETHUSDT", 500, reset=None, cache_dir=folder),
        rb.count_bars("ETHUSDT", threshold_decimal_bps=500, ouroboros="none", cache_dir=folder),
    ]
    assert counts == [int(written)] * 2
    bars = rb.get_cached_bars(
        "ETHUSDT", threshold_decimal_bps=500, start_date=DAY[1], end_date=DAY[2], reset="none",
        include_microstructure=True, cache_dir=folder,
    )  # fmt: skip
    assert bars.height == int(written)
    rows = rb.coverage(
        "ETHUSDT", 500, start_date=DAY[1], end_date=DAY[2], reset=None, cache_dir=folder
    )
    assert rows["state"].to_list() == ["given"]


def test_short_and_long_names_scan_the_same_ticks(folder: Path) -> None:
    short = rb.scan_ticks("ETHUSDT", start=DAY[1], end=DAY[2], fetch=False, cache_dir=folder)
    long = rb.scan_ticks(
        "ETHUSDT", start_date=DAY[1], end_date=DAY[2], fetch_if_missing=False, cache_dir=folder
    )
    assert short.collect().equals(long.collect())
    assert long.collect().height == rb.sample_ticks().height


def test_short_and_long_names_precompute_the_same(tmp_path: Path) -> None:
    quiet = {"notify": False, "verbose": False}
    short, long = tmp_path / "short", tmp_path / "long"
    for one in (short, long):
        rb.TickStorage(one).write_ticks("ETHUSDT", rb.sample_ticks())
    results = [
        rb.precompute_range_bars(
            "ETHUSDT", start=DAY[1], end=DAY[2], threshold="0.5%", reset="month",
            cache_dir=short, **quiet,
        ),
        rb.precompute_range_bars(
            "ETHUSDT", start_date=DAY[1], end_date=DAY[2], threshold_decimal_bps=500,
            ouroboros="month", cache_dir=long, **quiet,
        ),
    ]  # fmt: skip
    kept = [
        rb.get_cached_bars("ETHUSDT", 500, *DAY[1:], reset="month", cache_dir=one)
        for one in (short, long)
    ]
    assert kept[0].equals(kept[1])
    assert [result.report.bars for result in results] == [kept[0].height] * 2
    assert kept[0].height > 10
    for one in (short, long):
        assert rb.count_bars("ETHUSDT", 500, reset="year", cache_dir=one) == 0


@pytest.mark.parametrize(
    ("features", "added"),
    [
        ("core", []),
        ("microstructure", list(rb.MICROSTRUCTURE_COLUMNS)),
        (["ofi", "vwap", "close"], ["vwap", "ofi"]),
    ],
)
def test_features_of_a_pandas_reader_are_columns_beside_the_prices(
    folder: Path, features: Any, added: list[str]
) -> None:
    frame = rb.get_range_bars(*DAY, 250, features=features, cache_dir=folder)
    assert list(frame.columns) == ["Open", "High", "Low", "Close", "Volume", *added]
    newest = rb.get_n_range_bars(
        "ETHUSDT",
        5,
        250,
        end=DAY[2],
        features=features,
        fetch=False,
        anchor=DAY[1],
        cache_dir=folder,
    )
    assert newest.equals(frame.tail(5))


@pytest.mark.parametrize("names", [("start", "end"), ("start_date", "end_date")])
def test_a_message_names_the_argument_that_was_written(names: tuple[str, str]) -> None:
    start, end = names
    for function in (
        rb.get_range_bars,
        rb.scan_range_bars,
        rb.scan_ticks,
        rb.populate_cache_resumable,
    ):
        with pytest.raises(ValueError, match=f"^`{start}` is `today`"):
            function("BTCUSDT", **{start: "today", end: "2024-01-01"})
        with pytest.raises(ValueError, match=f"^`{end}` .* is not after `{start}`"):
            function("BTCUSDT", **{start: "2024-01-02", end: "2024-01-01"})


def test_messages_about_other_arguments_name_what_was_written() -> None:
    for name in ("fetch", "fetch_if_missing"):
        with pytest.raises(TypeError, match=f"^`{name}` must be a bool") as caught:
            rb.get_range_bars(*DAY, **{name: "no"})
        assert f"hint: write {name}=True or {name}=False" in str(caught.value)
    for name in ("reset", "ouroboros"):
        with pytest.raises(ValueError, match=f"^`{name}`: unknown value `quarter`"):
            rb.get_range_bars(*DAY, **{name: "quarter"})
    with pytest.raises(ValueError, match=r"^`incomplete`: unknown value `all`"):
        rb.get_range_bars(*DAY, incomplete="all")
    with pytest.raises(TypeError, match=r"^`incomplete` must be"):
        rb.get_range_bars(*DAY, incomplete=3)
    with pytest.raises(TypeError, match=r"^`include_microstructure` must be a bool"):
        rb.scan_range_bars(*DAY, include_microstructure="yes")


PUBLIC = [name for name in rb.__all__ if inspect.isfunction(getattr(rb, name))]
PUBLIC = [name for name in PUBLIC if inspect.signature(getattr(rb, name)).parameters]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_misspelt_keyword_names_the_nearest(name: str) -> None:
    function = getattr(rb, name)
    if name == "rangebar":
        return
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            with pytest.raises(TypeError, match=r"there is no argument `x\w+`") as caught:
                function(**{f"x{parameter.name}": None})
            assert f"did you mean `{parameter.name}`?" in str(caught.value)


METHODS = [
    (pl.DataFrame().rangebar, ["bars", "aggregate", "plot", "to_backtesting"]),
    (pl.LazyFrame().rangebar, ["bars", "aggregate", "plot", "to_backtesting"]),
    (pl.col("price").rangebar, ["bars", "bar_id", "aggregate"]),
]


@pytest.mark.parametrize(("space", "names"), METHODS)
def test_methods_name_the_nearest_keyword_too(space: Any, names: list[str]) -> None:
    for name in names:
        method = getattr(space, name)
        for parameter in inspect.signature(method).parameters:
            with pytest.raises(TypeError, match="there is no argument") as caught:
                method(**{f"x{parameter}": None})
            assert f"did you mean `{parameter}`?" in str(caught.value)


def test_methods_of_the_store_name_the_nearest_keyword(tmp_path: Path) -> None:
    storage = rb.TickStorage(tmp_path)
    with pytest.raises(TypeError, match="did you mean `market`"):
        storage.get_ticks("BTCUSDT", "2024-01-01", "2024-01-01", markt="um")


DROPPED = [
    "validation", "materialize", "batch_size", "max_memory_mb", "verify_checksum", "max_lookback_days",
    "validate_on_return", "continuity_action", "chunk_size", "checkpoint_dir", "inter_bar_lookback_count",
    "include_exchange_sessions", "warn_if_fewer",
]  # fmt: skip


@pytest.mark.parametrize("keyword", DROPPED)
@pytest.mark.parametrize("function", [rb.get_range_bars, rb.get_n_range_bars])
def test_a_keyword_of_the_reference_library_says_where_it_went(
    function: Callable[..., Any], keyword: str
) -> None:
    with pytest.raises(TypeError, match=f"there is no argument `{keyword}`") as caught:
        function("BTCUSDT", **{keyword: None})
    hint = str(caught.value).partition("hint: ")[2]
    assert hint
    assert "did you mean" not in hint


@pytest.mark.parametrize(
    ("keyword", "value", "hint"),
    [
        ("include_microstructure", True, 'features="microstructure"'),
        ("ouroboros", "month", 'reset="month"'),
        ("ouroboros", None, 'reset="year"'),
        ("include_incomplete", True, 'incomplete="keep"'),
        ("by", "coin", 'group_by="coin"'),
        ("by", pl.col("coin"), 'group_by="symbol"'),
        ("threshold_decimal_bps", 500, "threshold=500"),
        ("timestamp", "t", 'columns={"timestamp": "t"}'),
        ("price", pl.col("p"), 'columns={"price": "your_column"}'),
    ],
)
def test_a_keyword_of_another_function_says_what_to_write_here(
    keyword: str, value: object, hint: str
) -> None:
    trades = rb.sample_ticks()
    with pytest.raises(TypeError, match=f"there is no argument `{keyword}`") as caught:
        trades.rangebar.bars(250, **{keyword: value})
    assert f"hint: write {hint}" in str(caught.value)


def test_expressions_say_where_columns_went() -> None:
    with pytest.raises(TypeError, match=r'one by one: quantity="size", price="p"$'):
        rb.bars("price", 250, columns={"quantity": "size", "price": "p"})
    with pytest.raises(TypeError, match="did you mean `quantity`"):
        rb.bars("price", 250, quantitiy="size")
