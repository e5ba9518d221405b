//! Keys of `group_by`: their codes, their records sorted into buckets, and their states.

pub mod buckets;
pub mod codes;
pub mod fills;
pub mod states;
