"""Write columns.md, settings.md, sources.md, layouts.md, names.md and metrics.md from the package.

Run with the package installed: python docs/reference/generate.py
"""

from __future__ import annotations

from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING

import rangebar_polars as rb
from rangebar_polars.config import setting_fields
from rangebar_polars.live.health.metrics import CONTENT_TYPE, METRICS, PREFIX
from rangebar_polars.live.protocol.states import State
from rangebar_polars.sources import SOURCES
from rangebar_polars.trade_layouts.table import LAYOUTS

if TYPE_CHECKING:
    from rangebar_polars.trade_layouts.table import TradeLayout

PAGE = Path(__file__).with_name("columns.md")
SETTINGS_PAGE = Path(__file__).with_name("settings.md")
SOURCES_PAGE = Path(__file__).with_name("sources.md")
LAYOUTS_PAGE = Path(__file__).with_name("layouts.md")
NAMES_PAGE = Path(__file__).with_name("names.md")
METRICS_PAGE = Path(__file__).with_name("metrics.md")
HEAD = """\
# Columns of a bar frame

Generated from `rb.columns()` by `docs/reference/generate.py`; do not edit. Keys of `group_by` come
first, with their own dtypes. A list of thresholds adds `threshold`, and `incomplete="keep"` adds
`is_closed` and `ended_by`. Every frame has the group `core`. `features="microstructure"`, another
group, single names, or `"all"` add the others. The order is always that of this page. Volumes are in
the unit of the quantity of the trades: coins for stored ticks of coin-margined futures, contracts for
raw files of them.

A column is null in all bars if the trades have no column that it *needs*, and in a bar whose sample is
below *min*. The sample of `lookback` is the window before the bar, that of the other groups the bar. It
is counted in records, or in orders: runs of records of one time and side. A value is also null where
its definition has a denominator of 0.
"""
TABLE = """
## {group}

| column | dtype | unit | null | range | needs | min | meaning |
|---|---|---|---|---|---|---|---|
"""
SETTINGS_HEAD = """\
# Settings

Generated from `rangebar_polars.config` by `docs/reference/generate.py`; do not edit.

An argument of a function wins over the environment, which wins over the settings file, which wins
over the default. Every call reads them again. The variable of a setting is `RANGEBAR_` followed by its
name in capitals. An empty variable counts as not set. The file is TOML, with the name as the key:
`symbol_gate = "warn"`. A relative path in it starts from the folder of the file, and a key that is not
a setting is an error. A variable that is nearly the name of a setting is warned about. `rangebar config`
prints the settings in force with their origin, and `rangebar doctor` checks them.

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
LAYOUTS_HEAD = """\
# Layouts of trade files

Generated from `rangebar_polars.trade_layouts.table` by `docs/reference/generate.py`; do not edit.

`rb.scan_trades` recognises these by the names of the columns and the values of the first row;
`layout=` takes the name. Case, blanks and `_`, `-`, `.` in names do not matter, and a file may have
more columns. The side is that of the taker unless the table says so. Times are UTC.

| layout | time | price | quantity | unit | side | ids | symbol | header | files | note |
|---|---|---|---|---|---|---|---|---|---|---|
"""
LAYOUTS_TAIL = """
`parquet` and `csv` find fields by the known names of columns, or by `columns=`. Times that are
numbers need `time_unit=` there. Side words are those of the taker.

`rb.scan_trades(files).rangebar.binding()` says which layout was recognised, and which column of a
file each field is read from.

Sequential integer ids become `agg_trade_id`, `first_trade_id` and `last_trade_id`; other ids stay text
in `trade_id`. `is_buyer_maker` is null where nobody was the aggressor.

Left out, because no public document says what is in them: `.bi5` files of Dukascopy (the scale of
prices depends on the instrument), the side of Polygon's crypto trades (its condition codes), trades
of Coinbase's Advanced Trade API saved as CSV (whose side they name), and BitMEX dumps (times
with a `D` in the middle: read them with `pl.read_csv`).

## Where this is documented

"""
SOURCES_HEAD = """\
# Sources

Generated from `rangebar_polars.sources` by `docs/reference/generate.py`; do not edit.

The arguments `source` and `market` of a function, and `--source` and `--market` of a command, name a
market of this table, in any letter case. A file of symbols writes `um` and `cm` as `futures-um` and
`futures-cm`; the arguments take these names too.

Any other name is a source of your own: `source="kraken"`, of 2 to 32 characters a-z, 0-9, `_` and `-`
that begin with a letter. Its ticks come from `TickStorage.write_ticks` or `rangebar ticks import`;
nothing is downloaded. Its market has any name of 1 to 32 such characters. Its ids are whole numbers,
which form a chain and prove that no tick is missing, or texts in the column `trade_id`, such as UUIDs,
which prove that no tick is there twice, or absent. Days of the last two kinds are complete as written.

On coin-margined futures (`cm`), Binance counts contracts. The tick store holds coins as the quantity,
contracts · contract size / price, rounded half to even to 8 decimals, and the contracts in the column
`contracts`. The contract size is `contract_size` of the file of symbols: 100 for contracts of BTC, 10
for most others (Binance, "COIN-Margined Futures Contract Specifications"). A day that was stored
before has no column `contracts`; its quantity is converted when it is read, and bars of it are
computed again. Files that you read yourself (`scan_agg_trades`, `BinanceArchive`) keep contracts.

Exness names a symbol with its type of account: `EURUSD_Raw_Spread` (the default), `EURUSD`,
`EURUSDm`, `EURUSD_Zero_Spread`, `EURUSD_Pro`, `EURUSD_Standart_Plus`. The key `archive_name` of the
file of symbols names another one. A month without a file comes from the file of its year
(`2024/Exness_NAME_2024.zip`) or from those of its days (`2024/01/02/Exness_NAME_2024_01_02.zip`).
"""
SOURCE_TABLE = """
## {source.title}: `source="{source.name}"`

| | |
|---|---|
"""

NAMES_HEAD = """\
# Names of the columns of trades

Generated from `rb.known_names()` by `docs/reference/generate.py`; do not edit.

A column with one of these names is read as the field, in frames, plans, builders and expressions. Letter
case, blanks and the characters `_`, `-`, `.` do not matter: `baseQty` and `Base Qty` are `base_qty`. The
name of the field itself wins over the others; two columns with other names of one field are an error.
`columns={"quantity": "my_size"}` of a frame, or `quantity="my_size"` of an expression, names any other
column, and `None` leaves a field out. `rb.binding(trades)` shows what is read.

- Names of ids count only for integer columns.
- A single letter counts only as the signature of Binance's streams: `p`, `q` and `T` together, `a` and `m`
  beside them, `f` and `l` beside them and together.
- `is_buyer_maker` and `side` are two forms of the same field. If a frame has both, `is_buyer_maker` is read.
- `symbol` is not an input of bars: without `group_by`, a text column of such a name must hold one value.

| field | names | letter |
|---|---|---|
"""

METRICS_HEAD = """\
# Metrics of a sidecar

Generated from `rangebar_polars.live.health.metrics` by `docs/reference/generate.py`; do not edit.

`/metrics` of a sidecar's HTTP interface (`health_host`, `health_port`) answers in the text format of
Prometheus (`{content_type}`). The guide to operations has
[a job and alert rules](../guides/operations.md#metrics-and-alerts).

Numbers are those of the process and begin at 0 when it starts. While it runs, a counter never falls. A
metric whose value is not known, such as the lag before the first message, has no sample. The label
`state` is one of {states}; `symbol` and `market` are those of the [store](sources.md).

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def bounds(lower: float | None, upper: float | None) -> str:
    """Format a range of values in interval notation, empty where there is no bound."""
    if lower is None and upper is None:
        return ""
    left = "(−∞" if lower is None else f"[{lower:g}"
    right = "∞)" if upper is None else f"{upper:g}]"
    return f"{left}, {right}"


def least(row: dict) -> str:
    """Format the smallest sample, which is a single record unless something is said."""
    if row["sample"] == "orders":
        return f"{row['min_sample']} orders"
    return "" if row["min_sample"] == 1 else str(row["min_sample"])


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
            row["needs"],
            least(row),
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
    for setting in setting_fields():
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


def side_words(layout: TradeLayout) -> str:
    """Return the column of the side of a layout, and whose side it is."""
    if layout.buyer_maker:
        return f"`{layout.buyer_maker}`"
    if not layout.side:
        return "none"
    return f"`{layout.side}`" + (", the maker's" if layout.side_of == "maker" else "")


def quantity_words(layout: TradeLayout) -> str:
    """Return the column of the quantity of a layout, or what it is computed from."""
    if layout.quantity:
        return f"`{layout.quantity}`"
    return f"`{layout.contracts}` / `{layout.price}`" if layout.contracts else "none"


def layouts_page() -> str:
    """Return the page of the layouts of trade files."""
    text = LAYOUTS_HEAD
    for layout in LAYOUTS:
        units = (unit if "%" not in unit else "text" for unit in layout.time_units)
        ids = f"`{layout.id}`, {layout.id_kind}" if layout.id else "none"
        cells = [
            f"`{layout.name}`" + (f" {layout.form}" if layout.form else ""),
            f"`{layout.time}`, {' or '.join(units)}",
            f"`{layout.price}`" if layout.price else f"`{layout.bid}`, `{layout.ask}`",
            quantity_words(layout),
            layout.unit,
            side_words(layout),
            ids,
            f"`{layout.symbol}`" if layout.symbol else "none",
            layout.header,
            layout.compression or "plain",
            layout.note,
        ]
        text += f"| {' | '.join(cells)} |\n"
    sources = dict.fromkeys((layout.name, layout.source) for layout in LAYOUTS)
    return text + LAYOUTS_TAIL + "".join(f"- `{name}`: {source}.\n" for name, source in sources)


def names_page() -> str:
    """Return the page of the known names."""
    text = NAMES_HEAD
    for (field,), names in rb.known_names().group_by("field", maintain_order=True):
        listed = names["name"].to_list()
        # The letter is the last name; `s` of the symbols is a name like the others.
        letters = [listed.pop()] if field != "symbol" and len(listed[-1]) == 1 else []
        cells = [", ".join(f"`{name}`" for name in group) for group in (listed, letters)]
        text += f"| `{field}` | {' | '.join(cells)} |\n"
    return text


def metrics_page() -> str:
    """Return the page of the metrics."""
    states = ", ".join(f"`{state.value}`" for state in State)
    text = METRICS_HEAD.format(content_type=CONTENT_TYPE, states=states)
    for metric in METRICS:
        name = PREFIX + metric.name + ("_total" if metric.is_counter else "")
        cells = [
            f"`{name}`",
            "counter" if metric.is_counter else "gauge",
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SETTINGS_PAGE.write_text(settings_page(), encoding="utf-8")
    SOURCES_PAGE.write_text(sources_page(), encoding="utf-8")
    LAYOUTS_PAGE.write_text(layouts_page(), encoding="utf-8")
    NAMES_PAGE.write_text(names_page(), encoding="utf-8")
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
