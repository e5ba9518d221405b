"""Write columns.md, settings.md and sources.md from the tables of the package.

Run with the package installed: python docs/reference/generate.py
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import rangebar_polars as rb
from rangebar_polars.config import Settings
from rangebar_polars.sources import SOURCES

PAGE = Path(__file__).with_name("columns.md")
SETTINGS_PAGE = Path(__file__).with_name("settings.md")
SOURCES_PAGE = Path(__file__).with_name("sources.md")
HEAD = """\
# Columns of a bar frame

Generated from `rb.columns()` by `docs/reference/generate.py`; do not edit. Keys of `group_by` come
first, with their own dtypes. A list of thresholds adds `threshold`, and `incomplete="keep"` adds
`is_closed` and `ended_by`. Every frame has the group `core`. `features="microstructure"`, or single
names, add the others. The order is always that of this page.
"""
TABLE = """
## {group}

| column | dtype | unit | null | range | meaning |
|---|---|---|---|---|---|
"""
SETTINGS_HEAD = """\
# Settings

Generated from `rangebar_polars.config` by `docs/reference/generate.py`; do not edit.

An argument of a function wins over the environment, which wins over the settings file, which wins
over the default. Every call reads them again. The variable of a setting is `RANGEBAR_` followed by its
name in capitals. An empty variable counts as not set. The file is TOML, with the name as the key:
`symbol_gate = "warn"`. A relative path in it starts from the folder of the file, and a key that is not
a setting is an error.

| platform | configuration folder | cache folder |
|---|---|---|
| Linux | `~/.config/rangebar-polars` | `~/.cache/rangebar-polars` |
| macOS | `~/Library/Application Support/rangebar-polars` | `~/Library/Caches/rangebar-polars` |
| Windows | `%LOCALAPPDATA%\\rangebar-polars` | `%LOCALAPPDATA%\\rangebar-polars\\Cache` |

`XDG_CONFIG_HOME` and `XDG_CACHE_HOME` replace `~/.config` and `~/.cache`, and on macOS the folders of
the table.

The variable `RANGEBAR_MIN_THRESHOLD_<SYMBOL>` is the smallest threshold of one symbol, in decimal
basis points. It has no key in the settings file, because the file of symbols has `min_threshold`.

| setting | variable | value | default | meaning |
|---|---|---|---|---|
"""
SOURCES_HEAD = """\
# Sources

Generated from `rangebar_polars.sources` by `docs/reference/generate.py`; do not edit.

The arguments `source` and `market` of a function, and `--source` and `--market` of a command, name a
market of this table, in any letter case. A file of symbols writes `um` and `cm` as `futures-um` and
`futures-cm`; the arguments take these names too.
"""
SOURCE_TABLE = """
## {source.title}: `source="{source.name}"`

| | |
|---|---|
"""


def bounds(lower: float | None, upper: float | None) -> str:
    """Format a range of values in interval notation, empty where there is no bound."""
    if lower is None and upper is None:
        return ""
    left = "(−∞" if lower is None else f"[{lower:g}"
    right = "∞)" if upper is None else f"{upper:g}]"
    return f"{left}, {right}"


def page() -> str:
    """Return the page of the columns."""
    text, group = HEAD, None
    for row in rb.columns().iter_rows(named=True):
        if row["group"] != group:
            group = row["group"]
            text += TABLE.format(group=group)
        cells = [
            f"`{row['name']}`",
            row["dtype"],
            row["unit"],
            "yes" if row["nullable"] else "",
            bounds(row["lower"], row["upper"]),
            row["meaning"].replace("|", "\\|"),
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def default_text(setting) -> str:
    """Describe the default of a setting for the table."""
    text = setting.metadata["setting"].default_text
    if text is not None or setting.default is MISSING:
        return text
    return f"`{str(setting.default).lower()}`"


def settings_page() -> str:
    """Return the page of the settings."""
    text = SETTINGS_HEAD
    for setting in fields(Settings):
        about = setting.metadata["setting"]
        variables = [f"RANGEBAR_{setting.name.upper()}", *about.other_variables]
        cells = [
            f"`{setting.name}`" if setting.name != "config" else "",
            ", ".join(f"`{name}`" for name in variables),
            about.kind.description,
            default_text(setting),
            about.meaning,
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def sources_page() -> str:
    """Return the page of the sources."""
    text = SOURCES_HEAD
    for source in SOURCES.values():
        text += SOURCE_TABLE.format(source=source)
        units = [f" ({m.quantity_unit})" if m.quantity_unit else "" for m in source.markets]
        names = [f"`{market.name}`" for market in source.markets]
        rows = {
            "markets (unit of quantity)": ", ".join(map("".join, zip(names, units, strict=True))),
            "ticks": source.ticks.name,
            "columns": ", ".join(f"`{name}`" for name in source.ticks.schema),
            "required of your own ticks": ", ".join(f"`{name}`" for name in source.ticks.required),
            "`agg_trade_id`": source.ids.value,
            "file of the archive": f"a {source.archive_file}",
            "weekends": "closed" if source.closes_at_weekends else "open",
            "settings": ", ".join(f"`{name}`" for name in source.settings),
        }
        text += "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(), encoding="utf-8")
    SOURCES_PAGE.write_text(sources_page(), encoding="utf-8")
