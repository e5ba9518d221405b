"""What the values of trades mean: sides of the maker, contracts, signed sizes, fills in two records."""

from __future__ import annotations

import re
import runpy
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import (
    DoubleFillWarning,
    MissingColumnError,
    TickDataError,
    TickOrderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = datetime(2024, 1, 1, tzinfo=UTC)
GRID = 10**8


def trades(rows: int = 60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "timestamp": [START + timedelta(seconds=row) for row in range(rows)],
            "price": [100.0 + row % 7 * 0.1 for row in range(rows)],
            "quantity": [0.5 + row % 3 for row in range(rows)],
        }
    )


FRAMES: dict[str, Callable[..., pl.DataFrame]] = {
    "frame": lambda frame, **named: frame.rangebar.bars(250, **named),
    "plan": lambda frame, **named: frame.lazy().rangebar.bars(250, **named).collect(),
    "builder": lambda frame, **named: rb.RangeBarBuilder(250, **named).push(frame),
    "resumed builder": lambda frame, **named: rb.RangeBarBuilder.from_checkpoint(
        rb.RangeBarBuilder(250, **named).checkpoint()
    ).push(frame),
    "iter_bars": lambda frame, **named: pl.concat(rb.iter_bars(frame, 250, **named)),
}
SIDED = {
    **FRAMES,
    "expression": lambda frame, **named: frame.select(rb.bars("price", 250, **named)).unnest(
        "bars"
    ),
    "namespace": lambda frame, **named: frame.select(
        pl.col("price").rangebar.bars(250, **named)
    ).unnest("bars"),
    "agg": lambda frame, **named: (
        frame.group_by(one=pl.lit(1))
        .agg(rb.bars("price", 250, **named))
        .explode("bars", empty_as_null=False)
        .unnest("bars")
        .drop("one")
    ),
}
BUYS = ["buy", "B", "Bid", "BUYER", "1", "+1", "bid_aggressor", "Buy_Aggressor"]
SELLS = ["SELL", "s", "ask", "Seller", "A", "-1", "ASK_AGGRESSOR", "sell_aggressor"]
NEITHER = ["none", "UNKNOWN", "n", "", "0", None]


@pytest.mark.parametrize("dtype", [pl.String(), pl.Categorical()], ids=str)
@pytest.mark.parametrize("neither", NEITHER)
@pytest.mark.parametrize("entry_point", SIDED)
def test_words_of_all_kinds(entry_point: str, neither: str | None, dtype: pl.DataType) -> None:
    words = [*BUYS, *SELLS, neither]
    side = pl.Series("side", (words * 4)[:60], dtype=dtype)
    signs = pl.Series("side", ([1] * len(BUYS) + [-1] * len(SELLS) + [0]) * 4)[:60]
    bars = SIDED[entry_point](trades().with_columns(side))
    assert_same_bars(bars, SIDED[entry_point](trades().with_columns(signs.cast(pl.Int16))))
    for name, sign in (("buy", 1), ("sell", -1)):
        part = trades().with_columns(
            quantity=pl.when(signs == sign).then("quantity").otherwise(0.0)
        )
        assert bars[f"{name}_volume"].to_list() == part.rangebar.bars(250)["volume"].to_list()
    assert bars["volume"].to_list() == trades().rangebar.bars(250)["volume"].to_list()


def test_no_aggressor_at_all() -> None:
    bars = trades().with_columns(side=pl.lit("none")).rangebar.bars(250, features="microstructure")
    for name in ("buy_volume", "sell_volume", "buy_turnover", "buy_trade_count"):
        assert set(bars[name]) == {0}
    for name in ("ofi", "aggression_ratio", "turnover_imbalance", "kyle_lambda_proxy"):
        assert bars[name].null_count() == bars.height
    assert bars["volume"].to_list() == trades().rangebar.bars(250)["volume"].to_list()


@pytest.mark.parametrize("value", [2, -2, 127])
def test_another_integer_is_refused(value: int) -> None:
    side = pl.Series("side", [1, -1, 0] * 20, dtype=pl.Int8).scatter(33, value)
    with pytest.raises(TickDataError, match=f"`side` must be .*{value}.* at row 33"):
        trades().with_columns(side).rangebar.bars(250)


def test_an_integer_beyond_int64_is_refused() -> None:
    side = pl.Series("side", [1, 0] * 30, dtype=pl.UInt64).scatter(33, 2**63)
    with pytest.raises(TickDataError, match=f"`side` must be .*{2**63}.* at row 33"):
        trades().with_columns(side).rangebar.bars(250)


@pytest.mark.parametrize("entry_point", SIDED)
def test_the_side_of_the_maker_is_the_opposite(entry_point: str) -> None:
    words = pl.Series("side", ["buy", "none", "sell", "sell"] * 15)
    opposite = words.replace({"buy": "sell", "sell": "buy"})
    bars = SIDED[entry_point](trades().with_columns(opposite), side_is="maker")
    assert_same_bars(bars, SIDED[entry_point](trades().with_columns(words)))
    flags = trades().with_columns(is_buyer_maker=words == "sell", side=words)
    assert_same_bars(
        SIDED[entry_point](flags, side_is="maker"), SIDED[entry_point](flags.drop("side"))
    )


def test_the_side_of_the_maker_in_bars_of_ones_own() -> None:
    frame = trades().with_columns(
        pl.Series("side", [1, 0, -1, -1] * 15), mine=pl.int_range(60) // 7
    )
    opposite = frame.with_columns(side=-pl.col("side"))
    bars = frame.rangebar.aggregate("mine")
    assert_same_bars(opposite.rangebar.aggregate("mine", side_is="maker"), bars)
    assert_same_bars(opposite.lazy().rangebar.aggregate("mine", side_is="maker").collect(), bars)
    fold = rb.aggregate("price", "mine", side_is="maker")
    assert_same_bars(opposite.select(fold).unnest("bars"), bars)
    with pytest.raises(ValueError, match="taker"):
        rb.bars("price", 250, side_is="buyer")  # type: ignore[arg-type]


def test_a_builder_resumes_with_its_settings_and_sums() -> None:
    frame = trades().with_columns(side=pl.Series(["buy", "none", "sell", "sell"] * 15))
    arguments = {"side_is": "maker", "contract_size": Decimal("0.125"), "incomplete": "keep"}
    whole = rb.RangeBarBuilder(250, **arguments)
    expected = pl.concat([whole.push(frame), whole.partial()])
    builder = rb.RangeBarBuilder(250, **arguments)
    parts = []
    for row in range(frame.height):
        parts.append(builder.push(frame[row]))
        saved = builder.checkpoint()
        builder = rb.RangeBarBuilder.from_checkpoint(saved)
        assert builder.checkpoint() == saved
    assert_same_bars(pl.concat([*parts, builder.partial()]), expected)


def half_even(number: Fraction) -> int:
    return round(number)


@given(
    rows=st.lists(
        st.tuples(st.integers(1, 2**50), st.integers(0, 2**50), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    size=st.one_of(st.integers(1, 2**34), st.sampled_from([1, 10**8, 10**10, 5 * 10**7])),
)
@settings(max_examples=60, deadline=None)
def test_contracts_become_coins_exactly(rows: list[tuple[int, int, bool]], size: int) -> None:
    # Some contracts such that the coins are just between two units.
    made = [
        (price, price * (2 * (number % 1000) + 1) // 2 if tie and price % 2 == 0 else number)
        for price, number, tie in rows
    ]
    coins = [half_even(Fraction(number * size, price)) for price, number in made]
    if max(coins) >= 2**63 or max(number for _, number in made) >= 2**63:
        return
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series(range(len(made))).cast(pl.Datetime("us")),
            "price": pl.Series(
                [Decimal(price).scaleb(-8) for price, _ in made], dtype=pl.Decimal(38, 8)
            ),
            "quantity": pl.Series(
                [Decimal(n).scaleb(-8) for _, n in made], dtype=pl.Decimal(38, 8)
            ),
            "one": [0] * len(made),
        }
    )
    contract_size = Decimal(size).scaleb(-8)
    bars = frame.with_columns(one=pl.int_range(pl.len())).rangebar.aggregate(
        "one", contract_size=contract_size
    )
    assert bars["volume"].to_list() == [float(units) / 1e8 for units in coins]
    total = frame.rangebar.aggregate("one", contract_size=f"{contract_size:f}")
    assert total["volume"].to_list() == [float(sum(coins)) / 1e8]
    assert total["turnover"].to_list() == [
        sum(units * price for units, (price, _) in zip(coins, made, strict=True)) / 10**16
    ]


@pytest.mark.parametrize("entry_point", FRAMES)
def test_contracts_at_every_entry_point(entry_point: str) -> None:
    frame = trades().with_columns(quantity=pl.lit(10.0))
    coins = [
        float(half_even(Fraction(10 * 100 * GRID) / Fraction(str(p)))) / GRID
        for p in frame["price"].round(1)
    ]
    expected = frame.with_columns(quantity=pl.Series(coins)).rangebar.bars(250)
    for size in (100, "100", Decimal(100), 100.0):
        assert_same_bars(FRAMES[entry_point](frame, contract_size=size), expected)
    assert_same_bars(FRAMES[entry_point](rechunked(frame), contract_size=100), expected)


def rechunked(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame[:7], frame[7:8], frame[8:]], rechunk=False)


@pytest.mark.parametrize("size", [0, -1, "0", "ten", 0.1, "1e3", Decimal("NaN"), 2**70])
def test_a_contract_of_no_size_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="contract_size"):
        trades().rangebar.bars(250, contract_size=size)
    with pytest.raises(TypeError, match="contract_size"):
        trades().rangebar.bars(250, contract_size=[100])


def test_faults_of_contracts_are_those_of_quantities() -> None:
    row = pl.int_range(pl.len())
    for value, said in ((-3.0, "-3.0"), (float("nan"), "NaN"), (None, "null")):
        frame = trades().with_columns(quantity=pl.when(row == 9).then(value).otherwise("quantity"))
        with pytest.raises(TickDataError, match=f"quantity.*{said}.*row 9"):
            frame.rangebar.bars(250, contract_size=100)
    no_price = trades().with_columns(price=pl.when(row == 9).then(0.0).otherwise("price"))
    with pytest.raises(TickDataError, match=r"`price` must be positive.*row 9"):
        no_price.rangebar.bars(250, contract_size=100)
    with pytest.raises(TickDataError, match="coins at its price"):
        trades().with_columns(pl.col("price") / 1000).rangebar.bars(
            250, contract_size="90000000000"
        )
    with pytest.raises(MissingColumnError, match="contract_size"):
        trades().drop("quantity").rangebar.bars(250, contract_size=100)


@pytest.mark.parametrize("entry_point", SIDED)
@pytest.mark.parametrize("name", ["size", "quantity"])
def test_signed_sizes_are_bars_after_what_the_error_says(entry_point: str, name: str) -> None:
    frame = trades().with_columns(quantity=pl.col("quantity") * pl.Series([1, -1, -1] * 20))
    signed = frame.rename({"quantity": name})
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        SIDED[entry_point](signed)
    code = re.search(r"write `([^`]+)`", str(caught.value))
    assert code is not None, str(caught.value)
    arguments = code[1].removeprefix(".with_columns(").removesuffix(")")
    if code[1].startswith(".with_columns("):
        bars = SIDED[entry_point](eval(f"signed{code[1]}"))
    else:
        bars = signed.select(eval(f'rb.bars("price", 250, {arguments})')).unnest("bars")
    absolute = pl.col("quantity").abs()
    wanted = frame.with_columns(absolute, is_buyer_maker=pl.col("quantity") < 0)
    assert_same_bars(bars, wanted.rangebar.bars(250))


def with_ids(rows: int = 60) -> pl.DataFrame:
    ids = pl.int_range(rows, eager=True)
    return trades(rows).with_columns(first_trade_id=100 + 3 * ids, last_trade_id=102 + 3 * ids)


def twice(frame: pl.DataFrame, at: int, of: int) -> pl.DataFrame:
    """Give a record the fills of another one."""
    rows = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(rows == at).then(pl.col(name).gather(of).first()).otherwise(name).alias(name)
        for name in ("first_trade_id", "last_trade_id")
    )


def double_fills(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if one.category is DoubleFillWarning]


@pytest.mark.parametrize("entry_point", FRAMES)
@pytest.mark.parametrize(("at", "of"), [(1, 0), (30, 29), (40, 7), (59, 0)])
def test_fills_of_two_records_are_named_once(entry_point: str, at: int, of: int) -> None:
    frame = twice(with_ids(), at, of)
    said = double_fills(lambda: FRAMES[entry_point](frame))
    assert len(said) == 1, said
    assert f"{100 + 3 * of} to {102 + 3 * of} at row {at}" in said[0]
    assert f"in row {of}\n" in said[0]
    assert double_fills(lambda: FRAMES[entry_point](with_ids())) == []
    code = re.search(r"`(\.unique\(.*\))`", said[0])
    assert code is not None
    kept = eval(f"frame{code[1]}", {"frame": frame})
    assert double_fills(lambda: FRAMES[entry_point](kept)) == []


def test_fills_are_compared_over_pushes_and_chunks() -> None:
    frame = twice(with_ids(300), 250, 20)

    def push(parts: list[pl.DataFrame]) -> None:
        builder = rb.RangeBarBuilder(250)
        for part in parts:
            builder.push(part)

    said = double_fills(lambda: push(list(frame.iter_slices(9))))
    assert len(said) == 1
    assert "an earlier push" in said[0]
    parts = [frame[:251], frame[251:]]
    assert "row 250, and 160 to 162 in row 20\n" in double_fills(lambda: push(parts))[0]
    assert len(double_fills(lambda: list(rb.iter_bars(parts, 250)))) == 1
    assert len(double_fills(lambda: rechunked(frame).rangebar.bars(250))) == 1
    broken = frame[30:60].with_columns(price=pl.lit(-1.0))
    builder = rb.RangeBarBuilder(250)
    builder.push(frame[:30])
    with pytest.raises(TickDataError):
        builder.push(broken)
    assert double_fills(lambda: builder.push(frame[30:60])) == []


def test_a_refused_push_keeps_the_warning_for_the_next_one() -> None:
    """The fills are found in the first of two pieces, and the fault is in the second."""
    rows = 300_000
    sound = twice(with_ids(rows), 10, 9)
    chunked = pl.concat(list(sound.iter_slices(1_000)), rechunk=False)
    broken = pl.concat([chunked[:-1], chunked[-1:].with_columns(price=pl.lit(-1.0))])
    builder = rb.RangeBarBuilder(250)

    def refuse() -> None:
        with pytest.raises(TickDataError, match=f"row {rows - 1}"):
            builder.push(broken)

    assert double_fills(refuse) == []
    assert len(double_fills(lambda: builder.push(chunked))) == 1


def test_ids_in_another_order_without_an_overlap_are_no_fault() -> None:
    frame = with_ids()
    later = frame["first_trade_id"].gather([*range(30, 60), *range(30)])
    moved = frame.with_columns(first_trade_id=later, last_trade_id=later + 2)
    for call in FRAMES.values():
        assert double_fills(lambda call=call: call(moved)) == []


@pytest.mark.parametrize("keys", [2, 5])
def test_fills_are_compared_within_a_key(keys: int) -> None:
    rows = pl.int_range(60, eager=True)
    own = with_ids().with_columns(
        symbol=(rows % keys).cast(pl.String),
        first_trade_id=rows // keys * 10,
        last_trade_id=rows // keys * 10 + 4,
    )
    assert double_fills(lambda: own.rangebar.bars(250, group_by="symbol")) == []
    said = double_fills(
        lambda: twice(own, 4 * keys + 1, keys + 1).rangebar.bars(250, group_by="symbol")
    )
    assert len(said) == 1
    assert f"row {4 * keys + 1}, " in said[0]
    assert f"in row {keys + 1}\n" in said[0]


def test_expressions_do_not_warn() -> None:
    frame = twice(with_ids(), 30, 2)
    assert double_fills(lambda: frame.select(rb.bars("price", 250))) == []


ORDERED = {
    **SIDED,
    "bar_id": lambda frame: frame.select(rb.bar_id("price", 250)),
}


@pytest.mark.parametrize("entry_point", ORDERED)
@pytest.mark.parametrize("column", ["symbol", "Ticker", None])
def test_disorder_asks_first_for_several_symbols(entry_point: str, column: str | None) -> None:
    frame = trades().with_columns(timestamp=pl.col("timestamp").reverse())
    if column is not None:
        frame = frame.with_columns(pl.lit("X").alias(column))
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        ORDERED[entry_point](frame)
    hint = str(caught.value).split("hint: ")[1]
    assert hint.startswith("no column tells" if column is None else f"if `{column}` tells")
    assert f'group_by="{column or "symbol"}"' in hint
    # Polars before 2.0 wraps the error of a plan.
    if entry_point in FRAMES and "caught exception" not in str(caught.value):
        assert isinstance(caught.value, TickOrderError)


def test_disorder_names_a_text_column_that_may_be_the_symbol() -> None:
    frame = trades().with_columns(sym=pl.Series(["A", "B"] * 30), agg_trade_id=pl.lit(1))
    with pytest.raises(TickOrderError, match=r'if `sym` tells .* group_by="sym"'):
        frame.rangebar.bars(250)
    with pytest.raises(TickOrderError, match=r'if `symbol` tells .* group_by="symbol"'):
        frame.rename({"sym": "symbol"}).rangebar.bars(250, columns={"symbol": None})
    with pytest.raises(TickOrderError) as caught:
        frame.rangebar.bars(250, group_by="sym")
    assert "symbols" not in str(caught.value)


@pytest.mark.parametrize("names", [("bid", "ask"), ("Bid", "Ask"), ("bid_price", "ask_price")])
def test_quotes_are_bars_after_what_the_error_says(names: tuple[str, str]) -> None:
    quotes = (
        trades().rename({"price": names[0]}).with_columns((pl.col(names[0]) + 0.02).alias(names[1]))
    )
    with pytest.raises(MissingColumnError, match=r"rangebar_polars\.exness") as caught:
        quotes.rangebar.bars(250)
    code = re.search(r"(\.with_columns\(.*\)); for", str(caught.value))
    assert code is not None, str(caught.value)
    mended = eval(f"quotes{code[1]}")
    assert mended.rangebar.bars(250).height > 0
    with pytest.raises(MissingColumnError, match=r"with_columns\(price="):
        rb.process_trades_polars(quotes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hints_for_nested_columns_and_ids_run() -> None:
    frame = trades()
    nested = {
        "explode": frame.with_columns(price=pl.concat_list("price")),
        "unnest": frame.with_columns(price=pl.struct("price")),
    }
    for broken in nested.values():
        with pytest.raises(TypeError, match="`price`") as caught:
            broken.rangebar.bars(250)
        code = re.search(r"`(\..*\))`", str(caught.value))
        assert code is not None
        assert_same_bars(eval(f"broken{code[1]}").rangebar.bars(250), frame.rangebar.bars(250))
    for ids in (pl.lit("x"), pl.col("timestamp"), pl.col("price")):
        named = frame.with_columns(mine=ids)
        with pytest.raises(TypeError, match="rle_id") as caught:
            named.rangebar.aggregate("mine")
        code = re.search(r"`(pl\.col.*\))`", str(caught.value))
        assert code is not None
        runs = eval(code[1])
        assert named.with_columns(runs).rangebar.aggregate("mine").height >= 1


@pytest.mark.parametrize("key", ["price", "timestamp", "quantity", "side"])
def test_a_field_is_no_key(key: str) -> None:
    frame = trades().with_columns(side=pl.lit("buy"))
    with pytest.raises(ValueError, match=f"`group_by` names `{key}`"):
        frame.rangebar.bars(250, group_by=key)
    with pytest.raises((ValueError, pl.exceptions.ComputeError), match=f"`group_by` names `{key}`"):
        frame.select(rb.bars("price", 250, group_by=key))
    if key == "side":
        alone = frame.rangebar.bars(250, group_by="side", columns={"side": None})
        assert alone["side"].unique().to_list() == ["buy"]
        single = frame.select(rb.bars("price", 250, group_by="side", side=None)).unnest("bars")
        assert_same_bars(single, alone)


def test_dictionaries_without_an_aggressor() -> None:
    rows = trades().with_columns(timestamp=pl.col("timestamp").dt.epoch("ms")).to_dicts()
    sides = ["buy", None, "sell", "none"]
    sided = [{**row, "side": sides[i % 4]} for i, row in enumerate(rows)]
    signs = [{**row, "side": [1, 0, -1, None][i % 4]} for i, row in enumerate(rows)]
    flow = [
        rb.process_trades_to_dataframe(some, 250, include_microstructure=True)["ofi"].to_list()
        for some in (sided, signs)
    ]
    assert flow[0] == flow[1]


def test_the_reference_of_the_names_is_that_of_the_code(root: Path) -> None:
    generate = runpy.run_path(str(root / "docs" / "reference" / "generate.py"))
    page = generate["NAMES_PAGE"].read_text(encoding="utf-8")
    assert page == generate["names_page"]()
    for field, name in rb.known_names().rows():
        assert f"`{field}`" in page
        assert f"`{name}`" in page
