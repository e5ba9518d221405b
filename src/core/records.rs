//! Columns to records of one cache line and back, eight rows at a time.
//!
//! A record goes to its bucket in one store of a whole line: storing column by column costs a store a
//! value, and those are what parting rows by key is made of. One generic body, compiled once per
//! instruction set (`simd`), given that set's way to turn eight rows of eight words.

use super::simd;
use super::ticks::Bits;

/// Rows turned at once, and words of a record.
pub const LANES: usize = 8;
/// Time, price, quantity and three ids; a record's other words are its mark and nothing.
pub const COLUMNS: usize = 6;
/// Where a record's mark is: its row, and in the lowest bit its side.
const MARK: usize = 6;

/// What an instruction set has to offer for eight words at once.
pub trait Lines {
    type Line: Copy;

    fn load(words: &[u64; LANES]) -> Self::Line;

    /// Marks of eight rows from `row` on.
    fn marks(row: u64, sides: u8) -> Self::Line;

    /// Eight words of eight rows to eight rows of eight words, and the other way round.
    fn turn(lines: [Self::Line; LANES]) -> [Self::Line; LANES];

    fn store(line: Self::Line, words: &mut [u64; LANES]);
}

#[inline(always)]
fn mark(row: u64, side: u8) -> u64 {
    row << 1 | u64::from(side & 1)
}

/// No instruction set in particular.
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
    fn turn(lines: [Self::Line; LANES]) -> [Self::Line; LANES] {
        std::array::from_fn(|row| lines.map(|line| line[row]))
    }

    #[inline(always)]
    fn store(line: Self::Line, words: &mut [u64; LANES]) {
        *words = line;
    }
}

/// One row of all columns as bit patterns: exactly a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Record([u64; LANES]);

impl Record {
    pub fn new(words: [u64; LANES]) -> Self {
        Self(words)
    }
}

/// Where the next record of a bucket goes, and where none goes any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub at: u32,
    pub end: u32,
}

/// Rows to be spread over buckets.
pub struct Spreading<'a> {
    /// Columns of one length as bit patterns.
    pub columns: [&'a [u64]; COLUMNS],
    pub side: Bits<'a>,
    /// Number of the first row.
    pub first_row: usize,
    /// Bucket of each row.
    pub slots: &'a [u32],
    pub rooms: &'a mut [Room],
    pub records: &'a mut [Record],
}

impl Spreading<'_> {
    /// Where the next record of a bucket goes; `None` when it is full.
    #[inline(always)]
    fn place(&mut self, slot: u32) -> Option<&mut Record> {
        let room = self.rooms.get_mut(slot as usize)?;
        if room.at == room.end {
            return None;
        }
        let place = self.records.get_mut(room.at as usize)?;
        room.at += 1;
        Some(place)
    }
}

/// Puts every row into its bucket; the first row that found its bucket full.
#[inline(always)]
pub fn spread_lanes<L: Lines>(spreading: &mut Spreading) -> Option<usize> {
    let (groups, rest) = spreading.slots.as_chunks::<LANES>();
    let columns = spreading.columns.map(|column| column.as_chunks::<LANES>().0);
    for (group, slots) in groups.iter().enumerate() {
        let row = group * LANES;
        let marks = L::marks((spreading.first_row + row) as u64, spreading.side.byte(row));
        let mut lines = [marks; LANES];
        for (line, column) in lines.iter_mut().zip(columns) {
            let words = column.get(group)?;
            simd::prefetch::<{ simd::TOGETHER }, _>(words);
            *line = L::load(words);
        }
        let records = L::turn(lines);
        for lane in 0..LANES {
            let Some(place) = spreading.place(slots[lane]) else { return Some(row + lane) };
            L::store(records[lane], &mut place.0);
        }
    }
    let done = groups.len() * LANES;
    let sides = spreading.side.byte(done);
    for (lane, slot) in rest.iter().enumerate() {
        let row = done + lane;
        let mut words = [0; LANES];
        for (word, column) in words.iter_mut().zip(spreading.columns) {
            *word = *column.get(row)?;
        }
        words[MARK] = mark((spreading.first_row + row) as u64, sides >> lane);
        let Some(place) = spreading.place(*slot) else { return Some(row) };
        *place = Record(words);
    }
    None
}

/// Columns of a bucket, in whole lanes.
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

/// Turns whole groups of records back into columns, as far as there is room.
#[inline(always)]
pub fn unpack_lanes<L: Lines>(records: &[Record], out: &mut Unpacked) {
    let (groups, _) = records.as_chunks::<LANES>();
    let [time, price, quantity, agg_id, first_id, last_id] = &mut out.columns;
    let columns = time.iter_mut().zip(price).zip(quantity).zip(agg_id).zip(first_id).zip(last_id);
    let marks = out.rows.iter_mut().zip(&mut out.side);
    for ((group, cells), (rows, side)) in groups.iter().zip(columns).zip(marks) {
        let mut lines = [L::load(&group[0].0); LANES];
        for (line, record) in lines.iter_mut().zip(group) {
            *line = L::load(&record.0);
        }
        let lines = L::turn(lines);
        let (((((time, price), quantity), agg_id), first_id), last_id) = cells;
        for (line, cell) in lines.into_iter().zip([time, price, quantity, agg_id, first_id, last_id]) {
            L::store(line, cell);
        }
        let mut marks = [0; LANES];
        L::store(lines[MARK], &mut marks);
        *rows = marks.map(|mark| (mark >> 1) as u32);
        *side = marks.iter().enumerate().fold(0, |byte, (lane, mark)| byte | (*mark as u8 & 1) << lane);
    }
}
