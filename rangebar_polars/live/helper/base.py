"""States of series after whole days, as far as live bars need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rangebar_polars.live.series import fresh_state

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import date, datetime

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.live.consumers.replay import Replayed

__all__ = ["Base", "StoredStates"]


class Base(NamedTuple):
    """A state of a series, after a whole day."""

    state: bytes
    #: The first day whose trades are not in the state.
    first_day: date
    #: Last id of the state; None before its first trade.
    last_id: int | None


class StoredStates:
    """States of series after whole days. This one has none but those before the first trade."""

    def chosen(
        self, specs: Sequence[BarSpec], day: date, since: datetime | None = None
    ) -> list[Sequence[BarSeries] | None]:
        """Return for each spec the stored series to stream on a day; None if none is stored.

        With `since`, those that a read from there takes: those of earlier segments, then that of the
        day. Otherwise the one that `cache update` would continue.
        """
        del day, since
        return [None] * len(specs)

    def bases(self, series: Sequence[BarSeries], today: date, *, fills: bool | None) -> list[Base]:
        """Return the state of each series after its last whole day, the newest that is stored.

        Parameters
        ----------
        series
            Series of one symbol.
        today
            The day of the exchange.
        fills
            Whether whole days that are missing are populated first. None: they are computed from
            trades.

        Raises
        ------
        RangeBarError
            The states cannot be read, or days are missing.
        """
        del today, fills
        return [self.base(one) for one in series]

    def base(self, series: BarSeries, through_id: int | None = None) -> Base:
        """Return the newest state that is known here, with a last id of at most `through_id`."""
        del through_id
        return Base(fresh_state(series.spec), series.first_day, None)

    def bars_after(
        self, series: BarSeries, last_id: int, limit: int
    ) -> Generator[Replayed, None, Base]:
        """Yield the stored bars of a series that end after an id, and return the state after them.

        Without bars, the state is one whose last id is at most the id.
        """
        del limit
        yield from ()
        return self.base(series, last_id)

    def interrupt(self) -> None:
        """End the calls that wait, each with an error."""

    def close(self) -> None:
        """End the work of what gives the states."""
