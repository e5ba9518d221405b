//! Features that need more than the sums of a bar.
//!
//! A sample is the records of one bar, or of the look-back window before it. `records` holds them as
//! columns of integers, `orders` joins them into orders, and `summary` has what every formula shares.
//! A [`family::Family`] accumulates what a few columns have in common; `plan` lists the families that
//! a caller requested, so that a family that is not requested costs nothing. `key` follows the bars
//! of a key, in the cuts that the search found, and `fold` does so for all keys, push by push. `ring`
//! has the records that a window or a later column can still need.

pub mod codec;
pub mod family;
pub mod fold;
pub mod forming;
pub mod key;
pub mod orders;
pub mod plan;
pub mod records;
pub mod ring;
pub mod summary;
