//! Realised skewness `√n Σd³/(Σd²)^1.5` and kurtosis `n Σd⁴/(Σd²)²` of the `n` price changes between orders
//! (Amaya et al., 2015).
//!
//! Undefined when no price changes. Kurtosis is 3 for normal changes and 1 for changes of one size.

use crate::core::arithmetic::powers::PowerSums;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{ANY, Definition, orders};

pub const REALIZED_SKEW: Definition = orders("ratio", Inputs::NONE, ANY, 10, Formula::Orders(&CHANGES, 0));
pub const REALIZED_KURT: Definition =
    orders("ratio", Inputs::NONE, (Some(1.0), None), 10, Formula::Orders(&CHANGES, 1));

const CHANGES: Entry<dyn OrderFamily> =
    Entry { name: "changes", uses: Uses::PRICE, new: || Box::new(Changes::default()) };

#[derive(Clone, Debug, Default)]
struct Changes {
    powers: PowerSums,
}

impl Family for Changes {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let (count, squares) = ((summary.orders - 1) as f64, self.powers.second.to_f64());
        float(match column {
            0 => ratio(count.sqrt() * self.powers.third.to_f64(), squares * squares.sqrt()),
            _ => ratio(count * self.powers.fourth.to_f64(), squares * squares).map(|value| value.max(1.0)),
        })
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.powers(&mut self.powers)
    }
}

impl OrderFamily for Changes {
    fn absorb(&mut self, orders: &Orders) {
        self.powers.add(orders.later().iter().map(|order| order.change));
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
