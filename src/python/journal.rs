//! Records of journals as bytes, and journals as frames.

use polars::prelude::DataFrame;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_polars::PyDataFrame;

use crate::frames::journal::{trade_series, trades_of};
use crate::journal::content::{Content, missing_payload};
use crate::journal::header::Header;
use crate::journal::record::{Kind, Stop, encode};
use crate::python::builder::frame;

/// A record with a payload of so many rows.
#[pyfunction]
pub fn encode_record<'py>(py: Python<'py>, kind: u8, rows: u32, payload: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let kind = Kind::of(kind).ok_or_else(|| PyValueError::new_err(format!("there is no record of kind {kind}")))?;
    let length = payload.len();
    let fits = || PyValueError::new_err(format!("{length} bytes are not {rows} rows of {} bytes", kind.width()));
    Ok(PyBytes::new(py, &encode(kind, rows, payload).ok_or_else(fits)?))
}

/// A record of the trades of a frame, for builders; `is_late` for trades that are not applied.
#[pyfunction]
#[pyo3(signature = (trades, is_late=false))]
pub fn encode_trades<'py>(py: Python<'py>, trades: PyDataFrame, is_late: bool) -> PyResult<Bound<'py, PyBytes>> {
    let frame: DataFrame = trades.0;
    let record = py.detach(|| {
        let columns = trades_of(&frame)?;
        let kind = if is_late { Kind::Late } else { Kind::Trades };
        Ok::<_, PyErr>(u32::try_from(columns.len()).ok().and_then(|rows| encode(kind, rows, &columns.payload())))
    })?;
    let record = record.ok_or_else(|| PyValueError::new_err("a record has less than 4 GB"))?;
    Ok(PyBytes::new(py, &record))
}

/// A record of missing ids: first id, last id, reason.
#[pyfunction]
pub fn encode_missing(py: Python<'_>, spans: Vec<(i64, i64, String)>) -> PyResult<Bound<'_, PyBytes>> {
    let payload = missing_payload(spans.iter().map(|(first, last, reason)| (*first, *last, reason.as_str())));
    let record = payload.and_then(|payload| encode(Kind::Missing, u32::try_from(spans.len()).ok()?, &payload));
    let record = record.ok_or_else(|| PyValueError::new_err("an id is missing for an unknown reason"))?;
    Ok(PyBytes::new(py, &record))
}

/// The header of a journal of a day, as days since 1970-01-01.
#[pyfunction]
pub fn encode_journal_header(py: Python<'_>, day: i32, number: u32, follows_id: i64) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &Header::new(day, number, follows_id).encode())
}

/// Schema, day, number and `follows_id` of a journal; None if it has no intact header.
#[pyfunction]
pub fn read_journal_header(data: &[u8]) -> Option<(u32, i32, u32, i64)> {
    Header::decode(data).map(|header| (header.schema, header.day, header.number, header.follows_id))
}

/// The records of a journal, joined.
#[pyclass(module = "rangebar_polars._internal", frozen, get_all)]
pub struct JournalContent {
    trades: Py<PyAny>,
    late: Py<PyAny>,
    missing: Vec<(i64, i64, &'static str)>,
    revisions: Vec<String>,
    is_closed: bool,
    records: usize,
    /// Where the first record begins that could not be read, counted from the start of the bytes.
    end: usize,
    /// Whether the bytes end within a record.
    is_incomplete: bool,
    /// What is wrong with the record at `end`; None if it is not damaged.
    damage: Option<&'static str>,
}

/// Reads the records from an offset on, up to the first one that is incomplete or damaged.
#[pyfunction]
pub fn read_journal(py: Python, data: &[u8], start: usize) -> PyResult<JournalContent> {
    let bytes = data.get(start..).unwrap_or_default();
    let content = py.detach(|| Content::read(bytes));
    let missing = content.missing.iter().map(|span| (span.first, span.last, span.reason));
    Ok(JournalContent {
        trades: frame(py, trade_series(content.trades))?.unbind(),
        late: frame(py, trade_series(content.late))?.unbind(),
        missing: missing.collect(),
        revisions: content.revisions,
        is_closed: content.is_closed,
        records: content.records,
        end: start + content.length,
        is_incomplete: content.stop == Some(Stop::Incomplete),
        damage: match content.stop {
            Some(Stop::Damaged(reason)) => Some(reason),
            _ => None,
        },
    })
}
