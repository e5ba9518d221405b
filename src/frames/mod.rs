//! The only place that turns Polars into the core's columns and back.

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
