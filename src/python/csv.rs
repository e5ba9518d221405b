//! Lines of trade files as frames.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::csv::block::Lines;
use crate::frames::csv::{field_of, series_of, taker_of};
use crate::python::builder::frame;

/// Reads lines of trade files that all have the same columns.
#[pyclass(module = "rangebar_polars._internal", frozen)]
pub struct TradeLines(Lines);

#[pymethods]
impl TradeLines {
    /// `fields` are the words of the columns in their order, `only` the value of the column of that word.
    #[new]
    fn new(separator: &str, fields: Vec<String>, only: &str) -> PyResult<Self> {
        let &[separator] = separator.as_bytes() else {
            return Err(PyValueError::new_err("a separator is one ASCII character"));
        };
        let fields = fields.iter().map(|word| field_of(word, only)).collect::<Result<_, _>>()?;
        Ok(Self(Lines { separator, fields, side_of: taker_of }))
    }

    /// The trades of whole lines, and their symbol; None if a line is not plain or not a valid trade.
    fn read(&self, py: Python, text: &[u8]) -> PyResult<Option<(Py<PyAny>, Option<String>)>> {
        let found = py.detach(|| {
            let trades = self.0.read(text)?;
            let symbol = trades.symbol.clone().map(|range| String::from_utf8_lossy(&text[range]).into_owned());
            Some((series_of(trades, text), symbol))
        });
        let as_frame = |(columns, symbol)| Ok((frame(py, columns)?.unbind(), symbol));
        found.map(as_frame).transpose()
    }
}
