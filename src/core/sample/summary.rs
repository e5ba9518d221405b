//! What formulas of a sample share: its exact sums.

use crate::core::arithmetic::wide::Int;
use crate::core::bar::Sums;
use crate::core::sample::records::Piece;
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
    pub fn add(&mut self, piece: &Piece) {
        let ([first, ..], [.., last]) = (piece.time, piece.time) else { return };
        if self.records == 0 {
            self.open_time = *first;
            self.open = piece.price.first().copied().unwrap_or_default();
            (self.high, self.low) = (self.open, self.open);
        }
        self.close_time = *last;
        self.close = piece.price.last().copied().unwrap_or_default();
        for price in piece.price {
            self.high = self.high.max(*price);
            self.low = self.low.min(*price);
        }
        self.records += piece.len() as i64;
        self.add_sizes(piece);
        for side in piece.side {
            self.sided_count += i64::from(*side != 0);
            self.net_count += i64::from(*side);
        }
    }

    fn add_sizes(&mut self, piece: &Piece) {
        // Few enough records that a product of 116 bits cannot overflow, nor a size of 51.
        const FEW: usize = 2_048;
        for from in (0..piece.len()).step_by(FEW) {
            let piece = piece.slice(from, (from + FEW).min(piece.len()));
            let largest = piece.size.iter().copied().fold(0, i64::max);
            let mut turnover = 0u128;
            for (price, size) in piece.price.iter().zip(piece.size) {
                let product = u128::from(price.unsigned_abs()) * u128::from(size.unsigned_abs());
                if largest < 1 << 51 {
                    turnover += product;
                } else {
                    self.turnover.add_unsigned(product);
                }
            }
            self.turnover.add_unsigned(turnover);
            if largest < 1 << 51 {
                self.volume += i128::from(piece.size.iter().sum::<i64>());
                let of_sides = |weight: fn(i64) -> i64| {
                    piece.size.iter().zip(piece.side).map(|(size, side)| size * weight(i64::from(*side))).sum::<i64>()
                };
                self.sided_volume += i128::from(of_sides(i64::abs));
                self.net_volume += i128::from(of_sides(|side| side));
            } else {
                self.volume += piece.size.iter().map(|size| i128::from(*size)).sum::<i128>();
                for (size, side) in piece.size.iter().zip(piece.side) {
                    self.sided_volume += i128::from(*size) * i128::from(side.abs());
                    self.net_volume += i128::from(*size) * i128::from(*side);
                }
            }
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
