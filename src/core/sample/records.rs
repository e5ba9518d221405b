//! Records as columns of integers: prices and sizes on the 1e-8 grid, sides as +1, -1 or 0.

use crate::core::arithmetic::grid::grid;
use crate::core::simd::fold::{LARGEST_QUICK, quick_grid};
use crate::core::simd::{InstructionSet, Kernel, on};
use crate::core::ticks::{Ticks, Values};

/// Which columns of a record are read, besides its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub price: bool,
    pub size: bool,
    pub side: bool,
}

impl Uses {
    pub const TIME: Self = Self { price: false, size: false, side: false };
    pub const PRICE: Self = Self { price: true, size: false, side: false };
    pub const SIZE: Self = Self { price: false, size: true, side: false };
    pub const FLOW: Self = Self { price: false, size: true, side: true };
    pub const ALL: Self = Self { price: true, size: true, side: true };

    /// What both read.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { price: self.price && other.price, size: self.size && other.size, side: self.side && other.side }
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self { price: self.price || other.price, size: self.size || other.size, side: self.side || other.side }
    }
}

/// Consecutive records. A column that is not read is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece<'a> {
    pub time: &'a [i64],
    pub price: &'a [i64],
    pub size: &'a [i64],
    /// +1 where the buyer is the aggressor, -1 where the seller is, 0 where nobody is.
    pub side: &'a [i8],
}

fn part<T>(values: &[T], from: usize, to: usize) -> &[T] {
    values.get(from..to).unwrap_or_default()
}

impl<'a> Piece<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.time.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// The records `from..to`.
    #[inline]
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            time: part(self.time, from, to),
            price: part(self.price, from, to),
            size: part(self.size, from, to),
            side: part(self.side, from, to),
        }
    }
}

/// Records of a sample, with what came before them in it.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    pub piece: Piece<'a>,
    pub before: Before,
    pub set: InstructionSet,
}

/// The part of a sample before some of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Number of records; without any, the other fields are 0.
    pub count: u64,
    pub open_time: i64,
    pub open: i64,
    /// Of the last record.
    pub time: i64,
    pub price: i64,
}

impl Before {
    /// Adds records that follow.
    #[inline]
    pub fn advance(&mut self, piece: &Piece) {
        let [first, .., last] = piece.time else {
            if let [only] = piece.time {
                self.add(*only, *only, piece, 1);
            }
            return;
        };
        self.add(*first, *last, piece, piece.len() as u64);
    }

    fn add(&mut self, first: i64, last: i64, piece: &Piece, count: u64) {
        if self.count == 0 {
            self.open_time = first;
            self.open = piece.price.first().copied().unwrap_or_default();
        }
        self.time = last;
        self.price = piece.price.last().copied().unwrap_or_default();
        self.count += count;
    }
}

impl Records<'_> {
    /// Price of the first record of the sample.
    #[inline]
    pub fn open(&self) -> i64 {
        if self.before.count > 0 { self.before.open } else { self.piece.price.first().copied().unwrap_or_default() }
    }

    /// Time of the first record of the sample.
    #[inline]
    pub fn open_time(&self) -> i64 {
        if self.before.count > 0 { self.before.open_time } else { self.piece.time.first().copied().unwrap_or_default() }
    }

    /// Highest and lowest price of these records; of none of them, the first price of the sample.
    #[inline]
    pub fn extremes(&self) -> (i64, i64) {
        let start = self.piece.price.first().copied().unwrap_or(self.open());
        on(self.set, Extremes { price: self.piece.price, start })
    }

    /// The interval before the first of these records, and the price change; 0 without a record before it.
    #[inline]
    pub fn first_step(&self) -> (u64, i64) {
        let Self { piece, before, .. } = self;
        if before.count == 0 {
            return (0, 0);
        }
        let interval = piece.time.first().map_or(0, |first| first.wrapping_sub(before.time) as u64);
        (interval, piece.price.first().map_or(0, |first| first.wrapping_sub(before.price)))
    }

    /// Passes every interval to `add`, from the record before each of these records that has one.
    #[inline(always)]
    pub fn intervals(&self, mut add: impl FnMut(u64)) {
        let time = self.piece.time;
        if let (Some(first), true) = (time.first(), self.before.count > 0) {
            add(first.wrapping_sub(self.before.time) as u64);
        }
        for (later, earlier) in time.iter().skip(1).zip(time) {
            add(later.wrapping_sub(*earlier) as u64);
        }
    }

    /// Passes every price change to `add`, as for [`Self::intervals`].
    #[inline(always)]
    pub fn changes(&self, mut add: impl FnMut(i64)) {
        let price = self.piece.price;
        if let (Some(first), true) = (price.first(), self.before.count > 0) {
            add(first.wrapping_sub(self.before.price));
        }
        for (later, earlier) in price.iter().skip(1).zip(price) {
            add(later.wrapping_sub(*earlier));
        }
    }
}

/// Highest and lowest of prices and a start.
pub struct Extremes<'a> {
    pub price: &'a [i64],
    pub start: i64,
}

impl Kernel for Extremes<'_> {
    type Output = (i64, i64);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (mut highest, mut lowest) = (self.start, self.start);
        for price in self.price {
            highest = highest.max(*price);
            lowest = lowest.min(*price);
        }
        (highest, lowest)
    }
}

/// Records in columns of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    pub time: Vec<i64>,
    pub price: Vec<i64>,
    pub size: Vec<i64>,
    pub side: Vec<i8>,
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    pub fn clear(&mut self) {
        self.truncate(0);
    }

    pub fn truncate(&mut self, len: usize) {
        self.time.truncate(len);
        self.price.truncate(len);
        self.size.truncate(len);
        self.side.truncate(len);
    }

    /// Reserves room for exactly `records` records in the columns that a piece has.
    pub fn reserve(&mut self, piece: &Piece, records: usize) {
        fn room<T>(column: &mut Vec<T>, like: &[T], records: usize) {
            let wanted = if like.is_empty() { 0 } else { records };
            column.reserve_exact(wanted.saturating_sub(column.len()));
        }
        room(&mut self.time, piece.time, records);
        room(&mut self.price, piece.price, records);
        room(&mut self.size, piece.size, records);
        room(&mut self.side, piece.side, records);
    }

    pub fn append(&mut self, piece: &Piece) {
        self.time.extend_from_slice(piece.time);
        self.price.extend_from_slice(piece.price);
        self.size.extend_from_slice(piece.size);
        self.side.extend_from_slice(piece.side);
    }

    pub fn piece(&self) -> Piece<'_> {
        Piece { time: &self.time, price: &self.price, size: &self.size, side: &self.side }
    }

    /// Appends prices, sizes and sides of the rows `from..to` of a chunk, all of which the fold has admitted.
    pub fn convert(&mut self, ticks: &Ticks, uses: Uses, from: usize, to: usize) {
        if uses.price {
            convert(ticks.price, &mut self.price, from, to);
        }
        if let (Some(quantity), true) = (ticks.quantity, uses.size) {
            convert(quantity, &mut self.size, from, to);
        }
        if uses.side {
            convert_sides(ticks, &mut self.side, from, to);
        }
    }
}

fn convert(values: Values, out: &mut Vec<i64>, from: usize, to: usize) {
    match values {
        Values::Grid(values) => out.extend_from_slice(part(values, from, to)),
        Values::Float(values) => {
            let values = part(values, from, to);
            let is_quick = |x: &f64| *x >= 0.0 && *x <= LARGEST_QUICK;
            if values.iter().fold(true, |all, x| all & is_quick(x)) {
                out.extend(values.iter().map(|x| quick_grid(*x) as i64));
            } else {
                out.extend(values.iter().map(|x| grid(*x).unwrap_or_default()));
            }
        }
    }
}

fn convert_sides(ticks: &Ticks, out: &mut Vec<i8>, from: usize, to: usize) {
    let Some(sells) = ticks.is_buyer_maker else { return };
    let start = out.len();
    for row in (from..to).step_by(8) {
        let byte = sells.byte(row);
        let sides: [i8; 8] = std::array::from_fn(|lane| 1 - 2 * ((byte >> lane) as i8 & 1));
        out.extend_from_slice(&sides[..(to - row).min(8)]);
    }
    if let Some(unsided) = ticks.unsided {
        for (side, row) in out[start..].iter_mut().zip(from..to) {
            if unsided.get(row) {
                *side = 0;
            }
        }
    }
}
