"""`LiveBuilders` against `RangeBarBuilder`: the same bars and states, bit for bit."""

from __future__ import annotations

import threading
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars import _internal
from rangebar_polars.bar_series.days import forming, new_builder, orphan, restored
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.live_builders import LiveBuilders, bars_digest, bars_state
from rangebar_polars.exceptions import CheckpointError, TickDataError, TickOrderError
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.live.journal import encode_frame

START_US = 1_793_577_600_000_000
SPECS = [
    BarSpec.of("BTCUSDT", 250),
    BarSpec.of("BTCUSDT", 1, rules=BarRules(prevent_same_timestamp_close=False)),
    BarSpec.of("BTCUSDT", 40, rules=BarRules(max_gap_us=2_000_000)),
    BarSpec.of("BTCUSDT", 100_000),
]


@st.composite
def trades(draw, most=60):
    """Draw trades in order, whose prices move enough to end bars."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 1, 700, 900_000, 5_000_000]),
                st.integers(-40, 40),
                st.integers(0, 10**12),
                st.integers(1, 3),
                st.integers(1, 4),
                st.booleans(),
            ),
            max_size=most,
        )
    )
    time, price, number, fill, found = START_US, 10_000, 100, 1_000, []
    for step, move, quantity, ids, fills, side in rows:
        time, price, number = time + step, max(1, price + move), number + ids
        found.append((time, price / 100, quantity / 1e8, number, fill, fill + fills - 1, side))
        fill += fills
    return pl.DataFrame(
        found,
        schema=[(n, pl.Int64 if n == "timestamp" else t) for n, t in TRADES_SCHEMA.items()],
        orient="row",
    ).cast(dict(TRADES_SCHEMA))


def parts_of(frame, cuts):
    bounds = [0, *sorted(cut % (frame.height + 1) for cut in cuts), frame.height]
    parts = [frame[low:high] for low, high in pairwise(bounds)]
    return [part for part in parts if part.height]


def assert_same(live, plain):
    for index, builder in enumerate(plain):
        assert live.checkpoint(index) == builder.checkpoint()
        assert live.digest(index) == bars_digest(builder.checkpoint())
        assert live.partial(index).equals(forming(builder))
        assert live.partial(index).schema == forming(builder).schema
        assert live.orphan(index).equals(orphan(builder))


@given(
    frame=trades(),
    cuts=st.lists(st.integers(0, 1_000), max_size=8),
    resets=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), max_size=4),
    warm=st.integers(0, 30),
    threshold=st.integers(1, 100_000),
)
def test_any_records_give_the_bars_and_states_of_range_bar_builders(
    frame, cuts, resets, warm, threshold
):
    specs = [BarSpec.of("BTCUSDT", threshold), *SPECS]
    plain = [new_builder(spec) for spec in specs]
    for builder in plain[: len(plain) // 2]:  # one half starts with the states of units
        builder.push(frame[:warm])
    for builder in plain[len(plain) // 2 :]:
        builder.push(frame[:warm].select(sorted(frame.columns)))
    live = LiveBuilders([builder.checkpoint() for builder in plain])
    assert_same(live, plain)
    for number, part in enumerate(parts_of(frame[warm:], cuts)):
        expected = [(index, builder.push(part)) for index, builder in enumerate(plain)]
        expected = [(index, bars) for index, bars in expected if bars.height]
        found = live.push(encode_frame(part))
        if not expected:
            assert found is None
        else:
            assert [index for index, _ in found] == [index for index, _ in expected]
            for (_, bars), (_, others) in zip(found, expected, strict=True):
                assert bars.schema == others.schema
                assert bars.equals(others)
        for at, index in resets:
            if at == number:
                plain[index] = new_builder(specs[index])
                live.replace(index, plain[index].checkpoint())
        states = [builder.checkpoint() for builder in plain]
        assert [live.checkpoint(index) for index in range(len(live))] == states
    assert_same(live, plain)


def test_a_large_record_is_the_same_as_small_ones():
    ticks = rb.sample_ticks().select(TRADES_SCHEMA.names()).cast(dict(TRADES_SCHEMA))
    plain = [new_builder(BarSpec.of("ETHUSDT", dbps)) for dbps in (250, 500)]
    expected = [builder.push(ticks) for builder in plain]
    states = [new_builder(BarSpec.of("ETHUSDT", dbps)).checkpoint() for dbps in (250, 500)]
    one, many = LiveBuilders(states), LiveBuilders(states)
    assert [bars.equals(expected[at]) for at, bars in one.push(encode_frame(ticks))] == [True, True]
    found = [[], []]
    for start in range(0, ticks.height, 777):
        for index, bars in many.push(encode_frame(ticks[start : start + 777])) or ():
            found[index].append(bars)
    assert all(pl.concat(bars).equals(whole) for bars, whole in zip(found, expected, strict=True))
    for live in (one, many):
        assert_same(live, plain)
    assert restored(one.checkpoint(0)).partial().equals(plain[0].partial())


def test_a_push_to_one_series_leaves_the_others_alone():
    frame = rb.sample_ticks().select(TRADES_SCHEMA.names()).cast(dict(TRADES_SCHEMA))[:500]
    specs = SPECS[:2]
    plain = [new_builder(spec) for spec in specs]
    live = LiveBuilders([builder.checkpoint() for builder in plain])
    plain[1].push(frame[:100])
    live.push(encode_frame(frame[:100]), 1)
    assert_same(live, plain)
    with pytest.raises(ValueError, match="no series"):
        live.push(encode_frame(frame), 2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (pl.col("price") * 0 - 1, TickDataError),
        (pl.lit(float("nan")).alias("quantity"), TickDataError),
        (pl.col("agg_trade_id") - 3, TickOrderError),
        (pl.col("timestamp") - pl.duration(seconds=9), TickOrderError),
    ],
)
def test_a_refused_record_changes_no_series(change, error):
    plain = [new_builder(spec) for spec in SPECS]
    ticks = rb.sample_ticks().select(TRADES_SCHEMA.names()).cast(dict(TRADES_SCHEMA))[:4_000]
    live = LiveBuilders([builder.checkpoint() for builder in plain])
    for builder in plain:
        builder.push(ticks[:1_000])
    live.push(encode_frame(ticks[:1_000]))
    bad = pl.concat([ticks[1_000:3_999], ticks[3_999:].with_columns(change)])
    with pytest.raises(error) as found:
        live.push(encode_frame(bad))
    with pytest.raises(error) as expected:
        plain[0].push(bad)
    assert str(found.value) == str(expected.value)
    assert_same(live, plain)
    live.push(encode_frame(ticks[1_000:]))
    for builder in plain:
        builder.push(ticks[1_000:])
    assert_same(live, plain)


def test_only_records_of_trades_are_pushed():
    live = LiveBuilders([new_builder(SPECS[0]).checkpoint()])
    record = encode_frame(rb.sample_ticks()[:3])
    others = [b"", record[:-1], record + b"\0", record[:20] + b"\1" + record[21:]]
    others += [
        _internal.encode_trades(rb.sample_ticks()[:3], True),
        _internal.encode_record(5, 0, b""),
    ]
    for other in others:
        with pytest.raises(ValueError, match="not one record of trades"):
            live.push(other)
    assert live.push(_internal.encode_record(1, 0, b"")) is None
    assert live.checkpoint(0) == new_builder(SPECS[0]).checkpoint()


def test_a_state_of_other_columns_is_refused():
    frame = rb.sample_ticks().select("timestamp", "price")
    builder = rb.RangeBarBuilder(250)
    builder.push(frame)
    with pytest.raises(ValueError, match="exactly the columns"):
        LiveBuilders([builder.checkpoint()])
    with pytest.raises(CheckpointError):
        LiveBuilders([b"nothing"])
    live = LiveBuilders([new_builder(SPECS[0]).checkpoint()])
    with pytest.raises(ValueError, match="exactly the columns"):
        live.replace(0, builder.checkpoint())
    with pytest.raises(IndexError):
        live.checkpoint(1)


def test_a_digest_knows_no_counters_and_no_features():
    ticks = rb.sample_ticks().select(TRADES_SCHEMA.names()).cast(dict(TRADES_SCHEMA))
    whole, late = new_builder(SPECS[0]), new_builder(SPECS[0])
    whole.push(ticks)
    opened = whole.partial().item(0, "first_agg_trade_id")
    late.push(ticks.filter(pl.col("agg_trade_id") >= opened))
    assert whole.checkpoint() != late.checkpoint()
    assert bars_digest(whole.checkpoint()) == bars_digest(late.checkpoint())
    more = rb.RangeBarBuilder.from_checkpoint(whole.checkpoint())
    more.push(ticks[-1:].with_columns(pl.col("agg_trade_id") + 1))
    assert bars_digest(more.checkpoint()) != bars_digest(whole.checkpoint())
    rich = rb.RangeBarBuilder(
        250, features=["microstructure", "lookback", "extended"], incomplete="keep"
    )
    rich.push(ticks)
    assert bars_state(rich.checkpoint()) == whole.checkpoint() == bars_state(whole.checkpoint())
    assert bars_digest(rich.checkpoint()) == bars_digest(whole.checkpoint())
    core = rb.RangeBarBuilder(250, incomplete="keep")
    core.push(ticks)
    assert bars_state(core.checkpoint()) == whole.checkpoint()
    fresh = new_builder(SPECS[0]).checkpoint()
    assert bars_state(fresh) == fresh
    assert bars_digest(fresh) == bars_digest(new_builder(SPECS[3]).checkpoint())


def test_threads_share_builders():
    ticks = rb.sample_ticks().select(TRADES_SCHEMA.names()).cast(dict(TRADES_SCHEMA))
    live = LiveBuilders([new_builder(spec).checkpoint() for spec in SPECS[:2]])
    seen, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append((live.partial(0).height, live.digest(1)))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 40_000, 4_000):
        live.push(encode_frame(ticks[start : start + 4_000]))
    stop.set()
    for thread in threads:
        thread.join()
    plain = [new_builder(spec) for spec in SPECS[:2]]
    for builder in plain:
        builder.push(ticks[:40_000])
    assert_same(live, plain)
    assert seen
