//! The second door: the stateful object, and what Python may ask of the library.

pub mod builder;
pub mod errors;
pub mod exclusive;
pub mod module;
