"""States of live series after whole days: of units, which the helper reads, and of local files."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars._utils.span import ONE_DAY, microseconds
from rangebar_polars.bar_series.live_builders import bars_state
from rangebar_polars.exceptions import CheckpointError, CoverageError, with_hint
from rangebar_polars.live.consumers.replay import Replayed
from rangebar_polars.live.helper.base import Base, StoredStates
from rangebar_polars.live.helper.messages import day_of, series_of, series_values, spec_values
from rangebar_polars.populate.local_checkpoint import read_live, read_local
from rangebar_polars.storage.live.live_days import live_view

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path
    from typing import Any

    from rangebar_polars.bar_series.identity import BarSeries, BarSpec
    from rangebar_polars.live.helper.client import Helper
    from rangebar_polars.populate.local_checkpoint import LocalCheckpoint
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["LocalStates", "UnitStates"]


class LocalStates(StoredStates):
    """States of local files alone, for series that have no units.

    Parameters
    ----------
    cache_dir
        The folder with the files.
    """

    def __init__(self, cache_dir: Path | str | None) -> None:
        self._cache_dir = cache_dir
        #: The newest known state of each series.
        self._known: dict[BarSeries, Base] = {}

    def base(self, series: BarSeries, through_id: int | None = None) -> Base:
        """Return the newest state that is known here, with a last id of at most `through_id`."""
        local = _usable(read_live(self._cache_dir, series))
        for found in (self._known.get(series), local):
            if found is not None and _reaches(found, through_id):
                return found
        return super().base(series, through_id)

    def note(self, series: BarSeries, base: Base) -> None:
        """Note the state after a day that is finalized."""
        self._known[series] = base


class UnitStates(LocalStates):
    """States of units.

    Parameters
    ----------
    helper
        Opens the cache.
    cache_dir
        The folder of local checkpoints.
    folder
        Returns the folder of a symbol in the tick store.
    """

    def __init__(
        self,
        helper: Helper,
        cache_dir: Path | str | None,
        folder: Callable[[str], SymbolDir],
    ) -> None:
        super().__init__(cache_dir)
        self._helper = helper
        self._folder = folder

    def chosen(
        self, specs: Sequence[BarSpec], day: date, since: datetime | None = None
    ) -> list[Sequence[BarSeries] | None]:
        """Return for each spec the stored series to stream on a day; None if none is stored.

        Raises
        ------
        CacheError, WorkerLostError
            The cache cannot be read now.
        """
        answer = self._helper.call(
            "choose",
            {
                "specs": [spec_values(spec) for spec in specs],
                "day": day.isoformat(),
                "since_us": None if since is None else microseconds(since),
            },
        )
        return [
            None if one is None else [series_of(values) for values in one]
            for one in answer.values["series"]
        ]

    def bases(self, series: Sequence[BarSeries], today: date, *, fills: bool | None) -> list[Base]:
        """Return the state of each series after its last whole day, the newest that is stored.

        Local copies are used at once if trades are stored from there on; the helper proves them later.

        Raises
        ------
        CoverageError
            Whole days are missing, and they are not to be populated.
        CacheError, WorkerLostError, SourceError
            The units cannot be read, or days cannot be fetched, now.
        """
        found = self._local(series, today)
        if found is None:
            found = self._prepared(series, today, fills=fills)
        for one, base in zip(series, found, strict=True):
            self._known[one] = base
        return found

    def _local(self, series: Sequence[BarSeries], today: date) -> list[Base] | None:
        """Return the states of local checkpoints, if all of them are new enough."""
        found = [_usable(read_local(self._cache_dir, one)) for one in series]
        bases = [base for base in found if base is not None]
        if len(bases) < len(series):
            return None
        first_day = min(base.first_day for base in bases)
        if first_day < today - ONE_DAY:
            return None
        if first_day < today and not self._has_trades(series[0].spec.symbol, first_day):
            return None
        return bases

    def _has_trades(self, symbol: str, day: date) -> bool:
        return any(True for _ in live_view(self._folder(symbol), day, day).days())

    def _prepared(
        self, series: Sequence[BarSeries], today: date, *, fills: bool | None
    ) -> list[Base]:
        answer = self._helper.call(
            "prepare",
            {
                "series": [series_values(one) for one in series],
                "last_day": (today - ONE_DAY).isoformat(),
                "fills": bool(fills),
            },
        )
        parts = iter(answer.parts)
        found = []
        for one, values in zip(series, answer.values["bases"], strict=True):
            base = self.base(one) if values is None else _base_of(values, next(parts))
            if fills is False and base.first_day < today - ONE_DAY:
                raise _days_missing(one, base.first_day)
            found.append(base)
        return found

    def bars_after(
        self, series: BarSeries, last_id: int, limit: int
    ) -> Generator[Replayed, None, Base]:
        """Yield the bars of units that end after an id, and return the state after them.

        Raises
        ------
        CacheError, CoverageError, WorkerLostError
            The units cannot be read now.
        """
        known = self._known.get(series)
        if known is not None and known.last_id is not None and known.last_id <= last_id:
            return known
        from_day, through_id = None, last_id
        while True:
            answer = self._helper.call(
                "bars",
                {
                    "series": series_values(series),
                    "after_id": last_id,
                    "from_day": from_day,
                    "limit": limit,
                },
            )
            values = answer.values
            if answer.parts:
                bars = pl.read_ipc(BytesIO(answer.parts[0]))
                reached = values["through_id"]
                for part in bars.iter_slices(max(1, limit)):
                    through_id = max(through_id, int(part.get_column("last_agg_trade_id")[-1]))
                    yield Replayed(part, through_id)
                through_id = max(through_id, -1 if reached is None else reached)
            from_day = values["next_day"]
            if from_day is None:
                break
        if values["base"] is None:
            return self.base(series, last_id)
        return _base_of(values["base"], answer.parts[1])

    def interrupt(self) -> None:
        """End the calls that wait, each with an error."""
        self._helper.interrupt()

    def close(self) -> None:
        """End the helper."""
        self._helper.close()


def _reaches(base: Base, through_id: int | None) -> bool:
    return through_id is None or (base.last_id is not None and base.last_id <= through_id)


def _usable(checkpoint: LocalCheckpoint | None) -> Base | None:
    """Return the state of a local file; None if it cannot be used."""
    if checkpoint is None or checkpoint.tick_last_id is None:
        return None
    try:
        state = bars_state(checkpoint.state)
    except CheckpointError:
        return None
    return Base(state, checkpoint.day + ONE_DAY, checkpoint.tick_last_id)


def _base_of(values: Mapping[str, Any], state: bytes) -> Base:
    day = day_of(values["day"])
    assert day is not None  # noqa: S101
    return Base(state, day + ONE_DAY, values["last_id"])


def _days_missing(series: BarSeries, day: date) -> CoverageError:
    spec = series.spec
    command = f"rangebar cache update {spec.symbol} -t {spec.threshold}"
    return CoverageError(
        with_hint(
            f"bars of {series} are not stored from {day} on, and missing days are not populated",
            f"{command}, or gap_fill_on_startup=True",
        ),
        symbol=spec.symbol,
        days=[day],
    )
