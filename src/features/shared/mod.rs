//! Features that a look-back window and a bar have in common: one function per column, for both.
//!
//! Ratios of flow are over the records that have an aggressor.

pub mod arrival;
pub mod flow;
pub mod hurst;
pub mod kaufman;
pub mod permutation_entropy;
pub mod price_range;
pub mod ratio;
pub mod segments;
pub mod sizes;
pub mod vwap;

use crate::core::columns::{Column, Extract, Group, SampleKind, Type};
use crate::core::sample::family::Formula;
use crate::core::ticks::Inputs;

/// A column but for its name, group and meaning.
#[derive(Clone, Copy)]
pub struct Definition {
    pub dtype: Type,
    pub unit: &'static str,
    pub needs: Inputs,
    pub bounds: (Option<f64>, Option<f64>),
    pub sample: SampleKind,
    /// Smallest sample for which there is a value.
    pub least: u32,
    pub formula: Formula,
}

/// Bounds of columns.
pub const ANY: (Option<f64>, Option<f64>) = (None, None);
pub const POSITIVE: (Option<f64>, Option<f64>) = (Some(0.0), None);
pub const SHARE: (Option<f64>, Option<f64>) = (Some(0.0), Some(1.0));
pub const SIGNED_SHARE: (Option<f64>, Option<f64>) = (Some(-1.0), Some(1.0));

/// A column of doubles over records.
pub const fn records(
    unit: &'static str,
    needs: Inputs,
    bounds: (Option<f64>, Option<f64>),
    least: u32,
    formula: Formula,
) -> Definition {
    Definition { dtype: Type::Float64, unit, needs, bounds, sample: SampleKind::Records, least, formula }
}

/// A column of doubles over orders.
pub const fn orders(
    unit: &'static str,
    needs: Inputs,
    bounds: (Option<f64>, Option<f64>),
    least: u32,
    formula: Formula,
) -> Definition {
    Definition { sample: SampleKind::Orders, ..records(unit, needs, bounds, least, formula) }
}

/// The same column, of integers.
pub const fn whole(definition: Definition) -> Definition {
    Definition { dtype: Type::Int64, ..definition }
}

impl Definition {
    /// The catalogue entry.
    pub const fn column(self, group: Group, name: &'static str, meaning: &'static str) -> Column {
        Column {
            name,
            dtype: self.dtype,
            unit: self.unit,
            group,
            needs: self.needs,
            is_nullable: true,
            lower: self.bounds.0,
            upper: self.bounds.1,
            meaning,
            sample: self.sample,
            min_sample: self.least,
            extract: Extract::Computed(self.formula),
        }
    }

    /// The catalogue entry of a column that is never null.
    pub const fn defined(self, group: Group, name: &'static str, meaning: &'static str) -> Column {
        Column { is_nullable: false, ..self.column(group, name, meaning) }
    }
}
