"""Bars of any values: they are drawn or exported, or refused by an error that names the row."""

from __future__ import annotations

import datetime as dt
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars._text import printable, shown
from rangebar_polars.exceptions import BarDataError, RangeBarError
from rangebar_polars.plot.chart import save_png

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 4
PNG = b"\x89PNG"
PRICES = ["open", "high", "low", "close"]
MIDDLE = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

# What XML, JSON, UTF-8 or a terminal refuses or acts on, and what must stay as it is.
HOSTILE = [
    *map(chr, range(9)),
    "\x0b",
    "\x1b[2J",
    "\x7f",
    "\x9f",
    "\u2028",
    "\ufdd0",
    "\ufffe",
    "\uffff",
]
HOSTILE += ["\U0001fffe", "\U0010ffff", "a" * 100_000, "</svg><script>&amp;", "'\"\\`${x}", "%s{0}"]
HOSTILE += ["\t", "a\nb", "é漢🙂\u200d", "\u202eabc"]
LONE_SURROGATES = ["\ud800", "\udfff"]


def bars(**columns: object) -> pl.DataFrame:
    row = pl.int_range(ROWS, eager=True)
    opened = pl.Series([MIDDLE] * ROWS) + row.cast(pl.Duration("us"))
    frame = pl.DataFrame(
        {
            "bar_id": row.cast(pl.UInt32), "open_time": opened,
            "close_time": opened + pl.Series([dt.timedelta(seconds=1)] * ROWS),
            "open": row + 100.0, "high": row + 102.0, "low": row + 99.0, "close": row + 101.0,
            "volume": row + 1.0,
        }
    )  # fmt: skip
    return frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


SCRIPT = """
import json, sys
from pathlib import Path
import altair as alt
import polars as pl
from rangebar_polars.plot.chart import save_png

texts = json.loads(sys.stdin.read())
bars = pl.read_parquet(sys.argv[1])
path = Path(sys.argv[2])

def draws(chart, save):
    path.unlink(missing_ok=True)
    save(chart)
    assert path.read_bytes().startswith(b"\\x89PNG")

for number, text in enumerate(texts):
    print(number, flush=True)
    # Altair saves the chart as it is, so it must be clean before `save_png`.
    key = text.encode("utf-8", "replace").decode()  # Polars holds no lone surrogates
    keyed = bars.select(pl.lit(key).alias(f"key{key}"), pl.all())
    draws(keyed.rangebar.plot(title=text), lambda chart: chart.save(str(path)))
    if len(text) < 1000 and "\\n" not in text:  # a chart of the caller's own
        data = alt.Data(values=[{f"column{text}": text, "a": float("nan")}])
        theirs = alt.Chart(data, title=text).mark_point().encode(
            alt.X("a:Q", title=[text, text]), alt.Y("b:N", axis=alt.Axis(title=text))
        )
        draws(theirs, lambda chart: save_png(chart, path))
"""


def test_no_text_of_a_title_or_key_ends_the_process(tmp_path: Path) -> None:
    """Run it in a process of its own, since the renderer aborts the one it runs in."""
    texts = [f"a{text}b" for text in (*HOSTILE, *LONE_SURROGATES)]
    file = tmp_path / "bars.parquet"
    bars().write_parquet(file)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), str(tmp_path / "picture.png")],
        input=json.dumps(texts), capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    reached = int(run.stdout.split()[-1])
    assert run.returncode == 0, f"{texts[reached][:20]!r}: {run.stderr[-2000:]}"
    assert reached == len(texts) - 1


def test_text_is_escaped_and_otherwise_as_given() -> None:
    assert printable("é漢🙂\t\n</svg>&'\"\\") == "é漢🙂\t\n</svg>&'\"\\"
    assert printable("\x00\x1b[1m\x7f\x85\ud800\ufffe\U0010ffff") == (
        r"\x00\x1b[1m\x7f\x85\ud800\ufffe\U0010ffff"
    )
    assert bars().rangebar.plot(title="a\x07").title.text == r"a\x07"
    keyed = bars().select(pl.lit("\x1b[2J").alias("sym\x00bol"), pl.all())
    text = keyed.rangebar.plot().to_json()
    assert r"sym\\x00bol \\x1b[2J" in text
    assert r"\u0000" not in text
    long = (
        bars()
        .select(pl.lit("x" * 10**6).alias("symbol"), pl.all())
        .rangebar.plot(title="y" * 10**6)
    )
    assert len(long.to_json()) < 100_000


def test_any_value_is_shown_in_few_words() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (
        nested,
        {"a": nested},
        "x" * 10**6,
        10**6000,
        -(10**6000),
        [10**6000],
        math.nan,
        Path("x" * 999),
    ):
        assert 0 < len(shown(value)) <= 200
    while nested:  # an interpreter may recurse where it takes it apart
        nested = nested.pop()
    assert shown("maybe") == "maybe"
    assert shown(250) == "250"


FAR = [dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(1, 1, 1, tzinfo=dt.UTC)]
NUMBERS = [math.nan, math.inf, -math.inf, None]
TIMES = [None, *FAR]


def with_value(name: str, row: int, value: object) -> pl.DataFrame:
    values = bars()[name].to_list()
    values[row] = value
    return bars(**{name: pl.Series(values, dtype=bars().schema[name])})


def refuses(door: Callable[[pl.DataFrame], object], frame: pl.DataFrame, said: str) -> None:
    with pytest.raises(BarDataError, match=said) as caught:
        door(frame)
    assert isinstance(caught.value, (RangeBarError, ValueError))


@pytest.mark.parametrize("row", [0, 2, ROWS - 1])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in PRICES for value in NUMBERS),
        *(("volume", value) for value in NUMBERS[:3]),
        *((name, value) for name in ("open_time", "close_time") for value in TIMES),
    ],
)
def test_a_value_that_cannot_be_drawn_is_refused_with_its_row(
    name: str, value: object, row: int
) -> None:
    frame = with_value(name, row, value)
    refuses(lambda f: f.rangebar.plot(), frame, rf"`{name}` of row {row}\b")
    if name != "open_time":
        refuses(rb.to_backtesting, frame, rf"`{name}` of row {row}\b")


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("value", [-(2**63), -(2**62), 2**62, 2**63 - 1])
def test_times_beyond_the_calendar_are_refused(unit: str, value: int) -> None:
    for name in ("open_time", "close_time"):
        times = bars()[name].dt.epoch(unit).to_list()
        times[1] = value
        frame = bars(**{name: pl.Series(times).cast(pl.Datetime(unit, "Asia/Tokyo"))})
        refuses(lambda f: f.rangebar.plot(), frame, rf"`{name}` of row 1\b.*{value}.*years")
    refuses(rb.to_backtesting, frame, r"`close_time` of row 1\b")


def test_far_key_values_are_refused_and_nulls_are_keys() -> None:
    days = pl.Series([2**30] * ROWS, dtype=pl.Int32).cast(pl.Date)
    refuses(
        lambda f: f.rangebar.plot(), bars().select(days.alias("day"), pl.all()), "`day` of row 0"
    )
    keyed = bars().select(pl.Series("k", [None, None, "a", "a"]), pl.all())
    assert len(keyed.rangebar.plot().vconcat) == 2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("open_time", range(ROWS)), ("close_time", ["2024-01-01"] * ROWS),
        ("open_time", [dt.date(2024, 1, 1)] * ROWS), ("open", ["100"] * ROWS), ("high", [None] * ROWS),
        ("low", [[1.0]] * ROWS), ("close", [True] * ROWS), ("volume", ["1"] * ROWS),
        ("is_closed", [1] * ROWS),
    ],
)  # fmt: skip
def test_a_column_of_another_data_type_is_refused_by_name(name: str, values: list) -> None:
    frame = bars(**{name: list(values)})
    with pytest.raises((TypeError, BarDataError), match=f"`{name}`"):
        frame.rangebar.plot()
    if name != "open_time":
        with pytest.raises((TypeError, BarDataError), match=f"`{name}`"):
            rb.to_backtesting(frame)


def test_keys_that_have_no_order_are_refused() -> None:
    for values in ([[1]] * ROWS, [{"a": 1}] * ROWS):
        keyed = bars().select(pl.Series("key", values), pl.all())
        for door in (lambda f: f.rangebar.plot(), rb.to_backtesting):
            with pytest.raises(TypeError, match="`key`"):
                door(keyed)


DRAWN: dict[str, Callable[[], pl.DataFrame]] = {
    "nanoseconds": lambda: bars(
        open_time=pl.Series([-(2**63) + 1] * ROWS).cast(pl.Datetime("ns", "America/New_York")),
        close_time=pl.Series([2**63 - 1] * ROWS).cast(pl.Datetime("ns", "Asia/Tokyo")),
    ),
    "first and last year": lambda: bars(
        open_time=[dt.datetime(1, 1, 2, tzinfo=dt.UTC)] * ROWS,
        close_time=[dt.datetime(9999, 12, 30, tzinfo=dt.UTC)] * ROWS,
    ),
    "one time without a zone": lambda: bars(open_time=[dt.datetime(2024, 1, 1)] * ROWS),  # noqa: DTZ001
    "largest numbers": lambda: bars(high=[1.7e308] * ROWS, low=[-1.7e308] * ROWS, volume=[1.7e308] * ROWS),
    "smallest numbers": lambda: bars(**dict.fromkeys(PRICES, [5e-324] * ROWS)),
    "zeros": lambda: bars(**dict.fromkeys([*PRICES, "volume"], [0.0] * ROWS)),
    "decimals": lambda: bars().with_columns(pl.col(PRICES).cast(pl.Decimal(30, 8))),
    "wide integers": lambda: bars().with_columns(pl.col(PRICES).cast(pl.Int128)),
    "huge ids": lambda: bars(bar_id=pl.Series([2**64 - ROWS + row for row in range(ROWS)], dtype=pl.UInt64)),
    "missing ids": lambda: bars(bar_id=[0, None, 2, 3]),
    "ids of text": lambda: bars(bar_id=["a", "b", None, "d"]),
    "some volumes": lambda: bars(volume=[1.0, None, 2.0, None]),
    "no volumes": lambda: bars(volume=[None] * ROWS).with_columns(pl.col("volume").cast(pl.Float64)),
    "unknown ends": lambda: bars(is_closed=[True, None, False, True]),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_values_that_are_odd_but_there_are_drawn(name: str, tmp_path: Path) -> None:
    chart = DRAWN[name]().rangebar.plot()
    save_png(chart, tmp_path / "bars.png", scale=0.5)
    assert (tmp_path / "bars.png").read_bytes().startswith(PNG)


def test_what_is_exported_has_no_missing_value() -> None:
    for name in ("decimals", "wide integers", "largest numbers", "zeros", "first and last year"):
        frame = rb.to_backtesting(DRAWN[name]())
        assert len(frame) == ROWS
        assert not frame.isna().any(axis=None)
        assert not pd.isna(frame.index).any()
    assert len(rb.to_backtesting(DRAWN["unknown ends"]())) == 2


def test_the_time_a_candle_took_is_exact_over_centuries() -> None:
    (rows,) = json.loads(DRAWN["nanoseconds"]().rangebar.plot().to_json())["datasets"].values()
    days = (2**64 - 2) // 1000 // 1_000_000 // 86_400
    assert rows[0]["lasted"].startswith(f"{days}d ")


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"height": -1}, {"width": 10**9}, {"height": 10**6000}, {"max_bars": 0}],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_sizes_that_cannot_be_drawn_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bars().rangebar.plot(**wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 960.5, "960", None, True])
def test_a_size_that_is_not_a_whole_number_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="`width` must be a whole number") as caught:
        bars().rangebar.plot(width=wrong)
    assert "hint: write width=" in str(caught.value)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, 1e6])
def test_a_picture_too_large_for_memory_is_refused(scale: float, tmp_path: Path) -> None:
    import altair as alt

    chart = alt.Chart(alt.Data(values=[{"a": 1}])).mark_point()
    with pytest.raises(ValueError, match=r"scale"):
        save_png(chart, tmp_path / "x.png", scale=scale)
    assert list(tmp_path.iterdir()) == []
