"""Thresholds that are none, and those that are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rangebar_polars.exceptions import ThresholdError
from wrong_arguments.table import check, run, wrong

if TYPE_CHECKING:
    from wrong_arguments.table import Wrong

RETRY = "day.rangebar.bars({value})"
RANGE = "out of the range 1 to 100000"


def _is(value: str, error: type[Exception], *words: str, retry: str | None = RETRY) -> Wrong:
    return wrong(f"day.rangebar.bars({value})", error, *words, retry=retry)


WRONG = [
    _is("0.25", ThresholdError, "`0.25` is a float", "write 250 for 0.25 %"),
    _is("0.1", ThresholdError, "`0.1` is a float", "write 100 for 0.1 %"),
    _is("0.0025", ThresholdError, "`0.0025`", "write 250 for 0.25 %"),
    _is("2.5", ThresholdError, "`2.5`", "write 2500 for 2.5 %"),
    _is("[0.25, 0.5]", ThresholdError, "`0.25`", "write 250"),
    _is("250.0", ThresholdError, "`250.0` is a float", "write 250 for 0.25 %"),
    _is("250.5", ThresholdError, "`250.5`", "write 250 for 0.25 %, or 251"),
    _is("np.float32(250)", ThresholdError, "float32", "write 250"),
    _is("np.float64(250)", ThresholdError, "float64", "write 250"),
    _is("Decimal('250')", ThresholdError, "Decimal", "write 250"),
    _is("1e6", ThresholdError, "`1000000.0`", "from 1 (0.001 %) to 100000", retry=None),
    _is("float('nan')", ThresholdError, "`nan`", "from 1 (0.001 %)", retry=None),
    _is("1e-9", ThresholdError, "`1e-09`", "from 1 (0.001 %)", retry=None),
    _is("'0.25'", ThresholdError, "`0.25`", 'write "0.25%"'),
    _is("'250'", ThresholdError, "`250`", "write 250 without quotes"),
    _is("'1000000'", ThresholdError, "`1000000`", "from 1 (0.001 %)", retry=None),
    _is("'0.25pct'", ThresholdError, "`0.25pct`", 'write "0.25%"'),
    _is("'0.25 percent'", ThresholdError, "`0.25 percent`", 'write "0.25%"'),
    _is("'0,25%'", ThresholdError, "`0,25%`", 'write "0.25%"'),
    _is("'25 basis points'", ThresholdError, "`25 basis points`", 'write "25bp"'),
    _is("'narrow'", ThresholdError, "`narrow`", '"tight"', "write 250"),
    _is("'all'", ThresholdError, "`all`", "preset", "write 250"),
    _is("'1e2'", ThresholdError, "`1e2`", "write 250"),
    _is("'mediun'", ThresholdError, 'did you mean "medium"?', retry=None),
    _is("''", ThresholdError, "an empty text", "write 250"),
    _is("0", ThresholdError, "`0`", RANGE, retry=None),
    _is("-1", ThresholdError, "`-1`", RANGE, retry=None),
    _is("100001", ThresholdError, "`100001`", RANGE, retry=None),
    _is("'101%'", ThresholdError, "`101%`", RANGE, retry=None),
    _is("'0.0001%'", ThresholdError, "0.1 decimal basis points", "write 1 for 0.001 %"),
    _is("'0.2505%'", ThresholdError, "250.5", "write 250 for 0.25 %, or 251 for 0.251 %"),
    *(
        _is(value, TypeError, f"of type `{kind}`", "write 250")
        for value, kind in {
            "True": "bool",
            "None": "NoneType",
            "1j": "complex",
            "b'250'": "bytes",
            "pl.lit(250)": "Expr",
            "pl.col('x')": "Expr",
            "{250: 1}": "dict",
            "[True]": "bool",
            "dt.timedelta(1)": "timedelta",
        }.items()
    ),
    _is("{100, 250}", TypeError, "a set have no order", "write a list: [100, 250]", retry=None),
    _is("[[250]]", TypeError, "one threshold is expected here, not several", "`[250]`"),
    _is("[250, 250]", ThresholdError, "`250` and `250`", "(0.25 %)", "remove one", retry=None),
    _is("[250, '0.25%']", ThresholdError, "`250` and `0.25%`", "the same", retry=None),
    _is("[]", ThresholdError, "the list of thresholds is empty", "write 250"),
    _is("['a']", ThresholdError, "`a`", "preset"),
    wrong(
        "rb.process_trades_polars(day, [250])",
        TypeError,
        "one threshold is expected here, not several: `[250]`",
        retry="rb.process_trades_polars(day, {value})",
    ),
    wrong(
        "rb.process_trades_polars(day, (250, 500))",
        TypeError,
        "not several: `(250, 500)`",
        retry="rb.process_trades_polars(day, {value})",
    ),
]

ACCEPTED = [
    *(
        "'0.25 %'",
        "'25bps'",
        "'25.5bp'",
        "'Medium'",
        "' medium '",
        "np.int64(250)",
        "np.uint8(250)",
    ),
    *("range(100, 300, 100)", "(100, 250)", "np.array([100, 250])", "pl.Series([100, 250])"),
    *("pd.Series([100, 250])", "['tight', 250]", "rb.Distance(50)"),
]


@pytest.mark.parametrize("row", WRONG, ids=str)
def test_a_threshold_that_is_none(row: Wrong) -> None:
    check(row)


@pytest.mark.parametrize("value", ACCEPTED)
def test_a_threshold_that_is_one(value: str) -> None:
    assert run(f"day.rangebar.bars({value})").height > 0


def test_a_threshold_that_no_price_reaches_gives_no_bars() -> None:
    assert run("day.rangebar.bars('100%')").height == 0
