"""Writes columns.md, the reference of the columns, from the catalogue of the package.

Run with the package installed: python docs/reference/generate.py
"""

from __future__ import annotations

from pathlib import Path

import rangebar_polars as rb

PAGE = Path(__file__).with_name("columns.md")
HEAD = """\
# Columns of a bar frame

Generated from `rb.columns()` by `docs/reference/generate.py`; do not edit. Keys of `group_by` come
first, in their own dtypes. `threshold` is there when a list was given, `is_closed` and `ended_by`
with `incomplete="keep"`. `core` is always there; `features="microstructure"`, or names, add the
others, always in this order.
"""
TABLE = """
## {group}

| column | dtype | unit | null | range | meaning |
|---|---|---|---|---|---|
"""


def bounds(lower: float | None, upper: float | None) -> str:
    """The range of values in interval notation, empty where there is no bound."""
    if lower is None and upper is None:
        return ""
    left = "(−∞" if lower is None else f"[{lower:g}"
    right = "∞)" if upper is None else f"{upper:g}]"
    return f"{left}, {right}"


def page() -> str:
    """The whole page."""
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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
