//! Price change per unit traded: `|close - open| / volume`, after the idea of Amihud (2002), who
//! uses returns over money.
//!
//! Not negative. Undefined when nothing was traded.

use crate::core::arithmetic::grid::from_grid;
use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::{EPSILON, feature};

pub const COLUMN: Column = feature(
    "price_impact",
    "quote per base currency",
    Inputs::QUANTITY,
    (Some(0.0), None),
    "absolute price change over volume",
    |bars, _, out| fill_defined(bars, out, price_impact),
);

#[inline]
fn price_impact(bar: &Bar) -> Option<f64> {
    let volume = bar.volume();
    let change = from_grid(bar.sums.close) - from_grid(bar.sums.open);
    (volume > EPSILON).then(|| change.abs() / volume)
}
