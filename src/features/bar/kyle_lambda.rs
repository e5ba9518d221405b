//! Return per unit of imbalance: `((close - open) / |open|) / ofi`, a two-point stand-in for the
//! slope of Kyle (1985).
//!
//! Undefined when flow is balanced or nothing was traded.

use crate::core::arithmetic::grid::from_grid;
use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::{EPSILON, feature, ofi::ofi};

pub const COLUMN: Column = feature(
    "kyle_lambda_proxy",
    "ratio",
    Inputs::FLOW,
    (None, None),
    "return over order flow imbalance",
    |bars, _, out| fill_defined(bars, out, kyle_lambda),
);

#[inline]
fn kyle_lambda(bar: &Bar) -> Option<f64> {
    let (open, close) = (from_grid(bar.sums.open), from_grid(bar.sums.close));
    let imbalance = ofi(bar)?;
    (imbalance.abs() > EPSILON && open.abs() > EPSILON).then(|| ((close - open) / open.abs()) / imbalance)
}
