//! Spread of Huang and Stoll (1997) and the part of it that stays in the price.
//!
//! For successive orders, `y` is the side times the first price less the last price of the order before,
//! with means `m_r` after a reversal of side and `m_c` after a continuation. `huang_stoll_spread` is
//! `(m_r + m_c)/o`, the least-squares spread of their model, and `adverse_half_spread` is `m_c/o`: the
//! share of adverse selection is twice that over the spread. Undefined without a reversal or without a
//! continuation. Orders without an aggressor are left out.

use crate::core::arithmetic::wide::Int;
use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::family::{Cell, Entry, Family, Formula, OrderFamily, float};
use crate::core::sample::orders::Orders;
use crate::core::sample::records::Uses;
use crate::core::sample::summary::Summary;
use crate::core::ticks::Inputs;
use crate::features::shared::ratio::ratio;
use crate::features::shared::{ANY, Definition, orders};

pub const HUANG_STOLL_SPREAD: Definition = orders("ratio", Inputs::SIDE, ANY, 10, Formula::Orders(&SPREAD, 0));
pub const ADVERSE_HALF_SPREAD: Definition = orders("ratio", Inputs::SIDE, ANY, 10, Formula::Orders(&SPREAD, 1));

const SPREAD: Entry<dyn OrderFamily> =
    Entry { name: "spread", uses: Uses { side: true, ..Uses::PRICE }, new: || Box::new(Spread::default()) };

/// Number and sum of `y`.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    count: u64,
    sum: i128,
}

impl Steps {
    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        codec.count(&mut self.count)?;
        codec.sum(&mut self.sum)
    }
}

#[derive(Clone, Debug, Default)]
struct Spread {
    reversals: Steps,
    continuations: Steps,
}

impl Family for Spread {
    fn value(&self, column: usize, summary: &Summary) -> Cell {
        let Self { reversals, continuations } = self;
        let (after, along) = (i128::from(reversals.count), i128::from(continuations.count));
        let open = summary.open as f64;
        let sums = Int::<2>::from(reversals.sum).by(along) + Int::<2>::from(continuations.sum).by(after);
        let spread = ratio(sums.to_f64(), after as f64 * along as f64 * open);
        let adverse = ratio(continuations.sum as f64, along as f64 * open);
        float(spread.and(if column == 0 { spread } else { adverse }))
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError> {
        self.reversals.transfer(codec)?;
        self.continuations.transfer(codec)
    }
}

impl OrderFamily for Spread {
    fn absorb(&mut self, orders: &Orders) {
        // Without a branch that depends on the trades.
        let [mut after, mut along] = [Steps::default(); 2];
        for order in orders.later() {
            let turn = order.side * order.side_before;
            let (is_after, is_along) = (turn < 0, turn > 0);
            let step = i128::from(order.gap.wrapping_mul(order.side.into()));
            after.count += u64::from(is_after);
            along.count += u64::from(is_along);
            after.sum += if is_after { step } else { 0 };
            along.sum += if is_along { step } else { 0 };
        }
        for (steps, more) in [(&mut self.reversals, after), (&mut self.continuations, along)] {
            steps.count += more.count;
            steps.sum += more.sum;
        }
    }

    fn boxed(&self) -> Box<dyn OrderFamily> {
        Box::new(self.clone())
    }
}
