"""Every public function and command runs with its required arguments alone."""

from __future__ import annotations

import inspect
import re
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange, Tape
from population.tape import SYMBOL, bars
from rangebar_polars import validation
from rangebar_polars.cli import main
from rangebar_polars.clickhouse import cache
from rangebar_polars.storage.coverage import CoverageWarning

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (rb, cache, validation)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}
#: Values for arguments without a default, by the name of the function or of the argument.
GIVEN = {
    "symbol": SYMBOL,
    "threshold": 250,
    "n_bars": 10,
    "price": pl.col("price"),
    "bar_id": pl.col("bar_id"),
}


@pytest.fixture(scope="module")
def market(new_folder):
    """Return an exchange with four days up to yesterday, set up with an empty folder."""
    today = datetime.now(UTC).date()
    tape = Tape.generate("BTCUSDT", today - timedelta(days=4), days=4, per_day=400, absent=0)
    with Exchange(tape, now=datetime.now(UTC)) as box, pytest.MonkeyPatch.context() as patch:
        for name, value in box.environment.items():
            patch.setenv(name, value)
        patch.setenv("RANGEBAR_CACHE_DIR", str(new_folder()))
        # For a symbol without stored bars, 30 days would be fetched.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rb.populate_cache_resumable(SYMBOL, tape.days[0])
        yield box


def given_to(function, tape, file):
    """Return arguments for parameters without a default; an unknown parameter fails the test."""
    made = bars(tape.ticks)
    first, last = f"{tape.days[0]}", f"{tape.days[1]}"
    known = {
        **GIVEN,
        "start": first,
        "start_date": first,
        "end": last,
        "end_date": last,
        "trades": tape.ticks,
        "trades_iterator": [tape.ticks],
        "bars": made.filter("is_closed"),
        "df": made.filter("is_closed"),
        "source": file,
        "paths": file,
    }
    needed = [
        name
        for name, one in inspect.signature(function).parameters.items()
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    return {name: known[name] for name in needed}


def used(result):
    """Use a result, whatever it is."""
    if isinstance(result, pl.Expr):
        return result.meta.output_name() or True
    if isinstance(result, pl.LazyFrame):
        return result.collect().height
    if isinstance(result, pl.DataFrame | pd.DataFrame):
        return len(result)
    if hasattr(result, "__enter__"):
        with result as opened:
            return bool(repr(opened))
    if inspect.isgenerator(result):
        return len(list(result))
    return repr(result) and str(result)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_function_runs_with_its_defaults(market, tmp_path, name):
    """Some warn that no bars are stored, or that the newest archive is not published yet."""
    archive = market.path(market.tapes[0].days[0])
    file = tmp_path / Path(archive).name
    file.write_bytes(market.content(archive))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        warnings.simplefilter("ignore", UserWarning)
        assert used(PUBLIC[name](**given_to(PUBLIC[name], market.tapes[0], file))) is not None


COMMANDS = [
    f"populate {SYMBOL} --start {{first}}",
    f"bars {SYMBOL} {{first}} {{last}}",
    "cache status",
    f"cache coverage {SYMBOL}",
    f"cache count {SYMBOL}",
    f"cache export {SYMBOL} --out {{folder}}/bars.parquet",
    "cache update",
    "cache upgrade",
    "cache gc",
    f"fetch {SYMBOL} {{first}} {{last}}",
    "ticks list",
    "symbols",
    f"cache drop {SYMBOL} --yes",
]


def test_commands_run_with_their_defaults(market, tmp_path, capsys):
    first, last, *_ = market.tapes[0].days
    days = {"first": first, "last": last, "folder": tmp_path}
    for command in COMMANDS:
        words = command.format(**days).split()
        assert main(words) == 0, (command, capsys.readouterr())
    assert Path(tmp_path / "bars.parquet").stat().st_size > 0


def test_every_existing_command_runs(capsys):
    with pytest.raises(SystemExit):
        main(["cache", "--help"])
    output = capsys.readouterr().out
    actions = {line.split()[0] for line in output.splitlines() if re.match(r" {4}\S", line)}
    known = {command.split()[1] for command in COMMANDS if command.startswith("cache ")}
    assert {one for one in actions if one.isalpha()} - {"older", "rule"} == known
