"""Keywords of the entry points: unknown ones, and values that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rangebar_polars.exceptions import MissingColumnError, TickDataError
from wrong_arguments.table import check, run, wrong

if TYPE_CHECKING:
    from wrong_arguments.table import Wrong

RETRY = "df.rangebar.bars(250, {keyword})"
WORDS = ("unknown value", "choose from")


def _is(keyword: str, error: type[Exception], *words: str, retry: str | None = RETRY) -> Wrong:
    return wrong(f"df.rangebar.bars(250, {keyword})", error, *words, retry=retry)


UNKNOWN = [
    _is("treshold=250", TypeError, "`treshold`", "did you mean `threshold`?", retry=None),
    _is("timestamp='time'", TypeError, 'write columns={"timestamp": "time"}',
        retry="df.rename({'timestamp': 'time'}).rangebar.bars(250, {keyword})"),
    _is("price='price'", TypeError, 'write columns={"price": "price"}'),
    _is("include_microstructure=True", TypeError, 'write features="microstructure"'),
    _is("ouroboros='month'", TypeError, 'write reset="month"'),
    _is("ouroboros_mode='day'", TypeError, 'write reset="day"'),
    _is("include_incomplete=True", TypeError, 'write incomplete="keep"'),
    wrong("two.rangebar.bars(250, by='symbol')", TypeError, 'write group_by="symbol"',
          retry="two.rangebar.bars(250, {keyword})"),
    wrong("two.lazy().rangebar.bars(250, over='symbol')", TypeError, 'write group_by="symbol"',
          retry="two.lazy().rangebar.bars(250, {keyword})"),
    wrong("df.rangebar.bars(threshold_decimal_bps=500)", TypeError, "write threshold=500",
          retry="df.rangebar.bars({keyword})"),
    wrong("df.rangebar.bars()", TypeError, "`bars` needs the argument `threshold`",
          retry="df.rangebar.bars({keyword})"),
    wrong("df.rangebar.bars(250, 'core')", TypeError, "too many positional arguments",
          "it takes `threshold`", "by name", "features=", retry=None),
    wrong("df.rangebar.bars(250, threshold=250)", TypeError, "`threshold` twice"),
    wrong("rb.bars('price', 250, quantitiy='q')", TypeError, "did you mean `quantity`?"),
    wrong("rb.bars('price', 250, columns={'price': 'p'})", TypeError, 'price="p"',
          retry="df.rename({'price': 'p'}).select(rb.bars({keyword}, threshold=250))"),
    wrong("rb.bars('price', threshold_decimal_bps=250)", TypeError, "write threshold=250",
          retry="rb.bars('price', {keyword})"),
    wrong("rb.bars('price')", TypeError, "needs the argument `threshold`",
          retry="rb.bars('price', {keyword})"),
    wrong("rb.bars(250)", TypeError, "needs the argument `threshold`"),
    wrong("rb.RangeBarBuilder(250, treshold=3)", TypeError, "did you mean `threshold`?"),
    wrong("rb.RangeBarBuilder()", TypeError, "`RangeBarBuilder` needs the argument `threshold`",
          retry="rb.RangeBarBuilder({keyword})"),
    wrong("rb.iter_bars(df, 250, ouroboros='day')", TypeError, 'write reset="day"',
          retry="list(rb.iter_bars(df, 250, {keyword}))"),
    wrong("rb.bar_id('price', 250, features='ofi')", TypeError, "no argument `features`"),
    wrong("rb.aggregate('price', 'n', reset='day')", TypeError, "no argument `reset`"),
    wrong("df.rangebar.aggregate()", TypeError, "`aggregate` needs the argument `bar_id`",
          retry="numbered.rename({'n': 'my_bar'}).rangebar.aggregate({keyword})"),
    wrong("rb.scan_agg_trades('x.zip', fetch=True)", TypeError, "no argument `fetch`"),
]  # fmt: skip

VALUES = [
    _is("features='micro'", ValueError, "`features`: unknown value `micro`", "choose from `core`",
        "did you mean `microstructure`?", retry=None),
    _is("features='everything'", ValueError, "`everything`", *WORDS, "`all`", retry=None),
    _is("features=['ofi', 'nope']", ValueError, "`nope`", *WORDS, retry=None),
    _is("features=None", TypeError, "`features` must be", "`NoneType`", 'features="core"'),
    _is("features=True", TypeError, "`bool`", 'features="microstructure"'),
    _is("features=[1]", TypeError, "`int`", 'features=["ofi", "duration_us"]'),
    _is("features=b'ofi'", TypeError, "`bytes`"),
    *(_is(f"reset={value}", ValueError, "`reset`: unknown value", *WORDS, retry=None)
      for value in ("'hourly'", "'1h'", "'2d'", "'quarter'")),
    _is("reset='Year'", ValueError, "did you mean `year`?", retry=None),
    _is("reset=dt.timedelta(1)", TypeError, "`timedelta`", 'write reset="year"'),
    _is("reset=True", TypeError, "`bool`", 'write reset="year"'),
    _is("rule='hl'", ValueError, "`rule`: unknown value `hl`", *WORDS, retry=None),
    _is("rule=None", TypeError, '"high_low"', 'write rule="open"'),
    _is("side_is='buyer'", ValueError, "`taker`, `maker`", *WORDS, retry=None),
    _is("max_gap='1 h'", ValueError, "`1 h`", 'write max_gap="1h"'),
    _is("max_gap='-1h'", ValueError, "`-1h`", 'write max_gap="1h"'),
    _is("max_gap='1mo'", ValueError, "`1mo`", "depends on the calendar"),
    _is("max_gap='1M'", ValueError, "`1M`", "depends on the calendar"),
    _is("max_gap='2 days'", ValueError, "`2 days`", 'write max_gap="48h"'),
    _is("max_gap='90 min'", ValueError, "`90 min`", 'write max_gap="90m"'),
    _is("max_gap=''", ValueError, "``", 'write max_gap="1h"'),
    _is("max_gap=3600", TypeError, "`int`", 'write max_gap="3600s"'),
    _is("max_gap=np.timedelta64(1, 'h')", TypeError, "`timedelta64`", 'max_gap="1h"'),
    _is("max_gap=dt.timedelta(0)", ValueError, "longer than 0", 'write max_gap="1h"'),
    _is("incomplete='all'", ValueError, "`drop`, `keep`", *WORDS, retry=None),
    _is("incomplete=None", TypeError, "`NoneType`", 'write incomplete="keep"'),
    _is("incomplete=1", TypeError, "`int`", 'write incomplete="keep"'),
    *(_is(f"prevent_same_timestamp_close={value}", TypeError, "must be a bool", value)
      for value in ("'yes'", "1", "None")),
    _is("contract_size=0", ValueError, "`contract_size` `0` must be above 0", retry=None),
    _is("contract_size='x'", ValueError, "`x`", "write the quote units", 'contract_size="100"'),
    _is("contract_size=True", TypeError, "`bool`", 'contract_size="100"'),
    _is("contract_size=0.1", ValueError, "not exactly a multiple", 'contract_size="0.1"'),
]  # fmt: skip

COLUMNS = [
    _is("columns={'price': 'px'}", MissingColumnError, "no column `px` for `price`",
        "did you mean `price`?"),
    _is("columns={'quantity': 'quantitty'}", MissingColumnError, "did you mean `quantity`?"),
    _is("columns={'px': 'price'}", ValueError, "`columns`: unknown value `px`",
        'the field comes first: columns={"price": "px"}',
        retry="make(price=None, px=[100.0] * 6).rangebar.bars(250, {keyword})"),
    _is("columns={'Price': 'price'}", ValueError, "`Price`", "did you mean `price`?", retry=None),
    _is("columns={1: 'price'}", ValueError, "unknown value `1`", "comes first", retry=None),
    _is("columns='price'", TypeError, "must be a mapping", "`str`", 'columns={"price": "px"}',
        retry="make(price=None, px=[100.0] * 6).rangebar.bars(250, {keyword})"),
    _is("columns=['price']", TypeError, "must be a mapping", "`list`",
        retry="make(price=None, px=[100.0] * 6).rangebar.bars(250, {keyword})"),
    _is("columns={'price': None}", ValueError, "leaves out `price`", "bars require"),
    _is("columns={'price': pl.col('price')}", TypeError, "`Expr`", "with_columns", retry=None),
    _is("columns={'side': 'is_buyer_maker'}", TypeError, "got Boolean", "leave `side` out",
        retry=None),
    _is("columns={'side': 'a', 'is_buyer_maker': 'b'}", ValueError, "bind only one", retry=None),
    _is("group_by=[]", ValueError, "an empty list", "leave it out", retry=None),
    *(_is(f"group_by={key}", TypeError, kind, "with_columns",
          retry="two.rangebar.bars(250, {keyword})")
      for key, kind in (("5", "`int`"), ("pl.col('symbol')", "`Expr`"), ("['symbol', 5]", "`int`"))),
    wrong("two.rangebar.bars(250, group_by='sym')", MissingColumnError, "no column `sym`",
          "did you mean `symbol`?"),
    _is("group_by='open_time'", ValueError, "also the name of a column of the bars",
        '.rename({"open_time": "my_open_time"})',
        retry="two.rename({'symbol': 'open_time'}){call}.rangebar.bars(250, group_by='my_open_time')"),
    wrong("two.rangebar.bars(250, group_by=['symbol', 'symbol'])", ValueError, "`symbol` twice"),
    _is("group_by='price'", ValueError, "which is the `price` of the trades",
        'group_by="my_price"', retry="df{call}.rangebar.bars(250, group_by='my_price')"),
    wrong("df.select(rb.bars('price', 250, group_by='price'))", ValueError,
          "which is the `price`", retry="df.select(rb.bars('price', 250, group_by={call}))"),
    wrong("rb.bars('price', 250, group_by=5)", TypeError, "`int`", 'group_by="symbol"',
          retry="two.select(rb.bars('price', 250, {keyword}))"),
    wrong("two.rangebar.bars(250)", TickDataError, "`AAA`, and `BBB` at row 6",
          retry="two.rangebar.bars(250, {keyword})"),
    wrong("two.drop('agg_trade_id').sort('timestamp').rangebar.bars(250)", TickDataError,
          "more than one value", retry="two.rangebar.bars(250, {keyword})"),
]  # fmt: skip

ACCEPTED = {
    **dict.fromkeys(("features=[]", "features='open'", "features={'ofi'}"), 1),
    **dict.fromkeys(("features=['ofi', 'ofi']", "reset='none'", "reset=None"), 1),
    **dict.fromkeys(("max_gap=pd.Timedelta('1h')", "max_gap='1h30m'", "incomplete=False"), 1),
    **dict.fromkeys(("prevent_same_timestamp_close=np.True_", "columns={'quantity': None}"), 1),
    **dict.fromkeys(("incomplete=True", "incomplete='keep'", "incomplete=np.True_"), 2),
}


@pytest.mark.parametrize("row", UNKNOWN, ids=str)
def test_an_unknown_keyword(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", VALUES, ids=str)
def test_a_value_of_a_setting(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("row", COLUMNS, ids=str)
def test_columns_and_keys(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("keyword", ACCEPTED)
def test_a_keyword_that_is_accepted(keyword: str) -> None:
    assert run(f"df.rangebar.bars(250, {keyword})").height == ACCEPTED[keyword]


def test_both_columns_of_the_aggressor_take_the_documented_one() -> None:
    both = "make(side=['sell'] * 6)"
    assert run(f"{both}.rangebar.bars(250)")["buy_volume"].item() == 2.0
    named = "columns={'side': 'side'}"
    assert run(f"{both}.rangebar.bars(250, {named})")["buy_volume"].item() == 0.0
    bound = run(f"rb.binding({both})")
    assert "`is_buyer_maker` says the same" in bound.filter(field="side")["note"].item()
