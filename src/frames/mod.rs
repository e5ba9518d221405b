//! Conversion between Polars columns and the columns of the core. No other module does it.

pub mod calls;
pub mod chunks;
pub mod decimal;
pub mod error;
pub mod input;
pub mod keys;
pub mod options;
pub mod output;
pub mod session;
pub mod side;
