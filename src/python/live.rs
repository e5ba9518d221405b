//! The class `LiveBuilders`: the builders of all series of one symbol, which take records of journals.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::core::bar::Bar;
use crate::core::checkpoint::seal;
use crate::frames::error::FrameError;
use crate::frames::session::Session;
use crate::journal::columns::TradeColumns;
use crate::journal::record::{Kind, decode};
use crate::python::builder::{Builder, frame};
use crate::python::exclusive::Exclusive;

/// Trades of a record from which on other threads of Python run during a push. To let them run takes
/// longer than a short push, if one of them is busy.
const LONG_RECORD: usize = 2_048;

/// Builders of several series of the same trades. Threads may share it.
#[pyclass(module = "rangebar_polars._internal", frozen)]
pub struct LiveBuilders {
    series: Exclusive<Vec<LiveSeries>>,
}

struct LiveSeries {
    session: Session,
    /// Header of its checkpoints from now on.
    header: String,
    /// Header of its checkpoints once trades were pushed.
    next_header: Option<String>,
}

impl LiveSeries {
    fn new(py: Python, builder: &Builder, header: String, next_header: String) -> PyResult<Self> {
        let session = builder.take(py)?;
        session.check_takes_trades()?;
        Ok(Self { session, header, next_header: Some(next_header) })
    }
}

/// Bars that ended, by the index of their series: of the core, and as frames.
type Ended = Vec<(usize, Vec<Bar>)>;
type EndedFrames<'py> = Vec<(usize, Bound<'py, PyAny>)>;

/// Pushes trades to some of the series, or to none of them if one refuses.
fn push_all(series: &mut [LiveSeries], only: Option<usize>, trades: &TradeColumns) -> Result<Ended, FrameError> {
    let is_chosen = |index: &usize| only.is_none_or(|only| only == *index);
    let bits = trades.side_bits();
    let ticks = trades.ticks(&bits);
    let mut ended = Vec::new();
    for index in (0..series.len()).filter(is_chosen) {
        let session = &mut series[index].session;
        session.begin();
        match session.push_ticks(&ticks) {
            Ok(bars) if bars.is_empty() => {}
            Ok(bars) => ended.push((index, bars)),
            Err(error) => {
                (0..=index).filter(is_chosen).for_each(|index| series[index].session.roll_back());
                return Err(error);
            }
        }
    }
    for index in (0..series.len()).filter(is_chosen) {
        let one = &mut series[index];
        one.session.commit();
        if let Some(header) = one.next_header.take() {
            one.header = header;
        }
    }
    Ok(ended)
}

impl LiveBuilders {
    fn with<R: Send>(
        &self,
        py: Python,
        index: usize,
        work: impl FnOnce(&mut LiveSeries) -> Result<R, FrameError> + Send,
    ) -> PyResult<R> {
        let found = py.detach(|| self.series.with(|series| series.get_mut(index).map(work).transpose()))??;
        found.ok_or_else(|| PyIndexError::new_err(format!("there is no series {index}")))
    }
}

#[pymethods]
impl LiveBuilders {
    /// Takes over bound builders, each with the header of its checkpoints before and after a push.
    #[new]
    fn new(py: Python, builders: Vec<(PyRef<Builder>, String, String)>) -> PyResult<Self> {
        let series = builders.into_iter().map(|(builder, before, after)| LiveSeries::new(py, &builder, before, after));
        Ok(Self { series: Exclusive::new(series.collect::<PyResult<_>>()?) })
    }

    fn __len__(&self, py: Python) -> PyResult<usize> {
        Ok(py.detach(|| self.series.with(|series| series.len()))?)
    }

    /// Pushes the trades of a record to all series, or to one. Returns the bars that end, by the index of
    /// their series; None if none does. After an error no series has changed.
    #[pyo3(signature = (record, index=None))]
    fn push<'py>(&self, py: Python<'py>, record: &[u8], index: Option<usize>) -> PyResult<Option<EndedFrames<'py>>> {
        let trades = match decode(record) {
            Ok((found, [])) if found.kind == Kind::Trades => TradeColumns::of(found.payload, found.rows),
            _ => None,
        }
        .ok_or_else(|| PyValueError::new_err("these bytes are not one record of trades"))?;
        if trades.is_empty() {
            return Ok(None);
        }
        let is_long = trades.len() >= LONG_RECORD;
        let work = || {
            self.series.with(|series| {
                if index.is_some_and(|index| index >= series.len()) {
                    return Err(FrameError::Options("there is no series of this number".to_owned()));
                }
                let ended = push_all(series, index, &trades)?;
                ended.into_iter().map(|(index, bars)| Ok((index, series[index].session.bar_series(bars)?))).collect()
            })
        };
        let ended: Vec<_> = if is_long { py.detach(work) } else { work() }??;
        if ended.is_empty() {
            return Ok(None);
        }
        let frames = ended.into_iter().map(|(index, columns)| Ok((index, frame(py, columns)?)));
        frames.collect::<PyResult<_>>().map(Some)
    }

    /// The forming bar of a series; an empty frame without one.
    fn partial<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        frame(py, self.with(py, index, |one| one.session.partial())?)
    }

    /// The state of a series as bytes.
    fn checkpoint<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = self.with(py, index, |one| {
            let (version, state) = one.session.save(false)?;
            Ok(seal(version, &one.header, &state))
        })?;
        Ok(PyBytes::new(py, &sealed))
    }

    /// A hash of the state of a series, less counters of rows and bars, in hex.
    fn bars_digest(&self, py: Python, index: usize) -> PyResult<String> {
        self.with(py, index, |one| one.session.bars_digest())
    }

    /// Replaces a series by a bound builder, with the headers as for a new one.
    fn replace(
        &self,
        py: Python,
        index: usize,
        builder: PyRef<Builder>,
        header: String,
        next_header: String,
    ) -> PyResult<()> {
        let new = LiveSeries::new(py, &builder, header, next_header)?;
        self.with(py, index, |one| {
            *one = new;
            Ok(())
        })
    }
}
