//! Checks of what trades claim: fills counted once, one symbol, times of the unit that they show.

pub mod fills;
pub mod symbols;
pub mod times;
