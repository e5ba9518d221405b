//! Range bars for Polars: an exact core with two entry points.
//!
//! `core`, `features`, `csv` and `journal` depend on neither Polars nor Python. `frames` converts columns. `plugin`
//! has the expressions, `python` the stateful builders.
#![deny(unsafe_code)]

pub mod core;
pub mod csv;
pub mod features;
pub mod journal;

#[cfg(feature = "plugin")]
pub mod frames;
// The derive macro generates C functions, which need unsafe code.
#[cfg(feature = "plugin")]
#[allow(unsafe_code)]
mod plugin;
#[cfg(feature = "plugin")]
mod python;

#[cfg(feature = "plugin")]
mod module {
    use pyo3::prelude::*;
    use pyo3_polars::PolarsAllocator;

    use crate::python::{builder, csv, journal, live, module};

    #[global_allocator]
    static ALLOCATOR: PolarsAllocator = PolarsAllocator::new();

    #[pymodule]
    fn _internal(internal: &Bound<'_, PyModule>) -> PyResult<()> {
        internal.add("__version__", env!("CARGO_PKG_VERSION"))?;
        internal.add("__debug_build__", cfg!(debug_assertions))?;
        internal.add_class::<builder::Builder>()?;
        internal.add_function(wrap_pyfunction!(builder::read_checkpoint, internal)?)?;
        internal.add_class::<live::LiveBuilders>()?;
        internal.add_class::<csv::TradeLines>()?;
        internal.add_class::<journal::JournalContent>()?;
        internal.add_function(wrap_pyfunction!(journal::encode_record, internal)?)?;
        internal.add_function(wrap_pyfunction!(journal::encode_trades, internal)?)?;
        internal.add_function(wrap_pyfunction!(journal::encode_missing, internal)?)?;
        internal.add_function(wrap_pyfunction!(journal::encode_journal_header, internal)?)?;
        internal.add_function(wrap_pyfunction!(journal::read_journal_header, internal)?)?;
        internal.add_function(wrap_pyfunction!(journal::read_journal, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::columns, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::rules, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::known_names, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::side_words, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::candidates, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::symbols_toml, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::instruction_set, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::force_instruction_set, internal)?)?;
        internal.add_function(wrap_pyfunction!(module::plugin_calls, internal)?)?;
        Ok(())
    }
}
