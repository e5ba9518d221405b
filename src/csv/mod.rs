//! Lines of trade files as columns, in one pass over the text.
//!
//! Only plain text is read: decimals that a double holds exactly, times in known forms, values without
//! blanks around them, and lines that all have the same fields. Whoever calls reads any other block in
//! another, slower way, which also finds the line of an error. The module depends on neither Polars nor
//! Python.

pub mod block;
pub mod field;
pub mod number;
pub mod time;
