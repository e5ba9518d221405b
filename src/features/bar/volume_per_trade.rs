//! Mean size of a fill: `volume * (1 / fills)` (Barclay and Warner, 1993, on trade sizes).

use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::feature;

pub const COLUMN: Column = feature(
    "volume_per_trade",
    "base currency",
    Inputs::QUANTITY,
    (Some(0.0), None),
    "volume over fills",
    |bars, _, out| fill_defined(bars, out, volume_per_trade),
);

#[inline]
fn volume_per_trade(bar: &Bar) -> Option<f64> {
    (bar.sums.fills > 0).then(|| bar.volume() * (1.0 / bar.sums.fills as f64))
}
