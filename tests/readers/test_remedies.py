"""What a read misses is data: Python names a call for it, the shell a command."""

from __future__ import annotations

import pickle
import re
import shlex
from datetime import date
from pathlib import Path

import pytest

from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.cli import main, parser
from rangebar_polars.cli._remedies import command, shell_text
from rangebar_polars.exceptions import CoverageError, TicksNotCachedError
from rangebar_polars.readers.bars import get_range_bars
from rangebar_polars.readers.hints import MissingBars, MissingTicks, StaleBars, python_call
from readers.shared import SYMBOL, january

DAYS = (date(2024, 1, 1), date(2024, 1, 2))
SPEC = BarSpec.of("ETHUSDT", 500, reset="month")

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.mark.parametrize(
    ("missing", "call", "line"),
    [
        (
            MissingBars(BarSpec.of("ETHUSDT", 250), *DAYS, cache_dir="/a b"),
            'rb.populate_cache_resumable("ETHUSDT", "2024-01-01", "2024-01-02", cache_dir="/a b")',
            "rangebar populate ETHUSDT -s 2024-01-01 -e 2024-01-02 --cache-dir '/a b'",
        ),
        (
            MissingTicks("ETHUSDT", "binance", "um", *DAYS),
            'rb.fetch_ticks("ETHUSDT", "2024-01-01", "2024-01-02", market="um")',
            "rangebar fetch ETHUSDT 2024-01-01 2024-01-02 --source binance --market um",
        ),
        (
            StaleBars("ETHUSDT"),
            "populate_cache_resumable(..., refresh_stale=True)",
            "rangebar populate with --refresh-stale",
        ),
    ],
)
def test_each_has_a_call_and_a_command(missing, call, line):
    assert python_call(missing) == call
    assert command(missing) == line
    assert shell_text(f"first: {call}; or {{}} not", missing) == f"first: {line}; or {{}} not"
    assert pickle.loads(pickle.dumps(missing)) == missing


@pytest.mark.parametrize(
    "missing", [MissingBars(SPEC, *DAYS), MissingTicks("ETHUSDT", "binance", "um", *DAYS)]
)
def test_a_command_is_one_that_the_parser_knows(missing):
    words = shlex.split(command(missing))
    assert words[0] == "rangebar"
    assert parser().parse_args(words[1:]).run


def test_what_no_command_can_do_is_a_call_in_the_shell_too():
    spec = BarSpec.of("ETHUSDT", 500, rules=BarRules(prevent_same_timestamp_close=False))
    missing = MissingBars(spec, *DAYS)
    assert command(missing) == python_call(missing)


def test_an_error_carries_it_through_another_process(shared):
    with pytest.raises(CoverageError) as refused:
        get_range_bars(SYMBOL, january(1), january(40), 405, **shared.place)
    error = pickle.loads(pickle.dumps(refused.value))
    expected = MissingBars(
        BarSpec.of(SYMBOL, 405), january(1).date(), january(39).date(), str(shared.folder)
    )
    assert error.remedy == refused.value.remedy == expected
    assert python_call(expected) in str(error)


def test_missing_ticks_are_fetched_into_the_folder_of_the_read(shared):
    with pytest.raises(TicksNotCachedError) as refused:
        get_range_bars(SYMBOL, "2024-03-01", "2024-03-02", **shared.place)
    call = re.search(r"rb\.fetch_ticks\(.*\)", str(refused.value)).group()
    assert call == python_call(refused.value.remedy)
    assert f'cache_dir="{shared.folder}"' in call
    assert "rangebar " not in str(refused.value)


def test_the_shell_names_a_command_where_python_names_a_call(shared, capsys):
    place = ["--cache-dir", str(shared.folder)]
    assert main(["bars", SYMBOL, "2023-01-01", "2023-02-20", "-t", "405", *place]) == 1
    heard = capsys.readouterr().err
    assert "rb." not in heard
    line = re.search(r"rangebar populate .*", heard).group()
    arguments = parser().parse_args(shlex.split(line)[1:])
    assert (arguments.start, arguments.end) == ("2023-01-01", "2023-02-20")
    assert arguments.cache_dir == Path(shared.folder)


def test_a_warning_of_the_shell_names_a_command(shared, capsys, tmp_path):
    out = tmp_path / "bars.parquet"
    place = ["--cache-dir", str(shared.folder), "--out", str(out)]
    assert main(["cache", "export", SYMBOL, "2023-01-01", "2023-03-01", *place]) == 0
    heard = capsys.readouterr().err
    assert "warning: " in heard
    assert "hint: rangebar populate BTCUSDT " in heard
    assert "rb." not in heard
