//! Functions of the module without a state.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::core::rule::table::RuleName;
use crate::core::simd::InstructionSet;
use crate::features::catalogue;
use crate::frames::calls;
use crate::frames::names::{Candidates, FIELDS, Kind, SYMBOLS};
use crate::frames::side::TEXTS;

type ColumnRow = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
    Option<f64>,
    Option<f64>,
    &'static str,
    String,
    &'static str,
    u32,
);

/// The catalogue: name, dtype, unit, group, nullable, lower, upper, meaning, needs, sample, min_sample.
#[pyfunction]
pub fn columns() -> Vec<ColumnRow> {
    let row = |entry: &crate::core::columns::Column| -> ColumnRow {
        (
            entry.name,
            entry.dtype.name(),
            entry.unit,
            entry.group.name(),
            entry.is_nullable,
            entry.lower,
            entry.upper,
            entry.meaning,
            entry.needs.names(),
            entry.sample.name(),
            entry.min_sample,
        )
    };
    catalogue().map(row).collect()
}

/// Names of the rules, the default one first.
#[pyfunction]
pub fn rules() -> Vec<&'static str> {
    RuleName::ALL.iter().map(|rule| rule.name()).collect()
}

/// The registry file compiled into the library.
#[pyfunction]
pub fn symbols_toml() -> &'static str {
    include_str!("../../symbols.toml")
}

/// Instruction set in use.
#[pyfunction]
pub fn instruction_set() -> &'static str {
    InstructionSet::current().name()
}

/// Forces an instruction set, for tests; `None` restores the automatic choice.
#[pyfunction]
#[pyo3(signature = (name=None))]
pub fn force_instruction_set(name: Option<&str>) -> PyResult<()> {
    let set = match name {
        None => None,
        Some(name) => match InstructionSet::ALL.into_iter().find(|set| set.name() == name) {
            Some(set) => Some(set),
            None => return Err(PyValueError::new_err(format!("`{name}` is not baseline, avx2 or avx512"))),
        },
    };
    if InstructionSet::force(set) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("this processor does not have `{}`", name.unwrap_or_default())))
}

/// Kernel calls by expressions so far.
#[pyfunction]
pub fn plugin_calls() -> u64 {
    calls::count()
}

/// Fields of a trade with the names by which a column is known as each, and its single letter.
#[pyfunction]
pub fn known_names() -> Vec<(&'static str, Vec<&'static str>, Option<&'static str>)> {
    let fields = FIELDS.iter().map(|field| {
        let names = std::iter::once(field.name).chain(field.known.iter().copied()).collect();
        (field.name, names, field.letter)
    });
    fields.chain(std::iter::once(("symbol", SYMBOLS.to_vec(), None))).collect()
}

/// Words of a side in lower case: of a buy, of a sell, and of a record without an aggressor.
#[pyfunction]
pub fn side_words() -> Vec<Vec<&'static str>> {
    TEXTS.iter().map(|(words, _)| words.to_vec()).collect()
}

/// For each field the positions of the columns that it could be, by their names; the last are the symbols.
///
/// A column has a name, a kind (`integer`, `text` or another word), and whether it may be bound by its name.
#[pyfunction]
pub fn candidates(columns: Vec<(String, String, bool)>) -> Vec<(&'static str, Vec<usize>)> {
    let kind = |word: &str| match word {
        "integer" => Kind::Integer,
        "text" => Kind::Text,
        _ => Kind::Other,
    };
    let columns = columns.iter().map(|(name, word, is_free)| (name.as_str(), kind(word), *is_free));
    let candidates = Candidates::new(columns.collect());
    let found = FIELDS.iter().map(|field| (field.name, candidates.of(field)));
    found.chain(std::iter::once(("symbol", candidates.symbols()))).collect()
}
