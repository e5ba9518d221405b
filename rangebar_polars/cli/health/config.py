"""The command `rangebar config`."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.cli._arguments import INCOMPLETE, add_action, add_cache_arguments
from rangebar_polars.cli._output import (
    UsageError,
    csv_text,
    emit,
    error_text,
    fail,
    say,
    text_table,
)
from rangebar_polars.config import config_folder, unknown_variables
from rangebar_polars.exceptions import SettingError, UnknownVariableWarning, nearest, with_hint

if TYPE_CHECKING:
    import argparse

    from rangebar_polars.cli._output import Verbs
    from rangebar_polars.installation.settings import SettingInForce

__all__ = ["add_config"]

CONFIG_HELP = "print every setting with its value and where the value comes from"

#: Options of the command by the setting that they are.
OPTIONS = {"cache_dir": "--cache-dir", "clickhouse_dsn": "--dsn"}


def add_config(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    config = add_action(verbs, "config", CONFIG_HELP, run_config)
    config.description = (
        "Print every setting with its value and where the value comes from: an argument, a variable "
        "of the environment, the settings file or the default. Secrets are shown as `…`. The exit "
        "status is 1 if a value is not valid."
    )
    config.add_argument("setting", nargs="?", metavar="SETTING", help="only this setting")
    config.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        help="how to write the list; csv and json have all columns (default: a table on a terminal, "
        "csv otherwise)",
    )
    add_cache_arguments(config)


def run_config(arguments: argparse.Namespace) -> int:
    """Run `rangebar config`; return 1 if a setting is not valid."""
    from rangebar_polars.installation.settings import settings_in_force

    warnings.simplefilter("ignore", UnknownVariableWarning)
    given = {"cache_dir": arguments.cache_dir, "clickhouse_dsn": arguments.dsn}
    chosen = [_with_option(one) for one in settings_in_force(**given)]
    if arguments.setting is not None:
        chosen = _named(chosen, arguments.setting)
    unknown = unknown_variables()
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    kind = arguments.format or ("table" if is_terminal else "csv")
    if kind == "json":
        emit(_json(chosen, unknown))
    else:
        emit(_table(chosen) if kind == "table" else csv_text(_frame(chosen)))
        _say_where()
    for name, near in unknown.items():
        sentence = f"the variable `{name}` is not a setting, and has no effect"
        say(with_hint(sentence, f"did you mean `{near}`?") if near else sentence)
    faults = [one.fault for one in chosen if one.fault]
    return fail("\n".join(faults), INCOMPLETE) if faults else 0


def _with_option(one: SettingInForce) -> SettingInForce:
    """Name the option of the command in the place of the argument."""
    return replace(one, set_by=OPTIONS[one.name]) if one.origin == "argument" else one


def _named(chosen: list[SettingInForce], name: str) -> list[SettingInForce]:
    """Return the setting of a name, which may be that of its variable."""
    wanted = name.lower().replace("-", "_").removeprefix("rangebar_")
    found = [one for one in chosen if one.name == wanted]
    if not found:
        near = nearest(wanted, [one.name for one in chosen])
        hint = f"did you mean `{near}`?" if near else "`rangebar config` lists the settings"
        raise UsageError(with_hint(f"there is no setting `{name}`", hint))
    return found


def _frame(chosen: list[SettingInForce]) -> pl.DataFrame:
    rows = [
        (one.name, str(one), one.origin, one.set_by, one.variable, one.meaning) for one in chosen
    ]
    names = ("setting", "value", "origin", "set_by", "variable", "meaning")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def _table(chosen: list[SettingInForce]) -> str:
    """Format the main columns for a terminal."""
    origin = pl.concat_str("origin", "set_by", separator=" ").str.strip_chars()
    return text_table(_frame(chosen).select("setting", "value", origin), rows=-1) + "\n"


def _json(chosen: list[SettingInForce], unknown: dict[str, str | None]) -> str:
    rows = [asdict(one) for one in chosen]
    variables = [{"variable": name, "nearest": near} for name, near in unknown.items()]
    return json.dumps({"settings": rows, "unknown_variables": variables}, indent=2) + "\n"


def _say_where() -> None:
    """Say which folder has the files of settings and symbols."""
    try:
        say(f"`config.toml` and `symbols.toml` are read from {config_folder()}")
    except SettingError as error:
        say(error_text(error))
