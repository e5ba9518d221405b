//! Faults of columns and rows that are found before the core sees them.

use polars::prelude::DataType;

use crate::core::error::DataError;
use crate::frames::error::FrameError;

/// A fault found during conversion, before the core sees the row.
pub struct Fault {
    pub row: usize,
    /// Describes the fault, with the row number for messages.
    pub describe: Box<dyn FnOnce(u64) -> DataError>,
}

/// A column of a type that is not supported, with what to write instead.
pub fn wrong_type(name: &str, expected: &str, dtype: &DataType, hint: &str) -> FrameError {
    FrameError::Type(format!("`{name}` must be {expected}, got {dtype:?}\n\nhint: {hint}"))
}
