//! Efficiency ratio of Kaufman (1995): the net price change over the sum of absolute changes.
//!
//! 1 on a straight way. Undefined when no price changes. Prices 100, 100.1, 99.9, 100.3 give 3/7.

use crate::core::arithmetic::grid::to_f64;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::share;
use crate::features::shared::{Definition, SHARE, records};

pub const KAUFMAN_ER: Definition = records("ratio", Inputs::NONE, SHARE, 2, Formula::Records(&PATH, 0));

const PATH: Entry<dyn RecordFamily> = Entry { name: "path", uses: Uses::PRICE, new: || Box::new(Path::default()) };

/// Length of the way that prices went.
#[derive(Clone, Debug, Default)]
struct Path {
    length: i128,
}

impl Family for Path {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        float(share((summary.close - summary.open).unsigned_abs() as f64, to_f64(self.length)))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.sum(&mut self.length)
    }
}

/// All bits of the changes between prices, and the sum of the changes if those are few.
struct Length<'a> {
    price: &'a [i64],
}

impl Kernel for Length<'_> {
    type Output = (u64, u64);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let later = self.price.get(1..).unwrap_or_default();
        let changes = later.iter().zip(self.price).map(|(later, earlier)| later.wrapping_sub(*earlier).unsigned_abs());
        changes.fold((0, 0), |(bits, sum), change: u64| (bits | change, sum.wrapping_add(change)))
    }
}

impl RecordFamily for Path {
    fn absorb(&mut self, records: &Records) {
        let (_, first) = records.first_step();
        let (bits, length) = on(records.set, Length { price: records.piece.price });
        // A piece has at most 2^12 records.
        if bits >> 50 == 0 {
            self.length += i128::from(length) + i128::from(first.unsigned_abs());
        } else {
            records.changes(|change| self.length += i128::from(change.unsigned_abs()));
        }
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
