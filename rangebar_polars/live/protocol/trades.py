"""Trades of one symbol as growing columns, 49 bytes a trade."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rangebar_polars.sources import TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    _Ints: TypeAlias = array[int]
    _Floats: TypeAlias = array[float]
    _Columns: TypeAlias = tuple[_Ints, _Floats, _Floats, _Ints, _Ints, _Ints, _Ints]

__all__ = ["Trade", "TradeColumns", "runs_of"]

# In the order of `TRADES_SCHEMA`: time, price, quantity, three ids, side.
_TYPES = "qddqqqb"


class Trade(NamedTuple):
    """One aggregate trade; its time is in microseconds since 1970."""

    time_us: int
    price: float
    quantity: float
    id: int
    first_id: int
    last_id: int
    is_buyer_maker: bool


class TradeColumns:
    """Trades as one array per column of `TRADES_SCHEMA`.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.trades import Trade, TradeColumns
    >>> trades = TradeColumns([Trade(1_700_000_000_000_000, 0.5, 2.0, 7, 9, 9, True)])
    >>> trades.append(1_700_000_000_000_001, 0.5, 1.0, 8, 10, 11, False)
    >>> len(trades), trades.ids.tolist(), trades.frame()["quantity"].to_list()
    (2, [7, 8], [2.0, 1.0])
    """

    __slots__ = ("columns",)

    def __init__(self, trades: Iterable[Trade] = ()) -> None:
        self.columns: tuple[array[int] | array[float], ...] = tuple(map(array, _TYPES))
        for trade in trades:
            self.append(*trade)

    @classmethod
    def of_frame(cls, frame: pl.DataFrame) -> TradeColumns:
        """Convert a frame with the columns of `TRADES_SCHEMA`."""
        found = cls()
        # Physical values: microseconds for times, 0 and 1 for sides.
        plain = frame.select(pl.col(TRADES_SCHEMA.names()).to_physical())
        for column, series in zip(found.columns, plain.iter_columns(), strict=True):
            column.extend(series.to_list())
        return found

    def frame(self) -> pl.DataFrame:
        """Convert the trades to a frame with the columns of `TRADES_SCHEMA`."""
        series = zip(TRADES_SCHEMA.items(), self.columns, strict=True)
        return pl.DataFrame([pl.Series(name, column).cast(to) for (name, to), column in series])

    def __len__(self) -> int:
        return len(self.columns[3])

    def __iter__(self) -> Iterator[Trade]:
        return map(self.row, range(len(self)))

    def __repr__(self) -> str:
        ids = self.ids
        return f"<{len(self)} trades{f', ids {ids[0]} to {ids[-1]}' if ids else ''}>"

    @property
    def _typed(self) -> _Columns:
        return self.columns  # type: ignore[return-value]

    @property
    def times_us(self) -> array[int]:
        """Times in microseconds since 1970."""
        return self.columns[0]  # type: ignore[return-value]

    @property
    def prices(self) -> array[float]:
        """Prices."""
        return self.columns[1]  # type: ignore[return-value]

    @property
    def quantities(self) -> array[float]:
        """Quantities."""
        return self.columns[2]  # type: ignore[return-value]

    @property
    def ids(self) -> array[int]:
        """Ids of the aggregate trades."""
        return self.columns[3]  # type: ignore[return-value]

    def row(self, position: int) -> Trade:
        """Return one trade."""
        times, prices, quantities, ids, firsts, lasts, sides = self._typed
        return Trade(
            times[position],
            prices[position],
            quantities[position],
            ids[position],
            firsts[position],
            lasts[position],
            bool(sides[position]),
        )

    def append(
        self,
        time_us: int,
        price: float,
        quantity: float,
        number: int,
        first_id: int,
        last_id: int,
        is_buyer_maker: bool,  # noqa: FBT001 - a column
    ) -> None:
        """Add a trade at the end."""
        times, prices, quantities, ids, firsts, lasts, sides = self._typed
        times.append(time_us)
        prices.append(price)
        quantities.append(quantity)
        ids.append(number)
        firsts.append(first_id)
        lasts.append(last_id)
        sides.append(is_buyer_maker)

    def extend(self, other: TradeColumns) -> None:
        """Add trades at the end."""
        for mine, its in zip(self.columns, other.columns, strict=True):
            mine.extend(its)  # type: ignore[arg-type]

    def slice(self, start: int, stop: int | None = None) -> TradeColumns:
        """Copy the trades of a range of positions."""
        return self._of([column[start:stop] for column in self.columns])

    def take(self, positions: Sequence[int]) -> TradeColumns:
        """Copy the trades at some positions, in their order."""
        return self._of(
            [
                array(kind, [column[i] for i in positions])
                for kind, column in zip(_TYPES, self.columns, strict=True)
            ]
        )

    def delete(self, start: int, stop: int | None = None) -> None:
        """Remove the trades of a range of positions."""
        for column in self.columns:
            del column[start:stop]

    def position(self, number: int) -> int | None:
        """Return where an id is; None if it is not there. The ids must increase."""
        ids = self.ids
        at = bisect_left(ids, number)
        return at if at < len(ids) and ids[at] == number else None

    def in_order(self) -> TradeColumns:
        """Return the trades in the order of their ids; trades with one id stay in their order."""
        ids = self.ids
        if all(map(lt, ids, islice(ids, 1, None))):
            return self
        return self.take(sorted(range(len(ids)), key=ids.__getitem__))

    def insert(self, others: TradeColumns) -> None:
        """Add trades with other ids. The ids of both increase, and so do those of the result."""
        ids, new = self.ids, others.ids
        if not new or not ids or new[0] > ids[-1]:
            self.extend(others)
            return
        start = bisect_left(ids, new[0])
        rest = self.slice(start)
        self.delete(start)
        done = at = 0
        while done < len(new) and at < len(rest):
            stop = bisect_left(new, rest.ids[at], done)
            self.extend(others.slice(done, stop))
            done = stop
            upto = len(rest) if done == len(new) else bisect_left(rest.ids, new[done], at)
            self.extend(rest.slice(at, upto))
            at = upto
        self.extend(others.slice(done))
        self.extend(rest.slice(at))

    def _of(self, columns: list[array[int] | array[float]]) -> TradeColumns:
        made = TradeColumns.__new__(TradeColumns)
        made.columns = tuple(columns)
        return made


def runs_of(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive ids, first and last, among increasing ids.

    Examples
    --------
    >>> from rangebar_polars.live.protocol.trades import runs_of
    >>> list(runs_of([3, 4, 7, 9, 10]))
    [(3, 4), (7, 7), (9, 10)]
    """
    if not ids:
        return
    if ids[-1] - ids[0] == len(ids) - 1:
        yield ids[0], ids[-1]
        return
    first = before = ids[0]
    for number in islice(ids, 1, None):
        if number != before + 1:
            yield first, before
            first = number
        before = number
    yield first, before
