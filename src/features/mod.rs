//! Features: one file for each family of columns, holding the formula, its source and its catalogue entry.
//!
//! A feature undefined for a bar (a zero denominator) is null, and so is one whose inputs are not
//! bound. Orders of operations are part of the definition: results are reproducible bit for bit.

use crate::core::columns::{CORE, Column, Extract};
use crate::core::sample::plan::Plan;
use crate::core::sample::records::Uses;
use crate::core::ticks::Inputs;
use crate::core::time::TimeUnit;
use crate::core::window::Window;

pub mod bar;
pub mod extended;
pub mod intrabar;
pub mod lookback;
pub mod shared;

/// Columns from the sums of a bar, in output order: a new feature adds its line here.
const OF_SUMS: &[Column] = &[
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
    CORE.iter().chain(OF_SUMS).chain(lookback::COLUMNS).chain(intrabar::COLUMNS).chain(extended::COLUMNS)
}

/// Columns among these that are computed record by record, and whose inputs are bound. A bar carries
/// their values in this order.
pub fn computed<'a, I: Iterator<Item = &'a Column>>(columns: I, inputs: Inputs) -> impl Iterator<Item = &'a Column> {
    columns.filter(move |column| matches!(column.extract, Extract::Computed(_)) && inputs.has(column.needs))
}

/// The plan of these columns, in the order of the catalogue; `None` if none of them is computed.
pub fn plan(columns: &[&Column], inputs: Inputs, window: Window, unit: TimeUnit) -> Option<Plan> {
    let bound = Uses { price: true, size: inputs.has(Inputs::QUANTITY), side: inputs.has(Inputs::SIDE) };
    let columns: Vec<&Column> = computed(columns.iter().copied(), inputs).collect();
    Plan::new(&columns, bound, window, unit)
}
