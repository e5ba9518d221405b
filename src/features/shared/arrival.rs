//! Arrival of records in time: duration, intensity, and burstiness `(s - m) / (s + m)` of the intervals,
//! with mean `m` and population standard deviation `s` (Goh and Barabási, 2008).
//!
//! Burstiness is -1 for equal intervals and near 0 for Poisson arrivals. Seconds 0, 1, 1, 4 have the
//! intervals 1, 0, 3 and a burstiness of `(√14 - 4) / (√14 + 4)`.

use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float, integer};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{ratio, scaled_deviation, signed_share};
use crate::features::shared::{Definition, POSITIVE, SIGNED_SHARE, records, whole};

pub const COUNT: Definition = whole(records(
    "records",
    Inputs::NONE,
    POSITIVE,
    0,
    Formula::Summary(|sample| integer(Some(sample.records)), Uses::TIME),
));

pub const DURATION: Definition = whole(records(
    "µs",
    Inputs::NONE,
    POSITIVE,
    1,
    Formula::Summary(|sample| integer(Some(sample.duration_us())), Uses::TIME),
));

pub const INTENSITY: Definition = records(
    "records per second",
    Inputs::NONE,
    POSITIVE,
    2,
    Formula::Summary(|sample| float(intensity(sample)), Uses::TIME),
);

fn intensity(sample: &Summary) -> Option<f64> {
    ratio(sample.records as f64 * sample.unit.per_second() as f64, sample.span() as f64)
}

pub const BURSTINESS: Definition = records("ratio", Inputs::NONE, SIGNED_SHARE, 3, Formula::Records(&INTERVALS, 0));

const INTERVALS: Entry<dyn RecordFamily> =
    Entry { name: "intervals", uses: Uses::TIME, new: || Box::new(Intervals::default()) };

/// Sum of squared intervals; their sum is the duration.
#[derive(Clone, Debug, Default)]
struct Intervals {
    squares: Int<3>,
}

impl Family for Intervals {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        let span = summary.span();
        let deviation = scaled_deviation(i128::from(summary.records - 1), i128::from(span), &self.squares);
        let mean = span as f64;
        float(if span == 0 { None } else { signed_share(deviation - mean, deviation + mean) })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.squares)
    }
}

/// All bits of the intervals between times, and the sum of their squares if those are few.
struct Squares<'a> {
    time: &'a [i64],
}

impl Kernel for Squares<'_> {
    type Output = (u64, u64);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let later = self.time.get(1..).unwrap_or_default();
        let intervals = later.iter().zip(self.time).map(|(later, earlier)| later.wrapping_sub(*earlier) as u64);
        intervals.fold((0, 0), |(bits, sum), interval: u64| {
            (bits | interval, sum.wrapping_add(interval.wrapping_mul(interval)))
        })
    }
}

impl RecordFamily for Intervals {
    fn absorb(&mut self, records: &Records) {
        let (first, _) = records.first_step();
        let (bits, sum) = on(records.set, Squares { time: records.piece.time });
        // A piece has at most 2^12 records.
        if (bits | first) >> 25 == 0 {
            self.squares.add_unsigned(u128::from(sum + first * first));
        } else {
            records.intervals(|interval| self.squares.add_unsigned(u128::from(interval) * u128::from(interval)));
        }
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
