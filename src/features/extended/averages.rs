//! Averages of prices: by time, where each price holds until the next record, and the spread around the
//! average by volume, `√(Σv(p - vwap)²/V)`.
//!
//! Prices 100, 100.1, 99.9, 100.3 at the seconds 0, 1, 1, 4 have a time average of 99.925; with sizes 1, 2,
//! 3, 4 they lie 0.17 around their vwap of 100.11.

use crate::core::arithmetic::grid::to_f64;
use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{Definition, POSITIVE, records};

pub const TWAP: Definition = records("quote currency", Inputs::NONE, POSITIVE, 1, Formula::Records(&BY_TIME, 0));
pub const VWAP_SD: Definition = records("quote currency", Inputs::QUANTITY, POSITIVE, 1, Formula::Records(&BY_SIZE, 0));

const BY_TIME: Entry<dyn RecordFamily> =
    Entry { name: "prices by time", uses: Uses::PRICE, new: || Box::new(ByTime::default()) };
const BY_SIZE: Entry<dyn RecordFamily> =
    Entry { name: "prices by size", uses: Uses::PRICE.with(Uses::SIZE), new: || Box::new(BySize::default()) };

/// Sum of each price times how long it held.
#[derive(Clone, Copy, Debug, Default)]
struct ByTime {
    sum: Int<3>,
}

impl Family for ByTime {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        float(ratio(self.sum.to_f64(), summary.span() as f64 * 1e8))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.sum)
    }
}

impl RecordFamily for ByTime {
    fn absorb(&mut self, records: &Records) {
        let before = (records.before.count > 0).then_some(records.before.price);
        let held = before.iter().chain(records.piece.price);
        // All times together are below 2^64, so that the sum is below 2^127.
        let (mut sum, mut held) = (0u128, held);
        records.intervals(|interval| {
            let price = held.next().copied().unwrap_or_default();
            sum += u128::from(price.unsigned_abs()) * u128::from(interval);
        });
        self.sum.add_unsigned(sum);
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(*self)
    }
}

/// Sums of sizes times the distance of their price from the open, and its square.
#[derive(Clone, Copy, Debug, Default)]
struct BySize {
    distances: Int<3>,
    squares: Int<4>,
}

impl Family for BySize {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        let volume = to_f64(summary.volume);
        let variance = self.squares.by(summary.volume) - self.distances.square();
        float(ratio(variance.to_f64().sqrt(), volume * 1e8))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.distances)?;
        codec.int(&mut self.squares)
    }
}

impl RecordFamily for BySize {
    fn absorb(&mut self, records: &Records) {
        let (open, piece) = (records.open(), records.piece);
        let distances = piece.price.iter().map(|price| price.wrapping_sub(open));
        let bits = |values: u64| u64::BITS - values.leading_zeros();
        let far = bits(distances.clone().fold(0, |bits, distance| bits | distance.unsigned_abs()));
        let large = bits(piece.size.iter().fold(0, |bits, size| bits | size.unsigned_abs()));
        // A piece has at most 2^12 records.
        if 2 * far + large + 12 <= 126 {
            let (mut sum, mut squares) = (0i128, 0i128);
            for (distance, size) in distances.zip(piece.size) {
                let weighted = i128::from(distance) * i128::from(*size);
                sum += weighted;
                squares += weighted * i128::from(distance);
            }
            self.distances.add_signed(sum);
            self.squares.add_signed(squares);
            return;
        }
        for (distance, size) in distances.zip(piece.size) {
            let weighted = i128::from(distance) * i128::from(*size);
            self.distances.add_signed(weighted);
            self.squares.add_product(distance, weighted);
        }
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(*self)
    }
}
