//! Features: one file each, holding the formula, its source and its catalogue entry.
//!
//! A feature undefined for a bar (a zero denominator) is null, and so is one whose inputs are not
//! bound. Orders of operations are part of the definition: results are reproducible bit for bit.

pub mod bar;
