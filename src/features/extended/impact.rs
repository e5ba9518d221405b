//! Price impact and spread of Glosten and Harris (1988), with two of their four terms: the regression
//! `d = κδ + λx + e` over orders, where `d` is the price change, `δ` the change of side and `x` the signed
//! size.
//!
//! `glosten_harris_lambda` is `λ`, in quote per base currency, `_t` is `λ` over its standard error, and
//! `_spread` is `2κ/o`. A slope of `d` on `x` alone (Kyle, Hasbrouck) contains the bounce of prices
//! between bid and ask. Undefined when `δ` and `x` are collinear; `t` also when the fit is exact. An order
//! without an aggressor has side 0.

use crate::core::arithmetic::wide::{Int, Wide};
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::{Order, Orders};
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{ANY, Definition, orders};

const fn column(unit: &'static str, at: usize) -> Definition {
    orders(unit, Inputs::FLOW, ANY, 20, Formula::Orders(&IMPACT, at))
}

pub const LAMBDA: Definition = column("quote per base currency", 0);
pub const LAMBDA_T: Definition = column("t value", 1);
pub const SPREAD: Definition = column("ratio", 2);

const IMPACT: Entry<dyn OrderFamily> = Entry { name: "impact", uses: Uses::ALL, new: || Box::new(Impact::default()) };

/// Sums of products of price change, change of side and signed size.
#[derive(Clone, Debug, Default)]
struct Impact {
    change_change: Int<3>,
    change_flip: i128,
    change_size: Int<4>,
    flip_flip: i128,
    flip_size: i128,
    size_size: Int<4>,
}

impl Impact {
    /// Determinant of the normal equations, and the numerators of `κ` and `λ`.
    fn solve(&self) -> (Wide, Wide, Wide) {
        let (change_flip, flip_size) = (Int::<2>::from(self.change_flip), Int::<2>::from(self.flip_size));
        let determinant = self.size_size.by(self.flip_flip) - flip_size.square();
        let bounce = self.size_size.times(&change_flip) - self.change_size.times(&flip_size);
        let impact = self.change_size.by(self.flip_flip) - change_flip.times(&flip_size);
        (determinant, bounce, impact)
    }

    fn t_value(&self, steps: f64) -> Option<f64> {
        let (determinant, bounce, impact) = self.solve();
        let explained = bounce.by(self.change_flip) + impact.times(&self.change_size);
        let rest = self.change_change.times(&determinant) - explained;
        let (impact, flips) = (impact.to_f64(), self.flip_flip as f64);
        // Both factors are roots, so that the products of large values do not overflow.
        let scale = ratio((steps - 2.0).sqrt(), rest.to_f64().sqrt() * flips.sqrt());
        if determinant.is_zero() { None } else { scale.map(|scale| impact * scale) }
    }
}

impl Family for Impact {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let steps = (summary.orders - 1) as f64;
        let (determinant, bounce, impact) = self.solve();
        float(match column {
            0 => ratio(impact.to_f64(), determinant.to_f64()),
            1 => self.t_value(steps),
            _ => ratio(2.0 * bounce.to_f64(), determinant.to_f64() * summary.open as f64),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.change_change)?;
        codec.sum(&mut self.change_flip)?;
        codec.int(&mut self.change_size)?;
        codec.sum(&mut self.flip_flip)?;
        codec.sum(&mut self.flip_size)?;
        codec.int(&mut self.size_size)
    }
}

/// Factors of the sums of one order: price change, change of side and signed size.
#[inline(always)]
fn factors(order: &Order) -> (i64, i64, i128) {
    let flip = i64::from(order.side) - i64::from(order.side_before);
    (order.change, flip, order.size)
}

impl Impact {
    fn add_narrow(&mut self, orders: &[Order]) {
        let [mut change_change, mut change_flip, mut change_size] = [0i128; 3];
        let [mut flip_flip, mut flip_size, mut size_size] = [0i128; 3];
        for order in orders {
            let (change, flip, size) = factors(order);
            let size = size as i64 * i64::from(order.side);
            change_change += i128::from(change) * i128::from(change);
            change_flip += i128::from(change * flip);
            change_size += i128::from(change) * i128::from(size);
            flip_flip += i128::from(flip * flip);
            flip_size += i128::from(flip * size);
            size_size += i128::from(size) * i128::from(size);
        }
        self.change_change.add_signed(change_change);
        self.change_flip += change_flip;
        self.change_size.add_signed(change_size);
        self.flip_flip += flip_flip;
        self.flip_size += flip_size;
        self.size_size.add_signed(size_size);
    }

    fn add_wide(&mut self, orders: &[Order]) {
        for order in orders {
            let (change, flip, size) = factors(order);
            let (flip, size) = (i128::from(flip), size * i128::from(order.side));
            self.change_change.add_square(change.into());
            self.change_flip += i128::from(change) * flip;
            self.change_size.add_product(change, size);
            self.flip_flip += flip * flip;
            self.flip_size += flip * size;
            self.size_size.add_square(size);
        }
    }
}

impl OrderFamily for Impact {
    fn absorb(&mut self, orders: &Orders) {
        if orders.is_narrow { self.add_narrow(orders.later()) } else { self.add_wide(orders.later()) }
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
