//! Conversion between Polars columns and the columns of the core. No other module does it.

pub mod binding;
pub mod calls;
pub mod chunks;
pub mod decimal;
pub mod error;
pub mod fills;
pub mod input;
pub mod keys;
pub mod names;
pub mod options;
pub mod output;
pub mod session;
pub mod side;
pub mod symbols;
pub mod times;
