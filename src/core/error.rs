//! What can be wrong, each a full sentence with its remedy.

use thiserror::Error;

/// Refused settings and refused checkpoints.
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

/// Whether sorting can mend it: decides the exception class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataErrorKind {
    Value,
    Order,
    /// Not a fault of a record: the trades need more memory than one builder may take.
    Limit,
}

/// A record that cannot be used: column, row, value and remedy in one paragraph.
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
