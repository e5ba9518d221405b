//! Keys of `group_by`: their numbering, their records put together, and their states.

pub mod buckets;
pub mod codes;
pub mod states;
