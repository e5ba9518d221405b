//! Fills per record: `fills * (1 / records)`, how strongly the venue aggregated.

use crate::core::columns::{Column, fill_defined};
use crate::core::{bar::Bar, ticks::Inputs};
use crate::features::bar::feature;

pub const COLUMN: Column = feature(
    "aggregation_density",
    "fills per record",
    Inputs::FILLS,
    (Some(1.0), None),
    "fills over records",
    |bars, _, out| fill_defined(bars, out, aggregation_density),
);

#[inline]
fn aggregation_density(bar: &Bar) -> Option<f64> {
    (bar.sums.records > 0).then(|| bar.sums.fills as f64 * (1.0 / bar.sums.records as f64))
}
