//! The second entry point: the stateful builder, and functions of the module.

pub mod builder;
pub mod errors;
pub mod exclusive;
pub mod module;
