//! Variance over 8 orders against variance over 1: two scales (after Zhang, Mykland and Aït-Sahalia, 2005)
//! and the variance ratio (after Lo and MacKinlay, 1988).
//!
//! With last prices `u` of `J` orders, `n = J - 1` and `S = Σ (u_min(i+8, J) - u_i)²`: windows at the end
//! are shortened, none is left out and no drift is removed, so that both are right for bars that end at a
//! barrier. `variance_ratio = S·n/((8n - 28)·Σd²)`: above 1 prices trend, below 1 they bounce.
//! `two_scale_variance = (S - Σd²)·n/(7(n - 4)·o²)` is the variance without bounce, and may be negative.

use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{ANY, Definition, POSITIVE, orders};

pub const TWO_SCALE_VARIANCE: Definition = orders("ratio²", Inputs::NONE, ANY, 33, Formula::Orders(&SCALES, 0));
pub const VARIANCE_RATIO: Definition = orders("ratio", Inputs::NONE, POSITIVE, 33, Formula::Orders(&SCALES, 1));

const LAG: usize = 8;
const SCALES: Entry<dyn OrderFamily> =
    Entry { name: "two scales", uses: Uses::PRICE, new: || Box::new(Scales::default()) };

#[derive(Clone, Debug, Default)]
struct Scales {
    slow: Int<3>,
    fast: Int<3>,
    count: u64,
    /// Last prices of the last orders; that of order `i` is at `i % 8`.
    prices: [i64; LAG],
}

fn square(value: u64) -> u128 {
    u128::from(value) * u128::from(value)
}

impl Scales {
    /// The sum with the shortened windows of the last orders.
    fn slow(&self) -> Int<3> {
        let mut slow = self.slow;
        let last = self.prices[(self.count.wrapping_sub(1) % LAG as u64) as usize];
        for price in &self.prices {
            slow.add_unsigned(square(last.abs_diff(*price)));
        }
        slow
    }
}

impl Family for Scales {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let (slow, steps) = (self.slow(), (summary.orders - 1) as f64);
        let open = summary.open as f64;
        float(match column {
            0 => ratio((slow - self.fast).to_f64() * steps, 7.0 * (steps - 4.0) * open * open),
            _ => ratio(slow.to_f64() * steps, (8.0 * steps - 28.0) * self.fast.to_f64()),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.slow)?;
        codec.int(&mut self.fast)?;
        codec.count(&mut self.count)?;
        self.prices.iter_mut().try_for_each(|price| codec.price(price))
    }
}

impl OrderFamily for Scales {
    fn absorb(&mut self, orders: &Orders) {
        let (mut slow, mut fast) = (0u128, 0u128);
        for order in orders.list {
            let slot = &mut self.prices[(self.count % LAG as u64) as usize];
            let moved = if self.count < LAG as u64 { 0 } else { order.price.abs_diff(*slot) };
            *slot = order.price;
            self.count += 1;
            let change = order.change.unsigned_abs();
            // At most 256 squares of so few bits are added.
            if (moved | change) >> 60 == 0 {
                slow += square(moved);
                fast += square(change);
            } else {
                self.slow.add_unsigned(square(moved));
                self.fast.add_unsigned(square(change));
            }
        }
        self.slow.add_unsigned(slow);
        self.fast.add_unsigned(fast);
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
