//! Class `Builder`: frames in, bars out, state kept between pushes.

use polars::prelude::*;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_polars::PyDataFrame;

use crate::core::checkpoint::{open, seal};
use crate::frames::error::FrameError;
use crate::frames::options::Options;
use crate::frames::session::Session;

/// Bars from frames whose columns come in the order of the roles.
#[pyclass(module = "rangebar_polars._internal")]
pub struct Builder {
    options: Options,
    session: Option<Session>,
}

fn frame(columns: Vec<Series>) -> PyResult<PyDataFrame> {
    let columns = columns.into_iter().map(Series::into_column).collect();
    let frame = DataFrame::new_infer_height(columns).map_err(FrameError::from)?;
    Ok(PyDataFrame(frame))
}

fn series_of(frame: &DataFrame) -> Vec<Series> {
    frame.columns().iter().map(|column| column.as_materialized_series().clone()).collect()
}

impl Builder {
    fn bound(&mut self, columns: &[Series]) -> Result<&mut Session, FrameError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let fields: Vec<_> =
                    columns.iter().map(|series| (series.name().clone(), series.dtype().clone())).collect();
                Session::bind(self.options.clone(), &fields)?
            }
        };
        Ok(self.session.insert(session))
    }

    fn session(&self) -> PyResult<&Session> {
        let unbound = || FrameError::Options("bind the builder to column types first".to_owned());
        Ok(self.session.as_ref().ok_or_else(unbound)?)
    }
}

#[pymethods]
impl Builder {
    #[new]
    fn new(options_json: &str) -> PyResult<Self> {
        let options: Options =
            serde_json::from_str(options_json).map_err(|error| FrameError::Options(error.to_string()))?;
        options.check()?;
        Ok(Self { options, session: None })
    }

    /// Fixes the column types.
    fn bind(&mut self, frame: PyDataFrame) -> PyResult<()> {
        self.bound(&series_of(&frame.0))?;
        Ok(())
    }

    /// An empty output frame.
    fn schema(&self) -> PyResult<PyDataFrame> {
        let fields = self.session()?.schema()?;
        frame(fields.into_iter().map(|(name, dtype)| Series::new_empty(name, &dtype)).collect())
    }

    /// Takes a frame and gives the bars that ended.
    fn push(&mut self, py: Python, frame: PyDataFrame) -> PyResult<PyDataFrame> {
        let columns = series_of(&frame.0);
        let session = self.bound(&columns)?;
        let bars = py.detach(|| session.push(&columns))?;
        self::frame(bars)
    }

    /// The forming bars.
    fn partial(&self) -> PyResult<PyDataFrame> {
        frame(self.session()?.partial()?)
    }

    /// What the end of the input adds.
    fn finish(&self) -> PyResult<PyDataFrame> {
        frame(self.session()?.finish()?)
    }

    /// State and the caller's header as bytes.
    fn checkpoint<'py>(&self, py: Python<'py>, header: &str) -> PyResult<Bound<'py, PyBytes>> {
        let state = match &self.session {
            Some(session) => session.save()?,
            None => Vec::new(),
        };
        Ok(PyBytes::new(py, &seal(header, &state)))
    }

    /// Takes over the state of a checkpoint; bind first, unless it was taken unbound.
    fn restore(&mut self, data: &[u8]) -> PyResult<()> {
        let (_, state) = open(data).map_err(FrameError::from)?;
        match (&mut self.session, state.is_empty()) {
            (None, true) => Ok(()),
            (Some(session), false) => Ok(session.load(state)?),
            _ => Err(FrameError::Options("the checkpoint's types are missing".to_owned()).into()),
        }
    }
}

/// The header of a checkpoint, once all of it has been verified.
#[pyfunction]
pub fn read_checkpoint(data: &[u8]) -> PyResult<String> {
    let (header, _) = open(data).map_err(FrameError::from)?;
    Ok(header.to_owned())
}
