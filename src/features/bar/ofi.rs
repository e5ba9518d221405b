//! Order flow imbalance by volume: `(B - S) * (1 / (B + S))`, with `B` and `S` the volume of
//! aggressive buyers and sellers (Chordia, Roll and Subrahmanyam, 2002).
//!
//! In [-1, 1] up to one unit in the last place. Undefined when nothing was traded. Three bought and
//! one sold give 0.5.

use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::{EPSILON, feature};

pub const COLUMN: Column =
    feature("ofi", "ratio", Inputs::FLOW, (Some(-1.0), Some(1.0)), "buy less sell volume over both", |bars, _, out| {
        fill_defined(bars, out, ofi)
    });

#[inline]
pub fn ofi(bar: &Bar) -> Option<f64> {
    let (buys, sells) = (bar.buy_volume(), bar.sell_volume());
    let total = buys + sells;
    (total > EPSILON).then(|| (buys - sells) * (1.0 / total))
}
