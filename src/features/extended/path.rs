//! The path of prices in time: when the high and the low were first reached, as a share of the duration,
//! and how often the price crossed the open.
//!
//! Prices 100, 100.1, 99.9, 100.3 cross the open twice; a return to the open alone is no crossing.

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, count, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::share;
use crate::features::shared::{Definition, POSITIVE, SHARE, records, whole};

pub const HIGH_AT: Definition = records("ratio", Inputs::NONE, SHARE, 1, Formula::Records(&EXTREMES, 0));
pub const LOW_AT: Definition = records("ratio", Inputs::NONE, SHARE, 1, Formula::Records(&EXTREMES, 1));
pub const OPEN_CROSSINGS: Definition =
    whole(records("number", Inputs::NONE, POSITIVE, 2, Formula::Records(&CROSSINGS, 0)));

const EXTREMES: Entry<dyn RecordFamily> =
    Entry { name: "extremes", uses: Uses::PRICE, new: || Box::new(Extremes::default()) };
const CROSSINGS: Entry<dyn RecordFamily> =
    Entry { name: "crossings", uses: Uses::PRICE, new: || Box::new(Crossings::default()) };

#[derive(Clone, Copy, Debug, Default)]
struct Extremes {
    high: i64,
    low: i64,
    high_time: i64,
    low_time: i64,
}

impl Family for Extremes {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let time = if column == 0 { self.high_time } else { self.low_time };
        float(share(time.wrapping_sub(summary.open_time) as u64 as f64, summary.span() as f64))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.price(&mut self.high)?;
        codec.price(&mut self.low)?;
        codec.long(&mut self.high_time)?;
        codec.long(&mut self.low_time)
    }
}

impl RecordFamily for Extremes {
    fn absorb(&mut self, records: &Records) {
        let (mut extremes, open) = (*self, records.open());
        if records.before.count == 0 {
            let time = records.open_time();
            extremes = Self { high: open, low: open, high_time: time, low_time: time };
        }
        for (price, time) in records.piece.price.iter().zip(records.piece.time) {
            if *price > extremes.high {
                (extremes.high, extremes.high_time) = (*price, *time);
            } else if *price < extremes.low {
                (extremes.low, extremes.low_time) = (*price, *time);
            }
        }
        *self = extremes;
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(*self)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Crossings {
    count: u64,
    /// Where the last price lay that was not the open.
    side: i8,
}

impl Family for Crossings {
    fn value(&self, _: usize, _: &Summary) -> Cell {
        count(self.count)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.count(&mut self.count)?;
        codec.side(&mut self.side)
    }
}

impl RecordFamily for Crossings {
    fn absorb(&mut self, records: &Records) {
        let (open, mut crossings) = (records.open(), *self);
        for price in records.piece.price {
            let side = (*price > open) as i8 - (*price < open) as i8;
            if side != 0 {
                crossings.count += u64::from(side == -crossings.side);
                crossings.side = side;
            }
        }
        *self = crossings;
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(*self)
    }
}
