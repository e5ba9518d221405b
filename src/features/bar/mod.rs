//! Features of the bar alone, computed from its sums.

pub mod aggregation_density;
pub mod aggression_ratio;
pub mod duration;
pub mod kyle_lambda;
pub mod ofi;
pub mod price_impact;
pub mod trade_intensity;
pub mod turnover_imbalance;
pub mod volume_per_trade;
pub mod vwap_close_deviation;

use crate::core::columns::{BASE, Column, Context, Extract, Group};
use crate::core::{bar::Bar, ticks::Inputs};

/// Sizes at or below this count as zero in denominators.
pub const EPSILON: f64 = f64::EPSILON;

/// Catalogue entry of a feature that may be undefined.
const fn feature(
    name: &'static str,
    unit: &'static str,
    needs: Inputs,
    bounds: (Option<f64>, Option<f64>),
    meaning: &'static str,
    extract: fn(&[Bar], Context, &mut Vec<f64>),
) -> Column {
    Column {
        name,
        unit,
        group: Group::Microstructure,
        needs,
        is_nullable: true,
        lower: bounds.0,
        upper: bounds.1,
        meaning,
        extract: Extract::Float(extract),
        ..BASE
    }
}
