//! Fills per second: `fills * (1 / (duration_us * 1e-6))` (Engle and Russell, 1998, study the
//! intensity this averages).
//!
//! Undefined when all records share one microsecond.

use crate::core::columns::{Column, fill_defined};
use crate::core::time::TimeUnit;
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::feature;

pub const COLUMN: Column = feature(
    "trade_intensity",
    "fills per second",
    Inputs::NONE,
    (Some(0.0), None),
    "fills over duration",
    |bars, context, out| fill_defined(bars, out, |bar| trade_intensity(bar, context.unit)),
);

#[inline]
fn trade_intensity(bar: &Bar, unit: TimeUnit) -> Option<f64> {
    let duration_us = bar.duration_us(unit);
    let seconds = duration_us as f64 * 1e-6;
    (duration_us > 0).then(|| bar.sums.fills as f64 * (1.0 / seconds))
}
