//! Efficiency ratio of Kaufman (1995): the net price change over the sum of absolute changes.
//!
//! 1 on a straight way. Undefined when no price changes. Prices 100, 100.1, 99.9, 100.3 give 3/7.

use crate::core::arithmetic::grid::to_f64;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
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

impl RecordFamily for Path {
    fn absorb(&mut self, records: &Records) {
        let mut length = 0u128;
        records.changes(|change| length += u128::from(change.unsigned_abs()));
        self.length += length as i128;
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
