"""Every entry point gives the bars of the model."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from properties import entry_points
from properties.comparing import assert_matches, assert_same_bars
from properties.frames import cases
from properties.model import Case, expect, expect_aggregate


def check_sorted_flags(bars: pl.DataFrame) -> None:
    for name in ("open_time", "close_time"):
        if bars[name].flags["SORTED_ASC"]:
            times = bars[name].to_physical().to_list()
            assert times == sorted(times), name


def check_all(case: Case, names: dict[str, entry_points.EntryPoint]) -> None:
    first = entry_points.eager(case)
    assert_matches(first, expect(case).bars)
    for name, entry_point in names.items():
        try:
            bars = entry_point(case)
            assert_same_bars(bars, first)
            check_sorted_flags(bars)
        except AssertionError as error:
            error.add_note(f"entry point: {name}")
            raise


@given(cases())
def test_every_entry_point_gives_the_bars_of_the_model(case: Case) -> None:
    check_all(case, entry_points.ALL)


@given(cases(keys=("categorical", "enum", "integer", "boolean")))
def test_keys_of_any_dtype_come_back_as_they_were(case: Case) -> None:
    check_all(case, entry_points.FAST)


@given(cases(keys=("string", "two")))
def test_keys_judged_together_equal_keys_judged_apart(case: Case) -> None:
    together = entry_points.eager(case)
    alone = [
        entry_points.eager(Case(**{**vars(case), "frame": part}))
        for part in case.frame.partition_by(case.keys, maintain_order=True)
    ]
    order = [*case.keys, "bar_id", *(["threshold"] if isinstance(case.threshold, list) else [])]
    apart = pl.concat([together.clear(), *alone])
    assert_same_bars(together.sort(order), apart.sort(order))


@given(cases(keys=("string", "two", "categorical")))
def test_aggregating_the_expression_by_key_equals_the_key_inside(case: Case) -> None:
    inside = entry_points.eager(case)
    single = rb.bars("price", case.threshold, **case.bound, **{**case.arguments, "group_by": None})
    for engine in entry_points.ENGINES:
        plan = case.frame.lazy().group_by(case.keys, maintain_order=True).agg(single)
        outside = entry_points.collect(
            plan.explode("bars", empty_as_null=False).unnest("bars"), engine
        )
        order = [*case.keys, "bar_id", *(["threshold"] if isinstance(case.threshold, list) else [])]
        assert_same_bars(outside.sort(order), inside.sort(order))


@given(cases())
def test_bar_id_names_the_bar_of_each_record(case: Case) -> None:
    ids = expect(case).ids
    plan = case.frame.lazy().select(entry_points.bar_id(case))
    for got in [
        case.frame.select(entry_points.bar_id(case)),
        *(entry_points.collect(plan, e) for e in entry_points.ENGINES),
    ]:
        assert got.columns == ["bar_id"]
        assert got["bar_id"].dtype == ids.dtype
        assert got["bar_id"].to_list() == ids.to_list()


@given(cases())
def test_grouping_by_bar_id_gives_the_bars(case: Case) -> None:
    if isinstance(case.threshold, list):
        case = Case(**{**vars(case), "threshold": case.threshold[0]})
    bars = entry_points.eager(case).sort([*case.keys, "bar_id"])
    grouped = (
        case.frame.with_columns(entry_points.bar_id(case))
        .drop_nulls("bar_id")
        .group_by([*case.keys, "bar_id"])
        .agg(
            open_time=pl.col("timestamp").first(),
            close_time=pl.col("timestamp").last(),
            agg_record_count=pl.len().cast(pl.Int64),
        )
        .sort([*case.keys, "bar_id"])
    )
    assert_same_bars(grouped, bars.select(grouped.columns))


@given(cases(keys=(None,)))
def test_aggregate_of_bar_id_equals_bars(case: Case) -> None:
    if isinstance(case.threshold, list):
        case = Case(**{**vars(case), "threshold": case.threshold[0]})
    marked = case.frame.with_columns(entry_points.bar_id(case))
    bars = entry_points.eager(case)
    bars = bars.drop("is_closed", "ended_by") if case.incomplete == "keep" else bars
    fold = rb.aggregate("price", "bar_id", **case.bound, features=case.features)
    assert_same_bars(marked.select(fold).unnest("bars"), bars)
    nested = rb.aggregate("price", entry_points.bar_id(case), **case.bound, features=case.features)
    assert_same_bars(case.frame.select(nested).unnest("bars"), bars)
    assert_same_bars(marked.rangebar.aggregate("bar_id", features=case.features), bars)
    lazy = marked.lazy().rangebar.aggregate("bar_id", features=case.features)
    for engine in entry_points.ENGINES:
        plan = marked.lazy().select(fold).unnest("bars")
        assert_same_bars(entry_points.collect(plan, engine), bars)
        assert_same_bars(entry_points.collect(lazy, engine), bars)


ID_DTYPES = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64]


@given(
    cases(keys=(None,)),
    st.sampled_from(ID_DTYPES),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=50, max_size=50),
)
def test_aggregate_folds_the_ids_of_anyone(
    case: Case, dtype: pl.DataType, start: int, lengths: list[tuple[int, bool]]
) -> None:
    ids = [None if hole else start + i for i, (n, hole) in enumerate(lengths) for _ in range(n)]
    column = pl.Series("mine", ids[: case.frame.height], dtype)
    marked = case.with_frame(case.frame.with_columns(column))
    expected = expect_aggregate(marked, "mine")
    fold = rb.aggregate("price", "mine", **case.bound, features=case.features)
    got = marked.frame.select(fold).unnest("bars")
    assert_matches(got, expected)
    eager = marked.frame.rangebar.aggregate("mine", features=case.features)
    assert_same_bars(eager, got)
    for engine in entry_points.ENGINES:
        lazy = marked.frame.lazy().rangebar.aggregate("mine", features=case.features)
        assert_same_bars(entry_points.collect(lazy, engine), got)
