//! Number and sizes of orders: the share of volume in orders of several records, which met several
//! makers, the largest order, and the Herfindahl index `Σw²/V²` of their sizes `w`, whose inverse is the
//! effective number of orders.
//!
//! Orders of 1, 5 and 4, the second of two records, give 0.5, 5 and 0.42.

use crate::core::arithmetic::grid::to_f64;
use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, count, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::share;
use crate::features::shared::{Definition, POSITIVE, SHARE, orders, whole};

pub const ORDER_COUNT: Definition =
    whole(orders("orders", Inputs::NONE, (Some(1.0), None), 1, Formula::Orders(&COUNT, 0)));
pub const SWEEP_SHARE: Definition = orders("ratio", Inputs::QUANTITY, SHARE, 1, Formula::Orders(&SWEEPS, 0));
pub const ORDER_SIZE_MAX: Definition =
    orders("base currency", Inputs::QUANTITY, POSITIVE, 1, Formula::Orders(&SWEEPS, 1));
pub const ORDER_SIZE_HHI: Definition = orders("ratio", Inputs::QUANTITY, SHARE, 1, Formula::Orders(&SWEEPS, 2));

const COUNT: Entry<dyn OrderFamily> = Entry { name: "count", uses: Uses::PRICE, new: || Box::new(Count) };
const SWEEPS: Entry<dyn OrderFamily> =
    Entry { name: "sweeps", uses: Uses::PRICE.with(Uses::SIZE), new: || Box::new(Sweeps::default()) };

/// Orders are counted where they are cut.
#[derive(Clone, Debug)]
struct Count;

impl Family for Count {
    fn value(&self, _: usize, summary: &Summary) -> Cell {
        count(summary.orders)
    }

    fn reset(&mut self) {}

    fn transfer(&mut self, _: &mut Codec) -> Result<(), CoreError> {
        Ok(())
    }
}

impl OrderFamily for Count {
    fn absorb(&mut self, _: &Orders) {}

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}

#[derive(Clone, Debug, Default)]
struct Sweeps {
    swept: i128,
    largest: i128,
    squares: Int<4>,
}

impl Family for Sweeps {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let volume = to_f64(summary.volume);
        float(match column {
            0 => share(to_f64(self.swept), volume),
            1 => Some(to_f64(self.largest) / 1e8),
            _ => share(self.squares.to_f64(), volume * volume),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.sum(&mut self.swept)?;
        codec.sum(&mut self.largest)?;
        codec.int(&mut self.squares)
    }
}

impl OrderFamily for Sweeps {
    fn absorb(&mut self, orders: &Orders) {
        let mut squares = 0i128;
        for order in orders.list {
            if order.is_sweep {
                self.swept += order.size;
            }
            self.largest = self.largest.max(order.size);
            if orders.is_narrow {
                squares += i128::from(order.size as i64) * i128::from(order.size as i64);
            } else {
                self.squares.add_square(order.size);
            }
        }
        self.squares.add_signed(squares);
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
