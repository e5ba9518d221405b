//! Features: one file each, holding the formula, its source and its catalogue entry.
//!
//! A feature undefined for a bar (a zero denominator) is null, and so is one whose inputs are not
//! bound. Orders of operations are part of the definition: results are reproducible bit for bit.

use crate::core::columns::{CORE, Column};

pub mod bar;

/// The optional columns in output order: a new feature adds its line here.
const OPTIONAL: &[Column] = &[
    bar::duration::COLUMN,
    bar::ofi::COLUMN,
    bar::vwap_close_deviation::COLUMN,
    bar::price_impact::COLUMN,
    bar::kyle_lambda::COLUMN,
    bar::trade_intensity::COLUMN,
    bar::volume_per_trade::COLUMN,
    bar::aggression_ratio::COLUMN,
    bar::aggregation_density::COLUMN,
    bar::turnover_imbalance::COLUMN,
];

/// The catalogue: every column of a bar frame in output order.
pub fn catalogue() -> impl Iterator<Item = &'static Column> + Clone {
    CORE.iter().chain(OPTIONAL)
}
