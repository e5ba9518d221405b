//! Columns to records of one cache line and back, eight rows at a time.
//!
//! A record goes to its bucket in one store of a whole line. Storing column by column would cost one
//! store per value, which dominates the time to sort rows by key. One generic body, compiled once per
//! instruction set with its transposition of eight rows of eight words.

use bytemuck::{cast_mut, cast_ref};

use crate::core::simd::intrinsics::{TOGETHER, prefetch};
use crate::core::ticks::Bits;

/// Rows transposed at once, and words of a record.
pub const LANES: usize = 8;
/// Time, price, quantity and three ids. A mark follows the columns of a record: its row, with its side
/// in the lowest bit.
pub const COLUMNS: usize = 6;
/// Columns of records without ids, which take half a line each.
const HALF_COLUMNS: usize = 3;
/// Words of half a line.
pub const HALF: usize = LANES / 2;

/// Operations of an instruction set on eight words at once.
pub trait Lines {
    type Line: Copy;

    fn load(words: &[u64; LANES]) -> Self::Line;

    /// Marks of eight rows from `row` on.
    fn marks(row: u64, sides: u8) -> Self::Line;

    /// Transposes eight rows of eight words.
    fn transpose(lines: [Self::Line; LANES]) -> [Self::Line; LANES];

    fn store(line: Self::Line, words: &mut [u64; LANES]);

    /// Loads the first half of a line; the second half is undefined.
    fn load_half(words: &[u64; HALF]) -> Self::Line;

    /// Stores the first half of a line.
    fn store_half(line: Self::Line, words: &mut [u64; HALF]);
}

#[inline(always)]
fn mark(row: u64, side: u8) -> u64 {
    row << 1 | u64::from(side & 1)
}

/// Operations without vector instructions.
pub struct Plain;

impl Lines for Plain {
    type Line = [u64; LANES];

    #[inline(always)]
    fn load(words: &[u64; LANES]) -> Self::Line {
        *words
    }

    #[inline(always)]
    fn marks(row: u64, sides: u8) -> Self::Line {
        std::array::from_fn(|lane| mark(row + lane as u64, sides >> lane))
    }

    #[inline(always)]
    fn transpose(lines: [Self::Line; LANES]) -> [Self::Line; LANES] {
        std::array::from_fn(|row| lines.map(|line| line[row]))
    }

    #[inline(always)]
    fn store(line: Self::Line, words: &mut [u64; LANES]) {
        *words = line;
    }

    #[inline(always)]
    fn load_half(words: &[u64; HALF]) -> Self::Line {
        let [a, b, c, d] = *words;
        [a, b, c, d, 0, 0, 0, 0]
    }

    #[inline(always)]
    fn store_half(line: Self::Line, words: &mut [u64; HALF]) {
        let [a, b, c, d, ..] = line;
        *words = [a, b, c, d];
    }
}

/// Operations with SSE2, which is part of x86-64.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::__m128i;

    use bytemuck::cast;

    use super::{HALF, LANES, Lines, Plain};
    use crate::core::simd::intrinsics::zip;

    pub struct Sse2;

    impl Lines for Sse2 {
        type Line = [__m128i; 4];

        #[inline(always)]
        fn load(words: &[u64; LANES]) -> Self::Line {
            cast(*words)
        }

        #[inline(always)]
        fn marks(row: u64, sides: u8) -> Self::Line {
            cast(Plain::marks(row, sides))
        }

        /// Transposes squares of two words, and exchanges those off the diagonal.
        #[inline(always)]
        fn transpose(lines: [Self::Line; LANES]) -> [Self::Line; LANES] {
            let mut transposed = lines;
            for pair in 0..LANES / 2 {
                for other in 0..LANES / 2 {
                    let (a, b) = (lines[2 * pair][other], lines[2 * pair + 1][other]);
                    (transposed[2 * other][pair], transposed[2 * other + 1][pair]) = zip(a, b);
                }
            }
            transposed
        }

        #[inline(always)]
        fn store(line: Self::Line, words: &mut [u64; LANES]) {
            *words = cast(line);
        }

        #[inline(always)]
        fn load_half(words: &[u64; HALF]) -> Self::Line {
            let half: [__m128i; 2] = cast(*words);
            [half[0], half[1], half[0], half[1]]
        }

        #[inline(always)]
        fn store_half(line: Self::Line, words: &mut [u64; HALF]) {
            *words = cast([line[0], line[1]]);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub use Plain as Baseline;
#[cfg(target_arch = "x86_64")]
pub use sse2::Sse2 as Baseline;

/// One row of all columns as bit patterns, or two rows without ids: exactly a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Record([u64; LANES]);

/// Position of the next record of a bucket, and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub at: u32,
    pub end: u32,
}

/// Rows to be spread over buckets.
pub struct Spreading<'a> {
    /// Columns of equal length as bit patterns; without ids, the id columns are ignored.
    pub columns: [&'a [u64]; COLUMNS],
    pub has_ids: bool,
    pub side: Bits<'a>,
    /// Number of the first row.
    pub first_row: usize,
    /// Bucket of each row.
    pub slots: &'a [u32],
    pub rooms: &'a mut [Room],
    pub records: &'a mut [Record],
}

impl Spreading<'_> {
    /// Puts a record into its bucket; `None` if the bucket is full.
    #[inline(always)]
    fn put<L: Lines, const IDS: bool>(&mut self, slot: u32, record: L::Line) -> Option<()> {
        let room = self.rooms.get_mut(slot as usize)?;
        let at = room.at as usize;
        if room.at == room.end {
            return None;
        }
        if IDS {
            L::store(record, &mut self.records.get_mut(at)?.0);
        } else {
            let halves: &mut [[u64; HALF]; 2] = cast_mut(&mut self.records.get_mut(at / 2)?.0);
            L::store_half(record, &mut halves[at % 2]);
        }
        room.at += 1;
        Some(())
    }
}

/// Puts rows into their buckets. Returns the first row whose bucket is full.
#[inline(always)]
pub fn spread_lanes<L: Lines>(spreading: &mut Spreading) -> Option<usize> {
    if spreading.has_ids { spread_records::<L, true>(spreading) } else { spread_records::<L, false>(spreading) }
}

#[inline(always)]
fn spread_records<L: Lines, const IDS: bool>(spreading: &mut Spreading) -> Option<usize> {
    let count = if IDS { COLUMNS } else { HALF_COLUMNS };
    let (groups, rest) = spreading.slots.as_chunks::<LANES>();
    let columns = spreading.columns.map(|column| column.as_chunks::<LANES>().0);
    for (group, slots) in groups.iter().enumerate() {
        let row = group * LANES;
        // The words after the columns are marks; only one of them is read.
        let mut lines = [L::marks((spreading.first_row + row) as u64, spreading.side.byte(row)); LANES];
        for (line, column) in lines.iter_mut().zip(&columns[..count]) {
            let words = column.get(group)?;
            prefetch::<TOGETHER, _>(words);
            *line = L::load(words);
        }
        let records = L::transpose(lines);
        for lane in 0..LANES {
            if spreading.put::<L, IDS>(slots[lane], records[lane]).is_none() {
                return Some(row + lane);
            }
        }
    }
    let done = groups.len() * LANES;
    let sides = spreading.side.byte(done);
    for (lane, slot) in rest.iter().enumerate() {
        let row = done + lane;
        let mut words = [mark((spreading.first_row + row) as u64, sides >> lane); LANES];
        for (word, column) in words.iter_mut().zip(&spreading.columns[..count]) {
            *word = *column.get(row)?;
        }
        if spreading.put::<L, IDS>(*slot, L::load(&words)).is_none() {
            return Some(row);
        }
    }
    None
}

/// Records of a bucket as columns, in whole lanes.
#[derive(Debug, Default)]
pub struct Unpacked {
    pub columns: [Vec<[u64; LANES]>; COLUMNS],
    pub rows: Vec<[u32; LANES]>,
    pub side: Vec<u8>,
}

impl Unpacked {
    pub fn reserve(&mut self, groups: usize) {
        if self.side.len() < groups {
            self.columns.iter_mut().for_each(|column| column.resize(groups, [0; LANES]));
            self.rows.resize(groups, [0; LANES]);
            self.side.resize(groups, 0);
        }
    }
}

/// Transposes records back into columns, as far as there is space.
#[inline(always)]
pub fn unpack_lanes<L: Lines>(records: &[Record], has_ids: bool, out: &mut Unpacked) {
    if has_ids { unpack_whole::<L>(records, out) } else { unpack_halves::<L>(records, out) }
}

#[inline(always)]
fn unpack_whole<L: Lines>(records: &[Record], out: &mut Unpacked) {
    let (groups, _) = records.as_chunks::<LANES>();
    let [time, price, quantity, agg_id, first_id, last_id] = &mut out.columns;
    let columns = time.iter_mut().zip(price).zip(quantity).zip(agg_id).zip(first_id).zip(last_id);
    let marks = out.rows.iter_mut().zip(&mut out.side);
    for ((group, cells), (rows, side)) in groups.iter().zip(columns).zip(marks) {
        let mut lines = [L::load(&group[0].0); LANES];
        for (line, record) in lines.iter_mut().zip(group) {
            *line = L::load(&record.0);
        }
        let lines = L::transpose(lines);
        let (((((time, price), quantity), agg_id), first_id), last_id) = cells;
        for (line, cell) in lines.into_iter().zip([time, price, quantity, agg_id, first_id, last_id]) {
            L::store(line, cell);
        }
        unpack_marks::<L>(lines[COLUMNS], rows, side);
    }
}

#[inline(always)]
fn unpack_halves<L: Lines>(records: &[Record], out: &mut Unpacked) {
    let (groups, _) = records.as_chunks::<HALF>();
    let [time, price, quantity, ..] = &mut out.columns;
    let columns = time.iter_mut().zip(price).zip(quantity);
    let marks = out.rows.iter_mut().zip(&mut out.side);
    for ((group, ((time, price), quantity)), (rows, side)) in groups.iter().zip(columns).zip(marks) {
        let mut lines = [L::load(&group[0].0); LANES];
        for (pair, record) in lines.as_chunks_mut::<2>().0.iter_mut().zip(group) {
            let halves: &[[u64; HALF]; 2] = cast_ref(&record.0);
            *pair = [L::load_half(&halves[0]), L::load_half(&halves[1])];
        }
        let lines = L::transpose(lines);
        L::store(lines[0], time);
        L::store(lines[1], price);
        L::store(lines[2], quantity);
        unpack_marks::<L>(lines[HALF_COLUMNS], rows, side);
    }
}

#[inline(always)]
fn unpack_marks<L: Lines>(line: L::Line, rows: &mut [u32; LANES], side: &mut u8) {
    let mut marks = [0; LANES];
    L::store(line, &mut marks);
    *rows = marks.map(|mark| (mark >> 1) as u32);
    *side = marks.iter().enumerate().fold(0, |byte, (lane, mark)| byte | (*mark as u8 & 1) << lane);
}
