//! The seam for features that need more than sums: families, and formulas over what they accumulate.
//!
//! A family is one file of `features`. It keeps a state of constant size for a sample, whatever its
//! length, or as a [`HeldFamily`] is shown all records of the bar at its end.

use std::fmt::Debug;

use crate::core::error::CoreError;
use crate::core::sample::codec::Codec;
use crate::core::sample::orders::Orders;
use crate::core::sample::records::{Piece, Records, Uses};
use crate::core::sample::summary::Summary;

/// Longest bar whose records are held for [`HeldFamily`]; columns of longer bars are null.
pub const MOST_HELD: u64 = 1 << 20;

/// A value of a column: the bits of a double or an integer, or [`UNDEFINED`] or [`NO_INTEGER`] for null.
pub type Cell = u64;

pub const NO_INTEGER: i64 = i64::MIN;
pub const UNDEFINED: f64 = f64::NAN;

/// The cell of a double. What is not finite is undefined.
#[inline]
pub fn float(value: Option<f64>) -> Cell {
    // Adding 0 turns -0 into 0.
    value.filter(|value| value.is_finite()).map_or(UNDEFINED, |value| value + 0.0).to_bits()
}

/// The cell of an integer.
#[inline]
pub fn integer(value: Option<i64>) -> Cell {
    value.unwrap_or(NO_INTEGER) as u64
}

/// The cell of a count.
#[inline]
pub fn count(value: u64) -> Cell {
    integer(i64::try_from(value).ok())
}

/// What families of both kinds do.
pub trait Family: Debug + Send + Sync {
    /// Value of one of the columns of the family. The sample is at least as large as the column requires.
    fn value(&self, column: usize, summary: &Summary) -> Cell;

    /// Starts another sample.
    fn reset(&mut self);

    /// Writes or reads the state.
    ///
    /// # Errors
    /// When the bytes are no such state.
    fn transfer(&mut self, codec: &mut Codec) -> Result<(), CoreError>;
}

/// A family over records.
pub trait RecordFamily: Family {
    fn absorb(&mut self, records: &Records);
    fn boxed(&self) -> Box<dyn RecordFamily>;
}

/// A family over orders.
pub trait OrderFamily: Family {
    fn absorb(&mut self, orders: &Orders);
    fn boxed(&self) -> Box<dyn OrderFamily>;
}

/// A family that looks at all records of a bar at once.
pub trait HeldFamily: Debug + Send + Sync {
    /// Values of the columns of the family, from consecutive pieces of the bar.
    fn values(&self, pieces: &[Piece], wanted: &[usize], summary: &Summary) -> Vec<Cell>;
}

impl Clone for Box<dyn RecordFamily> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

impl Clone for Box<dyn OrderFamily> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// A family by name, with what it reads.
#[derive(Clone, Copy)]
pub struct Entry<T: ?Sized + 'static> {
    pub name: &'static str,
    pub uses: Uses,
    pub new: fn() -> Box<T>,
}

/// How a column is computed from a sample; numbers count the columns of a family.
#[derive(Clone, Copy)]
pub enum Formula {
    /// From its sums alone.
    Summary(fn(&Summary) -> Cell, Uses),
    Records(&'static Entry<dyn RecordFamily>, usize),
    Orders(&'static Entry<dyn OrderFamily>, usize),
    Held(&'static Entry<dyn HeldFamily>, usize),
}

impl Formula {
    pub fn uses(&self) -> Uses {
        match self {
            Self::Summary(_, uses) => *uses,
            Self::Records(entry, _) => entry.uses,
            // An order begins where the side changes, whatever a column says of it.
            Self::Orders(entry, _) => entry.uses.with(Uses { side: true, ..Uses::PRICE }),
            Self::Held(entry, _) => entry.uses,
        }
    }
}
