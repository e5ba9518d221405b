//! The first door: stateless Polars expressions.

pub mod expressions;
