//! Keys of `group_by`: their numbering, and their records put together.

pub mod buckets;
pub mod codes;
