"""What follows from one file of trades to the next: ids that are missing, fills that come twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileChain", "Once"]

FIRST, LAST = "first_trade_id", "last_trade_id"
LISTED = 3
ONE_DAY_US = 86_400_000_000


class Once:
    """Tells each message once, whichever thread or pass it comes from; a pickled copy tells again."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._told: dict[str, object] = {}

    def __call__(self, message: str, *arguments: object) -> None:
        """Pass a message on unless it was passed on before."""
        token = object()
        if self._told.setdefault(message, token) is token:  # one step, of which no thread is amid
            self._tell(message, *arguments)

    def __reduce__(self) -> tuple[type[Once], tuple[Callable[..., None]]]:
        return type(self), (self._tell,)


class FileChain:
    """The end of the files so far; one for each pass over the files of a plan."""

    def __init__(self) -> None:
        self._source = ""
        self._last_id: int | None = None
        self._last_fill: int | None = None
        self._last_us: int | None = None
        self._gaps: list[str] = []

    def missing(self) -> str:
        """Words for what is missing between files; empty if nothing is."""
        if not self._gaps:
            return ""
        more = f"; and {len(self._gaps) - LISTED} more" if len(self._gaps) > LISTED else ""
        listed = "; ".join(self._gaps[:LISTED])
        return f"trades are missing: {listed}{more}. Is a file missing, or in another place?"

    def follow_ids(self, source: str, first: int, last: int) -> None:
        """Continue with a file that holds these consecutive ids, and note a gap before it."""
        if self._last_id is not None and first > self._last_id + 1:
            self._gaps.append(
                f"ids {self._last_id + 1} to {first - 1} between `{self._source}` and `{source}`"
            )
        self._source, self._last_id = source, max(last, self._last_id or last)

    def follow_times(self, source: str, first_us: int, last_us: int) -> None:
        """Continue with a file of a market that never closes, and note a day without a trade."""
        if self._last_us is not None and first_us - self._last_us >= ONE_DAY_US:
            days = f"{(first_us - self._last_us) / ONE_DAY_US:.3g}"
            unit = "day" if days == "1" else "days"
            self._gaps.append(f"{days} {unit} between `{self._source}` and `{source}`")
        self._source, self._last_us = source, last_us

    def repeated_fills(self, ticks: pl.DataFrame) -> pl.DataFrame | None:
        """Return records whose fills an earlier one has, with the last fill before it, or None."""
        if ticks.is_empty():
            return None
        before = self._last_fill
        highest = ticks.select(pl.col(LAST).max()).item()
        self._last_fill = max(highest, before or 0)
        begins_late = before is None or int(ticks[FIRST][0]) > before
        if begins_late and (ticks[FIRST].slice(1) > ticks[LAST].head(ticks.height - 1)).all():
            return None
        ends = pl.concat([pl.Series(LAST, [before], pl.Int64), ticks[LAST].head(ticks.height - 1)])
        marked = ticks.with_columns(ends.cum_max().forward_fill().alias("fill_before"))
        repeated = marked.filter(pl.col(FIRST) <= pl.col("fill_before"))
        return repeated if repeated.height else None


def repeated_words(source: str, repeated: pl.DataFrame, line: int | None) -> str:
    """Words for records whose fills count twice; `line` is that of the first of them."""
    row = repeated.row(0, named=True)
    first, last = row[FIRST], min(row[LAST], row["fill_before"])
    fills = f"fill {first}" if first == last else f"fills {first} to {last}"
    where = f"`{source}`" if line is None else f"`{source}`, line {line}"
    more = f", as do {repeated.height - 1} more records" if repeated.height > 1 else ""
    return (
        f"{where}: the record `{row['agg_trade_id']}` repeats {fills}, which an earlier record has{more}: "
        "they count twice. To count them once, drop these records"
    )
