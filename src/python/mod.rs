//! The second entry point: the stateful builders, journals, and functions of the module.

pub mod builder;
pub mod csv;
pub mod errors;
pub mod exclusive;
pub mod journal;
pub mod live;
pub mod module;
