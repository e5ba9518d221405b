//! What a bar says: a span of columns becomes exact sums. The only fold there is.
//!
//! The quick fold works on lanes of eight and never refuses: where it meets anything unusual it
//! doubts, and the checked fold, one record at a time, decides.

use super::bar::{Overflow, Sums};
use super::simd::{self, InstructionSet};
use super::ticks::{Bits, Ticks, Values};
use super::units::GRID_PER_UNIT;

/// Spans shorter than this fold faster one record at a time.
const SHORT_SPAN: usize = 20;
/// Longest span of one quick fold: 512 steps of eight lanes keep every lane sum below 2^63.
pub const LONGEST_SPAN: usize = 4_096;
/// Values below this have less than 2^52 grid units, as the quick fold's conversion needs.
const LARGEST_QUICK: f64 = 45_000_000.0;
/// 2^52: adding it leaves the nearest integer in the mantissa.
const TWO_52: f64 = 4_503_599_627_370_496.0;
const LANES: usize = 8;
const LIMB_BITS: u32 = 26;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// Why a span cannot be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldError {
    /// The record at this row of the span is refused.
    Record(usize),
    /// A sum overflowed at this row of the span.
    Overflow(usize, Overflow),
}

/// Sums of a span of at least one and at most [`LONGEST_SPAN`] records.
///
/// # Errors
/// When a record is refused; which one and why is for `admit` to say.
#[inline]
pub fn fold(set: InstructionSet, span: &Ticks) -> Result<Sums, FoldError> {
    if span.len() >= SHORT_SPAN
        && let Some(quick) = QuickSpan::of(span)
        && let Some(mut sums) = simd::fold(set, &quick)
    {
        add_edges(&mut sums, span);
        return Ok(sums);
    }
    fold_checked(span)
}

/// First and last values that need no sum.
#[inline]
fn add_edges(sums: &mut Sums, span: &Ticks) {
    let last = span.len() - 1;
    sums.open_time = span.time[0];
    sums.close_time = span.time[last];
    if let Some(ids) = span.agg_id {
        (sums.first_agg_id, sums.last_agg_id) = (ids[0], ids[last]);
    }
    if let Some(ids) = span.first_id {
        sums.first_id = ids[0];
    }
    if let Some(ids) = span.last_id {
        sums.last_id = ids[last];
    }
}

/// One record's price and quantity on the grid, and its fills.
#[inline]
fn admit_record(span: &Ticks, row: usize) -> Option<(i64, i64, i64)> {
    let price = span.price.grid(row).filter(|price| *price > 0)?;
    let quantity = match span.quantity {
        None => 0,
        Some(Values::Float(values)) if values[row] < 0.0 => return None,
        Some(values) => values.grid(row).filter(|quantity| *quantity >= 0)?,
    };
    let fills = match (span.first_id, span.last_id) {
        (Some(first), Some(last)) if last[row] < first[row] => return None,
        (Some(first), Some(last)) => last[row].checked_sub(first[row])?.checked_add(1)?,
        _ => 1,
    };
    Some((price, quantity, fills))
}

/// The fold one record at a time, with every check.
pub fn fold_checked(span: &Ticks) -> Result<Sums, FoldError> {
    let mut sums = Sums { low: i64::MAX, ..Sums::default() };
    for row in 0..span.len() {
        let (price, quantity, fills) = admit_record(span, row).ok_or(FoldError::Record(row))?;
        let turnover = i128::from(price) * i128::from(quantity);
        let overflow = |what| FoldError::Overflow(row, what);
        sums.turnover = sums.turnover.checked_add(turnover).ok_or_else(|| overflow(Overflow::Turnover))?;
        sums.fills = sums.fills.checked_add(fills).ok_or_else(|| overflow(Overflow::Fills))?;
        sums.volume += i128::from(quantity);
        if span.is_buyer_maker.is_some_and(|bits| bits.get(row)) {
            sums.sell_turnover += turnover;
            sums.sell_fills += fills;
            sums.sell_volume += i128::from(quantity);
        }
        sums.high = sums.high.max(price);
        sums.low = sums.low.min(price);
        if row == 0 {
            sums.open = price;
        }
        sums.close = price;
    }
    sums.records = span.len() as i64;
    add_edges(&mut sums, span);
    Ok(sums)
}

/// A span whose prices and quantities are doubles.
#[derive(Clone, Copy)]
pub struct QuickSpan<'a> {
    price: &'a [f64],
    quantity: Option<&'a [f64]>,
    side: Option<Bits<'a>>,
    fills: Option<(&'a [i64], &'a [i64])>,
}

impl<'a> QuickSpan<'a> {
    #[inline]
    fn of(span: &Ticks<'a>) -> Option<Self> {
        let Values::Float(price) = span.price else { return None };
        let quantity = match span.quantity {
            None => None,
            Some(Values::Float(values)) => Some(values),
            Some(Values::Grid(_)) => return None,
        };
        let fills = span.first_id.zip(span.last_id);
        Some(Self { price, quantity, side: span.is_buyer_maker, fills })
    }
}

/// The quick fold; inlined into one function per instruction set.
#[inline(always)]
pub fn fold_lanes(span: &QuickSpan) -> Option<Sums> {
    match (span.quantity, span.side, span.fills) {
        (Some(quantity), Some(side), Some(fills)) => run::<true, true, true>(span.price, quantity, side, fills),
        (Some(quantity), Some(side), None) => run::<true, true, false>(span.price, quantity, side, NO_IDS),
        (Some(quantity), None, Some(fills)) => run::<true, false, true>(span.price, quantity, NO_BITS, fills),
        (Some(quantity), None, None) => run::<true, false, false>(span.price, quantity, NO_BITS, NO_IDS),
        (None, side, fills) => {
            let (bits, ids) = (side.unwrap_or(NO_BITS), fills.unwrap_or(NO_IDS));
            match (side.is_some(), fills.is_some()) {
                (true, true) => run::<false, true, true>(span.price, &[], bits, ids),
                (true, false) => run::<false, true, false>(span.price, &[], bits, ids),
                (false, true) => run::<false, false, true>(span.price, &[], bits, ids),
                (false, false) => run::<false, false, false>(span.price, &[], bits, ids),
            }
        }
    }
}

const NO_BITS: Bits<'static> = Bits { bytes: &[], offset: 0 };
const NO_IDS: (&[i64], &[i64]) = (&[], &[]);

#[inline(always)]
fn eight<T: Copy>(values: &[T], from: usize) -> Option<&[T; LANES]> {
    values.get(from..from + LANES)?.try_into().ok()
}

/// The last, partial lanes of a column, filled up with `filler`.
#[inline(always)]
fn rest<T: Copy>(values: &[T], from: usize, filler: T) -> [T; LANES] {
    let mut lanes = [filler; LANES];
    for (lane, value) in lanes.iter_mut().zip(values.iter().skip(from)) {
        *lane = *value;
    }
    lanes
}

#[inline(always)]
fn run<const Q: bool, const S: bool, const F: bool>(
    price: &[f64],
    quantity: &[f64],
    side: Bits,
    (first, last): (&[i64], &[i64]),
) -> Option<Sums> {
    let zeros = &([0.0; LANES], [0i64; LANES]);
    let mut lanes = Lanes::new();
    let whole = price.len() / LANES * LANES;
    let mut sells = 0u32;
    let mut row = 0;
    while row < whole {
        simd::prefetch(price, row);
        let quantities = if Q {
            simd::prefetch(quantity, row);
            eight(quantity, row)?
        } else {
            &zeros.0
        };
        let (firsts, lasts) = if F {
            simd::prefetch(first, row);
            simd::prefetch(last, row);
            (eight(first, row)?, eight(last, row)?)
        } else {
            (&zeros.1, &zeros.1)
        };
        let byte = if S { side.byte(row) } else { 0 };
        sells += byte.count_ones();
        lanes.step::<Q, S, F>(eight(price, row)?, quantities, byte, firsts, lasts);
        row += LANES;
    }
    if row < price.len() {
        let prices = rest(price, row, price[row]);
        let quantities = if Q { rest(quantity, row, 0.0) } else { zeros.0 };
        let (firsts, lasts) = if F { (rest(first, row, 0), rest(last, row, 0)) } else { (zeros.1, zeros.1) };
        let byte = if S { side.byte(row) & ((1u8 << (price.len() - row)) - 1) } else { 0 };
        sells += byte.count_ones();
        lanes.step::<Q, S, F>(&prices, &quantities, byte, &firsts, &lasts);
    }
    lanes.finish(price, sells)
}

/// Independent accumulators, eight to a column.
struct Lanes {
    /// Sign bit set where a value is negative, not a number or too large.
    doubt: [i64; LANES],
    high: [f64; LANES],
    low: [f64; LANES],
    volume: [u64; LANES],
    sell_volume: [u64; LANES],
    /// Products by limbs: high, middle, low.
    turnover: [[u64; LANES]; 3],
    sell_turnover: [[u64; LANES]; 3],
    extra_fills: [i64; LANES],
    sell_extra_fills: [i64; LANES],
}

/// The grid value of a double in `0..=LARGEST_QUICK`, rounded half away from zero.
#[inline(always)]
fn quick_grid(x: f64) -> u64 {
    let scaled = x * GRID_PER_UNIT;
    let shifted = scaled + TWO_52;
    // The addition rounds half to even; an exact half left over was rounded down.
    let is_half_lost = scaled - (shifted - TWO_52) == 0.5;
    (shifted.to_bits() & (TWO_52_MANTISSA)) + u64::from(is_half_lost)
}
const TWO_52_MANTISSA: u64 = (1 << 52) - 1;

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
            high: [0.0; LANES],
            low: [f64::INFINITY; LANES],
            volume: ZERO,
            sell_volume: ZERO,
            turnover: [ZERO; 3],
            sell_turnover: [ZERO; 3],
            extra_fills: [0; LANES],
            sell_extra_fills: [0; LANES],
        }
    }

    #[inline(always)]
    fn step<const Q: bool, const S: bool, const F: bool>(
        &mut self,
        price: &[f64; LANES],
        quantity: &[f64; LANES],
        sells: u8,
        first: &[i64; LANES],
        last: &[i64; LANES],
    ) {
        for lane in 0..LANES {
            let x = price[lane];
            let sell_mask = if S { 0u64.wrapping_sub(u64::from(sells >> lane & 1)) } else { 0 };
            self.doubt[lane] |= doubt(x);
            self.high[lane] = if x > self.high[lane] { x } else { self.high[lane] };
            self.low[lane] = if x < self.low[lane] { x } else { self.low[lane] };
            if Q {
                self.doubt[lane] |= doubt(quantity[lane]);
                let (p, q) = (quick_grid(x), quick_grid(quantity[lane]));
                self.volume[lane] += q;
                let limbs = multiply(p, q);
                for (limb, product) in limbs.into_iter().enumerate() {
                    self.turnover[limb][lane] += product;
                    if S {
                        self.sell_turnover[limb][lane] += product & sell_mask;
                    }
                }
                if S {
                    self.sell_volume[lane] += q & sell_mask;
                }
            }
            if F {
                let extra = last[lane].wrapping_sub(first[lane]);
                // Negative ids could hide an overflow of the difference.
                self.doubt[lane] |= extra | first[lane] | last[lane];
                // A span of 2^50 fills is left to the checked fold, so sums of 4 096 fit.
                self.doubt[lane] |= (1i64 << 50).wrapping_sub(extra);
                self.extra_fills[lane] = self.extra_fills[lane].wrapping_add(extra);
                if S {
                    self.sell_extra_fills[lane] = self.sell_extra_fills[lane].wrapping_add(extra & sell_mask as i64);
                }
            }
        }
    }

    #[inline(always)]
    fn finish(&self, price: &[f64], sells: u32) -> Option<Sums> {
        let mut doubt = 0;
        let (mut high, mut low) = (self.high[0], self.low[0]);
        for lane in 0..LANES {
            doubt |= self.doubt[lane];
            high = high.max(self.high[lane]);
            low = low.min(self.low[lane]);
        }
        let low = quick_grid(low) as i64;
        if doubt < 0 || low == 0 {
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
            sell_fills: i64::from(sells) + self.sell_extra_fills.iter().sum::<i64>(),
            volume: widen(&self.volume),
            sell_volume: widen(&self.sell_volume),
            turnover: join(&self.turnover),
            sell_turnover: join(&self.sell_turnover),
            ..Sums::default()
        })
    }
}

/// The product of two 52-bit integers as sums of 26-bit limb products: high, middle, low.
#[inline(always)]
fn multiply(p: u64, q: u64) -> [u64; 3] {
    // The masks tell the compiler that a 32-bit multiplication is enough.
    let (p_high, p_low) = (p >> LIMB_BITS & 0xffff_ffff, p & LIMB_MASK);
    let (q_high, q_low) = (q >> LIMB_BITS & 0xffff_ffff, q & LIMB_MASK);
    [p_high * q_high, p_high * q_low + p_low * q_high, p_low * q_low]
}

#[inline(always)]
fn widen(lanes: &[u64; LANES]) -> i128 {
    // Eight lanes below 2^61 fit 64 bits.
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
    use crate::core::units::grid;
    use proptest::prelude::*;

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
