//! Share of reversals: changes of sign of successive price changes between orders, zeros left out, over
//! their number less 1.
//!
//! Robust against jumps. 1 for bounce between two prices, 0 on a straight way. Undefined with fewer than
//! two changes.

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::share;
use crate::features::shared::{Definition, SHARE, orders};

pub const REVERSAL_RATIO: Definition = orders("ratio", Inputs::NONE, SHARE, 3, Formula::Orders(&REVERSALS, 0));

const REVERSALS: Entry<dyn OrderFamily> =
    Entry { name: "reversals", uses: Uses::PRICE, new: || Box::new(Reversals::default()) };

#[derive(Clone, Debug, Default)]
struct Reversals {
    moves: u64,
    reversals: u64,
    /// Sign of the last change that is not 0.
    sign: i8,
}

impl Family for Reversals {
    fn value(&self, _: usize, _: &Summary) -> Cell {
        float(share(self.reversals as f64, self.moves.saturating_sub(1) as f64))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.count(&mut self.moves)?;
        codec.count(&mut self.reversals)?;
        codec.side(&mut self.sign)
    }
}

impl OrderFamily for Reversals {
    fn absorb(&mut self, orders: &Orders) {
        for order in orders.later() {
            let sign = order.change.signum() as i8;
            if sign != 0 {
                self.moves += 1;
                self.reversals += u64::from(self.sign == -sign);
                self.sign = sign;
            }
        }
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
