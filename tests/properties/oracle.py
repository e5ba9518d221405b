"""A naive model of range bars: Python integers, one trade at a time, nothing shared with the package.

It states the rule in the plainest form that can be checked by eye. Speed, chunks, engines and dtypes
are the business of the code under test; here is only what a bar is.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

GRID = 10**8
EPSILON = 2.0**-52
UNIT_NS = {"ms": 1_000_000, "us": 1_000, "ns": 1}
DAY_NS = 86_400 * 10**9
EPOCH = dt.date(1970, 1, 1)


def to_grid(value: float | Decimal) -> int:
    """Return a value in units of 1e-8, rounded half away from zero."""
    if isinstance(value, float):
        scaled = value * 1e8
        whole = math.floor(abs(scaled))
        whole += abs(scaled) - whole >= 0.5
        return whole if scaled >= 0 else -whole
    if isinstance(value, Decimal):
        return int((value * GRID).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    return value * GRID


def period(reset: str | None, time_ns: int) -> Hashable:
    """Name the period between two resets that contains an instant."""
    if reset is None:
        return None
    days = time_ns // DAY_NS
    if reset in {"day", "1d"}:
        return days
    if reset == "week":  # 1970-01-01 was a Thursday, so 1969-12-28 was a Sunday
        return (days + 4) // 7
    if reset == "1w":
        return (days + 3) // 7
    date = EPOCH + dt.timedelta(days=days)
    return date.year if reset in {"year", "1y"} else (date.year, date.month)


@dataclass(frozen=True)
class Trade:
    """One input record, with None for absent fields."""

    row: int
    time: int
    price: int
    quantity: int | None
    sell: bool | None
    agg_id: int | None
    first_id: int | None
    last_id: int | None
    key: Hashable = None
    #: Whether there is a column of sides; without an aggressor `sell` is None.
    sided: bool = False

    @property
    def fills(self) -> int:
        """Number of exchange fills in the record, 1 if the ids are absent."""
        if self.first_id is None or self.last_id is None:
            return 1
        return self.last_id - self.first_id + 1


@dataclass(frozen=True)
class Absolute:
    """A distance in units of 1e-8, in place of a percentage of the open."""

    grid: int


Limit = int | Absolute


@dataclass(frozen=True)
class Rules:
    """Settings that decide where a bar ends and which bars are returned."""

    thresholds: tuple[Limit, ...] = (250,)
    rule: str = "open"
    gate: bool = True
    reset: str | None = None
    max_gap_ns: int | None = None
    keep: bool = False
    unit: str = "us"


@dataclass
class Bar:
    """A bar as the list of its trades."""

    threshold: Limit | None
    key: Hashable
    trades: list[Trade] = field(default_factory=list)
    ended_by: str | None = None
    bar_id: int | None = None

    def breached_by(self, trade: Trade, rules: Rules) -> bool:
        """Return whether this trade, which is added to the bar, closes it."""
        first = self.trades[0]
        if rules.gate and trade.time == first.time:
            return False
        if rules.rule == "open":
            moved = abs(trade.price - first.price)
        else:
            prices = [one.price for one in (*self.trades, trade)]
            moved = max(prices) - min(prices)
        assert self.threshold is not None
        if isinstance(self.threshold, Absolute):
            return moved >= self.threshold.grid
        return moved * 100_000 >= first.price * self.threshold

    def outlived_by(self, trade: Trade, rules: Rules) -> str | None:
        """Return what ended the bar before this trade, if anything did."""
        before, now = (t.time * UNIT_NS[rules.unit] for t in (self.trades[-1], trade))
        if period(rules.reset, before) != period(rules.reset, now):
            return "reset"
        if rules.max_gap_ns is not None and now - before > rules.max_gap_ns:
            return "gap"
        return None


def split(trades: Sequence[Trade], rules: Rules) -> tuple[list[Bar], list[dict[Limit, int | None]]]:
    """Return the bars in order, and for each trade the id of its bar per threshold."""
    ended: list[Bar] = []
    forming: dict[tuple[Hashable, Limit], Bar | None] = {}
    owners: list[dict[Limit, Bar]] = []
    for trade in trades:
        owner = {}
        for threshold in rules.thresholds:
            slot = (trade.key, threshold)
            bar = forming.setdefault(slot, None)
            if bar is not None and (why := bar.outlived_by(trade, rules)):
                bar.ended_by = why
                ended.append(bar)
                bar = None
            if bar is None:
                bar = forming[slot] = Bar(threshold, trade.key, [trade])
            else:
                hit = bar.breached_by(trade, rules)
                bar.trades.append(trade)
                if hit:
                    bar.ended_by = "threshold"
                    ended.append(bar)
                    forming[slot] = None
            owner[threshold] = bar
        owners.append(owner)
    shown = [b for b in ended if rules.keep or b.ended_by == "threshold"]
    shown += [b for b in forming.values() if b is not None and rules.keep]
    number(shown)
    return shown, [{t: b.bar_id for t, b in owner.items()} for owner in owners]


def number(bars: Sequence[Bar]) -> None:
    """Count the bars of each key and threshold from 0."""
    counts: dict[tuple[Hashable, Limit | None], int] = {}
    for bar in bars:
        slot = (bar.key, bar.threshold)
        bar.bar_id = counts.get(slot, 0)
        counts[slot] = bar.bar_id + 1


def runs(trades: Sequence[Trade], ids: Sequence[int | None]) -> list[Bar]:
    """Return a bar for each run of equal ids."""
    bars: list[Bar] = []
    for trade, bar_id in zip(trades, ids, strict=True):
        if bar_id is None:
            continue
        if bars and bars[-1].bar_id == bar_id:
            bars[-1].trades.append(trade)
        else:
            bars.append(Bar(None, None, [trade], bar_id=bar_id))
    return bars


def total(values: Iterator[int | None]) -> int | None:
    listed = list(values)
    return None if any(v is None for v in listed) else sum(v for v in listed if v is not None)


def grid_float(units: int | None) -> float | None:
    return None if units is None else float(units) / 1e8


def money(units: int | None) -> float | None:
    """Return the exact integer sum in units of 1e-16 as the nearest double."""
    return None if units is None else units / 10**16


def core(bar: Bar) -> dict[str, object]:
    """Return the core columns of a bar."""
    trades = bar.trades
    first, last = trades[0], trades[-1]
    sided = first.sided
    buys = [t for t in trades if t.sell is False]
    sells = [t for t in trades if t.sell is True]

    def volume(of: list[Trade]) -> int | None:
        return None if first.quantity is None else total(t.quantity for t in of)

    def turnover(of: list[Trade]) -> int | None:
        return None if first.quantity is None else sum(t.price * (t.quantity or 0) for t in of)

    vol, turned = volume(trades), turnover(trades)
    return {
        "bar_id": bar.bar_id,
        "open_time": first.time,
        "close_time": last.time,
        "open": grid_float(first.price),
        "high": grid_float(max(t.price for t in trades)),
        "low": grid_float(min(t.price for t in trades)),
        "close": grid_float(last.price),
        "volume": grid_float(vol),
        "vwap": turned / (vol * GRID) if vol and turned is not None else None,
        "turnover": money(turned),
        "buy_volume": grid_float(volume(buys)) if sided else None,
        "sell_volume": grid_float(volume(sells)) if sided else None,
        "buy_turnover": money(turnover(buys)) if sided else None,
        "sell_turnover": money(turnover(sells)) if sided else None,
        "buy_trade_count": sum(t.fills for t in buys) if sided else None,
        "sell_trade_count": sum(t.fills for t in sells) if sided else None,
        "individual_trade_count": sum(t.fills for t in trades),
        "agg_record_count": len(trades),
        "first_trade_id": first.first_id,
        "last_trade_id": last.last_id,
        "first_agg_trade_id": first.agg_id,
        "last_agg_trade_id": last.agg_id,
        "is_closed": bar.ended_by == "threshold",
        "ended_by": bar.ended_by,
    }


def features(bar: Bar, unit: str = "us") -> dict[str, object]:
    """Return the ten microstructure columns, each operation in the documented order."""
    c = core(bar)
    out: dict[str, object] = {}
    first, last = bar.trades[0], bar.trades[-1]
    o, h, l, close = (float(c[k]) for k in ("open", "high", "low", "close"))  # type: ignore[arg-type]
    vol, vwap, n = c["volume"], c["vwap"], float(c["individual_trade_count"])  # type: ignore[arg-type]
    fill_ids = first.first_id is not None and first.last_id is not None
    duration = (last.time - first.time) * UNIT_NS[unit] // 1000
    ofi = order_flow_imbalance(c["buy_volume"], c["sell_volume"])
    out["duration_us"] = duration
    out["ofi"] = ofi
    out["vwap_close_deviation"] = (
        None if vwap is None or h - l <= EPSILON else (close - vwap) / (h - l)
    )
    out["price_impact"] = None if vol is None or vol <= EPSILON else abs(close - o) / vol
    flat = ofi is None or abs(ofi) <= EPSILON or abs(o) <= EPSILON
    out["kyle_lambda_proxy"] = None if flat else ((close - o) / abs(o)) / ofi
    out["trade_intensity"] = n * (1.0 / (float(duration) * 1e-6)) if duration > 0 else None
    out["volume_per_trade"] = None if vol is None else vol * (1.0 / n)
    out["aggression_ratio"] = aggression(c["buy_trade_count"], c["sell_trade_count"])
    out["aggregation_density"] = n * (1.0 / float(len(bar.trades))) if fill_ids else None
    out["turnover_imbalance"] = turnover_imbalance(bar)
    return out


def order_flow_imbalance(buy: float | None, sell: float | None) -> float | None:
    if buy is None or sell is None or buy + sell <= EPSILON:
        return None
    return (buy - sell) * (1.0 / (buy + sell))


def aggression(buys: int | None, sells: int | None) -> float | None:
    if buys is None or sells is None:
        return None
    if not buys and not sells:
        return None
    return min(float(buys) / float(sells), 100.0) if sells else 100.0


def turnover_imbalance(bar: Bar) -> float | None:
    if bar.trades[0].quantity is None or not bar.trades[0].sided:
        return None
    signed = [(t.price * (t.quantity or 0), t.sell) for t in bar.trades if t.sell is not None]
    both = sum(money for money, _ in signed)
    return sum(-m if sell else m for m, sell in signed) / both if both else None
