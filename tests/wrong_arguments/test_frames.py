"""The wrong kind of frame, at every entry point; charts and exports."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from rangebar_polars.exceptions import (
    BarDataError,
    CheckpointError,
    MissingColumnError,
    SymbolNotRegisteredError,
    ThresholdError,
    TickDataError,
    TickOrderError,
)
from wrong_arguments.table import check, run, wrong

if TYPE_CHECKING:
    from wrong_arguments.table import Wrong

NAMESPACES = [
    wrong("df['price'].rangebar.bars(250)", AttributeError, "a Series has no `rangebar.bars`",
          "the column `price`"),
    wrong("rb.rangebar(pandas)", TypeError, "`pandas DataFrame`",
          retry="[({call}).bars(250) for df in [pandas]]"),
    wrong("rb.rangebar(df['price'])", TypeError, "`Polars Series`", retry="({call}).bars(250)"),
    wrong("rb.rangebar('price')", TypeError, "not a `str`",
          retry="df.select(({call}).bars(250))"),
    wrong("rb.rangebar(df.to_dict(as_series=False))", TypeError, "not a `dict`",
          retry="({call}).bars(250)"),
    *(wrong(f"rb.rangebar({value})", TypeError, f"not a `{kind}`",
            retry="df.select(rb.rangebar({call}).bars(250))")
      for value, kind in (("None", "NoneType"), ("5", "int"), ("np.zeros(3)", "ndarray"))),
    wrong("rb.bars(df, 250)", TypeError, "`DataFrame`", retry="{call}"),
    wrong("rb.bars(lf, 250)", TypeError, "`LazyFrame`", retry="{call}"),
    wrong("rb.bars(pandas, 250)", TypeError, "`DataFrame`", "pandas",
          retry="[{call} for df in [pandas]]"),
    wrong("rb.bars(250, 250)", TypeError, "`int`", retry="df.select({call})"),
    wrong("rb.bars(None, 250)", TypeError, "`price` cannot be left out",
          retry="df.select(rb.bars({keyword}, threshold=250))"),
    wrong("rb.bars('price', 'timestamp')", ThresholdError, "`timestamp` is neither a preset",
          retry="rb.bars('price', {value})"),
    wrong("rb.bars('price', 250, quantity=5)", TypeError, "`quantity` must be", "`int`",
          retry="rb.bars('price', 250, {keyword})"),
]  # fmt: skip

STREAMS = [
    wrong("rb.iter_bars('file.parquet', 250)", TypeError, "of type `str`",
          'pl.scan_parquet("file.parquet")'),
    wrong("rb.iter_bars(Path('file.parquet'), 250)", TypeError, 'pl.scan_parquet("file.parquet")'),
    wrong("rb.iter_bars(5, 250)", TypeError, "`int`", "a frame, a LazyFrame or an iterable"),
    wrong("rb.iter_bars(records[0], 250)", TypeError, "`dict`", "pl.DataFrame(trades)"),
    wrong("list(rb.iter_bars([lf], 250))", TypeError, "item 0 of the trades", "`LazyFrame`",
          retry="[list({call}) for trades in [[lf]]]"),
    wrong("list(rb.iter_bars([df, 'x'], 250))", TypeError, "item 1 of the trades", "`str`"),
    wrong("list(rb.iter_bars(records, 250))", TypeError, "item 0 of the trades", "`dict`",
          retry="[list(rb.iter_bars(pl.DataFrame(trades).with_columns(timestamp="
          "pl.from_epoch('timestamp', time_unit='ms')), 250)) for trades in [records]]"),
    wrong("rb.RangeBarBuilder(250).push(lf)", TypeError, "`LazyFrame`", "collect it",
          retry="{call}.collect()"),
    wrong("rb.RangeBarBuilder(250).push(df.row(0, named=True))", TypeError, "`dict`",
          retry="[{call} for trade in [df.row(0, named=True)] "
          "for builder in [rb.RangeBarBuilder(250)]]"),
    wrong("rb.RangeBarBuilder(250).push(df.rows(named=True))", TypeError, "`list`",
          retry="[{call} for trades in [df.rows(named=True)] "
          "for builder in [rb.RangeBarBuilder(250)]]"),
    *(wrong(f"rb.RangeBarBuilder(250).push({value})", TypeError, f"`{kind}`", "`timestamp`")
      for value, kind in (("None", "NoneType"), ("'x'", "str"), ("df['price']", "Series"))),
    wrong("[b.push(df) for b in [rb.RangeBarBuilder(250)] for _ in range(2)]", TickOrderError,
          "in the last row of an earlier push", "pushed before",
          retry="[b.push(df{call}) for b in [rb.RangeBarBuilder(250)] for _ in range(1)]"),
    wrong("[b.push(x) for b in [rb.RangeBarBuilder(250)] for x in (df, df.drop('quantity'))]",
          MissingColumnError, "no column `quantity`, which the first push had"),
    wrong("[b.push(x) for b in [rb.RangeBarBuilder(250)] "
          "for x in (df, df.with_columns(pl.col('timestamp').dt.replace_time_zone('UTC')))]",
          TypeError, "time_zone='UTC'", "in the first push",
          retry="df.with_columns(pl.col('timestamp').dt.replace_time_zone('UTC'))"
          ".with_columns({call})"),
    wrong("rb.RangeBarBuilder.from_checkpoint('x')", CheckpointError, "`str`", "read_bytes()"),
    wrong("rb.RangeBarBuilder.from_checkpoint(Path('x'))", CheckpointError, "read_bytes()"),
    wrong("rb.RangeBarBuilder.from_checkpoint(None)", CheckpointError, "`NoneType`"),
    wrong("rb.RangeBarBuilder.from_checkpoint(b'x')", CheckpointError, "too short"),
    wrong("df.rangebar.aggregate('nope')", MissingColumnError, "no column `nope` for `bar_id`"),
    wrong("numbered.rangebar.aggregate(pl.col('n'))", TypeError, "`Expr`", "with_columns"),
    wrong("numbered.rangebar.aggregate(250)", TypeError, "`int`", "name of a column"),
    wrong("df.with_columns(n=pl.int_range(pl.len()) % 2).rangebar.aggregate('n')", TickOrderError,
          "`n` is `0` again at row 2", "rle_id",
          retry="df.with_columns(n=pl.int_range(pl.len()) % 2).with_columns(n={call})"
          ".rangebar.aggregate('n')"),
    *(wrong(f"numbered.with_columns(n={ids}).rangebar.aggregate('n')", TypeError, f"got {dtype}",
            retry=f"numbered.with_columns(n={ids}).with_columns(n={{call}}).rangebar.aggregate('n')")
      for ids, dtype in (
          ("pl.col('n') / 1", "Float64"), ("pl.col('n').cast(pl.String)", "String"),
          ("pl.col('timestamp').dt.truncate('2s')", "Datetime"),
          ("pl.col('timestamp').dt.date()", "Date"), ("pl.col('n') > 1", "Boolean"))),
]  # fmt: skip

REFERENCE = [
    wrong("rb.process_trades_polars(pandas)", TypeError, "`pandas DataFrame`",
          retry="[{call} for trades in [pandas]]"),
    wrong("rb.process_trades_polars(records)", TypeError, "`list`",
          retry="[{call} for trades in [records]]"),
    *(wrong(f"rb.process_trades_polars(df.with_columns(timestamp={time}))", TickDataError,
            "of row 0", f"looks like {unit}", "not milliseconds",
            retry=f"rb.process_trades_polars(df.with_columns(timestamp={time})"
            ".with_columns({call}))")
      for time, unit in (("us", "microseconds"), ("us * 1000", "nanoseconds"),
                         ("us // 10**6", "seconds"))),
    wrong("rb.process_trades_polars(df.with_columns(timestamp=pl.int_range(pl.len())))",
          TickDataError, "`0` of row 0", "between 2000 and 2100"),
    wrong("rb.process_trades_to_dataframe(lf)", TypeError, "`LazyFrame`",
          retry="[{call} for trades in [lf]]"),
    wrong("rb.process_trades_to_dataframe({'price': 1.0})", TypeError, "`dict`",
          "a frame or an iterable of dictionaries"),
    wrong("rb.process_trades_to_dataframe('ticks.parquet')", TypeError, "`str`", "read_parquet"),
    *(wrong(f"rb.process_trades_to_dataframe({value})", TypeError, f"`{kind}`")
      for value, kind in (("None", "NoneType"), ("5", "int"), ("b'x'", "bytes"))),
    wrong("rb.process_trades_to_dataframe(['a'])", TickDataError, "trade 0", "`str`, not a dict"),
    wrong("rb.process_trades_to_dataframe(np.zeros((2, 2)))", TickDataError, "`ndarray`"),
    wrong("rb.process_trades_to_dataframe(pandas.set_index('timestamp'))", MissingColumnError,
          "their index holds times",
          retry="[rb.process_trades_to_dataframe({call}) "
          "for trades in [pandas.set_index('timestamp')]]"),
    wrong("rb.process_trades_to_dataframe([{'timestamp': 1_704_067_200_000, 'price': 1.0}])",
          TickDataError, "trade 0: it has no key `quantity`"),
    *(wrong(f"rb.process_trades_to_dataframe([records[0], records[1] | {{'price': {value}}}])",
            TickDataError, "trade 1: `price` is", kind, "a float, an int or a Decimal")
      for value, kind in (("None", "`NoneType`"), ("'100'", "`str`"), ("True", "`bool`"))),
    wrong("rb.process_trades_to_dataframe([records[0], records[1] | {'price': float('nan')}])",
          TickDataError, "must be finite", "row 1",
          retry="rb.process_trades_to_dataframe(pl.DataFrame(records){call})"),
    wrong("rb.process_trades_to_dataframe(records[::-1])", TickOrderError, "runs back at row 1",
          retry="rb.process_trades_to_dataframe(pl.DataFrame(records[::-1]){call})"),
    wrong("rb.process_trades_polars(df, symbol='BTCUSD')", SymbolNotRegisteredError,
          "did you mean `BTCUSDT`?", "[symbols.BTCUSD]"),
    wrong("rb.process_trades_polars(df, 100, symbol='BTCUSDT')", ThresholdError,
          "below the minimum of BTCUSDT, which is 250", "RANGEBAR_MIN_THRESHOLD_BTCUSDT=100"),
    *(wrong(f"rb.process_trades_chunked(records, 250, {size})", ValueError, "`chunk_size`",
            "a whole number above 0", retry="list(rb.process_trades_chunked(records, {keyword}))")
      for size in ("0", "-1", "1.5", "True", "'10'", "None")),
]  # fmt: skip

CHARTS = [
    wrong("day.rangebar.bars([250, 500]).rangebar.to_backtesting()", BarDataError,
          "2 values of `threshold`",
          retry="[({call}).rangebar.to_backtesting() for bars in [day.rangebar.bars([250, 500])]]"),
    wrong("two.rangebar.bars(250, group_by='symbol').rangebar.to_backtesting()", BarDataError,
          "2 values of `symbol`",
          retry="[({call}).rangebar.to_backtesting() "
          "for bars in [two.rangebar.bars(250, group_by='symbol')]]"),
    wrong("df.rangebar.to_backtesting()", MissingColumnError, "not a frame of bars",
          retry="({call}).rangebar.to_backtesting()"),
    wrong("lf.rangebar.to_backtesting()", MissingColumnError, "column `close_time` is missing",
          retry="({call}).rangebar.to_backtesting()"),
    wrong("rb.to_backtesting(pandas)", MissingColumnError, "column `close_time` is missing"),
    *(wrong(f"rb.to_backtesting({value})", TypeError, f"`{kind}`", "a frame of Polars or pandas")
      for value, kind in (("None", "NoneType"), ("'x'", "str"), ("bars['close']", "Series"))),
    wrong("rb.to_backtesting(rb.to_backtesting(bars).iloc[::-1])", BarDataError, "order of time",
          retry="[rb.to_backtesting({call}) for bars in [rb.to_backtesting(bars).iloc[::-1]]]"),
    wrong("rb.to_backtesting(rb.to_backtesting(bars).shift(1))", BarDataError,
          "`Open` of row 0 of the bars is `nan`"),
    *(wrong(f"bars.rangebar.plot({keyword})", error, *words,
            retry="bars.rangebar.plot({keyword})" if error is not BarDataError else None)
      for keyword, error, *words in (
          ("max_bars=0", ValueError, "from 1 to 5000; it is 0"),
          ("max_bars=10_000", ValueError, "from 1 to 5000; it is 10000"),
          ("max_bars='600'", TypeError, "write max_bars=600"),
          ("max_bars=True", TypeError, "`bool`"),
          ("width='wide'", TypeError, "`wide`, of type `str`"),
          ("width=960.0", TypeError, "`960.0`, of type `float`", "write width=960"),
          ("width=0", ValueError, "from 1 to 10000"),
          ("height=1e9", TypeError, "`float`"),
          ("width=None", TypeError, "`NoneType`"),
          ("volume='no'", TypeError, "must be a bool"))),
    wrong("bars.rangebar.plot(maxbars=3)", TypeError, "did you mean `max_bars`?"),
    wrong("bars.rangebar.plot('Title')", TypeError, "it takes none", "title="),
    wrong("bars.head(0).rangebar.plot()", BarDataError, "no bars to draw", "smaller threshold"),
    wrong("day.rangebar.bars(list(range(200, 290, 10))).rangebar.plot()", BarDataError,
          "room for 8 panels", "9 thresholds"),
    wrong("df.rangebar.plot()", MissingColumnError, "not a frame of bars",
          retry="[{call} for trades in [day]]"),
    wrong("lf.rangebar.plot()", MissingColumnError, "column `open_time` is missing",
          retry="[{call} for trades in [day.lazy()]]"),
    wrong("bars.drop('open_time').rangebar.plot()", MissingColumnError,
          "these bars have no column `open_time`",
          retry="[({call}).rangebar.plot() for bars in [bars.drop('open_time')]]"),
]  # fmt: skip

FILES = [
    *(wrong(f"rb.{scan}({path!r})", FileNotFoundError, path)
      for scan in ("scan_agg_trades", "scan_trades") for path in ("nope.zip", "nope*.zip")),
    *(wrong(f"rb.scan_agg_trades({path!r})", ValueError, "an address, not a path", "scan_trades")
      for path in ("https://example.org/x.zip", "s3://bucket/x.zip")),
    wrong("rb.scan_trades([])", ValueError, "the list of files is empty"),
    *(wrong(f"rb.scan_trades({value})", TypeError, f"`{value}` is not a path")
      for value in ("None", "5")),
]  # fmt: skip

ACCEPTED = [
    "list(rb.iter_bars(pandas, 250))[0]",
    "list(rb.iter_bars([pandas, df.head(0)], 250))[0]",
    "rb.RangeBarBuilder(250).push(pandas)",
    "rb.RangeBarBuilder(250).push(pandas.assign(note='x', symbol='AAA', rank=[1, None] * 3))",
    "rb.rangebar(df).bars(250)",
    "rb.rangebar(lf).bars(250).collect()",
    "bars.lazy().rangebar.to_backtesting()",
    "rb.to_backtesting(bars.lazy())",
    "rb.to_backtesting(pandas_bars)",
    "rb.to_backtesting(rb.to_backtesting(bars))",
]


@pytest.mark.parametrize("row", NAMESPACES, ids=str)
def test_a_value_without_a_namespace(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize(
    "order", ["pandas as pd, rangebar_polars", "rangebar_polars, pandas as pd"]
)
def test_a_pandas_frame_says_how_to_get_at_the_bars(order: str) -> None:
    # A library that is loaded later is noticed by the first function that returns its frames.
    script = f"""
import {order}
import polars as pl
rangebar_polars.to_backtesting(rangebar_polars.sample_ticks().rangebar.bars(250))
df = pd.DataFrame({{"timestamp": pd.to_datetime(["2024-01-01"] * 2), "price": [100.0, 101.0]}})
try:
    df.rangebar
except AttributeError as error:
    hint = str(error).partition("hint: write ")[2].partition(", or")[0]
print(eval(hint).height, hasattr(df, "rangebar"), hint)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0 False pl.from_pandas(df).rangebar.bars(250)\n"


@pytest.mark.parametrize("row", STREAMS, ids=str)
def test_batches_and_numbered_trades(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", REFERENCE, ids=str)
def test_functions_of_the_reference_library(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", CHARTS, ids=str)
def test_charts_and_exports(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", FILES, ids=str)
def test_files(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("source", ACCEPTED)
def test_a_frame_that_is_accepted(source: str) -> None:
    assert len(run(source)) > 0


@pytest.mark.parametrize(
    "bars", ["bars", "bars.lazy()", "pandas_bars", "pandas_bars.astype({'volume': object})"]
)
def test_every_kind_of_frame_of_bars_is_drawn(bars: str) -> None:
    from rangebar_polars.plot.chart import plot_bars

    chart = plot_bars(run(bars), width=300, max_bars=50)
    assert chart.title.text == "244 bars"


def test_a_pandas_frame_of_a_backtest_says_which_bars_to_take() -> None:
    from rangebar_polars.plot.chart import plot_bars

    with pytest.raises(MissingColumnError, match="not part of a frame for backtesting") as caught:
        plot_bars(run("rb.to_backtesting(bars)"))
    assert "scan_range_bars" in str(caught.value)


def test_unfinished_bars_of_a_pandas_frame_are_dropped() -> None:
    frame = run("rb.to_backtesting(bars)")
    marked = frame.assign(is_closed=[True] * (len(frame) - 1) + [False])
    kept = run("rb.to_backtesting(frame)", frame=marked)
    pd.testing.assert_frame_equal(kept[list(frame.columns)], frame.iloc[:-1])
