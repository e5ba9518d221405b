//! Skewness `m₃ / m₂^1.5` and excess kurtosis `m₄ / m₂² - 3` of the sizes of records, with population
//! moments.
//!
//! Undefined when all sizes are equal. Sizes 1, 2, 3, 4 give 0 and -1.36. The sums are exact, so that no
//! order of summation can change a bit.

use crate::core::arithmetic::powers::PowerSums;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::{ANY, Definition, records};

pub const VOLUME_SKEW: Definition = records("ratio", Inputs::QUANTITY, ANY, 3, Formula::Records(&SIZES, 0));
pub const VOLUME_KURT: Definition =
    records("ratio", Inputs::QUANTITY, (Some(-2.0), None), 4, Formula::Records(&SIZES, 1));

const SIZES: Entry<dyn RecordFamily> = Entry { name: "sizes", uses: Uses::SIZE, new: || Box::new(Sizes::default()) };

#[derive(Clone, Debug, Default)]
struct Sizes {
    powers: PowerSums,
}

impl Family for Sizes {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let count = summary.records as u64;
        float(match column {
            0 => self.powers.skew(count),
            _ => self.powers.excess_kurtosis(count).map(|value| value.max(-2.0)),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.powers(&mut self.powers)
    }
}

impl RecordFamily for Sizes {
    fn absorb(&mut self, records: &Records) {
        self.powers.add_all(records.set, records.piece.size);
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
