//! Largest fall from a running peak, over the peak, and largest rise from a running trough, over the
//! trough.
//!
//! Prices 100, 100.1, 99.9, 100.3 give 0.2/100.1 and 0.4/99.9. Quotients are compared exactly.

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, RecordFamily, float};
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{Definition, POSITIVE, SHARE, records};

pub const MAX_DRAWDOWN: Definition = records("ratio", Inputs::NONE, SHARE, 2, Formula::Records(&EXCURSIONS, 0));
pub const MAX_RUNUP: Definition = records("ratio", Inputs::NONE, POSITIVE, 2, Formula::Records(&EXCURSIONS, 1));

const EXCURSIONS: Entry<dyn RecordFamily> =
    Entry { name: "excursions", uses: Uses::PRICE, new: || Box::new(Excursions::default()) };

/// The largest excursion from a running extreme, as a quotient.
#[derive(Clone, Copy, Debug, Default)]
struct Excursion {
    extreme: i64,
    /// Price farthest from the extreme since it was reached.
    far: i64,
    distance: u64,
    over: u64,
}

impl Excursion {
    #[inline(always)]
    fn start(&mut self, price: i64) {
        (self.extreme, self.far) = (price, price);
    }

    /// Compares the distance of the farthest price with the largest before this extreme.
    #[inline(always)]
    fn compare(&mut self) {
        let (distance, over) = (self.far.abs_diff(self.extreme), self.extreme.unsigned_abs());
        if u128::from(distance) * u128::from(self.over) >= u128::from(self.distance) * u128::from(over) {
            (self.distance, self.over) = (distance, over);
        }
    }

    fn value(mut self) -> Option<f64> {
        self.compare();
        ratio(self.distance as f64, self.over as f64)
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.price(&mut self.extreme)?;
        codec.price(&mut self.far)?;
        codec.word(&mut self.distance)?;
        codec.word(&mut self.over)
    }
}

#[derive(Clone, Debug, Default)]
struct Excursions {
    fall: Excursion,
    rise: Excursion,
}

impl Family for Excursions {
    fn value(&self, column: usize, _: &Summary) -> Cell {
        float(if column == 0 { self.fall.value() } else { self.rise.value() })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        self.fall.transfer(codec)?;
        self.rise.transfer(codec)
    }
}

/// Prices that are passed over at once.
const BLOCK: usize = 16;

struct Follow<'a> {
    excursions: &'a mut Excursions,
    prices: &'a [i64],
}

impl Kernel for Follow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Excursions { mut fall, mut rise } = *self.excursions;
        for prices in self.prices.chunks(BLOCK) {
            let is_beyond =
                |low: i64, high: i64| prices.iter().fold(false, |any, price| any | (*price > high) | (*price < low));
            if !is_beyond(fall.far, rise.far) {
                continue;
            }
            for price in prices {
                if *price > fall.extreme {
                    fall.compare();
                    fall.start(*price);
                }
                fall.far = fall.far.min(*price);
                if *price < rise.extreme {
                    rise.compare();
                    rise.start(*price);
                }
                rise.far = rise.far.max(*price);
            }
        }
        *self.excursions = Excursions { fall, rise };
    }
}

impl RecordFamily for Excursions {
    fn absorb(&mut self, records: &Records) {
        let mut prices = records.piece.price;
        if let ([first, rest @ ..], 0) = (prices, records.before.count) {
            for excursion in [&mut self.fall, &mut self.rise] {
                excursion.start(*first);
            }
            prices = rest;
        }
        on(records.set, Follow { excursions: self, prices });
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
