//! Errors of the entry points, and faults of rows that are found before the core sees them.

use polars::prelude::{DataType, PolarsError};
use thiserror::Error;

use crate::core::error::{CoreError, DataError};

/// Every error of an entry point; `python::errors` and `plugin` map it to exception classes.
#[derive(Debug, Error)]
pub enum FrameError {
    /// A column of an unsupported type.
    #[error("{0}")]
    Type(String),
    /// Options that contradict each other or the frame.
    #[error("{0}")]
    Options(String),
    /// Use of an object that another thread was using when this process was forked.
    #[error("{0}")]
    Forked(String),
    #[error("{0}")]
    Data(#[from] DataError),
    #[error("{0}")]
    Core(#[from] CoreError),
    #[error("{0}")]
    Polars(#[from] PolarsError),
}

impl From<FrameError> for PolarsError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Polars(error) => error,
            other => PolarsError::ComputeError(other.to_string().into()),
        }
    }
}

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
