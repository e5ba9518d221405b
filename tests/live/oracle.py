"""What holds of a store and of delivered bars after any fault: promises 1 and 2 of live bars.

The bars come from one builder over the tape, and journals are read here byte by byte: nothing is shared
with `rangebar_polars.live` and `rangebar_polars.storage.live`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars.compute.builder import RangeBarBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exchange import Exchange, Tape
    from live.sidecars import Sidecar

HEADER = 64
RECORD = struct.Struct("<B3xIII")
TRADES, MISSING, LATE = 1, 2, 3
#: Columns of a record of trades: six of 8 bytes a trade, and the side.
COLUMNS = ("timestamp", "price", "quantity", "agg_trade_id", "first_trade_id", "last_trade_id")
FORMATS = "qddqqq"
MOST_CONNECTS = 60
_SPELLED = "%Y-%m-%dT%H:%M:%S%.6fZ"


# What is stored


@dataclass
class Stored:
    """What the journals of a symbol hold."""

    trades: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    #: Bytes of all records, by file.
    files: dict[str, int] = field(default_factory=dict)

    @property
    def chain_end(self) -> int:
        """The last id of the chain that begins with the first one; -1 without any."""
        known = self.trades.keys() | self.missing.keys()
        end = min(known, default=0) - 1
        while end + 1 in known:
            end += 1
        return end

    @property
    def record_bytes(self) -> int:
        return sum(self.files.values())


def stored(cache: Path, symbol: str) -> Stored:
    """Read the journals of a symbol up to their first incomplete record."""
    found = Stored()
    folder = cache / "ticks" / "v1" / "binance" / "spot" / symbol / "live"
    for path in sorted(folder.glob("*.journal")):
        data = path.read_bytes()
        found.files[path.name] = _read(data, found)
    for number in found.trades:
        found.missing.pop(number, None)
    return found


def _read(data: bytes, found: Stored) -> int:
    place = HEADER
    while place + RECORD.size <= len(data):
        kind, rows, length, _ = RECORD.unpack_from(data, place)
        payload = data[place + RECORD.size : place + RECORD.size + length]
        if len(payload) < length:
            break
        if kind == TRADES:
            columns = [
                struct.unpack_from(f"<{rows}{code}", payload, 8 * rows * at)
                for at, code in enumerate(FORMATS)
            ]
            sides = payload[48 * rows : 49 * rows]
            for row in zip(*columns, map(bool, sides), strict=True):
                found.trades[row[3]] = row
        elif kind == MISSING:
            found.missing.update(_missing(payload, rows))
        elif kind == LATE:
            found.late.update(struct.unpack_from(f"<{rows}q", payload, 8 * rows * 3))
        place += RECORD.size + length
    return place - HEADER


def _missing(payload: bytes, rows: int) -> Iterable[tuple[int, str]]:
    firsts = struct.unpack_from(f"<{rows}q", payload)
    lasts = struct.unpack_from(f"<{rows}q", payload, 8 * rows)
    for first, last in zip(firsts, lasts, strict=True):
        for number in range(first, last + 1):
            yield number, "missing"


# What is true


def truth(
    tape: Tape, threshold: int, resets: Sequence[datetime], *, without: Iterable[int] = ()
) -> pl.DataFrame:
    """The bars over a tape from the first reset on; at each further one, a builder starts again.

    The forming bar at a further reset is an orphan, with `is_closed` false.
    """
    ticks = tape.ticks.filter(~pl.col("agg_trade_id").is_in(list(without)))
    ends = [*resets[1:], datetime.max.replace(tzinfo=UTC)]
    parts = []
    for begin, end in zip(resets, ends, strict=True):
        builder = RangeBarBuilder(threshold, features="microstructure")
        time = pl.col("timestamp")
        bars = builder.push(ticks.filter((time >= begin) & (time < end)))
        parts.append(_marked(bars, begin, is_closed=True))
        if end is not ends[-1]:
            parts.append(_marked(builder.partial(), begin, is_closed=False))
    return pl.concat(parts)


def _marked(bars: pl.DataFrame, anchor: datetime, *, is_closed: bool) -> pl.DataFrame:
    names = [name for name in bars.columns if name not in ("is_closed", "ended_by")]
    return bars.select(
        *names,
        is_closed=pl.lit(is_closed),
        anchor=pl.lit(anchor).cast(pl.Datetime("us", "UTC")),
    )


def as_lines(bars: pl.DataFrame) -> list[dict[str, Any]]:
    """Bars as a program reads them from lines of JSON."""
    times = [name for name, kind in bars.schema.items() if kind.is_temporal()]
    return bars.with_columns(pl.col(times).dt.strftime(_SPELLED)).to_dicts()


# The oracle


def assert_oracle(
    exchange: Exchange,
    cache: Path,
    runs: Sequence[Sidecar],
    *,
    thresholds: Sequence[int],
    resets: Sequence[datetime],
    orphans: bool = False,
    absent: dict[str, Iterable[int]] | None = None,
    from_start: bool = False,
    replays: bool = True,
) -> int:
    """Check promises 1 and 2, limits and stderr; return the number of different bars.

    Parameters
    ----------
    exchange, cache
        The exchange, and the cache folder.
    runs
        The sidecars in the order of their lives; what they wrote is read.
    thresholds, resets, orphans
        Of the series: thresholds, anchors, and whether orphans are delivered.
    absent
        Ids of each symbol that must be missing; by default those that exist nowhere.
    from_start
        Whether the first bar of the first anchor must be there.
    replays
        Whether a bar may come twice: some process was killed.
    """
    count = 0
    for (market, symbol), tape in exchange.streams.tapes.items():
        assert market == "spot"
        gone = (absent or {}).get(symbol)
        if gone is None:
            gone = [n for first, last in tape.source_absent for n in range(first, last + 1)]
        end = assert_stored(cache, tape, resets[0], set(gone))
        for threshold in thresholds:
            expected = truth(tape, threshold, resets, without=gone)
            lines = [
                [line for line in run.lines() if _is_of(line, symbol, threshold)] for run in runs
            ]
            count += assert_delivered(
                lines, expected, end, orphans=orphans, from_start=from_start, replays=replays
            )
    assert exchange.streams.most_connects() <= MOST_CONNECTS
    for run in runs:
        assert "Traceback" not in run.said(), run.said()
        for line in run.said().splitlines():
            assert line.startswith("{"), line
    return count


def _is_of(line: dict[str, Any], symbol: str, threshold: int) -> bool:
    return line["symbol"] == symbol and line["threshold"] == threshold


def assert_stored(cache: Path, tape: Tape, anchor: datetime, absent: set[int]) -> int:
    """The applied trades are the exchange's by id, less those that are missing; return the last id."""
    found = stored(cache, tape.symbol)
    end = found.chain_end
    known = found.trades.keys() | found.missing.keys()
    assert max(known, default=-1) <= end, f"after {end} there is a hole"
    begin = int(tape.ticks.filter(pl.col("timestamp") >= anchor)["agg_trade_id"][0])
    assert min(known, default=begin) == begin
    assert set(found.missing) == {number for number in absent if begin <= number <= end}
    names = [*COLUMNS, "is_buyer_maker"]
    ticks = tape.ticks.with_columns(pl.col("timestamp").dt.epoch("us")).select(names)
    expected = {row[3]: row for row in ticks.iter_rows() if begin <= row[3] <= end}
    assert found.trades == {n: row for n, row in expected.items() if n not in absent}
    return end


def assert_delivered(
    runs: Sequence[Sequence[dict[str, Any]]],
    expected: pl.DataFrame,
    end: int,
    *,
    orphans: bool,
    from_start: bool,
    replays: bool,
) -> int:
    """The lines of one series are the bars that are true, each first in order, from some bar on."""
    if not orphans:
        expected = expected.filter(pl.col("is_closed"))
    # An orphan is over with the next trade.
    last = pl.col("last_agg_trade_id")
    is_over = pl.when("is_closed").then(last <= end).otherwise(last < end)
    due = {_key(line): line for line in as_lines(expected.filter(is_over))}
    order = list(due)
    places = {key: place for place, key in enumerate(order)}
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for lines in runs:
        inside = []
        for line in lines:
            key = _key(line)
            inside.append(places.get(key, -1))
            assert inside[-1] >= 0, f"no such bar: {line}"
            _assert_bar(line, due[key], seen.get(key), replays=replays)
            seen.setdefault(key, line)
        first = inside[0] if inside else 0
        assert inside == list(range(first, first + len(inside)))
    first = 0 if from_start else min((places[key] for key in seen), default=len(order))
    missing = [key for key in order[first:] if key not in seen]
    assert not missing, f"{len(missing)} of {len(order)} bars are missing: {missing[:3]}"
    assert list(seen) == order[first:]
    return len(seen)


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["anchor"], line["last_agg_trade_id"], line.get("is_closed", True)


def _assert_bar(
    line: dict[str, Any],
    true: dict[str, Any],
    before: dict[str, Any] | None,
    *,
    replays: bool,
) -> None:
    if before is not None:
        assert replays, f"twice without a kill: {line}"
        assert line["is_replay"], f"again, and not marked: {line}"
    assert line["is_revised"] is False
    names = [name for name in true if name in line]
    assert len(names) > 20
    assert {name: repr(line[name]) for name in names} == {n: repr(true[n]) for n in names}


def assert_idle(cache: Path, symbol: str, before: Stored, run: Sidecar) -> None:
    """A run without new trades has written no record and delivered nothing."""
    assert run.lines() == []
    after = stored(cache, symbol)
    assert after.trades.keys() == before.trades.keys()
    assert after.record_bytes == before.record_bytes


def midnight_after(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
