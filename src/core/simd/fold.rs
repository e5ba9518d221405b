//! The quick fold: exact sums with eight independent accumulators per column, and every check in the
//! same pass, as sign bits. One generic body, compiled once per instruction set.

use crate::core::arithmetic::grid::GRID_PER_UNIT;
use crate::core::bar::Sums;
use crate::core::simd::intrinsics::{TOGETHER, prefetch};
use crate::core::ticks::{Bits, Ticks, Values};

/// Longest span of one quick fold: 512 steps of eight lanes keep every lane sum below 2^63.
pub const LONGEST_SPAN: usize = 4_096;
/// Values up to this one have less than 2^52 grid units, as the quick conversion requires.
pub const LARGEST_QUICK: f64 = 45_000_000.0;
/// 2^52: adding it leaves the nearest integer in the mantissa.
const TWO_52: f64 = 4_503_599_627_370_496.0;
const TWO_52_MANTISSA: u64 = (1 << 52) - 1;
const LANES: usize = 8;
pub const LIMB_BITS: u32 = 26;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// A span whose prices and quantities are doubles. Absent columns are empty.
#[derive(Clone, Copy)]
pub struct QuickSpan<'a> {
    price: &'a [f64],
    time: &'a [i64],
    quantity: Option<&'a [f64]>,
    side: Option<Bits<'a>>,
    /// Rows without an aggressor, if there are any.
    unsided: Option<Bits<'a>>,
    fills: Option<(&'a [i64], &'a [i64])>,
    agg_id: Option<&'a [i64]>,
}

impl<'a> QuickSpan<'a> {
    #[inline]
    pub fn of(span: &Ticks<'a>) -> Option<Self> {
        let Values::Float(price) = span.price else { return None };
        let quantity = match span.quantity {
            None => None,
            Some(Values::Float(values)) => Some(values),
            Some(Values::Grid(_)) => return None,
        };
        let fills = span.first_id.zip(span.last_id);
        let unsided = span.unsided.filter(|bits| bits.any(price.len()));
        let side = span.is_buyer_maker;
        Some(Self { price, time: span.time, quantity, side, unsided, fills, agg_id: span.agg_id })
    }
}

/// Sums a span; `None` if a value is unusual. The caller adds first and last values other than prices.
#[inline(always)]
pub fn fold_lanes(span: &QuickSpan) -> Option<Sums> {
    if span.quantity.is_some() { with_quantity::<true>(span) } else { with_quantity::<false>(span) }
}

#[inline(always)]
fn with_quantity<const Q: bool>(span: &QuickSpan) -> Option<Sums> {
    match (span.side, span.unsided) {
        (None, _) => with_side::<Q, false, false>(span),
        (Some(_), None) => with_side::<Q, true, false>(span),
        (Some(_), Some(_)) => with_side::<Q, true, true>(span),
    }
}

#[inline(always)]
fn with_side<const Q: bool, const S: bool, const U: bool>(span: &QuickSpan) -> Option<Sums> {
    if span.fills.is_some() { with_fills::<Q, S, U, true>(span) } else { with_fills::<Q, S, U, false>(span) }
}

#[inline(always)]
fn with_fills<const Q: bool, const S: bool, const U: bool, const F: bool>(span: &QuickSpan) -> Option<Sums> {
    if span.agg_id.is_some() { run::<Q, S, U, F, true>(span) } else { run::<Q, S, U, F, false>(span) }
}

/// Whole lanes of a column; nothing for an absent column.
#[inline(always)]
fn whole<T>(values: &[T]) -> &[[T; LANES]] {
    values.as_chunks::<LANES>().0
}

/// The lanes at a position; zeros for an absent column.
#[inline(always)]
fn lanes_at<'a, const IS_BOUND: bool, T>(
    blocks: &'a [[T; LANES]],
    at: usize,
    absent: &'a [T; LANES],
) -> Option<&'a [T; LANES]> {
    if !IS_BOUND {
        return Some(absent);
    }
    let lanes = blocks.get(at)?;
    prefetch::<TOGETHER, _>(lanes);
    Some(lanes)
}

/// The last, incomplete lanes of a column, padded with `filler`.
#[inline(always)]
fn rest<T: Copy>(values: &[T], from: usize, filler: T) -> [T; LANES] {
    let mut lanes = [filler; LANES];
    for (lane, value) in lanes.iter_mut().zip(values.iter().skip(from)) {
        *lane = *value;
    }
    lanes
}

/// One pass over all columns; the flags tell which of quantity, side, fills and agg ids are bound, and
/// whether there are rows without an aggressor.
#[inline(always)]
fn run<const Q: bool, const S: bool, const U: bool, const F: bool, const A: bool>(span: &QuickSpan) -> Option<Sums> {
    let price = span.price;
    let quantity = span.quantity.unwrap_or_default();
    let (first, last) = span.fills.unwrap_or_default();
    let no_bits = Bits { bytes: &[], offset: 0 };
    let (side, unsided) = (span.side.unwrap_or(no_bits), span.unsided.unwrap_or(no_bits));
    let agg_id = span.agg_id.unwrap_or_default();
    let zeros = &([0.0; LANES], [0i64; LANES]);
    let (quantities, firsts, lasts) = (whole(quantity), whole(first), whole(last));
    let (times, ids) = (whole(span.time), whole(agg_id));
    let (next_times, next_ids) = (whole(&span.time[1..]), whole(agg_id.get(1..).unwrap_or_default()));
    let mut lanes = Lanes::new();
    for (at, block) in whole(price).iter().enumerate() {
        let sides = Sides {
            sells: if S { side.byte(at * LANES) } else { 0 },
            unsided: if U { unsided.byte(at * LANES) } else { 0 },
        };
        lanes.step::<Q, S, U, F>(
            block,
            lanes_at::<Q, f64>(quantities, at, &zeros.0)?,
            sides,
            lanes_at::<F, i64>(firsts, at, &zeros.1)?,
            lanes_at::<F, i64>(lasts, at, &zeros.1)?,
        );
        if let (Some(times), Some(next)) = (times.get(at), next_times.get(at)) {
            prefetch::<TOGETHER, _>(times);
            lanes.order(times, next, 0);
        }
        if A && let (Some(ids), Some(next)) = (ids.get(at), next_ids.get(at)) {
            prefetch::<TOGETHER, _>(ids);
            lanes.order(ids, next, 1);
        }
    }
    let row = whole(price).len() * LANES;
    if row < price.len() {
        let prices = rest(price, row, price[row]);
        let quantities = if Q { rest(quantity, row, 0.0) } else { zeros.0 };
        let (firsts, lasts) = if F { (rest(first, row, 0), rest(last, row, 0)) } else { (zeros.1, zeros.1) };
        let mask = (1u8 << (price.len() - row)) - 1;
        let sides = Sides {
            sells: if S { side.byte(row) & mask } else { 0 },
            unsided: if U { unsided.byte(row) & mask } else { 0 },
        };
        lanes.step::<Q, S, U, F>(&prices, &quantities, sides, &firsts, &lasts);
    }
    let ordered = next_times.len() * LANES;
    let is_tail_ordered = is_rising(&span.time[ordered..], 0) && (!A || is_rising(&agg_id[ordered..], 1));
    if is_tail_ordered { lanes.finish(price) } else { None }
}

/// Whether each value is at least `step` above the one before it, for the last few.
#[inline(always)]
fn is_rising(values: &[i64], step: i64) -> bool {
    values.windows(2).all(|pair| if step == 0 { pair[1] >= pair[0] } else { pair[1] > pair[0] })
}

/// Which of eight rows were sold by their aggressor, and which have none.
#[derive(Clone, Copy)]
struct Sides {
    sells: u8,
    unsided: u8,
}

/// Independent accumulators, eight to a column.
struct Lanes {
    /// Sign bit set where a value is negative, not a number or too large.
    doubt: [i64; LANES],
    /// Not zero where times decrease or ids do not increase.
    disorder: [i64; LANES],
    high: [f64; LANES],
    low: [f64; LANES],
    volume: [u64; LANES],
    sell_volume: [u64; LANES],
    unsided_volume: [u64; LANES],
    /// Products by limbs: high, middle, low.
    turnover: [[u64; LANES]; 3],
    sell_turnover: [[u64; LANES]; 3],
    unsided_turnover: [[u64; LANES]; 3],
    sells: u32,
    unsided: u32,
    extra_fills: [i64; LANES],
    sell_extra_fills: [i64; LANES],
    unsided_extra_fills: [i64; LANES],
}

/// The grid value of a double in `0..=LARGEST_QUICK`, rounded half away from zero.
#[inline(always)]
pub fn quick_grid(x: f64) -> u64 {
    let scaled = x * GRID_PER_UNIT;
    let shifted = scaled + TWO_52;
    // The addition rounds half to even; a remainder of exactly half was rounded down.
    let is_half_lost = scaled - (shifted - TWO_52) == 0.5;
    (shifted.to_bits() & TWO_52_MANTISSA) + u64::from(is_half_lost)
}

/// All bits set where the bit of a lane is.
#[inline(always)]
fn mask(byte: u8, lane: usize) -> u64 {
    0u64.wrapping_sub(u64::from(byte >> lane & 1))
}

#[inline(always)]
fn doubt(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    (LARGEST_QUICK.to_bits() as i64).wrapping_sub(bits) | bits
}

impl Lanes {
    #[inline(always)]
    fn new() -> Self {
        const ZERO: [u64; LANES] = [0; LANES];
        Self {
            doubt: [0; LANES],
            disorder: [0; LANES],
            high: [0.0; LANES],
            low: [f64::INFINITY; LANES],
            volume: ZERO,
            sell_volume: ZERO,
            unsided_volume: ZERO,
            turnover: [ZERO; 3],
            sell_turnover: [ZERO; 3],
            unsided_turnover: [ZERO; 3],
            sells: 0,
            unsided: 0,
            extra_fills: [0; LANES],
            sell_extra_fills: [0; LANES],
            unsided_extra_fills: [0; LANES],
        }
    }

    /// Checks that the next values are at least `step` larger.
    #[inline(always)]
    fn order(&mut self, values: &[i64; LANES], next: &[i64; LANES], step: i64) {
        for lane in 0..LANES {
            let is_wrong = if step == 0 { next[lane] < values[lane] } else { next[lane] <= values[lane] };
            self.disorder[lane] |= i64::from(is_wrong);
        }
    }

    #[inline(always)]
    fn step<const Q: bool, const S: bool, const U: bool, const F: bool>(
        &mut self,
        price: &[f64; LANES],
        quantity: &[f64; LANES],
        sides: Sides,
        first: &[i64; LANES],
        last: &[i64; LANES],
    ) {
        self.sells += sides.sells.count_ones();
        self.unsided += sides.unsided.count_ones();
        for lane in 0..LANES {
            let x = price[lane];
            let sell_mask = if S { mask(sides.sells, lane) } else { 0 };
            let unsided_mask = if U { mask(sides.unsided, lane) } else { 0 };
            self.doubt[lane] |= doubt(x);
            self.high[lane] = if x > self.high[lane] { x } else { self.high[lane] };
            self.low[lane] = if x < self.low[lane] { x } else { self.low[lane] };
            if Q {
                self.doubt[lane] |= doubt(quantity[lane]);
                let (p, q) = (quick_grid(x), quick_grid(quantity[lane]));
                self.volume[lane] += q;
                for (limb, product) in multiply(p, q).into_iter().enumerate() {
                    self.turnover[limb][lane] += product;
                    if S {
                        self.sell_turnover[limb][lane] += product & sell_mask;
                    }
                    if U {
                        self.unsided_turnover[limb][lane] += product & unsided_mask;
                    }
                }
                if S {
                    self.sell_volume[lane] += q & sell_mask;
                }
                if U {
                    self.unsided_volume[lane] += q & unsided_mask;
                }
            }
            if F {
                let extra = last[lane].wrapping_sub(first[lane]);
                // With negative ids the difference could overflow unnoticed.
                self.doubt[lane] |= extra | first[lane] | last[lane];
                // The checked fold handles spans above 2^50 fills, so 4,096 of them cannot overflow.
                self.doubt[lane] |= (1i64 << 50).wrapping_sub(extra);
                self.extra_fills[lane] = self.extra_fills[lane].wrapping_add(extra);
                if S {
                    self.sell_extra_fills[lane] = self.sell_extra_fills[lane].wrapping_add(extra & sell_mask as i64);
                }
                if U {
                    let masked = extra & unsided_mask as i64;
                    self.unsided_extra_fills[lane] = self.unsided_extra_fills[lane].wrapping_add(masked);
                }
            }
        }
    }

    #[inline(always)]
    fn finish(&self, price: &[f64]) -> Option<Sums> {
        let (mut doubt, mut disorder) = (0, 0);
        let (mut high, mut low) = (self.high[0], self.low[0]);
        for lane in 0..LANES {
            doubt |= self.doubt[lane];
            disorder |= self.disorder[lane];
            high = high.max(self.high[lane]);
            low = low.min(self.low[lane]);
        }
        let low = quick_grid(low) as i64;
        if doubt < 0 || disorder != 0 || low == 0 {
            return None;
        }
        let records = price.len() as i64;
        Some(Sums {
            records,
            open: quick_grid(price[0]) as i64,
            high: quick_grid(high) as i64,
            low,
            close: quick_grid(price[price.len() - 1]) as i64,
            fills: records + self.extra_fills.iter().sum::<i64>(),
            sell_fills: i64::from(self.sells) + self.sell_extra_fills.iter().sum::<i64>(),
            unsided_fills: i64::from(self.unsided) + self.unsided_extra_fills.iter().sum::<i64>(),
            volume: widen(&self.volume),
            sell_volume: widen(&self.sell_volume),
            turnover: join(&self.turnover),
            sell_turnover: join(&self.sell_turnover),
            unsided_volume: widen(&self.unsided_volume),
            unsided_turnover: join(&self.unsided_turnover),
            ..Sums::default()
        })
    }
}

/// The product of two 52-bit integers as sums of 26-bit limb products: high, middle, low.
#[inline(always)]
pub fn multiply(p: u64, q: u64) -> [u64; 3] {
    // The masks tell the compiler that a 32-bit multiplication suffices.
    let (p_high, p_low) = (p >> LIMB_BITS & 0xffff_ffff, p & LIMB_MASK);
    let (q_high, q_low) = (q >> LIMB_BITS & 0xffff_ffff, q & LIMB_MASK);
    [p_high * q_high, p_high * q_low + p_low * q_high, p_low * q_low]
}

/// Eight lanes of at most 512 values below 4.5e15 fit 64 bits.
#[inline(always)]
fn widen(lanes: &[u64; LANES]) -> i128 {
    i128::from(lanes.iter().sum::<u64>())
}

#[inline(always)]
fn join(limbs: &[[u64; LANES]; 3]) -> i128 {
    let [high, middle, low] = limbs;
    let sum = |lanes: &[u64; LANES]| lanes.iter().map(|lane| i128::from(*lane)).sum::<i128>();
    (sum(high) << (2 * LIMB_BITS)) + (sum(middle) << LIMB_BITS) + sum(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::arithmetic::grid::grid;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_id_cannot_repeat() {
        assert!(is_rising(&[i64::MIN, i64::MIN], 0));
        assert!(!is_rising(&[i64::MIN, i64::MIN], 1));
        assert!(is_rising(&[i64::MIN, i64::MIN + 1], 1));
    }

    proptest! {
        #[test]
        fn the_quick_grid_is_the_grid(x in 0.0..LARGEST_QUICK) {
            prop_assert_eq!(quick_grid(x) as i64, grid(x).unwrap());
        }

        #[test]
        fn halves_round_away(n in 0u64..1 << 50) {
            let x = (n as f64 + 0.5) / 1e8;
            prop_assert_eq!(quick_grid(x) as i64, grid(x).unwrap());
        }

        #[test]
        fn limbs_multiply(p in 0u64..1 << 52, q in 0u64..1 << 52) {
            let [high, middle, low] = multiply(p, q).map(i128::from);
            prop_assert_eq!((high << 52) + (middle << 26) + low, i128::from(p) * i128::from(q));
        }
    }
}
