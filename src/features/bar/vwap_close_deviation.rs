//! Close against vwap in units of the bar's range: `(close - vwap) / (high - low)` (vwap as in
//! Berkowitz, Logue and Noser, 1988).
//!
//! In [-1, 1]. Undefined when the bar has no range or no volume.

use crate::core::arithmetic::grid::from_grid;
use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::{EPSILON, feature};

pub const COLUMN: Column = feature(
    "vwap_close_deviation",
    "ratio",
    Inputs::QUANTITY,
    (Some(-1.0), Some(1.0)),
    "close less vwap over high less low",
    |bars, _, out| fill_defined(bars, out, vwap_close_deviation),
);

#[inline]
fn vwap_close_deviation(bar: &Bar) -> Option<f64> {
    let range = from_grid(bar.sums.high) - from_grid(bar.sums.low);
    let vwap = bar.vwap()?;
    (range > EPSILON).then(|| (from_grid(bar.sums.close) - vwap) / range)
}
