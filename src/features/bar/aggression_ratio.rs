//! Fills of aggressive buyers over those of aggressive sellers, at most 100 (trade direction as in
//! Lee and Ready, 1991, here known and not inferred).
//!
//! 100 also when nobody sold.

use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::feature;

const CAP: f64 = 100.0;

pub const COLUMN: Column = feature(
    "aggression_ratio",
    "ratio",
    Inputs::SIDE,
    (Some(0.0), Some(CAP)),
    "buy fills over sell fills, capped at 100",
    |bars, _, out| fill_defined(bars, out, aggression_ratio),
);

#[inline]
fn aggression_ratio(bar: &Bar) -> Option<f64> {
    let (buys, sells) = (bar.sums.buy_fills(), bar.sums.sell_fills);
    match (buys, sells) {
        (0, 0) => None,
        (_, 0) => Some(CAP),
        _ => Some((buys as f64 / sells as f64).min(CAP)),
    }
}
