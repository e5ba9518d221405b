//! Cumulative flow `C_i`, bought less sold size up to a record: its extremes, at least and at most 0, and
//! when its absolute value was first largest, as a share of the duration.
//!
//! An early extreme says that flow was absorbed. Sizes 1, 2, 3, 4 with sides + − − + have the extremes 1
//! and -4.

use crate::core::arithmetic::grid::to_f64;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::share;
use crate::features::shared::{Definition, POSITIVE, SHARE, records};

const fn column(unit: &'static str, bounds: (Option<f64>, Option<f64>), at: usize) -> Definition {
    records(unit, Inputs::FLOW, bounds, 1, Formula::Records(&DELTA, at))
}

pub const DELTA_MAX: Definition = column("base currency", POSITIVE, 0);
pub const DELTA_MIN: Definition = column("base currency", (None, Some(0.0)), 1);
pub const DELTA_EXTREME_AT: Definition = column("ratio", SHARE, 2);

const DELTA: Entry<dyn RecordFamily> = Entry { name: "delta", uses: Uses::FLOW, new: || Box::new(Delta::default()) };

#[derive(Clone, Copy, Debug, Default)]
struct Delta {
    now: i128,
    highest: i128,
    lowest: i128,
    /// Time of the first record with the largest absolute value.
    extreme_at: i64,
}

impl Family for Delta {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        float(match column {
            0 => Some(to_f64(self.highest) / 1e8),
            1 => Some(to_f64(self.lowest) / 1e8),
            _ if (self.highest, self.lowest) == (0, 0) => None,
            _ => share(self.extreme_at.wrapping_sub(summary.open_time) as u64 as f64, summary.span() as f64),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.sum(&mut self.now)?;
        codec.sum(&mut self.highest)?;
        codec.sum(&mut self.lowest)?;
        codec.long(&mut self.extreme_at)
    }
}

impl RecordFamily for Delta {
    fn absorb(&mut self, records: &Records) {
        let mut delta = *self;
        let piece = records.piece;
        for ((time, size), side) in piece.time.iter().zip(piece.size).zip(piece.side) {
            delta.now += i128::from(size * i64::from(*side));
            if delta.now > delta.highest {
                if delta.now > -delta.lowest {
                    delta.extreme_at = *time;
                }
                delta.highest = delta.now;
            } else if delta.now < delta.lowest {
                if -delta.now > delta.highest {
                    delta.extreme_at = *time;
                }
                delta.lowest = delta.now;
            }
        }
        *self = delta;
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(*self)
    }
}
