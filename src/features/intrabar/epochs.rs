//! Epochs of the walk that the reference library calls the "investment time horizon".
//!
//! The hurdle of the bull walk is the largest fall `(peak - price) / peak` of the bar, at least 2^-52; that
//! of the bear walk the largest rise over the price reached. With reference, best and worst price at the
//! first price, and gain and loss at 0, for each later price `y`: (1) a new best price sets the gain since
//! the reference, (2) a new worst price the loss; (3) the gain is added to a total; (4) when the gain
//! exceeds loss and hurdle, the record is an epoch: the reference becomes the best price, the worst price
//! that of the record before, gain and loss 0.
//!
//! Prices 100, 101, 100.5, 102, 103 have the bull epochs 1, 3, 4 and no bear epoch. On range bars these
//! columns say little: a bar ends at its first large move.

use crate::core::sample::family::{Cell, Entry, Formula, HeldFamily, float};
use crate::core::sample::records::{Piece, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{InstructionSet, Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::{Definition, SHARE, records};

const fn column(at: usize) -> Definition {
    records("ratio", Inputs::NONE, SHARE, 2, Formula::Held(&EPOCHS, at))
}

pub const DENSITY_BULL: Definition = column(0);
pub const DENSITY_BEAR: Definition = column(1);
pub const EXCESS_BULL: Definition = column(2);
pub const EXCESS_BEAR: Definition = column(3);
pub const CV_BULL: Definition = column(4);
pub const CV_BEAR: Definition = column(5);

const EPOCHS: Entry<dyn HeldFamily> = Entry { name: "epochs", uses: Uses::PRICE, new: || Box::new(Epochs) };

#[derive(Debug)]
struct Epochs;

/// A walk over the prices of a bar.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    reference: i64,
    best: i64,
    worst: i64,
    gain: f64,
    loss: f64,
    total: f64,
    hurdle: f64,
    epochs: u64,
    last_epoch: u64,
    /// Sum of squared distances of successive epochs, from record 0 on.
    squares: i128,
    /// Records whose gain is not yet in the total.
    quiet: u64,
}

/// An exact difference and its divisor as doubles, divided once.
#[inline(always)]
fn part(difference: i64, over: i64) -> f64 {
    difference as f64 / over as f64
}

const FEW: u64 = 32;

/// `total` after so many additions of a value that is not negative, each rounded.
fn added(mut total: f64, value: f64, mut times: u64) -> f64 {
    // Few additions take less time than the division.
    while times > FEW {
        let next = total + value;
        let step = next - total;
        if step == 0.0 {
            // The same addition again changes nothing either.
            return total;
        }
        let bits = total.to_bits();
        if (bits ^ next.to_bits()) >> 52 == 0 {
            // Up to the next power of two, totals have the same last place and every addition makes the same step,
            // but for ties, whose direction alternates.
            let floor = bits >> 52 << 52;
            let (last_place, end) = (f64::from_bits(floor) * f64::EPSILON, f64::from_bits(floor + (1 << 52)));
            let steps = (((end - total) / step) as u64).saturating_sub(1).min(times);
            if (value - step).abs() * 2.0 != last_place && steps > 0 {
                total += steps as f64 * step;
                times -= steps;
                continue;
            }
        }
        (total, times) = (next, times - 1);
    }
    (0..times).fold(total, |total, _| total + value)
}

impl Walk {
    /// Adds the gain of the records that changed nothing.
    fn settle(&mut self) {
        self.total = added(self.total, self.gain, self.quiet);
        self.quiet = 0;
    }

    /// Adds prices from a row on; `before` is the price before them.
    #[inline(always)]
    fn pass<const IS_BEAR: bool>(&mut self, row: u64, prices: &[i64], mut before: i64) {
        let (low, high) = if IS_BEAR { (self.best, self.worst) } else { (self.worst, self.best) };
        if is_within(prices, low, high) {
            self.quiet += prices.len() as u64;
            return;
        }
        if self.quiet > 0 {
            self.settle();
        }
        // A copy that the compiler can keep in registers.
        let mut walk = *self;
        for (price, row) in prices.iter().zip(row..) {
            if row > 0 {
                walk.step::<IS_BEAR>(row, *price, before);
            }
            before = *price;
        }
        *self = walk;
    }

    #[inline(always)]
    fn step<const IS_BEAR: bool>(&mut self, row: u64, price: i64, before: i64) {
        let reference = self.reference;
        let (is_better, is_worse) =
            if IS_BEAR { (price < self.best, price > self.worst) } else { (price > self.best, price < self.worst) };
        // The price cannot be both.
        if is_better {
            self.best = price;
            self.gain = if IS_BEAR { part(reference - price, price) } else { part(price - reference, reference) };
        } else if is_worse {
            self.worst = price;
            self.loss = if IS_BEAR { part(price - reference, price) } else { part(reference - price, reference) };
        }
        self.total += self.gain;
        if is_better && self.gain > self.loss && self.gain > self.hurdle {
            let distance = i128::from(row - self.last_epoch);
            self.squares += distance * distance;
            (self.epochs, self.last_epoch) = (self.epochs + 1, row);
            (self.reference, self.worst, self.gain, self.loss) = (self.best, before, 0.0, 0.0);
        }
    }

    fn value(&self, kind: usize, records: f64) -> Cell {
        float(match kind {
            0 => Some(logistic(10.0 * (self.epochs as f64 / records - 0.5))),
            1 => Some(libm::tanh(self.total)),
            _ if self.epochs < 2 => None,
            _ => {
                let (count, sum) = (i128::from(self.epochs), i128::from(self.last_epoch));
                let deviation = ((count * self.squares - sum * sum) as f64).sqrt();
                Some(logistic(4.0 * (deviation / sum as f64 - 0.5)))
            }
        })
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Prices up to this one are exact doubles, and so is the difference of two.
const LARGEST_EXACT: i64 = 1 << 53;
/// Prices that are passed over at once.
const BLOCK: usize = 16;

/// Whether all prices lie within bounds.
#[inline(always)]
fn is_within(prices: &[i64], low: i64, high: i64) -> bool {
    !prices.iter().fold(false, |any, price| any | (*price > high) | (*price < low))
}

/// The largest fall over the peak before it, and rise over the price reached, so far.
#[derive(Clone, Copy)]
struct Hurdles {
    peak: i64,
    trough: i64,
    /// Lowest price since the peak, highest since the trough.
    low: i64,
    high: i64,
    largest: [f64; 2],
}

impl Hurdles {
    fn fall(&mut self) {
        self.largest[0] = self.largest[0].max(part(self.peak - self.low, self.peak));
    }

    fn rise(&mut self) {
        self.largest[1] = self.largest[1].max(part(self.high - self.trough, self.high));
    }

    /// Under one peak the quotient grows with the fall, above one trough with the price: only the farthest price is
    /// divided. Of prices that are no exact doubles, every one is.
    #[inline(always)]
    fn add(&mut self, price: i64) {
        if price > self.peak {
            self.fall();
            (self.peak, self.low) = (price, price);
        }
        self.low = self.low.min(price);
        if price < self.trough {
            self.rise();
            (self.trough, self.high) = (price, price);
        } else if price > LARGEST_EXACT {
            self.rise();
            self.high = price;
            self.rise();
        }
        self.high = self.high.max(price);
    }
}

/// Adds up the walks over pieces of a bar.
struct Walks<'a> {
    pieces: &'a [Piece<'a>],
    open: i64,
    wanted: [bool; 2],
}

impl Walks<'_> {
    #[inline(always)]
    fn hurdles(&self) -> [f64; 2] {
        let open = self.open;
        let mut hurdles = Hurdles { peak: open, trough: open, low: open, high: open, largest: [f64::EPSILON; 2] };
        for prices in self.pieces.iter().flat_map(|piece| piece.price.chunks(BLOCK)) {
            // A high above the largest exact price may follow a higher one.
            if !is_within(prices, hurdles.low, hurdles.high.min(LARGEST_EXACT)) {
                let mut copy = hurdles;
                prices.iter().for_each(|price| copy.add(*price));
                hurdles = copy;
            }
        }
        hurdles.fall();
        hurdles.rise();
        hurdles.largest
    }
}

impl Kernel for Walks<'_> {
    type Output = [Walk; 2];

    #[inline(always)]
    fn run(self) -> Self::Output {
        let open = self.open;
        let [fall, rise] = self.hurdles();
        let start = Walk { reference: open, best: open, worst: open, ..Walk::default() };
        let [mut bull, mut bear] = [fall, rise].map(|hurdle| Walk { hurdle, ..start });
        let [has_bull, has_bear] = self.wanted;
        let (mut row, mut before) = (0, open);
        for prices in self.pieces.iter().flat_map(|piece| piece.price.chunks(BLOCK)) {
            if has_bull {
                bull.pass::<false>(row, prices, before);
            }
            if has_bear {
                bear.pass::<true>(row, prices, before);
            }
            row += prices.len() as u64;
            before = prices.last().copied().unwrap_or(before);
        }
        let mut walks = [bull, bear];
        walks.iter_mut().for_each(Walk::settle);
        walks
    }
}

impl HeldFamily for Epochs {
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell> {
        let is_wanted = |parity| wanted.iter().any(|column| column % 2 == parity);
        let walks = Walks { pieces, open: summary.open, wanted: [is_wanted(0), is_wanted(1)] };
        let walks = on(InstructionSet::current(), walks);
        let records = summary.records as f64;
        wanted.iter().map(|column| walks[column % 2].value(column / 2, records)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hurdles_are_the_largest_quotients(
            base in prop_oneof![Just(1i64), Just(1_000_000), Just(LARGEST_EXACT - 90), Just(1 << 60)],
            steps in prop::collection::vec(any::<i64>(), 1..120),
            bits in prop_oneof![Just(7u32), Just(54), Just(62)],
        ) {
            let price: Vec<i64> = steps.iter().map(|step| base + (step & ((1 << bits) - 1))).collect();
            let (mut peak, mut trough, mut expected) = (price[0], price[0], [f64::EPSILON; 2]);
            for price in &price {
                (peak, trough) = (peak.max(*price), trough.min(*price));
                expected[0] = expected[0].max(part(peak - price, peak));
                expected[1] = expected[1].max(part(price - trough, *price));
            }
            let pieces = [Piece { price: &price, ..Piece::default() }];
            let walks = Walks { pieces: &pieces, open: price[0], wanted: [true, true] };
            prop_assert_eq!(walks.hurdles(), expected);
        }

        #[test]
        fn many_additions_are_rounded_one_by_one(
            start in prop_oneof![Just(0.0), 0.0..30.0],
            value in prop_oneof![Just(0.0), 0.0..1.0, (1i32..60).prop_map(|power| 0.5f64.powi(power)), 1e-18..1e-14],
            times in 0u64..3_000,
        ) {
            let mut expected = start;
            (0..times).for_each(|_| expected += value);
            prop_assert_eq!(added(start, value, times).to_bits(), f64::to_bits(expected));
        }
    }

    #[test]
    fn of_prices_that_are_no_doubles_a_lower_one_may_have_the_larger_rise() {
        let (open, high, low) = (1i64 << 59, (1 << 60) + 129, (1 << 60) + 100);
        assert!(part(low - open, low) > part(high - open, high));
        // The lower price comes in a block of its own, within the bounds of the first.
        let price = [[open; 1].as_slice(), &[high; BLOCK - 3], &[open, high], &[low; BLOCK]].concat();
        let pieces = [Piece { price: &price, ..Piece::default() }];
        let walks = Walks { pieces: &pieces, open, wanted: [true, true] };
        assert_eq!(walks.hurdles()[1], part(low - open, low));
    }
}
