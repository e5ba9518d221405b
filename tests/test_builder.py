"""The builder: pushes, unfinished bars, and checkpoints that are either whole or refused."""

from __future__ import annotations

import pickle

import polars as pl
import pytest

import rangebar_polars as rb
from properties.comparing import assert_same_bars
from properties.frames import long_frame
from rangebar_polars.exceptions import CheckpointError, RangeBarError


def test_a_push_gives_the_bars_that_it_closed(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    assert builder.push(day.head(3)).height == 0
    assert_same_bars(builder.push(day.slice(3, 1)), day.rangebar.bars(250).head(1))
    assert builder.push(day.clear()).height == 0


def test_a_push_has_the_columns_of_the_frame_door(day: pl.DataFrame) -> None:
    for incomplete in ("drop", "keep"):
        for threshold in (250, [250, 500]):
            door = day.rangebar.bars(threshold, incomplete=incomplete, features="microstructure")
            builder = rb.RangeBarBuilder(
                threshold, incomplete=incomplete, features="microstructure"
            )
            assert list(builder.push(day).schema.items()) == list(door.schema.items())


def test_kept_bars_of_a_reset_come_with_the_push_that_reveals_it(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250, reset="day", incomplete="keep")
    builder.push(day.head(2))
    tomorrow = day.slice(2).with_columns(pl.col("timestamp") + pl.duration(days=1))
    bars = builder.push(tomorrow)
    assert bars["ended_by"].to_list()[0] == "reset"
    assert bars["bar_id"].to_list() == list(range(bars.height))


def test_partial_is_an_empty_frame_before_the_first_push() -> None:
    for incomplete in ("drop", "keep"):
        partial = rb.RangeBarBuilder(250, incomplete=incomplete).partial()
        assert isinstance(partial, pl.DataFrame)
        assert partial.is_empty()


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": 250},
        {"threshold": [250, 500], "features": "microstructure"},
        {"threshold": rb.Distance("1")},
        {"threshold": [rb.Distance("1"), rb.Distance("2")], "group_by": ["symbol", "venue"]},
        {"threshold": 250, "group_by": "symbol", "columns": {"quantity": None}},
    ],
    ids=str,
)
def test_partial_has_the_columns_of_later_ones_before_the_first_push(
    day: pl.DataFrame, arguments: dict
) -> None:
    builder = rb.RangeBarBuilder(**arguments)
    resumed = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    before = builder.partial()
    assert before.is_empty()
    builder.push(day.with_columns(symbol=pl.lit("ETHUSDT"), venue=pl.lit("a")))
    after = builder.partial()
    assert resumed.partial().schema == before.schema == after.schema
    assert pl.concat([before, after]).equals(after)


@pytest.mark.parametrize("incomplete", ["drop", "keep"])
def test_partial_gives_the_forming_bars_with_their_status(
    day: pl.DataFrame, incomplete: str
) -> None:
    builder = rb.RangeBarBuilder(250, incomplete=incomplete, features="microstructure")
    builder.push(day)
    kept = day.rangebar.bars(250, incomplete="keep", features="microstructure")
    assert_same_bars(builder.partial(), kept.filter(~pl.col("is_closed")))
    assert builder.partial()["ended_by"].to_list() == [None]


def test_partial_changes_nothing(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(day.head(2))
    before = builder.checkpoint()
    assert_same_bars(builder.partial(), builder.partial())
    assert builder.checkpoint() == before
    assert builder.push(day.slice(2)).equals(day.rangebar.bars(250))


def test_partial_is_empty_where_every_bar_is_closed(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(day.head(4))
    assert builder.partial().is_empty()


def test_partial_orders_keys_by_their_first_appearance(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder([1000, 500], group_by="symbol")
    for symbol in ("Z", None, "A"):
        builder.push(day.head(1).with_columns(symbol=pl.lit(symbol, pl.String)))
    partial = builder.partial().select("symbol", "threshold").rows()
    assert partial == [(s, t) for s in ("Z", None, "A") for t in (1000, 500)]


@pytest.mark.parametrize("threshold", [250, [250, 500]])
@pytest.mark.parametrize("pushed", [0, 1, 5])
def test_a_checkpoint_keeps_settings_and_state(
    day: pl.DataFrame, pushed: int, threshold: object
) -> None:
    day = day.rename({"price": "px"}).with_columns(symbol=pl.lit("A", pl.Enum(["B", "A"])))
    builder = rb.RangeBarBuilder(
        threshold, group_by="symbol", features="microstructure", reset="month", max_gap="1h",
        incomplete="keep", prevent_same_timestamp_close=False, columns={"price": "px", "agg_trade_id": None},
    )  # fmt: skip
    if pushed:
        builder.push(day.head(pushed))
    data = builder.checkpoint()
    assert isinstance(data, bytes)
    resumed = rb.RangeBarBuilder.from_checkpoint(data)
    assert resumed.checkpoint() == data
    assert_same_bars(resumed.push(day.slice(pushed)), builder.push(day.slice(pushed)))
    assert_same_bars(resumed.partial(), builder.partial())
    assert resumed.checkpoint() == builder.checkpoint()


def test_checkpoints_of_other_settings_differ(day: pl.DataFrame) -> None:
    def checkpoint(threshold: object = 250, **settings: object) -> bytes:
        builder = rb.RangeBarBuilder(threshold, **settings)
        builder.push(day.head(2))
        return builder.checkpoint()

    different = [
        checkpoint(),
        checkpoint(251),
        checkpoint([250]),
        checkpoint(reset="day"),
        checkpoint(max_gap="1h"),
        checkpoint(incomplete="keep"),
        checkpoint(prevent_same_timestamp_close=False),
        checkpoint(features="ofi"),
    ]
    assert len(set(different)) == len(different)


@pytest.fixture
def checkpoint(day: pl.DataFrame) -> bytes:
    builder = rb.RangeBarBuilder([250, 500], group_by="symbol", features="microstructure")
    builder.push(day.with_columns(symbol=pl.lit("A")))
    return builder.checkpoint()


def test_a_checkpoint_with_any_byte_altered_is_refused(checkpoint: bytes) -> None:
    for place in range(len(checkpoint)):
        for flip in (1, 128):
            altered = bytearray(checkpoint)
            altered[place] ^= flip
            with pytest.raises(CheckpointError):
                rb.RangeBarBuilder.from_checkpoint(bytes(altered))


def test_a_checkpoint_cut_or_grown_is_refused(checkpoint: bytes) -> None:
    for length in range(len(checkpoint)):
        with pytest.raises(CheckpointError):
            rb.RangeBarBuilder.from_checkpoint(checkpoint[:length])
    for grown in (checkpoint + b"\0", checkpoint + checkpoint, b"\0" + checkpoint):
        with pytest.raises(CheckpointError):
            rb.RangeBarBuilder.from_checkpoint(grown)


@pytest.mark.parametrize("junk", [b"", b"x", b"\0" * 100, pickle.dumps({}), b"{}" * 50])
def test_what_is_no_checkpoint_is_refused(junk: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        rb.RangeBarBuilder.from_checkpoint(junk)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RangeBarError)


@pytest.mark.parametrize("wrong", [None, "text", 5, [1, 2]])
def test_a_checkpoint_is_bytes(wrong: object) -> None:
    with pytest.raises((TypeError, CheckpointError), match="bytes"):
        rb.RangeBarBuilder.from_checkpoint(wrong)


def test_a_resumed_builder_binds_what_the_first_push_bound(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(day.head(2).select("timestamp", "price"))
    resumed = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    bars = resumed.push(day.slice(2))  # more columns now: they stay unbound
    assert bars["volume"].null_count() == bars.height == 2


def test_columns_that_are_missing_from_a_later_push_are_refused(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(day.head(2))
    before = builder.checkpoint()
    with pytest.raises(
        (TypeError, ValueError, pl.exceptions.ColumnNotFoundError), match="quantity"
    ):
        builder.push(day.slice(2).drop("quantity"))
    assert builder.checkpoint() == before


def test_the_order_of_columns_in_a_push_does_not_matter(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(250)
    builder.push(day.head(2))
    shuffled = day.slice(2).select(reversed(day.columns))
    assert_same_bars(builder.push(shuffled), day.rangebar.bars(250))


@pytest.mark.parametrize("wrong", [None, 5, "frame", [1, 2], {"price": [1.0]}])
def test_a_push_takes_a_frame(wrong: object) -> None:
    with pytest.raises(TypeError):
        rb.RangeBarBuilder(250).push(wrong)


def test_a_lazy_frame_is_not_pushed(day: pl.DataFrame) -> None:
    with pytest.raises(TypeError):
        rb.RangeBarBuilder(250).push(day.lazy())


def test_categories_may_grow_from_push_to_push(day: pl.DataFrame) -> None:
    frame = day.with_columns(symbol=pl.Series(list("ABABCACB")))
    whole = frame.rangebar.bars(10, group_by="symbol", incomplete="keep")
    builder = rb.RangeBarBuilder(10, group_by="symbol", incomplete="keep")
    parts = [frame.slice(row, 1).cast({"symbol": pl.Categorical}) for row in range(frame.height)]
    bars = pl.concat([*(builder.push(part) for part in parts), builder.partial()])
    assert bars.schema["symbol"] == pl.Categorical
    assert_same_bars(bars.cast({"symbol": pl.String}), whole)


def test_a_checkpoint_stays_small(day: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(100_000)
    sizes = []
    for seed in range(3):
        frame = long_frame(seed=1, rows=20_000)
        later = pl.duration(days=seed)
        builder.push(
            frame.with_columns(pl.col("timestamp") + later, pl.col("agg_trade_id") + seed * 10**6)
        )
        sizes.append(len(builder.checkpoint()))
    assert max(sizes) == min(sizes)
    assert max(sizes) < 10_000
    assert day.height


def test_frames_of_bars_do_not_keep_the_trades_alive() -> None:
    symbols = pl.Series("symbol", ["a long name of an instrument"] * 50_000)
    frame = long_frame(seed=1, rows=50_000).with_columns(symbols)
    bars = rb.RangeBarBuilder(250, group_by="symbol").push(frame)
    assert 0 < bars.height < 2_000
    assert bars.estimated_size() < 400 * bars.height
