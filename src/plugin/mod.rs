//! The first entry point: stateless Polars expressions.

pub mod expressions;
