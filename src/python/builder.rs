//! The class `Builder`, which takes frames, returns bars, and keeps its state between pushes.

use std::iter;

use polars::prelude::*;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator};
use pyo3_polars::{PyDataFrame, PySeries};

use crate::core::checkpoint::{open, seal, unusable};
use crate::frames::checks::times::check_times;
use crate::frames::error::FrameError;
use crate::frames::options::Options;
use crate::frames::session::Session;

use crate::python::exclusive::Exclusive;

/// Builder of bars from columns in the order of the roles. Threads may share it.
#[pyclass(module = "rangebar_polars._internal", frozen)]
pub struct Builder {
    state: Exclusive<State>,
}

struct State {
    options: Options,
    session: Option<Session>,
}

/// Columns as a frame. They are passed as one struct, which is faster than one by one.
pub fn frame(py: Python, columns: Vec<Series>) -> PyResult<Bound<PyAny>> {
    let len = columns.first().map_or(0, |series| series.len());
    let rows = StructChunked::from_series("rows".into(), len, columns.iter()).map_err(FrameError::from)?;
    let rows = PySeries(rows.into_series()).into_pyobject(py)?;
    rows.getattr(intern!(py, "struct"))?.call_method0(intern!(py, "unnest"))
}

/// Columns of a piece of a push.
fn series_in(piece: Bound<PyAny>) -> PyResult<Vec<Series>> {
    piece.try_iter()?.map(|series| Ok(series?.extract::<PySeries>()?.0)).collect()
}

/// Iterates over the pieces of a push from the start.
fn iterate(pieces: &Py<PyAny>) -> impl Iterator<Item = PyResult<Vec<Series>>> {
    let mut iterator: Option<Py<PyIterator>> = None;
    let mut next = move |py: Python| {
        let iterator = match &mut iterator {
            Some(iterator) => iterator,
            none => none.insert(pieces.bind(py).try_iter()?.unbind()),
        };
        iterator.bind(py).clone().next().map(|piece| series_in(piece?)).transpose()
    };
    iter::from_fn(move || Python::attach(&mut next).transpose())
}

fn series_of(frame: &DataFrame) -> Vec<Series> {
    frame.columns().iter().map(|column| column.as_materialized_series().clone()).collect()
}

impl State {
    fn session(&mut self) -> Result<&mut Session, FrameError> {
        let unbound = || FrameError::Options("bind the builder to column types first".to_owned());
        self.session.as_mut().ok_or_else(unbound)
    }
}

impl Builder {
    /// Takes the bound state out. The builder is then not bound.
    pub fn take(&self, py: Python) -> Result<Session, FrameError> {
        self.with(py, |state| {
            state.session()?;
            state.session.take().ok_or_else(|| FrameError::Options("bind the builder to column types first".to_owned()))
        })
    }

    /// Works on the state without the GIL, so that a waiting thread does not block others.
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

    /// Fixes the column types. `times` are values of the column of times, if it is no Datetime.
    #[pyo3(signature = (frame, times=None))]
    fn bind(&self, py: Python, frame: PyDataFrame, times: Option<PySeries>) -> PyResult<()> {
        if let Some(times) = times {
            check_times(times.0.name(), &times.0)?;
        }
        let field = |series: &Series| (series.name().clone(), series.dtype().clone());
        let fields: Vec<_> = series_of(&frame.0).iter().map(field).collect();
        Ok(self.with(py, |state| {
            state.session = Some(Session::bind(state.options.clone(), &fields)?);
            Ok::<_, FrameError>(())
        })?)
    }

    /// An empty output frame.
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = self.with(py, |state| state.session()?.schema())?;
        frame(py, fields.into_iter().map(|(name, dtype)| Series::new_empty(name, &dtype)).collect())
    }

    /// Processes the columns of a push, in pieces, and returns the bars that ended; None if none did.
    ///
    /// After an error `pieces` is iterated over once more. It must not use this builder.
    fn push<'py>(&self, py: Python<'py>, pieces: Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bars = self.with(py, |state| Ok(state.session()?.push(|| iterate(&pieces))))??;
        bars.map(|bars| frame(py, bars)).transpose()
    }

    /// The message about fills that two records count, once; None if there are none.
    fn double_fill(&self, py: Python) -> PyResult<Option<String>> {
        Ok(self.with(py, |state| Ok(state.session()?.take_double_fill()))?)
    }

    /// Number of look-back windows that reached the limit of records, since the last call.
    fn cut_windows(&self, py: Python) -> PyResult<u64> {
        Ok(self.with(py, |state| Ok(state.session()?.take_cut_windows()))?)
    }

    /// The forming bars.
    fn partial<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        frame(py, self.with(py, |state| state.session()?.partial())?)
    }

    /// The bars that the end of the input adds; None if there are none.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with(py, |state| state.session()?.finish())?.map(|bars| frame(py, bars)).transpose()
    }

    /// The state and a header of the caller as bytes; `plain` leaves the features out.
    #[pyo3(signature = (header, plain=false))]
    fn checkpoint<'py>(&self, py: Python<'py>, header: &str, plain: bool) -> PyResult<Bound<'py, PyBytes>> {
        let (version, state) = self.with(py, |state| state.session()?.save(plain))?;
        Ok(PyBytes::new(py, &py.detach(|| seal(version, header, &state))))
    }

    /// A hash of the state, less counters of rows and bars and less features, in hex.
    fn bars_digest(&self, py: Python) -> PyResult<String> {
        Ok(self.with(py, |state| state.session()?.bars_digest())?)
    }

    /// Restores the state of a checkpoint. Returns its number of rows.
    fn restore(&self, py: Python, data: &[u8]) -> PyResult<u64> {
        Ok(self.with(py, |state| {
            let (version, _, saved) = open(data)?;
            let session = state.session()?;
            if version != session.version() {
                return Err(unusable("it was taken with other features").into());
            }
            session.load(saved)
        })?)
    }
}

/// Verifies a checkpoint and returns its header.
#[pyfunction]
pub fn read_checkpoint(data: &[u8]) -> PyResult<String> {
    let (_, header, _) = open(data).map_err(FrameError::from)?;
    Ok(header.to_owned())
}
