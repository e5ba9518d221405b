"""The bars of a tape, by the naive model of range bars: no code of the package decides where one ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from properties.comparing import TOLERANT
from properties.model import Case, expect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exchange import Tape

_SPELLED = "%Y-%m-%dT%H:%M:%S%.6fZ"
CLOSE = 1e-9


@dataclass(frozen=True)
class Truth:
    """The bars of a series, as programs read them from lines of JSON, in order."""

    bars: tuple[dict[str, Any], ...]

    @classmethod
    def of(
        cls,
        tape: Tape,
        threshold: int,
        resets: Sequence[datetime],
        *,
        orphans: bool = False,
        until: datetime | None = None,
        without: Iterable[int] = (),
    ) -> Truth:
        """Compute the bars from the first reset on; at each further one, a new series begins.

        `until` is the time of the last trade, included; ids in `without` do not exist.
        """
        ticks = tape.ticks.filter(~pl.col("agg_trade_id").is_in(list(without)))
        time = pl.col("timestamp")
        if until is not None:
            ticks = ticks.filter(time <= until)
        ends = [*resets[1:], datetime.max.replace(tzinfo=UTC)]
        found: list[dict[str, Any]] = []
        for begin, end in zip(resets, ends, strict=True):
            case = Case(
                ticks.filter((time >= begin) & (time < end)),
                threshold,
                features="microstructure",
                incomplete="keep",
            )
            bars = expect(case).bars
            # An orphan is over with the next trade.
            is_over = pl.col("is_closed")
            if orphans and ticks.filter(time >= end).height:
                is_over = pl.lit(value=True)
            found += lines_of(bars.filter(is_over), begin)
        return cls(tuple(found))

    @property
    def last_ids(self) -> list[int]:
        return [one["last_agg_trade_id"] for one in self.bars]

    def since(self, last_id: int) -> Truth:
        """The bars that end at an id or later."""
        return Truth(tuple(one for one in self.bars if one["last_agg_trade_id"] >= last_id))

    def through(self, last_id: int) -> Truth:
        """The bars that end at an id or before."""
        return Truth(tuple(one for one in self.bars if one["last_agg_trade_id"] <= last_id))

    def head(self, count: int) -> Truth:
        return Truth(self.bars[:count])

    def assert_equals(self, lines: Sequence[dict[str, Any]]) -> None:
        """Compare all columns that both have: exactly, and three that the model rounds otherwise closely."""
        assert [one["last_agg_trade_id"] for one in lines] == self.last_ids
        for line, true in zip(lines, self.bars, strict=True):
            names = [name for name in true if name in line]
            assert len(names) > 20
            for name in names:
                assert is_same(name, line[name], true[name]), (name, line[name], true[name])


def is_same(name: str, found: Any, true: Any) -> bool:
    if name not in TOLERANT or found is None or true is None:
        return repr(found) == repr(true)
    return math.isclose(found, true, rel_tol=CLOSE, abs_tol=CLOSE)


def lines_of(bars: pl.DataFrame, anchor: datetime) -> list[dict[str, Any]]:
    frame = bars.drop("bar_id", "ended_by").with_columns(
        anchor=pl.lit(anchor).cast(pl.Datetime("us", "UTC"))
    )
    times = [name for name, kind in frame.schema.items() if kind.is_temporal()]
    return frame.with_columns(pl.col(times).dt.strftime(_SPELLED)).to_dicts()
