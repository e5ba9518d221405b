//! Arrival of orders: burstiness that is hardly biased at small numbers (Kim and Jo, 2016), memory, the
//! correlation of successive intervals (Goh and Barabási, 2008), and the longest silence between records.
//!
//! With `n` intervals, `r` their population standard deviation over their mean, `A = √(n + 1)` and
//! `B = √(n - 1)`, burstiness is `(Ar - B)/((A - 2)r + B)`: -1 periodic, 0 Poisson, 1 if one interval is all.

use crate::core::arithmetic::wide::{Int, Wide};
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, RecordFamily, float, integer};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::{Records, Uses};
use crate::core::sample::summary::Summary;
use crate::core::simd::{Kernel, on};
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{scaled_deviation, signed_share};
use crate::features::shared::{Definition, POSITIVE, SIGNED_SHARE, orders, records, whole};

pub const BURSTINESS_KIM_JO: Definition = orders("ratio", Inputs::NONE, SIGNED_SHARE, 3, Formula::Orders(&ARRIVAL, 0));
pub const INTERVAL_MEMORY: Definition = orders("ratio", Inputs::NONE, SIGNED_SHARE, 10, Formula::Orders(&ARRIVAL, 1));
pub const MAX_SILENCE_US: Definition = whole(records("µs", Inputs::NONE, POSITIVE, 2, Formula::Records(&SILENCE, 0)));

const ARRIVAL: Entry<dyn OrderFamily> =
    Entry { name: "arrival", uses: Uses::TIME, new: || Box::new(Arrival::default()) };
const SILENCE: Entry<dyn RecordFamily> =
    Entry { name: "silence", uses: Uses::TIME, new: || Box::new(Silence::default()) };

#[derive(Clone, Debug, Default)]
struct Arrival {
    count: u64,
    sum: i128,
    squares: Int<3>,
    /// Sum of products of successive intervals.
    products: Int<3>,
    first: u64,
    last: u64,
}

impl Arrival {
    fn burstiness(&self) -> Option<f64> {
        if self.sum == 0 {
            return None;
        }
        let n = self.count as f64;
        let relative = scaled_deviation(i128::from(self.count), self.sum, &self.squares) / self.sum as f64;
        let (a, b) = ((n + 1.0).sqrt(), (n - 1.0).sqrt());
        signed_share(a * relative - b, (a - 2.0) * relative + b)
    }

    fn memory(&self) -> Option<f64> {
        let n = i128::from(self.count) - 1;
        let without = |interval: u64| (self.sum - i128::from(interval), square(interval));
        let ((earlier, of_last), (later, of_first)) = (without(self.last), without(self.first));
        let spread = |sum: i128, square: Int<3>| (self.squares - square).by(n) - Int::<2>::from(sum).square();
        let (left, right): (Wide, Wide) = (spread(earlier, of_last), spread(later, of_first));
        let joint = self.products.by(n) - Int::<2>::from(earlier).by(later);
        signed_share(joint.to_f64(), left.to_f64().sqrt() * right.to_f64().sqrt())
    }
}

#[inline(always)]
fn multiply(left: u64, right: u64) -> u128 {
    u128::from(left) * u128::from(right)
}

fn square(interval: u64) -> Int<3> {
    let mut squared = Int::<3>::default();
    squared.add_unsigned(multiply(interval, interval));
    squared
}

impl Family for Arrival {
    fn value(&self, column: usize, _: &Summary) -> Cell {
        float(if column == 0 { self.burstiness() } else { self.memory() })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.count(&mut self.count)?;
        codec.sum(&mut self.sum)?;
        codec.int(&mut self.squares)?;
        codec.int(&mut self.products)?;
        codec.word(&mut self.first)?;
        codec.word(&mut self.last)
    }
}

impl OrderFamily for Arrival {
    fn absorb(&mut self, orders: &Orders) {
        let (mut squares, mut products, mut sum) = (0u128, 0u128, 0u128);
        let mut last = self.last;
        for order in orders.later() {
            let interval = order.interval;
            if self.count == 0 {
                (self.first, last) = (interval, 0);
            }
            let (square, product) = (multiply(interval, interval), multiply(interval, last));
            if orders.is_narrow && last >> 59 == 0 {
                squares += square;
                products += product;
            } else {
                self.squares.add_unsigned(square);
                self.products.add_unsigned(product);
            }
            sum += u128::from(interval);
            last = interval;
            self.count += 1;
        }
        self.last = last;
        self.sum += sum as i128;
        self.squares.add_unsigned(squares);
        self.products.add_unsigned(products);
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}

#[derive(Clone, Debug, Default)]
struct Silence {
    longest: u64,
}

impl Family for Silence {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        let whole = i64::try_from(self.longest).unwrap_or(i64::MAX);
        integer(Some(summary.unit.microseconds_between(0, whole)))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.word(&mut self.longest)
    }
}

/// The longest interval between times.
struct Longest<'a> {
    time: &'a [i64],
}

impl Kernel for Longest<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let later = self.time.get(1..).unwrap_or_default();
        later
            .iter()
            .zip(self.time)
            .fold(0, |longest, (later, earlier)| longest.max(later.wrapping_sub(*earlier) as u64))
    }
}

impl RecordFamily for Silence {
    fn absorb(&mut self, records: &Records) {
        let (first, _) = records.first_step();
        self.longest = self.longest.max(first).max(on(records.set, Longest { time: records.piece.time }));
    }

    fn boxed(&self) -> Box<dyn RecordFamily> {
        Box::new(self.clone())
    }
}
