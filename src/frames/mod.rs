//! Conversion between Polars columns and the columns of the core. No other module does it.

pub mod binding;
pub mod calls;
pub mod checks;
pub mod chunks;
pub mod csv;
pub mod decimal;
pub mod error;
pub mod input;
pub mod journal;
pub mod keys;
pub mod names;
pub mod options;
pub mod output;
pub mod pieces;
pub mod session;
pub mod side;
