"""The definitions of the features, one slow, plain function per column.

The argument is one `Records`: the records of one bar, or of one look-back window. Prices and sizes are integers
on the 1e-8 grid, so that sums are exact. None stands for null. `allowed` is the table of tolerances. Ratios that
need a side are over the records, or orders, that have an aggressor.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GRID = 10**8
LONGEST_HELD = 2**20  # records of a bar above which the columns of class H are null
LONGEST_WINDOW = 10_000  # records of a look-back window
LAG = 8  # of variance_ratio and two_scale_variance
Value = float | int | None


class Order(NamedTuple):
    """Consecutive records of one time and side: what one taker sent."""

    time: int
    side: int  # 0 where the side is not bound
    first: int  # price of its first record
    last: int  # price of its last record
    size: int
    records: int


@dataclass(frozen=True)
class Records:
    """Records in order.  An input that is not bound is None."""

    time: Sequence[int]  # microseconds
    price: Sequence[int]  # grid, > 0
    size: Sequence[int] | None = None  # grid, >= 0
    side: Sequence[int] | None = None  # +1 buyer, -1 seller is the aggressor
    first_id: Sequence[int] | None = None  # fill ids
    last_id: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.time)

    def cut(self, start: int, stop: int) -> Records:
        names = ("time", "price", "size", "side", "first_id", "last_id")
        parts = {
            n: None if getattr(self, n) is None else getattr(self, n)[start:stop] for n in names
        }
        return replace(self, **parts)

    @cached_property
    def orders(self) -> list[Order]:
        out: list[Order] = []
        for i, (t, p) in enumerate(zip(self.time, self.price, strict=False)):
            s = 0 if self.side is None else self.side[i]
            q = 0 if self.size is None else self.size[i]
            if out and (out[-1].time, out[-1].side) == (t, s):
                o = out[-1]
                out[-1] = o._replace(last=p, size=o.size + q, records=o.records + 1)
            else:
                out.append(Order(t, s, p, p, q, 1))
        return out

    @cached_property
    def order_prices(self) -> list[int]:
        return [o.last for o in self.orders]


def grid(x: float) -> int:
    """Nearest grid value, halves away from zero."""
    y = x * 1e8
    return math.floor(y + 0.5) if y >= 0 else math.ceil(y - 0.5)


def needs(letters: str = "", least: int = 1, *, orders: bool = False, held: bool = False):
    """Null where an input is not bound, the sample is smaller than `least`, or a held sample is too long.

    Letters: q size, s side, f fill ids.  `least` counts records, or orders with `orders`.
    """
    fields = {"q": ("size",), "s": ("side",), "f": ("first_id", "last_id")}
    names = [n for letter in letters for n in fields[letter]]

    def wrap(f: Callable[[Records], Value]):
        def g(w: Records) -> Value:
            if any(getattr(w, n) is None for n in names) or (held and len(w) > LONGEST_HELD):
                return None
            return f(w) if len(w.orders if orders else w) >= least else None

        g.__name__, g.__doc__ = f.__name__, f.__doc__
        g.needs, g.least, g.sample, g.held = letters, least, "orders" if orders else "records", held
        return g

    return wrap


# ---------------------------------------------------------------- pieces
def steps(x: Sequence[int]) -> list[int]:
    return [b - a for a, b in itertools.pairwise(x)]


def volume(w):
    return sum(w.size)


def sided_volume(w):
    return sum(abs(s) * q for s, q in zip(w.side, w.size, strict=True))


def sides(w):
    """Sides of the orders that have one."""
    return [o.side for o in w.orders if o.side]


def turnover(w):
    return sum(p * q for p, q in zip(w.price, w.size, strict=False))  # 1e-16 units


def span(w):
    return w.time[-1] - w.time[0]


def signed(w):
    return [s * q for s, q in zip(w.side, w.size, strict=False)]


def sign(x):
    return (x > 0) - (x < 0)


# ---------------------------------------------------------------- look-back and intra-bar: shared columns, over records
@needs("qs")
def volume_imbalance(w):
    v = sided_volume(w)
    return sum(signed(w)) / v if v else None


@needs()
def duration_us(w):
    return span(w)


@needs(least=2)
def intensity(w):
    return len(w) * 10**6 / span(w) if span(w) else None


@needs("q")
def vwap_position(w):
    """(vwap - low)/(high - low)."""
    lo, hi, v = min(w.price), max(w.price), volume(w)
    return None if hi == lo or v == 0 else (turnover(w) - lo * v) / (v * (hi - lo))


@needs("qs", 2)
def kyle_ratio(w):
    """((last - first)/first) / ((B - S)/(B + S))."""
    x = sum(signed(w))
    return (w.price[-1] - w.price[0]) * sided_volume(w) / (w.price[0] * x) if x else None


@needs(least=3)
def burstiness(w):
    """Goh & Barabasi 2008, population sd of the intervals."""
    tau = steps(w.time)
    n, s1, s2 = len(tau), sum(tau), sum(t * t for t in tau)
    if s1 == 0:
        return None
    sd = math.sqrt(n * s2 - s1 * s1)  # n * sd
    return (sd - s1) / (sd + s1)


def _moment(w, k: int) -> float | None:
    """Standardised central moment of sizes (population)."""
    if min(w.size) == max(w.size):
        return None
    n, total = len(w), volume(w)
    m2, mk = (sum((n * q - total) ** j for q in w.size) for j in (2, k))  # n^j times n * m_j
    return (mk / n ** (k + 1)) / (m2 / n**3) ** (k / 2)


@needs("q", 3)
def volume_skew(w):
    return _moment(w, 3)


@needs("q", 4)
def volume_kurt(w):
    m = _moment(w, 4)
    return None if m is None else m - 3.0


@needs()
def price_range(w):
    return (max(w.price) - min(w.price)) / w.price[0]


@needs(least=2)
def garman_klass(w):
    """sqrt(1/2 ln(h/l)^2 - (2 ln 2 - 1) ln(c/o)^2)."""
    lo, hi, o, c = min(w.price), max(w.price), w.price[0], w.price[-1]
    hl, co = math.log1p((hi - lo) / lo), math.log1p((c - o) / o)
    return math.sqrt(0.5 * hl * hl - (2 * math.log(2) - 1) * co * co)


@needs(least=2)
def kaufman(w):
    path = sum(abs(d) for d in steps(w.price))
    return abs(w.price[-1] - w.price[0]) / path if path else None


@needs(least=60)
def permutation_entropy(w):
    """Bandt & Pompe 2002, m = 3, delay 1, ties rank in time order, natural log / ln 6."""
    p = w.price
    counts = Counter((a <= b, b <= c, a <= c) for a, b, c in zip(p, p[1:], p[2:], strict=False))
    n = len(p) - 2
    return max(0.0, -math.fsum(x / n * math.log(x / n) for x in counts.values()) / math.log(6))


def dfa_scales(count: int) -> list[int]:
    """8, 12, 16, 24, 32, 48 ... up to a quarter of the records."""
    return sorted({b << j for b in (8, 12) for j in range(40) if b << j <= count // 4})


def _fluctuation(y: Sequence[int], s: int) -> tuple[int, int]:
    """Mean squared residual of straight lines in segments of s values from the left, as a ratio of integers.

    The residual of a segment is (A - B^2/C)/s with A = s Σy^2 - (Σy)^2, B = s Σky - (s(s-1)/2) Σy and
    C = s^2 (s^2-1)/12.
    """
    c, total, m = s * s * (s * s - 1) // 12, 0, len(y) // s
    for j in range(m):
        seg = [v - y[j * s] for v in y[j * s : (j + 1) * s]]
        sy, sky = sum(seg), sum(k * v for k, v in enumerate(seg))
        a, b = s * sum(v * v for v in seg) - sy * sy, s * sky - s * (s - 1) // 2 * sy
        total += a * c - b * b
    return total, c * s * m * s


@needs(least=128)
def hurst(w):
    """DFA-1 of price changes: slope of ln F(s) on ln s over dfa_scales (Peng et al. 1994)."""
    pts = []
    for s in dfa_scales(len(w)):
        num, den = _fluctuation(w.price, s)
        if num == 0:
            return None  # straight lines
        pts.append((math.log(s), 0.5 * math.log(num / den)))
    mx, my = (math.fsum(p[i] for p in pts) / len(pts) for i in (0, 1))
    return math.fsum((x - mx) * (f - my) for x, f in pts) / math.fsum((x - mx) ** 2 for x, _ in pts)


# ---------------------------------------------------------------- look-back
@needs(least=0)
def window_count(w):
    return len(w)


@needs("q")
def window_vwap(w):
    return turnover(w) / (volume(w) * GRID) if volume(w) else None


@needs("s")
def record_imbalance(w):
    n = sum(map(abs, w.side))
    return sum(w.side) / n if n else None


LOOKBACK: dict[str, Callable[[Records], Value]] = {
    "lookback_trade_count": window_count,
    "lookback_ofi": volume_imbalance,
    "lookback_duration_us": duration_us,
    "lookback_intensity": intensity,
    "lookback_vwap": window_vwap,
    "lookback_vwap_position": vwap_position,
    "lookback_count_imbalance": record_imbalance,
    "lookback_kyle_lambda": kyle_ratio,
    "lookback_burstiness": burstiness,
    "lookback_volume_skew": volume_skew,
    "lookback_volume_kurt": volume_kurt,
    "lookback_price_range": price_range,
    "lookback_garman_klass_vol": garman_klass,
    "lookback_kaufman_er": kaufman,
    "lookback_hurst": hurst,
    "lookback_permutation_entropy": permutation_entropy,
}


def lookback(w: Records) -> dict[str, Value]:
    return {name: f(w) for name, f in LOOKBACK.items()}


def window(
    time: Sequence[int],
    opened: Sequence[int],
    at: int,
    *,
    records: int | None = None,
    bars: int | None = None,
    duration: int | None = None,
) -> tuple[int, int]:
    """[begin, end): the window of the bar that opens at record `at` of its stretch.

    `time`: all records of the stretch (since its first record, or the last reset or gap); `opened`: opening records
    of the closed bars before `at`, in order.
    """
    if records is not None:
        begin = at - records
    elif bars is not None:
        begin = opened[max(0, len(opened) - bars)] if opened else at
    else:
        begin = next(i for i in range(at + 1) if time[i] >= time[at] - duration)
    return max(begin, at - LONGEST_WINDOW, 0), at


# ---------------------------------------------------------------- intra-bar
def epochs(w: Records, bear: bool) -> tuple[list[int], float]:
    """Epochs (0-based records) and the sum of gains of the reference library's "investment time horizon" walk.

    A numerator is an exact integer; it and the denominator become doubles, and are divided once.
    """
    p = w.price

    def part(a: int, b: int, over: int) -> float:
        return float(a - b) / float(over)

    best, hurdle = p[0], 2.0**-52  # largest drawdown; for bear, of 1/p
    for x in p:
        best = min(best, x) if bear else max(best, x)
        hurdle = max(hurdle, part(x, best, x) if bear else part(best, x, best))
    ref = best = worst = p[0]
    gain = loss = total = 0.0
    found = []
    for i in range(1, len(p)):
        y = p[i]
        if (y < best) if bear else (y > best):
            best, gain = y, part(ref, y, y) if bear else part(y, ref, ref)
        if (y > worst) if bear else (y < worst):
            worst, loss = y, part(y, ref, y) if bear else part(ref, y, ref)
        total += gain
        if gain > loss and gain > hurdle:
            found.append(i)
            ref, worst, gain, loss = best, p[i - 1], 0.0, 0.0
    return found, total


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _density(bear):
    @needs(least=2, held=True)
    def density(w):
        return _logistic(10 * (len(epochs(w, bear)[0]) / len(w) - 0.5))

    return density


def _excess(bear):
    @needs(least=2, held=True)
    def excess(w):
        return math.tanh(epochs(w, bear)[1])

    return excess


def _cv(bear):
    @needs(least=2, held=True)
    def cv(w):
        e = epochs(w, bear)[0]
        if len(e) < 2:
            return None
        d = steps([0, *e])
        n, s1, s2 = len(d), sum(d), sum(x * x for x in d)
        return _logistic(4 * (math.sqrt(n * s2 - s1 * s1) / s1 - 0.5))

    return cv


@needs(least=2)
def max_drawdown(w):
    """Largest (peak - price)/peak."""
    top, worst = w.price[0], (0, 1)
    for p in w.price:
        top = max(top, p)
        if (top - p) * worst[1] > worst[0] * top:
            worst = (top - p, top)
    return worst[0] / worst[1]


@needs(least=2)
def max_runup(w):
    """Largest (price - trough)/trough."""
    low, best = w.price[0], (0, 1)
    for p in w.price:
        low = min(low, p)
        if (p - low) * best[1] > best[0] * low:
            best = (p - low, low)
    return best[0] / best[1]


@needs()
def record_count(w):
    return len(w)


@needs("s")
def fill_imbalance(w):
    """(fills bought - fills sold)/fills; a record without both fill ids counts as one fill."""
    m = (
        [1] * len(w)
        if w.first_id is None or w.last_id is None
        else [b - a + 1 for a, b in zip(w.first_id, w.last_id, strict=False)]
    )
    n = sum(abs(s) * k for s, k in zip(w.side, m, strict=True))
    return sum(s * k for s, k in zip(w.side, m, strict=True)) / n if n else None


INTRABAR: dict[str, Callable[[Records], Value]] = {
    "intra_bull_epoch_density": _density(False),
    "intra_bear_epoch_density": _density(True),
    "intra_bull_excess_gain": _excess(False),
    "intra_bear_excess_gain": _excess(True),
    "intra_bull_cv": _cv(False),
    "intra_bear_cv": _cv(True),
    "intra_max_drawdown": max_drawdown,
    "intra_max_runup": max_runup,
    "intra_trade_count": record_count,
    "intra_ofi": volume_imbalance,
    "intra_duration_us": duration_us,
    "intra_intensity": intensity,
    "intra_vwap_position": vwap_position,
    "intra_count_imbalance": fill_imbalance,
    "intra_kyle_lambda": kyle_ratio,
    "intra_burstiness": burstiness,
    "intra_volume_skew": volume_skew,
    "intra_volume_kurt": volume_kurt,
    "intra_kaufman_er": kaufman,
    "intra_garman_klass_vol": garman_klass,
    "intra_hurst": hurst,
    "intra_permutation_entropy": permutation_entropy,
}


# ---------------------------------------------------------------- extended: impact and spread, over orders
class Fit(NamedTuple):
    """Least squares of d = c δ + λ x: c = bounce/det, λ = impact/det, residual sum of squares = rest/det."""

    det: int
    bounce: int
    impact: int
    rest: int
    flips: int  # Σδ^2
    n: int


def _glosten_harris(w) -> Fit | None:
    """d: price changes; δ: changes of side; x: signed sizes.  None where the regressors are collinear."""
    s = [o.side for o in w.orders]
    d, delta, x = steps(w.order_prices), steps(s), [o.side * o.size for o in w.orders][1:]

    def dot(a, b):
        return sum(i * j for i, j in zip(a, b, strict=False))

    xx, dd, xd = dot(x, x), dot(delta, delta), dot(delta, x)
    det = xx * dd - xd * xd
    if det == 0:
        return None
    yx, yd = dot(d, x), dot(d, delta)
    bounce, impact = yd * xx - yx * xd, yx * dd - yd * xd
    return Fit(det, bounce, impact, dot(d, d) * det - bounce * yd - impact * yx, dd, len(d))


@needs("qs", 20, orders=True)
def glosten_harris_lambda(w):
    """λ of d = c δ + λ x (Glosten & Harris 1988, two of their four terms)."""
    f = _glosten_harris(w)
    return None if f is None else f.impact / f.det


@needs("qs", 20, orders=True)
def glosten_harris_lambda_t(w):
    """λ over its ordinary standard error, n - 2 degrees of freedom."""
    f = _glosten_harris(w)
    if f is None or f.rest == 0:
        return None
    return math.copysign(math.sqrt(f.impact**2 * (f.n - 2) / (f.rest * f.flips)), f.impact)


@needs("qs", 20, orders=True)
def glosten_harris_spread(w):
    """2 c / open."""
    f = _glosten_harris(w)
    return None if f is None else 2 * f.bounce / (f.det * w.price[0])


def _huang_stoll(w):
    """Sum and number of s (first price - last price of the order before), after a reversal and after a continuation."""
    rev, con = [], []
    for a, b in zip(w.orders, w.orders[1:], strict=False):
        if a.side and b.side:
            (con if a.side == b.side else rev).append(b.side * (b.first - a.last))
    return (sum(rev), len(rev), sum(con), len(con)) if rev and con else None


@needs("s", 10, orders=True)
def huang_stoll_spread(w):
    """S/open of d = S/2 (s - s_before) + a S/2 s_before (Huang & Stoll 1997), by least squares."""
    r = _huang_stoll(w)
    return None if r is None else (r[0] * r[3] + r[2] * r[1]) / (r[1] * r[3] * w.price[0])


@needs("s", 10, orders=True)
def adverse_half_spread(w):
    """a S/2 / open of the same model: the part that stays in the price."""
    r = _huang_stoll(w)
    return None if r is None else r[2] / (r[3] * w.price[0])


# ---------------------------------------------------------------- extended: variation, over orders
@needs(least=2, orders=True)
def realized_variance(w):
    return sum(d * d for d in steps(w.order_prices)) / w.price[0] ** 2


@needs(least=2, orders=True)
def upside_variance_share(w):
    d = steps(w.order_prices)
    total = sum(x * x for x in d)
    return sum(x * x for x in d if x > 0) / total if total else None


@needs(least=10, orders=True)
def realized_skew(w):
    d = steps(w.order_prices)
    rv = float(sum(x * x for x in d))
    return math.sqrt(len(d)) * float(sum(x**3 for x in d)) / rv**1.5 if rv else None


@needs(least=10, orders=True)
def realized_kurt(w):
    d = steps(w.order_prices)
    rv = sum(x * x for x in d)
    return len(d) * sum(x**4 for x in d) / rv**2 if rv else None


def _two_scales(w) -> tuple[int, int, int]:
    """Σ(u_min(i+8, n) - u_i)^2, Σd^2 and n: no window is left out, the last ones end at the last order."""
    u, n = w.order_prices, len(w.orders) - 1
    return sum((u[min(i + LAG, n)] - u[i]) ** 2 for i in range(n)), sum(d * d for d in steps(u)), n


@needs(least=33, orders=True)
def two_scale_variance(w):
    """Two scales (Zhang, Mykland & Ait-Sahalia 2005), 1 and 8 orders; may be negative."""
    slow, fast, n = _two_scales(w)
    return (slow - fast) * n / ((LAG - 1) * (n - LAG // 2) * w.price[0] ** 2)


@needs(least=33, orders=True)
def variance_ratio(w):
    """Variance over 8 orders to 8 times that over 1 (Lo & MacKinlay 1988), no drift removed."""
    slow, fast, n = _two_scales(w)
    return slow * n / (fast * (LAG * n - LAG * (LAG - 1) // 2)) if fast else None


@needs(least=2, orders=True)
def largest_move(w):
    return max(abs(d) for d in steps(w.order_prices)) / w.price[0]


@needs(least=2, orders=True)
def unchanged_share(w):
    return sum(d == 0 for d in steps(w.order_prices)) / (len(w.orders) - 1)


@needs(least=3, orders=True)
def reversal_ratio(w):
    s = [sign(d) for d in steps(w.order_prices) if d]
    return sum(a != b for a, b in itertools.pairwise(s)) / (len(s) - 1) if len(s) > 1 else None


# ---------------------------------------------------------------- extended: orders and flow
@needs(orders=True)
def order_count(w):
    return len(w.orders)


@needs("q", orders=True)
def sweep_share(w):
    return sum(o.size for o in w.orders if o.records > 1) / volume(w) if volume(w) else None


def _autocorr(w, lag: int) -> Value:
    """Σ(s_i - m)(s_{i+lag} - m) / Σ(s_i - m)^2, numerator and denominator times J^2."""
    s = sides(w)
    n, total = len(s), sum(s)
    if n < 50 or n * n == total * total:
        return None
    pairs = sum(a * b for a, b in zip(s, s[lag:], strict=False))
    ends = sum(s[: n - lag]) + sum(s[lag:])
    return (n * n * pairs - n * total * ends + (n - lag) * total**2) / (n * (n * n - total**2))


@needs("s", 50, orders=True)
def sign_autocorr_1(w):
    return _autocorr(w, 1)


@needs("s", 50, orders=True)
def sign_autocorr_5(w):
    return _autocorr(w, 5)


@needs("s", 200, orders=True)
def sign_entropy(w):
    """Entropy in bits of an order's side given the two before it."""
    s = sides(w)
    if len(s) < 200:
        return None
    words = Counter(zip(s, s[1:], s[2:], strict=False))
    heads: Counter = Counter()
    for (a, b, _), c in words.items():
        heads[a, b] += c
    n = len(s) - 2
    return max(0.0, -math.fsum(c / n * math.log2(c / heads[k[:2]]) for k, c in words.items()))


@needs("s", orders=True)
def run_length_max(w):
    return max((len([*run]) for _, run in groupby(sides(w))), default=None)


def _delta(w):
    out, c = [], 0
    for x in signed(w):
        c += x
        out.append(c)
    return out


@needs("qs")
def delta_max(w):
    return max(0, *_delta(w)) / GRID


@needs("qs")
def delta_min(w):
    return min(0, *_delta(w)) / GRID


@needs("qs")
def delta_extreme_at(w):
    c = [abs(x) for x in _delta(w)]
    return (w.time[c.index(max(c))] - w.time[0]) / span(w) if span(w) and max(c) else None


# ---------------------------------------------------------------- extended: path in time, over records
def _at(w, price: int) -> Value:
    return (w.time[list(w.price).index(price)] - w.time[0]) / span(w) if span(w) else None


@needs()
def high_at(w):
    return _at(w, max(w.price))


@needs()
def low_at(w):
    return _at(w, min(w.price))


@needs()
def twap(w):
    """Each price holds until the next record."""
    return (
        sum(t * p for t, p in zip(steps(w.time), w.price, strict=False)) / (span(w) * GRID)
        if span(w)
        else None
    )


@needs("q")
def vwap_sd(w):
    v, t = volume(w), turnover(w)
    return (
        math.sqrt(sum(q * (p * v - t) ** 2 for p, q in zip(w.price, w.size, strict=False)) / v**3)
        / GRID
        if v
        else None
    )


@needs(least=2)
def open_crossings(w):
    s = [sign(p - w.price[0]) for p in w.price]
    s = [x for x in s if x]
    return sum(a != b for a, b in itertools.pairwise(s))


# ---------------------------------------------------------------- extended: sizes of orders
def _rank(w, percent: int) -> int:
    """Smallest size with at least this share of the orders at or below it."""
    return sorted(o.size for o in w.orders)[-(-percent * len(w.orders) // 100) - 1]


@needs("q", orders=True, held=True)
def order_size_p50(w):
    return _rank(w, 50) / GRID


@needs("q", orders=True, held=True)
def order_size_p90(w):
    return _rank(w, 90) / GRID


@needs("q", orders=True)
def order_size_max(w):
    return max(o.size for o in w.orders) / GRID


@needs("q", orders=True)
def order_size_hhi(w):
    return sum(o.size**2 for o in w.orders) / volume(w) ** 2 if volume(w) else None


@needs("q", 10, orders=True, held=True)
def large_order_share(w):
    """Volume of the orders of at least order_size_p90, over V."""
    cut = _rank(w, 90)
    return sum(o.size for o in w.orders if o.size >= cut) / volume(w) if volume(w) else None


@needs("qs", 10, orders=True, held=True)
def large_order_ofi(w):
    cut = _rank(w, 90)
    big = [o for o in w.orders if o.size >= cut]
    v = sum(o.size for o in big if o.side)
    return sum(o.side * o.size for o in big) / v if v else None


# ---------------------------------------------------------------- extended: arrival, over orders
@needs(least=3, orders=True)
def burstiness_kim_jo(w):
    """Kim & Jo 2016 with n intervals: about 0 for Poisson, -1 periodic, 1 where one interval is all."""
    tau = steps([o.time for o in w.orders])
    n, s1, s2 = len(tau), sum(tau), sum(t * t for t in tau)
    if s1 == 0:
        return None
    r = math.sqrt(n * s2 - s1 * s1) / s1
    a, b = math.sqrt(n + 1), math.sqrt(n - 1)
    return (a * r - b) / ((a - 2) * r + b)


@needs(least=10, orders=True)
def interval_memory(w):
    """Goh & Barabasi 2008: correlation of consecutive intervals."""
    tau = steps([o.time for o in w.orders])
    x, y, n = tau[:-1], tau[1:], len(tau) - 1
    c = n * sum(a * b for a, b in zip(x, y, strict=False)) - sum(x) * sum(y)
    vx, vy = n * sum(a * a for a in x) - sum(x) ** 2, n * sum(b * b for b in y) - sum(y) ** 2
    return None if vx == 0 or vy == 0 else c / math.sqrt(vx) / math.sqrt(vy)


@needs(least=2)
def max_silence_us(w):
    return max(steps(w.time))


EXTENDED: dict[str, Callable[[Records], Value]] = {
    f.__name__: f
    for f in (
        glosten_harris_lambda,
        glosten_harris_lambda_t,
        glosten_harris_spread,
        huang_stoll_spread,
        adverse_half_spread,
        realized_variance,
        upside_variance_share,
        realized_skew,
        realized_kurt,
        two_scale_variance,
        variance_ratio,
        largest_move,
        unchanged_share,
        reversal_ratio,
        order_count,
        sweep_share,
        sign_autocorr_1,
        sign_autocorr_5,
        sign_entropy,
        run_length_max,
        delta_max,
        delta_min,
        delta_extreme_at,
        high_at,
        low_at,
        twap,
        vwap_sd,
        open_crossings,
        order_size_p50,
        order_size_p90,
        order_size_max,
        order_size_hhi,
        large_order_share,
        large_order_ofi,
        burstiness_kim_jo,
        interval_memory,
        max_silence_us,
    )
}
COLUMNS = {**LOOKBACK, **INTRABAR, **EXTENDED}

#: Int64 columns: equal to the last unit.
INTEGERS = (
    "lookback_trade_count",
    "lookback_duration_us",
    "intra_trade_count",
    "intra_duration_us",
    "order_count",
    "run_length_max",
    "open_crossings",
    "max_silence_us",
)
#: Ratios and entropies that may be near 0: an absolute 1e-12.
ABSOLUTE = (
    "lookback_ofi",
    "lookback_vwap_position",
    "lookback_count_imbalance",
    "lookback_burstiness",
    "lookback_permutation_entropy",
    "intra_ofi",
    "intra_vwap_position",
    "intra_count_imbalance",
    "intra_burstiness",
    "intra_permutation_entropy",
    "sign_autocorr_1",
    "sign_autocorr_5",
    "sign_entropy",
    "large_order_ofi",
    "burstiness_kim_jo",
    "interval_memory",
)
#: Columns of class H: at the end of the bar, over its records.
HELD = {
    "intra_bull_epoch_density",
    "intra_bear_epoch_density",
    "intra_bull_excess_gain",
    "intra_bear_excess_gain",
    "intra_bull_cv",
    "intra_bear_cv",
    "order_size_p50",
    "order_size_p90",
    "large_order_share",
    "large_order_ofi",
}


def allowed(name: str, want: float, w: Records) -> float:
    """By how much a value of the kernel may differ from the oracle's `want` on the sample `w`."""
    if name in INTEGERS:
        return 0.0
    if name in ABSOLUTE:
        return 1e-12
    if name.endswith(("_hurst", "_excess_gain")):
        return 1e-9
    if name.endswith(("_skew", "_kurt", "_t")):
        return 1e-9 * (1 + abs(want))
    if name == "vwap_sd":
        return 1e-9 * (max(w.price) - min(w.price)) / GRID
    return 1e-12 * abs(want)


# ---------------------------------------------------------------- bars, for the laws
def range_bars(w: Records, dbps: int) -> list[tuple[int, int]]:
    """[start, stop) of closed bars; gate on."""
    out, i = [], 0
    while i < len(w):
        o = w.price[i]
        j = next(
            (
                j
                for j in range(i + 1, len(w))
                if abs(w.price[j] - o) * 100_000 >= o * dbps and w.time[j] != w.time[i]
            ),
            None,
        )
        if j is None:
            break
        out.append((i, j + 1))
        i = j + 1
    return out
