//! Errors of the core, each a full sentence with a remedy.

use thiserror::Error;

/// Invalid settings, checkpoints and records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CoreError {
    #[error("threshold {dbps} is outside 1 to 100000 dbps (0.001 % to 100 %)")]
    Threshold { dbps: u32 },
    #[error("a distance must be above 0; it is {distance} units of 1e-8")]
    Distance { distance: i64 },
    #[error(
        "the checkpoint cannot be used: {reason}\n\nhint: take a new checkpoint with `checkpoint()` and keep its bytes unchanged"
    )]
    Checkpoint { reason: String },
    #[error("{0}")]
    Data(#[from] DataError),
}

/// Kind of a fault, which decides the exception class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataErrorKind {
    Value,
    /// Sorting the trades can repair it.
    Order,
    /// Not a fault of a record: the trades need more memory than one builder may use.
    Limit,
}

/// An invalid record. The message names column, row, value and remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct DataError {
    pub kind: DataErrorKind,
    pub row: u64,
    pub message: String,
}

impl DataError {
    pub fn value(row: u64, message: String) -> Self {
        Self { kind: DataErrorKind::Value, row, message }
    }

    pub fn limit(row: u64, message: String) -> Self {
        Self { kind: DataErrorKind::Limit, row, message }
    }

    pub fn order(row: u64, message: String) -> Self {
        Self { kind: DataErrorKind::Order, row, message }
    }
}
