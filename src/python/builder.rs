//! Class `Builder`: frames in, bars out, state kept between pushes.

use polars::prelude::*;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_polars::PyDataFrame;

use crate::core::checkpoint::{open, seal};
use crate::frames::error::FrameError;
use crate::frames::options::Options;
use crate::frames::session::Session;

use super::exclusive::Exclusive;

/// Bars from frames whose columns come in the order of the roles. Threads may share it.
#[pyclass(module = "rangebar_polars._internal", frozen)]
pub struct Builder {
    state: Exclusive<State>,
}

struct State {
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

impl State {
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

    fn session(&mut self) -> Result<&mut Session, FrameError> {
        let unbound = || FrameError::Options("bind the builder to column types first".to_owned());
        self.session.as_mut().ok_or_else(unbound)
    }
}

impl Builder {
    /// Works on the state without the GIL, so that a thread that waits for its turn stops no other.
    fn with<R: Send>(
        &self,
        py: Python,
        work: impl FnOnce(&mut State) -> Result<R, FrameError> + Send,
    ) -> Result<R, FrameError> {
        py.detach(|| self.state.with(work)?)
    }
}

#[pymethods]
impl Builder {
    #[new]
    fn new(options_json: &str) -> PyResult<Self> {
        let options: Options =
            serde_json::from_str(options_json).map_err(|error| FrameError::Options(error.to_string()))?;
        options.check()?;
        Ok(Self { state: Exclusive::new(State { options, session: None }) })
    }

    /// Fixes the column types.
    fn bind(&self, py: Python, frame: PyDataFrame) -> PyResult<()> {
        let columns = series_of(&frame.0);
        Ok(self.with(py, |state| state.bound(&columns).map(|_| ()))?)
    }

    /// An empty output frame.
    fn schema(&self, py: Python) -> PyResult<PyDataFrame> {
        let fields = self.with(py, |state| state.session()?.schema())?;
        frame(fields.into_iter().map(|(name, dtype)| Series::new_empty(name, &dtype)).collect())
    }

    /// Takes a frame and gives the bars that ended.
    fn push(&self, py: Python, frame: PyDataFrame) -> PyResult<PyDataFrame> {
        let columns = series_of(&frame.0);
        self::frame(self.with(py, |state| state.bound(&columns)?.push(&columns))?)
    }

    /// The forming bars.
    fn partial(&self, py: Python) -> PyResult<PyDataFrame> {
        frame(self.with(py, |state| state.session()?.partial())?)
    }

    /// What the end of the input adds.
    fn finish(&self, py: Python) -> PyResult<PyDataFrame> {
        frame(self.with(py, |state| state.session()?.finish())?)
    }

    /// State and the caller's header as bytes.
    fn checkpoint<'py>(&self, py: Python<'py>, header: &str) -> PyResult<Bound<'py, PyBytes>> {
        let state = self.with(py, |state| state.session()?.save())?;
        Ok(PyBytes::new(py, &py.detach(|| seal(header, &state))))
    }

    /// Takes over the state of a checkpoint; returns the number of rows it counts.
    fn restore(&self, py: Python, data: &[u8]) -> PyResult<u64> {
        Ok(self.with(py, |state| {
            let (_, saved) = open(data)?;
            state.session()?.load(saved)
        })?)
    }
}

/// The header of a checkpoint, once all of it has been verified.
#[pyfunction]
pub fn read_checkpoint(data: &[u8]) -> PyResult<String> {
    let (header, _) = open(data).map_err(FrameError::from)?;
    Ok(header.to_owned())
}
