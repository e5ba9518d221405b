//! Order flow imbalance by money: `(T_B - T_S) * (1 / (T_B + T_S))`.
//!
//! In [-1, 1] up to one unit in the last place. Undefined when nothing was traded.

use crate::core::arithmetic::grid::to_f64;
use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::{EPSILON, feature};

pub const COLUMN: Column = feature(
    "turnover_imbalance",
    "ratio",
    Inputs::FLOW,
    (Some(-1.0), Some(1.0)),
    "buy less sell turnover over both",
    |bars, _, out| fill_defined(bars, out, turnover_imbalance),
);

#[inline]
fn turnover_imbalance(bar: &Bar) -> Option<f64> {
    let total = to_f64(bar.sums.turnover - bar.sums.unsided_turnover);
    let buys = to_f64(bar.sums.buy_turnover());
    let sells = to_f64(bar.sums.sell_turnover);
    (total > EPSILON).then(|| (buys - sells) * (1.0 / total))
}
