//! Functions of the module without a state.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::core::rule::table::RuleName;
use crate::core::simd::InstructionSet;
use crate::features::catalogue;
use crate::frames::calls;

type ColumnRow = (&'static str, &'static str, &'static str, &'static str, bool, Option<f64>, Option<f64>, &'static str);

/// The catalogue: name, dtype, unit, group, nullable, lower, upper, meaning.
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
