//! What formulas of a sample share: its exact sums.

use crate::core::arithmetic::wide::Int;
use crate::core::bar::Sums;
use crate::core::sample::records::{Extremes, Piece};
use crate::core::simd::fold::{LIMB_BITS, multiply};
use crate::core::simd::{InstructionSet, Kernel, on};
use crate::core::time::TimeUnit;

/// Exact sums of a sample.
///
/// Ratios of flow are over the records that have an aggressor, as in the features of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub unit: TimeUnit,
    pub records: i64,
    /// Number of orders, where a column needs them.
    pub orders: u64,
    pub open_time: i64,
    pub close_time: i64,
    pub open: i64,
    pub high: i64,
    pub low: i64,
    pub close: i64,
    pub volume: i128,
    /// Bought and sold volume together, and bought less sold.
    pub sided_volume: i128,
    pub net_volume: i128,
    pub turnover: Int<3>,
    /// Bought and sold together, and bought less sold: fills of a bar, records of a window.
    pub sided_count: i64,
    pub net_count: i64,
}

/// Records that are added at once.
const FEW: usize = 1_024;
/// Bits of prices and sizes with which the sums of so few records fit 64 bits.
const NARROW_BITS: u32 = 52;

/// Sums over few records; those of sizes only if all numbers have few bits.
#[derive(Default)]
struct Flow {
    bits: u64,
    volume: i64,
    sided_volume: i64,
    net_volume: i64,
    /// In limbs of 26 bits, the highest first.
    turnover: [u64; 3],
    sided_count: i64,
    net_count: i64,
}

struct Traded<'a> {
    piece: Piece<'a>,
}

impl Kernel for Traded<'_> {
    type Output = Flow;

    #[inline(always)]
    fn run(self) -> Flow {
        let Piece { price, size, side, .. } = self.piece;
        let mut flow = Flow::default();
        let [mut high, mut middle, mut low] = [0u64; 3];
        for (price, size) in price.iter().zip(size) {
            let limbs = multiply(*price as u64, *size as u64);
            flow.bits |= (price | size) as u64;
            high = high.wrapping_add(limbs[0]);
            middle = middle.wrapping_add(limbs[1]);
            low = low.wrapping_add(limbs[2]);
        }
        flow.turnover = [high, middle, low];
        for size in size {
            flow.bits |= *size as u64;
            flow.volume = flow.volume.wrapping_add(*size);
        }
        for (size, side) in size.iter().zip(side) {
            let (bought, sold) = (if *side > 0 { *size } else { 0 }, if *side < 0 { *size } else { 0 });
            flow.sided_volume = flow.sided_volume.wrapping_add(bought).wrapping_add(sold);
            flow.net_volume = flow.net_volume.wrapping_add(bought).wrapping_sub(sold);
        }
        for side in side {
            flow.sided_count += i64::from(side & 1);
            flow.net_count += i64::from(*side);
        }
        flow
    }
}

impl Summary {
    pub fn empty(unit: TimeUnit) -> Self {
        Self::of_bar(&Sums::default(), 0, unit)
    }

    /// The sums of a bar.
    pub fn of_bar(sums: &Sums, orders: u64, unit: TimeUnit) -> Self {
        let (buys, sells) = (sums.buy_volume(), sums.sell_volume);
        Self {
            unit,
            records: sums.records,
            orders,
            open_time: sums.open_time,
            close_time: sums.close_time,
            open: sums.open,
            high: sums.high,
            low: sums.low,
            close: sums.close,
            volume: sums.volume,
            sided_volume: buys + sells,
            net_volume: buys - sells,
            turnover: Int::from(sums.turnover),
            sided_count: sums.buy_fills() + sums.sell_fills,
            net_count: sums.buy_fills() - sums.sell_fills,
        }
    }

    /// Adds records of a window.
    pub fn add(&mut self, set: InstructionSet, piece: &Piece) {
        let ([first, ..], [.., last]) = (piece.time, piece.time) else { return };
        if self.records == 0 {
            self.open_time = *first;
            self.open = piece.price.first().copied().unwrap_or_default();
            (self.high, self.low) = (self.open, self.open);
        }
        self.close_time = *last;
        self.close = piece.price.last().copied().unwrap_or_default();
        let (high, low) = on(set, Extremes { price: piece.price, start: self.open });
        (self.high, self.low) = (self.high.max(high), self.low.min(low));
        self.records += piece.len() as i64;
        for from in (0..piece.len()).step_by(FEW) {
            let piece = piece.slice(from, (from + FEW).min(piece.len()));
            let flow = on(set, Traded { piece });
            self.sided_count += flow.sided_count;
            self.net_count += flow.net_count;
            if flow.bits >> NARROW_BITS == 0 {
                self.volume += i128::from(flow.volume);
                self.sided_volume += i128::from(flow.sided_volume);
                self.net_volume += i128::from(flow.net_volume);
                let [high, middle, low] = flow.turnover.map(u128::from);
                self.turnover.add_unsigned((high << (2 * LIMB_BITS)) + (middle << LIMB_BITS) + low);
            } else {
                self.add_wide(&piece);
            }
        }
    }

    fn add_wide(&mut self, piece: &Piece) {
        self.volume += piece.size.iter().map(|size| i128::from(*size)).sum::<i128>();
        for (price, size) in piece.price.iter().zip(piece.size) {
            self.turnover.add_unsigned(u128::from(price.unsigned_abs()) * u128::from(size.unsigned_abs()));
        }
        for (size, side) in piece.size.iter().zip(piece.side) {
            self.sided_volume += i128::from(*size) * i128::from(side.abs());
            self.net_volume += i128::from(*size) * i128::from(*side);
        }
    }

    /// Time from the first to the last record, in units of time.
    pub fn span(&self) -> u64 {
        self.close_time.wrapping_sub(self.open_time) as u64
    }

    /// Time from the first to the last record in whole microseconds.
    pub fn duration_us(&self) -> i64 {
        self.unit.microseconds_between(self.open_time, self.close_time)
    }
}
