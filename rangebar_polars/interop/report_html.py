"""HTML of reports, for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rangebar_polars._text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["facts_html", "lines_html", "rows_html"]

_MOST_ROWS = 20


def facts_html(title: str, facts: Sequence[tuple[str, object]]) -> str:
    """Return a table of two columns, a name and a value in each row.

    Examples
    --------
    >>> from rangebar_polars.interop.report_html import facts_html
    >>> facts_html("A<B", [("days", 3)])
    '<table><caption>A&lt;B</caption><tr><th>days</th><td>3</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts
    )
    return f"<table><caption>{_text(title)}</caption>{rows}</table>"


def rows_html(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with a heading for each column, and at most 20 of the rows.

    Examples
    --------
    >>> from rangebar_polars.interop.report_html import rows_html
    >>> rows_html(["symbol"], [["A&B"]])
    '<table><tr><th>symbol</th></tr><tr><td>A&amp;B</td></tr></table>'
    """
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    shown = rows[:_MOST_ROWS]
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in shown
    )
    left = len(rows) - len(shown)
    more = f'<tr><td colspan="{len(columns)}">and {left:,} more</td></tr>' if left else ""
    return f"<table><tr>{head}</tr>{body}{more}</table>"


def lines_html(text: str) -> str:
    r"""Return the lines of a text as a paragraph.

    Examples
    --------
    >>> from rangebar_polars.interop.report_html import lines_html
    >>> lines_html("1 < 2\nend")
    '<p>1 &lt; 2<br>end</p>'
    """
    return f"<p>{'<br>'.join(_text(line) for line in text.splitlines())}</p>" if text else ""


def _text(value: object) -> str:
    if value is None:
        return ""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return escape(printable(f"{value:,}" if whole else str(value)))
