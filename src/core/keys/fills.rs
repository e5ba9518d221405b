//! Keys whose fills overlap.

use crate::core::simd::{self, InstructionSet};
use crate::core::ticks::Ticks;

/// Most keys that are noted.
const MOST_KEYS: usize = 8;

/// Keys whose fills do not follow one another, and may therefore be counted twice.
#[derive(Debug, Default)]
pub struct FillWatch {
    is_on: bool,
    keys: Vec<u32>,
}

impl FillWatch {
    pub fn new(is_on: bool) -> Self {
        Self { is_on, keys: Vec::new() }
    }

    /// The keys that were noted since the last call, at most a few.
    pub fn take(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.keys)
    }

    /// Notes a key if a record of the chunk does not follow the one before it; `before` is the last id before.
    #[inline]
    pub fn note(&mut self, set: InstructionSet, chunk: &Ticks, key: u32, before: Option<i64>) {
        let (true, Some(first), Some(last)) = (self.is_on, chunk.first_id, chunk.last_id) else { return };
        let follows = first.first().zip(before).is_none_or(|(id, before)| *id > before || before == i64::MIN);
        if (!follows || simd::is_overlapping(set, first, last))
            && self.keys.len() < MOST_KEYS
            && !self.keys.contains(&key)
        {
            self.keys.push(key);
        }
    }
}
