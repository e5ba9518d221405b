"""Laws of features: entry points, chunks, checkpoints, prefixes, splits and symmetries."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import polars as pl
import pytest

import rangebar_polars as rb
from features.frames import bars_of, frame, same_bits, stream
from features.oracle import COLUMNS, EXTENDED, LOOKBACK, Records, lookback, window
from properties import entry_points
from properties.model import Case

ARGUMENTS = {"features": "all", "lookback": "3bars"}
FEATURES = [*COLUMNS]
#: Digest of the columns in `test_the_bits_are_those_of_every_machine`.
BITS = "3802584cea1821e4d464bc4a37237c3fb3e2f51edf3815e21704a28db1b4c9b3"


@pytest.fixture(scope="module")
def records() -> Records:
    return stream(31, 6_000)


@pytest.fixture(scope="module")
def trades(records: Records) -> pl.DataFrame:
    return frame(records)


@pytest.mark.parametrize("lookback", ["3bars", "5s", 200])
def test_every_entry_point_gives_the_same_bits(trades: pl.DataFrame, lookback: str | int) -> None:
    case = Case(trades, threshold=[20, 100], features="all", incomplete="keep")
    given = {**case.arguments, "lookback": lookback}
    whole = trades.rangebar.bars([20, 100], **given)
    expression = rb.bars("price", [20, 100], **case.bound, **given)
    builder = rb.RangeBarBuilder([20, 100], **given)
    doors = {
        "expression": trades.select(expression).unnest("bars"),
        "builder": pl.concat([builder.push(trades), builder.partial()]),
        "iter_bars": pl.concat(rb.iter_bars(trades.lazy(), [20, 100], **given)),
    }
    for engine in entry_points.ENGINES:
        plan = trades.lazy().rangebar.bars([20, 100], **given)
        doors[f"lazy frame, {engine}"] = entry_points.collect(plan, engine)
        plan = trades.lazy().select(expression).unnest("bars")
        doors[f"lazy expression, {engine}"] = entry_points.collect(plan, engine)
    for name, bars in doors.items():
        assert same_bits(bars, whole), name


def test_any_pieces_with_a_checkpoint_after_each(trades: pl.DataFrame) -> None:
    whole = trades.rangebar.bars([20, 50], **ARGUMENTS)
    states = []
    for seed in (1, 2):
        at = sorted(random.Random(seed).sample(range(trades.height), 150))
        builder, bars = rb.RangeBarBuilder([20, 50], **ARGUMENTS), []
        for start, end in zip([0, *at], [*at, trades.height], strict=True):
            bars.append(builder.push(trades[start:end]))
            builder = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
        assert same_bits(pl.concat(bars), whole)
        states.append(builder.checkpoint())
    assert states[0] == states[1]


def test_a_checkpoint_without_features_keeps_its_version(trades: pl.DataFrame) -> None:
    for features, version in (("core", 1), ("microstructure", 1), ("intrabar", 2), ("lookback", 2)):
        builder = rb.RangeBarBuilder(50, features=features)
        builder.push(trades)
        assert int.from_bytes(builder.checkpoint()[8:12], "little") == version, features


def test_a_plain_checkpoint_is_that_of_a_builder_without_features(trades: pl.DataFrame) -> None:
    full = rb.RangeBarBuilder([20, 50], features="all", lookback="5s")
    plain = rb.RangeBarBuilder([20, 50], features="microstructure")
    for rows in (0, 1_000, 3_000):
        if rows:
            full.push(trades[rows - 1_000 : rows])
            plain.push(trades[rows - 1_000 : rows])
        assert full._plain_checkpoint() == plain.checkpoint() == plain._plain_checkpoint()


def test_every_instruction_set_gives_the_same_bits(trades: pl.DataFrame) -> None:
    from rangebar_polars import _internal

    whole = trades.rangebar.bars(50, **ARGUMENTS)
    floats = trades.with_columns(pl.col("price", "quantity").cast(pl.Float64))
    try:
        for name in ("baseline", "avx2", "avx512"):
            try:
                _internal.force_instruction_set(name)
            except ValueError:
                continue
            assert same_bits(floats.rangebar.bars(50, **ARGUMENTS), whole)
    finally:
        _internal.force_instruction_set(None)


def test_thresholds_columns_and_projections_do_not_interfere(trades: pl.DataFrame) -> None:
    both = trades.rangebar.bars([20, 50], **ARGUMENTS)
    for threshold in (20, 50):
        alone = trades.rangebar.bars(threshold, **ARGUMENTS)
        assert same_bits(both.filter(pl.col("threshold") == threshold).drop("threshold"), alone)
    whole = trades.rangebar.bars(50, **ARGUMENTS)
    for name in random.Random(3).sample(FEATURES, 12):
        given = {"lookback": "3bars"} if name in LOOKBACK else {}
        one = trades.rangebar.bars(50, features=name, **given)
        assert same_bits(one.select(name), whole.select(name)), name
        lazy = trades.lazy().rangebar.bars(50, **ARGUMENTS).select(name).collect()
        assert same_bits(lazy, whole.select(name)), name


def test_keys_are_apart() -> None:
    parts = [
        frame(stream(seed, 2_000)).with_columns(symbol=pl.lit(f"S{seed}")) for seed in (1, 2, 3)
    ]
    mixed = pl.concat(parts).sort("timestamp", maintain_order=True)
    given = {"features": "all", "lookback": "5s", "prevent_same_timestamp_close": False}
    bars = mixed.drop("first_trade_id", "last_trade_id").rangebar.bars(
        [20, 50], group_by="symbol", **given
    )
    for part in parts:
        own = part.drop("first_trade_id", "last_trade_id")
        name = own["symbol"][0]
        alone = own.drop("symbol").rangebar.bars([20, 50], **given)
        got = bars.filter(pl.col("symbol") == name).drop("symbol")
        for threshold in (20, 50):
            chosen = pl.col("threshold") == threshold
            assert same_bits(got.filter(chosen), alone.filter(chosen))


def test_a_window_of_one_bar_is_the_bar_before(trades: pl.DataFrame) -> None:
    bars = trades.rangebar.bars(20, features=["lookback", "intrabar"], lookback="1bars")
    pairs = {n: "intra_" + n[9:] for n in LOOKBACK if "count_imb" not in n}
    pairs = {n: m for n, m in pairs.items() if m in COLUMNS}
    assert len(pairs) == 13
    for before, bar in pairs.items():
        left = bars.select(pl.col(before).alias("v"))[1:]
        assert same_bits(left, bars.select(pl.col(bar).alias("v"))[:-1]), before


def test_bars_of_a_prefix_are_a_prefix(trades: pl.DataFrame) -> None:
    whole = trades.rangebar.bars(50, features="all", lookback="5s")
    for rows in (700, 3_210):
        part = trades.head(rows).rangebar.bars(50, features="all", lookback="5s")
        assert same_bits(part, whole.head(part.height))


def test_no_look_ahead(trades: pl.DataFrame) -> None:
    given = {"features": "all", "lookback": "5s"}
    bars = trades.rangebar.bars(50, **given)
    row = int(bars["agg_record_count"][:9].sum())
    later = pl.int_range(pl.len()) >= row
    changed = trades.with_columns(
        pl.when(later).then(pl.col("price") * 2).otherwise("price").alias("price"),
        pl.when(later).then(pl.col("quantity") * 3).otherwise("quantity").alias("quantity"),
    ).rangebar.bars(50, **given)
    assert same_bits(changed.head(9), bars.head(9))
    assert same_bits(changed.select(*LOOKBACK)[9:10], bars.select(*LOOKBACK)[9:10])


def test_windows_after_resets_and_gaps() -> None:
    days = []
    w = stream(8, 1_200)
    for day in range(3):
        shift = day * 86_400_000_000
        silent = [t + shift + (7_200_000_000 if i >= 700 else 0) for i, t in enumerate(w.time)]
        days.append(frame(replace(w, time=silent)))
    trades = pl.concat(days).drop("first_trade_id", "last_trade_id")
    bars = trades.rangebar.bars(
        20, features="lookback", lookback="5m", reset="day", max_gap="1h", incomplete="keep"
    )
    time = trades["timestamp"].to_physical().to_list()
    starts = [i for i in range(len(time)) if i == 0 or i % 1_200 in {0, 700}]
    at = 0
    for row in bars.iter_rows(named=True):
        start = max(s for s in starts if s <= at)
        begin, _ = window(time[start:], [], at - start, duration=300_000_000)
        assert row["lookback_trade_count"] == at - start - begin
        if at in starts:
            assert {row[n] for n in LOOKBACK if n != "lookback_trade_count"} == {None}
        at += row["agg_record_count"]
    assert at == len(time)


def test_windows_of_aggregate_hold_records_of_no_bar() -> None:
    w = stream(9, 400)
    ids = [i // 40 if i // 40 % 3 != 1 else None for i in range(400)]
    trades = frame(w).with_columns(pl.Series("id", ids, dtype=pl.Int32))
    bars = trades.rangebar.aggregate("id", features="lookback", lookback=30)
    for number, row in zip(bars["bar_id"], bars.iter_rows(named=True), strict=True):
        at = number * 40
        want = lookback(w.cut(max(0, at - 30), at))
        assert row["lookback_trade_count"] == want["lookback_trade_count"]
        assert row["lookback_duration_us"] == want["lookback_duration_us"]
    runs = trades.rangebar.aggregate("id", features="lookback_trade_count", lookback="2bars")
    numbers = runs["bar_id"].to_list()
    for index, count in enumerate(runs["lookback_trade_count"]):
        first = numbers[max(0, index - 2)] if index else numbers[index]
        assert count == (numbers[index] - first) * 40


def test_a_long_window_is_cut_and_says_so() -> None:
    w = stream(10, 30_000, tick=10**3)
    trades = frame(w)
    with pytest.warns(rb.exceptions.FeatureWarning, match="limit of 10,000 records: only the"):
        bars = trades.rangebar.bars(1, features="lookback", lookback="24h")
    assert bars["lookback_trade_count"].max() == 10_000
    counts = bars["agg_record_count"].cum_sum().shift(1, fill_value=0)
    assert bars["lookback_trade_count"].to_list() == counts.clip(upper_bound=10_000).to_list()


def test_values_of_forming_bars_are_fixed_at_the_open(trades: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder(50, features="all", lookback=150)
    seen: dict[int, pl.DataFrame] = {}
    for start in range(0, 3_000, 61):
        builder.push(trades[start : start + 61])
        partial = builder.partial()
        for number in partial["bar_id"]:
            now = partial.select(*LOOKBACK)
            assert same_bits(seen.setdefault(number, now), now)
    bars = trades.rangebar.bars(50, features="all", lookback=150)
    for number, values in seen.items():
        if number < bars.height:
            assert same_bits(values, bars.select(*LOOKBACK)[number : number + 1])


def bar_values(w: Records) -> dict[str, float | None]:
    trades = frame(w).with_columns(pl.lit(0).alias("id"))
    bars = trades.rangebar.aggregate("id", features=["intrabar", "extended"])
    assert bars.height == 1
    return bars.select(n for n in COLUMNS if n in bars.columns).row(0, named=True)


def test_symmetries(records: Records) -> None:
    w = records.cut(0, 1_500)
    base = bar_values(w)
    assert sum(v is None for v in base.values()) <= 2
    flipped = bar_values(replace(w, side=[-s for s in w.side]))
    for name in (
        "intra_ofi",
        "intra_kyle_lambda",
        "intra_count_imbalance",
        "glosten_harris_lambda",
        "glosten_harris_lambda_t",
        "glosten_harris_spread",
        "huang_stoll_spread",
        "adverse_half_spread",
        "large_order_ofi",
    ):
        assert flipped[name] == -base[name], name
    assert flipped["delta_max"] == -base["delta_min"]
    late = bar_values(replace(w, time=[t + 10**12 for t in w.time]))
    assert late == base
    scale = {"twap": 2, "vwap_sd": 2, "glosten_harris_lambda": 0.5, "delta_max": 4, "delta_min": 4}
    scale |= {"order_size_p50": 4, "order_size_p90": 4, "order_size_max": 4}
    larger = bar_values(replace(w, price=[2 * p for p in w.price], size=[4 * q for q in w.size]))
    for name, value in base.items():
        if value is None:
            assert larger[name] is None, name
        else:
            want = value * scale.get(name, 1)
            assert larger[name] == pytest.approx(want, rel=1e-12, abs=1e-20), name
    mirrored = bar_values(replace(w, price=[2 * w.price[0] - p for p in w.price]))
    for name in (
        "intra_hurst",
        "realized_variance",
        "realized_kurt",
        "two_scale_variance",
        "variance_ratio",
        "unchanged_share",
        "reversal_ratio",
        "largest_move",
        "open_crossings",
    ):
        assert mirrored[name] == base[name], name
    assert mirrored["high_at"] == base["low_at"]
    assert mirrored["realized_skew"] == -base["realized_skew"]


def test_a_record_split_in_two_changes_no_column_over_orders(records: Records) -> None:
    w = records.cut(0, 1_500)
    times = [1 if i % 3 else 2 for i in range(len(w))]

    def repeated(values: list[int]) -> list[int]:
        return [v for v, k in zip(values, times, strict=True) for _ in range(k)]

    sizes = [
        q // k + (q % k if j == 0 else 0)
        for q, k in zip(w.size, times, strict=True)
        for j in range(k)
    ]
    ids = [*range(sum(times))]
    parts = Records(repeated(w.time), repeated(w.price), sizes, repeated(w.side), ids, ids)
    base, split = bar_values(w), bar_values(parts)
    for name, f in EXTENDED.items():
        if f.sample == "orders" and name != "sweep_share":
            assert split[name] == base[name], name


def test_a_refused_push_changes_nothing(trades: pl.DataFrame) -> None:
    builder = rb.RangeBarBuilder([20, 50], **ARGUMENTS)
    builder.push(trades[:2_000])
    before = builder.checkpoint()
    bad = trades[2_000:4_000].with_columns(
        pl.when(pl.int_range(pl.len()) == 1_777)
        .then(None)
        .otherwise(pl.col("quantity"))
        .alias("quantity")
    )
    with pytest.raises(rb.exceptions.TickDataError):
        builder.push(bad)
    assert builder.checkpoint() == before


def test_bars_do_not_depend_on_features(records: Records) -> None:
    plain = bars_of(records, 50, features="core")
    assert same_bits(bars_of(records, 50).select(plain.columns), plain)


def test_the_bits_are_those_of_every_machine(trades: pl.DataFrame) -> None:
    """Record the bits of all columns, so that no order of sums or library of functions changes one."""
    bars = trades.rangebar.bars([20, 100], features="all", lookback="3bars", incomplete="keep")
    bits = bars.select(FEATURES).with_columns(
        pl.selectors.float().reinterpret(dtype=pl.UInt64).fill_null(0),
        pl.selectors.integer().fill_null(-1),
    )
    digest = hashlib.sha256()
    for name in FEATURES:
        digest.update(bits[name].to_numpy().astype("<u8").tobytes())
    assert digest.hexdigest() == BITS
