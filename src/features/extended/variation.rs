//! Variation of prices over orders, with `d` the change of the last price from order to order and `o`
//! the opening price: realised variance `Σd²/o²` (Andersen and Bollerslev, 1998), its upward share
//! `Σ_{d>0} d²/Σd²` (Barndorff-Nielsen et al., 2010), the largest move `max|d|/o` and the share of orders
//! that did not move the price.
//!
//! Last prices 100, 99.9, 100.3 give 1.7e-5, 16/17, 0.004 and 0.

use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::{ratio, share};
use crate::features::shared::{Definition, POSITIVE, SHARE, orders};

const fn column(unit: &'static str, bounds: (Option<f64>, Option<f64>), at: usize) -> Definition {
    orders(unit, Inputs::NONE, bounds, 2, Formula::Orders(&VARIATION, at))
}

pub const REALIZED_VARIANCE: Definition = column("ratio²", POSITIVE, 0);
pub const UPSIDE_VARIANCE_SHARE: Definition = column("ratio", SHARE, 1);
pub const LARGEST_MOVE: Definition = column("ratio", POSITIVE, 2);
pub const UNCHANGED_SHARE: Definition = column("ratio", SHARE, 3);

const VARIATION: Entry<dyn OrderFamily> =
    Entry { name: "variation", uses: Uses::PRICE, new: || Box::new(Variation::default()) };

#[derive(Clone, Debug, Default)]
struct Variation {
    squares: Int<3>,
    up_squares: Int<3>,
    largest: u64,
    unchanged: u64,
}

impl Family for Variation {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let open = summary.open as f64;
        float(match column {
            0 => ratio(self.squares.to_f64(), open * open),
            1 => share(self.up_squares.to_f64(), self.squares.to_f64()),
            2 => ratio(self.largest as f64, open),
            _ => share(self.unchanged as f64, (summary.orders - 1) as f64),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.int(&mut self.squares)?;
        codec.int(&mut self.up_squares)?;
        codec.word(&mut self.largest)?;
        codec.count(&mut self.unchanged)
    }
}

impl OrderFamily for Variation {
    fn absorb(&mut self, orders: &Orders) {
        let (mut squares, mut up_squares) = (0u128, 0u128);
        for order in orders.later() {
            let size = order.change.unsigned_abs();
            let square = u128::from(size) * u128::from(size);
            if orders.is_narrow {
                squares += square;
                up_squares += if order.change > 0 { square } else { 0 };
            } else {
                self.squares.add_unsigned(square);
                self.up_squares.add_unsigned(if order.change > 0 { square } else { 0 });
            }
            self.largest = self.largest.max(size);
            self.unchanged += u64::from(size == 0);
        }
        self.squares.add_unsigned(squares);
        self.up_squares.add_unsigned(up_squares);
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
