"""Which column is which field: the same answer at every entry point, and nothing unbound in silence."""

from __future__ import annotations

import pickle
import re
import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from rangebar_polars.exceptions import RangeBarWarning, TickDataError, UnboundColumnWarning

START = datetime(2024, 1, 1, tzinfo=UTC)
KNOWN = rb.known_names()


def trades(rows: int = 60) -> pl.DataFrame:
    ids = range(100, 100 + rows)
    return pl.DataFrame(
        {
            "timestamp": [START + timedelta(seconds=row) for row in range(rows)],
            "price": [100.0 + row % 7 * 0.1 for row in range(rows)],
            "quantity": [0.5 + row % 3 for row in range(rows)],
            "is_buyer_maker": [row % 2 == 0 for row in range(rows)],
            "agg_trade_id": ids,
            "first_trade_id": [2 * one for one in ids],
            "last_trade_id": [2 * one + 1 for one in ids],
        }
    )


ENTRY_POINTS = {
    "frame": lambda frame, **named: frame.rangebar.bars(250, columns=named or None),
    "plan": lambda frame, **named: frame.lazy().rangebar.bars(250, columns=named or None).collect(),
    "streaming": lambda frame, **named: (
        frame.lazy().rangebar.bars(250, columns=named or None).collect(engine="streaming")
    ),
    "builder": lambda frame, **named: rb.RangeBarBuilder(250, columns=named or None).push(frame),
    "iter_bars": lambda frame, **named: pl.concat(rb.iter_bars(frame, 250, columns=named or None)),
    "expression": lambda frame, **named: frame.select(rb.bars("price", 250, **named)).unnest(
        "bars"
    ),
    "lazy expression": lambda frame, **named: (
        frame.lazy()
        .select(pl.col("price").rangebar.bars(250, **named))
        .unnest("bars")
        .collect(engine="streaming")
    ),
    "agg": lambda frame, **named: (
        frame.group_by(one=pl.lit(1))
        .agg(rb.bars("price", 250, **named))
        .explode("bars", empty_as_null=False)
        .unnest("bars")
        .drop("one")
    ),
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_binds_the_same_columns(entry_point: str) -> None:
    frame = trades().with_columns(note=pl.lit("x"), other=1)
    wanted = frame.rangebar.bars(250)
    assert wanted["first_trade_id"].null_count() == 0
    assert_same_bars(ENTRY_POINTS[entry_point](frame), wanted)
    left_out = {"agg_trade_id": None, "quantity": None}
    assert_same_bars(
        ENTRY_POINTS[entry_point](frame, **left_out),
        frame.drop("agg_trade_id", "quantity").rangebar.bars(250, columns={"quantity": None}),
    )


def spellings(name: str) -> st.SearchStrategy[str]:
    """Draw the name in other letter cases and with other separators."""
    letters = [character for character in name if character not in " _-."]
    cases = st.tuples(*(st.sampled_from([one.lower(), one.upper()]) for one in letters))
    gaps = st.tuples(*(st.sampled_from(["", "", "_", "-", ".", " "]) for _ in letters))
    return st.tuples(cases, gaps).map(
        lambda drawn: "".join(gap + one for one, gap in zip(*drawn, strict=True))
    )


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_known_name_is_bound_however_it_is_written(data: st.DataObject) -> None:
    fields = [
        field for field in KNOWN["field"].unique() if field not in {"symbol", "side", "price"}
    ]
    field = data.draw(st.sampled_from(sorted(fields)))
    names = KNOWN.filter(pl.col("field") == field, pl.col("name").str.len_chars() > 1)["name"]
    name = data.draw(st.sampled_from(sorted(names)).flatmap(spellings))
    frame = trades()
    if name in frame.columns and name != field:
        return
    renamed = frame.rename({field: name})
    assert_same_bars(renamed.rangebar.bars(250), frame.rangebar.bars(250))
    expression = renamed.select(rb.bars("price", 250)).unnest("bars")
    assert_same_bars(expression, frame.rangebar.bars(250))


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_single_letters_bind_as_a_signature_only(entry_point: str) -> None:
    letters = {
        "quantity": "q",
        "timestamp": "T",
        "agg_trade_id": "a",
        "first_trade_id": "f",
        "last_trade_id": "l",
        "is_buyer_maker": "m",
    }
    frame = trades()
    stream = frame.rename({"price": "p", **letters})
    wanted = frame.rangebar.bars(250)
    call = ENTRY_POINTS[entry_point]
    if entry_point in {"expression", "lazy expression", "agg"}:
        stream = stream.with_columns(price=pl.col("p"))
    assert_same_bars(call(stream), wanted)
    # `f` without `l` is not an id of a fill; `q` without `T` is not a quantity.
    assert call(stream.drop("l"))["first_trade_id"].null_count() == wanted.height
    without_time = stream.drop("T").with_columns(timestamp=frame["timestamp"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnboundColumnWarning)
        if "price" in without_time.columns:
            assert call(without_time)["volume"].null_count() == wanted.height
        else:
            with pytest.raises(rb.exceptions.MissingColumnError, match="price"):
                call(without_time)


def test_ids_of_text_are_not_bound_by_their_name() -> None:
    frame = trades().drop("agg_trade_id").with_columns(id=pl.lit("3f2a"))
    bars = frame.rangebar.bars(250)
    assert bars["first_agg_trade_id"].null_count() == bars.height > 0


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_two_candidates_are_an_error_that_names_both(entry_point: str) -> None:
    frame = trades().rename({"quantity": "qty"}).with_columns(Volume=1.0)
    with pytest.raises((ValueError, pl.exceptions.ComputeError), match=r"(?s)`qty`.*`Volume`"):
        ENTRY_POINTS[entry_point](frame)
    bars = ENTRY_POINTS[entry_point](frame, quantity="qty")
    assert_same_bars(bars, trades().rangebar.bars(250))


def test_the_table_says_what_is_bound_and_how() -> None:
    frame = trades().rename({"quantity": "sz", "price": "last"}).drop("is_buyer_maker")
    frame = frame.with_columns(taker_is=pl.lit("buy"), Ticker=pl.lit("A"))
    table = rb.binding(frame.lazy(), columns={"price": "last"})
    assert table.columns == ["field", "column", "dtype", "how", "note"]
    rows = {row["field"]: row for row in table.to_dicts()}
    assert (rows["price"]["column"], rows["price"]["how"]) == ("last", "given")
    assert (rows["quantity"]["column"], rows["quantity"]["how"]) == ("sz", "name")
    assert rows["timestamp"]["dtype"] == str(frame.schema["timestamp"])
    assert rows["side"]["how"] == "absent"
    assert "taker_is" in rows["side"]["note"]
    assert rows["symbol"]["column"] == "Ticker"


def test_the_sentinel_has_its_name_and_outlives_a_pickle() -> None:
    assert repr(rb.AUTO) == "rb.AUTO"
    assert pickle.loads(pickle.dumps(rb.AUTO)) is rb.AUTO


UNBOUND = {
    "quantity": trades().rename({"quantity": "tradesize"}),
    "side": trades().rename({"is_buyer_maker": "taker"}).with_columns(taker=pl.lit("buy")),
    "is_buyer_maker": trades().rename({"is_buyer_maker": "flag"}),
}


@pytest.mark.parametrize("field", UNBOUND)
@pytest.mark.parametrize("entry_point", ["frame", "plan", "builder", "iter_bars"])
def test_a_field_that_is_not_found_is_warned_of_once(field: str, entry_point: str) -> None:
    call = ENTRY_POINTS[entry_point]
    with pytest.warns(UnboundColumnWarning) as caught:
        call(UNBOUND[field])
    assert len(caught) == 1
    text = str(caught[0].message)
    assert caught[0].filename == __file__
    named = re.search(r"name it: columns=({.*?}); or", text)
    silent = re.search(r"declare it absent: columns=({.*?})$", text)
    assert named is not None
    assert silent is not None
    assert issubclass(UnboundColumnWarning, RangeBarWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_bars(call(UNBOUND[field], **eval(named[1])), trades().rangebar.bars(250)) if (
            field != "side"
        ) else call(UNBOUND[field], **eval(named[1]))
        call(UNBOUND[field], **eval(silent[1]))


def test_nothing_is_warned_of_where_no_column_could_be_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trades().select("timestamp", "price").rangebar.bars(250)


@pytest.mark.parametrize(
    "name",
    [
        *("order_id", "orderId", "buyerorderid", "match_id", "seq", "sequence", "rowNum", "index"),
        *("local_timestamp", "recvTime", "ts_recv", "event_time_ms", "epoch", "date", "eventtime"),
        *("bid", "ask", "bidPrice", "ask_px", "best_bid", "bestAsk", "bid_size", "askQty", "Bid"),
    ],
)
def test_ids_times_and_quotes_are_not_taken_for_a_quantity(name: str) -> None:
    numbers = pl.int_range(1, pl.len() + 1)
    frame = trades().drop("quantity").with_columns(numbers.alias(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame.rangebar.bars(250)
        assert rb.binding(frame).filter(field="quantity")["note"].item() is None


@pytest.mark.parametrize("name", ["lots", "baseAmount", "filled", "paid", "grid", "task_units"])
def test_other_numbers_may_be_the_quantity_beside_them(name: str) -> None:
    numbers = pl.int_range(1, pl.len() + 1)
    beside = {"order_id": numbers, "local_timestamp": numbers, "bid": pl.col("price")}
    frame = trades().drop("quantity").with_columns(**beside, **{name: numbers.cast(pl.Float64)})
    with pytest.warns(UnboundColumnWarning, match=f"`{name}` could be it"):
        frame.rangebar.bars(250)


def test_an_id_of_a_buyer_is_not_taken_for_a_side() -> None:
    frame = trades().drop("is_buyer_maker").with_columns(buyer_order_id=pl.lit("3f2a"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame.rangebar.bars(250)


SYMBOL_NAMES = ["symbol", "Ticker", "INSTRUMENT", "pair", "market", "coin", "s"]
DTYPES = [
    pl.String,
    pl.Categorical,
    pl.Enum(["A", "B", "a longer name than twelve", "another long name"]),
]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["text", "categorical", "enum"])
@pytest.mark.parametrize(
    "values",
    [("A", "B"), ("a longer name than twelve", "another long name")],
    ids=["short", "long"],
)
def test_several_symbols_without_a_key_are_refused(
    entry_point: str, dtype: pl.DataType, values: tuple[str, str]
) -> None:
    frame = trades()
    symbols = pl.Series("symbol", [values[0]] * 37 + [values[1]] * 23, dtype=dtype)
    mixed = frame.with_columns(symbols)
    with pytest.raises(
        pl.exceptions.ComputeError,
        match=rf"(?s){values[0]}.*{values[1]}.*row 37.*group_by=\"symbol\"",
    ):
        ENTRY_POINTS[entry_point](mixed)
    one_series = {"symbol": None}
    assert_same_bars(ENTRY_POINTS[entry_point](mixed, **one_series), frame.rangebar.bars(250))


@pytest.mark.parametrize("name", SYMBOL_NAMES)
def test_a_column_of_symbols_is_known_by_its_name(name: str) -> None:
    mixed = trades().with_columns(pl.Series(name, ["A", "B"] * 30))
    with pytest.raises(TickDataError, match=f'group_by="{name}"'):
        mixed.rangebar.bars(250)
    with pytest.raises(pl.exceptions.ComputeError, match=f'group_by="{name}"'):
        mixed.select(rb.bar_id("price", 250))
    assert mixed.rangebar.bars(250, group_by=name).height >= 2
    numbers = trades().with_columns(pl.Series(name, [1, 2] * 30))
    if name != "s":
        assert numbers.rangebar.bars(250).height == trades().rangebar.bars(250).height


def test_symbols_are_remembered_between_pushes() -> None:
    frame = trades()
    builder = rb.RangeBarBuilder(250)
    builder.push(frame.head(30).with_columns(symbol=pl.lit("A")))
    with pytest.raises(TickDataError, match=r"`A`.*`B`.*row 0"):
        builder.push(frame.slice(30).with_columns(symbol=pl.lit("B")))
    # Nothing changed; a later push may leave the column out.
    rest = builder.push(frame.slice(30))
    whole = frame.rangebar.bars(250)
    assert_same_bars(rest, whole.tail(rest.height))


def test_null_symbols_are_no_symbol() -> None:
    frame = trades().with_columns(symbol=pl.Series([None, "A", None] * 20))
    assert_same_bars(frame.rangebar.bars(250), trades().rangebar.bars(250))


# Times as numbers, and the unit that the proposed call names.
TIMES = {
    "integer seconds": (pl.col("timestamp").dt.epoch("s"), "s"),
    "integer milliseconds": (pl.col("timestamp").dt.epoch("ms"), "ms"),
    "integer microseconds": (pl.col("timestamp").dt.epoch("us"), "us"),
    "integer nanoseconds": (pl.col("timestamp").dt.epoch("ns"), "ns"),
    "float seconds": (pl.col("timestamp").dt.epoch("us") / 1e6, "us"),
    "float milliseconds": (pl.col("timestamp").dt.epoch("us") / 1e3, "us"),
    "float microseconds": (pl.col("timestamp").dt.epoch("us").cast(pl.Float64), "us"),
    "decimal seconds": ((pl.col("timestamp").dt.epoch("ms").cast(pl.Decimal(20, 3)) / 1000), "us"),
}


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("entry_point", ["frame", "builder", "iter_bars"])
def test_a_time_without_a_unit_is_refused_with_the_call_that_its_values_need(
    kind: str, entry_point: str
) -> None:
    expression, unit = TIMES[kind]
    frame = trades().with_columns(timestamp=expression)
    with pytest.raises(TypeError, match="Datetime") as caught:
        ENTRY_POINTS[entry_point](frame)
    code = re.search(r"`(pl\.from_epoch\(.*?\))`(?:$|\s)", str(caught.value))
    assert code is not None, str(caught.value)
    assert code[1].endswith(f', time_unit="{unit}")')
    mended = frame.with_columns(
        timestamp=eval(code[1]).dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    )
    assert_same_bars(ENTRY_POINTS[entry_point](mended), trades().rangebar.bars(250))


@pytest.mark.parametrize(("taken", "meant"), [("ms", "us"), ("us", "ns"), ("ms", "ns")])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_time_in_another_unit_than_it_was_read_in_is_refused(
    taken: str, meant: str, entry_point: str
) -> None:
    raw = pl.col("timestamp").dt.epoch(meant)
    frame = trades().with_columns(timestamp=raw.cast(pl.Datetime(taken)))
    with pytest.raises((TickDataError, pl.exceptions.ComputeError)) as caught:
        ENTRY_POINTS[entry_point](frame)
    code = re.search(r"`(pl\.from_epoch\(.*?\))`", str(caught.value))
    assert code is not None, str(caught.value)
    mended = frame.with_columns(timestamp=eval(code[1]))
    times = mended["timestamp"].dt.replace_time_zone("UTC")
    assert (times == trades()["timestamp"]).all()


def test_a_last_time_out_of_range_is_refused_with_its_row() -> None:
    frame = trades()
    late = frame.with_columns(
        timestamp=pl.when(pl.int_range(pl.len()) < 59)
        .then("timestamp")
        .otherwise(pl.datetime(2300, 1, 1, time_zone="UTC"))
    )
    with pytest.raises(TickDataError, match="row 59"):
        late.rangebar.bars(250)
