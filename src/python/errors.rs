//! Mapping of errors to Python exceptions.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_polars::error::PyPolarsErr;

use crate::core::error::{CoreError, DataError, DataErrorKind};
use crate::frames::error::FrameError;

/// An instance of a class of `rangebar_polars.exceptions`.
fn raise(class: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        let error = py
            .import("rangebar_polars.exceptions")
            .and_then(|module| module.getattr(class))
            .and_then(|class| class.call1((message,)));
        match error {
            Ok(error) => PyErr::from_value(error),
            Err(missing) => missing,
        }
    })
}

fn data(error: &DataError) -> PyErr {
    let class = match error.kind {
        DataErrorKind::Value => "TickDataError",
        DataErrorKind::Order => "TickOrderError",
        DataErrorKind::Limit => "StateLimitError",
    };
    raise(class, &error.message)
}

impl From<FrameError> for PyErr {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Type(message) => PyTypeError::new_err(message),
            FrameError::Options(message) => PyValueError::new_err(message),
            FrameError::Data(error) | FrameError::Core(CoreError::Data(error)) => data(&error),
            FrameError::Core(error @ CoreError::Checkpoint { .. }) => raise("CheckpointError", &error.to_string()),
            FrameError::Core(error) => raise("ThresholdError", &error.to_string()),
            FrameError::Forked(message) => raise("BuilderForkedError", &message),
            FrameError::Polars(error) => PyPolarsErr::from(error).into(),
        }
    }
}
