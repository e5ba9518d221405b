//! The newest records of a key, as far back as a window or a later column can reach.

use std::collections::VecDeque;

use crate::core::sample::records::{Buffer, Piece};

/// Most records of a block, and fewest: a short window needs few records.
const BLOCK: (u64, u64) = (256, 4_096);

/// Records from one position on.
#[derive(Clone, Debug)]
struct Block {
    start: u64,
    records: Buffer,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }
}

/// Records by position, counted over all records of the key.
///
/// Records are appended and never changed, so that a push can be rolled back: the blocks that it no
/// longer needs wait in `retired` until the next push, as far as they are older than the push.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    blocks: VecDeque<Block>,
    block_len: u64,
    /// The records `first..end` are held.
    first: u64,
    end: u64,
    retired: Vec<Block>,
    /// An emptied block, for use again.
    spare: Option<Buffer>,
    begin: Mark,
}

/// The ring at the start of a push.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    first: u64,
    end: u64,
}

impl Ring {
    /// A ring whose next record has a position, for windows of a length.
    pub fn new(end: u64, longest: u64) -> Self {
        Self { block_len: longest.clamp(BLOCK.0, BLOCK.1), first: end, end, ..Self::default() }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// Starts a push.
    pub fn begin(&mut self) {
        self.retired.clear();
        self.begin = Mark { first: self.first, end: self.end };
    }

    /// Restores the ring at the start of the push.
    pub fn roll_back(&mut self) {
        let Mark { first, end } = self.begin;
        while let Some(block) = self.retired.pop() {
            self.blocks.push_front(block);
        }
        while self.blocks.back().is_some_and(|block| block.start >= end) {
            self.blocks.pop_back();
        }
        if let Some(block) = self.blocks.back_mut() {
            block.records.truncate((end - block.start) as usize);
        }
        (self.first, self.end) = (first, end);
    }

    /// Counts records that are appended later, or never.
    pub fn pass(&mut self, records: u64) {
        self.end += records;
    }

    /// Forgets the records before a position.
    pub fn forget(&mut self, first: u64) {
        self.first = self.first.max(first);
        while self.blocks.front().is_some_and(|block| block.end() <= self.first) {
            let Some(block) = self.blocks.pop_front() else { break };
            if block.start < self.begin.end {
                self.retired.push(block);
            } else {
                let mut records = block.records;
                records.clear();
                self.spare = Some(records);
            }
        }
    }

    /// Appends the last records that were passed. Those between are forgotten.
    pub fn append(&mut self, piece: &Piece) {
        let mut start = self.end - piece.len() as u64;
        if self.blocks.back().is_none_or(|block| block.end() != start) {
            self.forget(start);
        }
        let mut from = 0;
        while from < piece.len() {
            let is_new = self
                .blocks
                .back()
                .is_none_or(|block| block.end() != start || block.records.len() as u64 >= self.block_len);
            if is_new {
                let mut records = self.spare.take().unwrap_or_default();
                records.reserve(piece, self.block_len as usize);
                self.blocks.push_back(Block { start, records });
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let space = self.block_len as usize - block.records.len();
            let to = piece.len().min(from + space);
            block.records.append(&piece.slice(from, to));
            start += (to - from) as u64;
            from = to;
        }
    }

    /// Appends the pieces of the records `from..to`.
    pub fn pieces<'a>(&'a self, from: u64, to: u64, out: &mut Vec<Piece<'a>>) {
        for block in &self.blocks {
            let (start, end) = (from.max(block.start), to.min(block.end()));
            if start < end {
                out.push(block.records.piece().slice((start - block.start) as usize, (end - block.start) as usize));
            }
        }
    }

    /// Position of the first held record whose time is at least `time`; the end if there is none.
    pub fn first_since(&self, time: i64) -> u64 {
        for block in &self.blocks {
            if block.records.time.last().is_some_and(|last| *last >= time) {
                let row = block.records.time.partition_point(|instant| *instant < time) as u64;
                return (block.start + row).max(self.first);
            }
        }
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ring: &Ring, from: u64, to: u64) -> Vec<i64> {
        let mut pieces = Vec::new();
        ring.pieces(from, to, &mut pieces);
        pieces.iter().flat_map(|piece| piece.time.iter().copied()).collect()
    }

    fn push(ring: &mut Ring, times: std::ops::Range<i64>) {
        let time: Vec<i64> = times.collect();
        ring.pass(time.len() as u64);
        ring.append(&Piece { time: &time, ..Piece::default() });
    }

    #[test]
    fn a_push_is_rolled_back_whatever_it_forgot() {
        let mut ring = Ring::new(0, 300);
        for start in (0..3_000).step_by(70) {
            push(&mut ring, start..start + 70);
            ring.forget(ring.end().saturating_sub(300));
            ring.begin();
            for more in 0..9 {
                push(&mut ring, 10_000 * more..10_000 * more + 90);
                ring.forget(ring.end().saturating_sub(300));
            }
            ring.roll_back();
            assert_eq!(ring.end(), start as u64 + 70);
            let from = ring.end().saturating_sub(300);
            assert_eq!(times(&ring, from, ring.end()), (from as i64..start + 70).collect::<Vec<_>>());
            assert_eq!(ring.first_since(start + 5), start as u64 + 5);
        }
        assert!(ring.blocks.len() <= 3);
    }
}
